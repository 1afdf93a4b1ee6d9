"""The tables: a dataclass a row, written with its fields as columns."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """What a method costs on a task, for one solve (cold) or for one training step (tracked).

    Numbers that were not measured are ``None``, an empty cell.

    Attributes:
        task: The task's name.
        method: The method's name.
        mode: ``"cold"``: a solve from nothing. ``"tracked"``: a whole training step, with
            the batch's gradient, the subspace's update and the projected step.
        setting: The method's own setting that was measured.
        products: Hessian-vector products; a mean over steps if tracked.
        seconds: Median over repeats if cold, mean over steps if tracked.
        seconds_min: Fastest repeat, or mean of the fastest stretch of steps.
        seconds_max: Slowest likewise.
        sine_largest_angle: Sine of the largest angle to the true eigenspace; if tracked, the
            largest of the steps that were checked.
        error_estimate: What the method says of its own error, ``‖sin Θ‖_F``; a mean if tracked.
        reached: Whether ``sine_largest_angle`` met the accuracy that was asked for.
        floor_seconds: Time of the products' floating-point operations alone, at the rate of a large
            matrix product.
        threads: Threads that torch used.
        device: Where it ran.
        num_parameters: P.
        k: Dimension of the eigenspace.
        training: Name of the projected method that trains, if tracked.
        learning_rate: Of the tracked run.
        note: What else there is to say.
    """

    task: str
    method: str
    mode: Literal["cold", "tracked"]
    setting: str = ""
    products: float | None = None
    seconds: float | None = None
    seconds_min: float | None = None
    seconds_max: float | None = None
    sine_largest_angle: float | None = None
    error_estimate: float | None = None
    reached: bool = False
    floor_seconds: float | None = None
    threads: int
    device: str
    num_parameters: int
    k: int
    training: str | None = None
    learning_rate: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ReferenceRow:
    """The eigenspace that angles are measured against, in float64.

    Attributes:
        task: The task's name.
        largest_eigenvalue: ``λ_1``.
        kth_eigenvalue: ``λ_k``.
        next_eigenvalue: ``λ_{k+1}``.
        products: Products of the solve.
        error_estimate: The solve's own estimate of ``‖sin Θ‖_F``.
        sine_against_eigsh: Largest angle to what SciPy's ``eigsh`` finds, likewise in float64.
    """

    task: str
    largest_eigenvalue: float
    kth_eigenvalue: float
    next_eigenvalue: float
    products: int
    error_estimate: float
    sine_against_eigsh: float


@dataclass(frozen=True, kw_only=True)
class ProductRow:
    """What one Hessian-vector product costs, and the least that it could cost.

    Attributes:
        task: The task's name.
        seconds: One product, the graph being there already (with chunks it never is).
        seconds_with_graph: The first product at new parameters.
        gradient_seconds: The full-batch gradient, for comparison.
        flops: Floating-point operations of matrix products and convolutions in one product.
        matmul_flops_per_second: Rate of a large square matrix product on the same machine.
        floor_seconds: ``flops / matmul_flops_per_second``.
        replay_seconds: The same matrix products, of the same shapes, alone; only for a multi-layer
            perceptron.
    """

    task: str
    seconds: float
    seconds_with_graph: float
    gradient_seconds: float
    flops: int
    matmul_flops_per_second: float
    floor_seconds: float
    replay_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class TrackingRow:
    """A checked step of a tracked run.

    Attributes:
        task: The task's name.
        training: Name of the projected method that trains.
        learning_rate: Of the run.
        step: Step of the run, 0 at its start.
        products: Products used up to and with this step.
        error_estimate: ``DominantSubspace.error_estimate``.
        sine_largest_angle: Largest true angle, against a converged solve at this step.
        sine_frobenius: ``‖sin Θ‖_F``, which ``error_estimate`` estimates.
        kth_eigenvalue: ``λ_k`` of the converged solve.
        next_eigenvalue: ``λ_{k+1}``.
        reference_error: The converged solve's estimate of its own ``‖sin Θ‖_F``.
    """

    task: str
    training: str
    learning_rate: float
    step: int
    products: int
    error_estimate: float
    sine_largest_angle: float
    sine_frobenius: float
    kth_eigenvalue: float
    next_eigenvalue: float
    reference_error: float


@dataclass(frozen=True, kw_only=True)
class MemoryRow:
    """Peak memory of a process that multiplies once.

    Attributes:
        task: The task's name.
        num_samples: Samples, those of the task over and over.
        chunk_size: Samples whose graph is held at a time; ``None`` for all.
        peak_mebibytes: Peak of the whole process (on a GPU: of its memory there).
        product_mebibytes: Its growth over what was there before: the program, model and data.
        seconds: The product, with its graph.
        note: Why nothing was measured.
    """

    task: str
    num_samples: int
    chunk_size: int | None
    peak_mebibytes: float | None = None
    product_mebibytes: float | None = None
    seconds: float | None = None
    note: str = ""


Row = CostRow | ReferenceRow | ProductRow | TrackingRow | MemoryRow


def write_rows(path: Path, row_type: type[Row], rows: Sequence[Row]) -> None:
    """Write rows of one type as a CSV, with a header even if there are none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(
            stream, [field.name for field in fields(row_type)], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(_cells(row) for row in rows)


def _cells(row: Row) -> dict[str, Any]:
    return {name: "" if value is None else value for name, value in asdict(row).items()}
