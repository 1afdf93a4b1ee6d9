"""The tables: a dataclass a row, written with its fields as columns."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from sharpflat.files import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """What a method costs on a task, for one solve (cold) or for one training step (the others).

    Numbers that were not measured are ``None``, an empty cell.

    Attributes:
        task: The task's name.
        method: The method's name.
        mode: ``"cold"``: a solve from nothing. ``"tracked"``: a whole training step, with
            the batch's gradient, the subspace's update and the projected step. ``"scaling"``: the
            same with other numbers of samples.
        setting: The method's own setting that was measured.
        samples: Samples of the products between full ones, ``"all"`` without any.
        interval: Steps between two renewals of a peer's eigenvectors, if tracked.
        products: Hessian-vector products over all samples; a mean over steps unless cold.
        equivalent_products: The same, with products over m of n samples counted as m / n.
        seconds: Median over repeats if cold, else mean over steps.
        seconds_min: Fastest repeat, or mean of the fastest stretch of steps.
        seconds_max: Slowest likewise.
        gradient_seconds: Of a step, what the batch's gradient took.
        tracker_seconds: Of a step, what bringing the subspace up to date took.
        projection_seconds: Of a step, what the base optimizer and the projection took.
        sine_largest_angle: Sine of the largest angle to the true eigenspace; unless cold, the
            largest of the steps that were checked.
        sine_frobenius: Likewise the true ``‖sin Θ‖_F``, which trackers are held to.
        accuracy: Largest accepted ``sine_largest_angle`` if cold, else ``sine_frobenius``.
        error_estimate: What the method says of its own error, ``‖sin Θ‖_F``; a mean unless cold.
        reached: Whether ``accuracy`` was met.
        floor_seconds: Time of the products' floating-point operations alone, at the rate of a large
            matrix product.
        threads: Threads that torch used.
        device: Where it ran.
        num_parameters: P.
        num_samples: n.
        k: Dimension of the eigenspace.
        training: Name of the projected method that trains, unless cold.
        learning_rate: Of the run.
        note: What else there is to say.
    """

    task: str
    method: str
    mode: Literal["cold", "tracked", "scaling"]
    setting: str = ""
    samples: str = ""
    interval: int | None = None
    products: float | None = None
    equivalent_products: float | None = None
    seconds: float | None = None
    seconds_min: float | None = None
    seconds_max: float | None = None
    gradient_seconds: float | None = None
    tracker_seconds: float | None = None
    projection_seconds: float | None = None
    sine_largest_angle: float | None = None
    sine_frobenius: float | None = None
    accuracy: float | None = None
    error_estimate: float | None = None
    reached: bool = False
    floor_seconds: float | None = None
    threads: int
    device: str
    num_parameters: int
    num_samples: int
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
class ErrorRow:
    """A step of a tracked run at which the true angle was measured.

    Attributes:
        task: The task's name.
        loss: The loss's name.
        training: Name of the projected method that trains; SGD only tracks.
        learning_rate: Of the run.
        samples: Samples of the products between full ones, ``"all"`` without any.
        step: Step of the run, 0 at its start.
        error_estimate: ``DominantSubspace.error_estimate``.
        sine_frobenius: True ``‖sin Θ‖_F``, which ``error_estimate`` estimates.
        sine_largest_angle: Sine of the largest true angle.
    """

    task: str
    loss: str
    training: str
    learning_rate: float
    samples: str
    step: int
    error_estimate: float
    sine_frobenius: float
    sine_largest_angle: float


@dataclass(frozen=True, kw_only=True)
class EstimateRow:
    """How far ``error_estimate`` is to be trusted along a run, and what the run cost.

    Attributes:
        task: The task's name.
        loss: The loss's name.
        training: Name of the projected method that trains; SGD only tracks.
        learning_rate: Of the run.
        samples: Samples of the products between full ones, ``"all"`` without any.
        tolerance: Of the subspace, on ``‖sin Θ‖_F``.
        checks: Steps at which the true angle was measured.
        ratio_median: Median over them of ``error_estimate`` over the true ``‖sin Θ‖_F``.
        ratio_5: Its 5th percentile.
        ratio_95: Its 95th percentile.
        beyond_tolerance: Share of them whose true ``‖sin Θ‖_F`` is above the tolerance.
        largest_sine_frobenius: Largest true ``‖sin Θ‖_F``.
        largest_sine: Largest true sine of a largest angle.
        products: Products over all samples, a step.
        equivalent_products: The same, with products over m of n samples counted as m / n.
        seconds: Of a whole step.
    """

    task: str
    loss: str
    training: str
    learning_rate: float
    samples: str
    tolerance: float
    checks: int
    ratio_median: float
    ratio_5: float
    ratio_95: float
    beyond_tolerance: float
    largest_sine_frobenius: float
    largest_sine: float
    products: float
    equivalent_products: float
    seconds: float


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


Row = CostRow | ReferenceRow | ProductRow | ErrorRow | EstimateRow | MemoryRow
#: What tells whose a row is: rows of the same are measured together.
_SUBJECT = ("task", "loss")


def replace_rows(path: Path, rows: Sequence[Row]) -> None:
    """Put rows of one type into a CSV, in place of those of the same tasks and losses.

    A file with other columns, of another version, is written anew, with a warning.
    """
    columns = [field.name for field in fields(rows[0])]
    cells = [_cells(row) for row in rows]
    measured = {_subject(row) for row in cells}
    kept = [row for row in _read(path, columns) if _subject(row) not in measured]
    _write(path, columns, [*kept, *cells])


def gather_rows(path: Path, parts: Sequence[Path], row_type: type[Row]) -> None:
    """Put the rows of several CSVs, as far as they are there, into one, task by task."""
    columns = [field.name for field in fields(row_type)]
    rows = [row for part in parts for row in _read(part, columns)]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    _write(path, columns, sorted(rows, key=lambda row: tasks.index(row["task"])))


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames == columns:
            return list(reader)
    log.warning("%s has the columns of another version: its rows are left out", path)
    return []


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


def _subject(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _SUBJECT)


def _cells(row: Row) -> dict[str, Any]:
    return {name: "" if value is None else value for name, value in asdict(row).items()}
