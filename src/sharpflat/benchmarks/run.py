"""The whole benchmark or parts of it: every task measured, every table written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from sharpflat.benchmarks.eigensolvers import compare
from sharpflat.benchmarks.errors import measure_errors
from sharpflat.benchmarks.floor import measure_product
from sharpflat.benchmarks.memory import measure_memory
from sharpflat.benchmarks.reference import solve_reference
from sharpflat.benchmarks.rows import CostRow, gather_rows, replace_rows
from sharpflat.benchmarks.scaling import measure_scaling
from sharpflat.benchmarks.task import BenchmarkTask, descend
from sharpflat.benchmarks.tracking import tracked_row
from sharpflat.benchmarks.trajectory import Samples, Training, solve_truths, train
from sharpflat.benchmarks.warm_comparison import compare_peers

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """What the configuration decides.

    Attributes:
        loss: Name of the loss that everything is measured with; other losses' tasks have their
            error estimates measured, and nothing else.
        descent_steps: SGD steps from the models that are given to where they are measured.
        batch_size: Samples a batch, there and in tracked runs.
        accuracy: Largest accepted sine of the largest angle of a cold solve.
        repeats: Timed runs of each cold solve, and of a product.
        time_cap: Seconds that the search for a method's settings may take.
        tracking_methods: Projected methods that train in tracked runs; the peers, which cost the
            same along any, follow the first.
        tracking_steps: Steps of a tracked run.
        tracking_samples: Values of ``DominantSubspace``'s option ``samples`` that are measured; the
            peers follow the last.
        cold_steps: Steps at which a peer's cold solve is timed.
        error_methods: Projected methods along which the error estimate is checked.
        error_steps: Steps of each of those runs.
        scaling_task: Name of the task whose steps are measured with more and more samples; default
            none.
        scaling_samples: Numbers of samples.
        scaling_steps: Steps of each of those runs.
        memory_task: Name of the task whose memory is measured; default none.
        memory_samples: Numbers of samples to measure it at.
        memory_chunk_size: Chunk size to compare with no chunks.
        seed: Seeds batches and solvers.
    """

    loss: str = "mse"
    descent_steps: int = 1500
    batch_size: int = 50
    accuracy: float = 0.01
    repeats: int = 5
    time_cap: float = 300.0
    tracking_methods: tuple[str, ...] = ("bulk_sgd", "dom_sgd")
    tracking_steps: int = 200
    tracking_samples: tuple[Samples, ...] = (None, "auto")
    cold_steps: int = 3
    error_methods: tuple[str, ...] = ("sgd", "bulk_sgd", "dom_sgd")
    error_steps: int = 200
    scaling_task: str | None = None
    scaling_samples: tuple[int, ...] = (1_000, 5_000, 20_000, 60_000)
    scaling_steps: int = 100
    memory_task: str | None = None
    memory_samples: tuple[int, ...] = (5_000, 10_000, 20_000, 40_000, 60_000)
    memory_chunk_size: int = 5_000
    seed: int = 0


def run(
    tasks: Sequence[BenchmarkTask],
    out: Path,
    *,
    settings: BenchmarkSettings,
    parts: Sequence[str] | None = None,
) -> None:
    """Measure tasks and write the tables into a folder.

    A part writes its tables after every task, in place of what they held of that task: an end by
    force costs only the task and the part at hand, and tasks and parts can be measured one at a
    time. ``eigensolver_cost.csv`` puts together what the parts ``cold``, ``tracking`` and
    ``scaling`` have written.

    Args:
        tasks: The models move by ``settings.descent_steps``.
        out: The folder; it is made.
        settings: What the configuration decides.
        parts: Names in :data:`PARTS`; default all.

    Raises:
        ValueError: An unknown part.
        NoReferenceError: A task has no eigenspace to measure angles against.
    """
    chosen = tuple(PARTS) if parts is None else tuple(parts)
    for name in chosen:
        if name not in PARTS:
            raise ValueError(f"benchmark part {name!r} is unknown; allowed are {', '.join(PARTS)}")
    for task in tasks:
        descend(
            task, steps=settings.descent_steps, batch_size=settings.batch_size, seed=settings.seed
        )
        for name in chosen:
            if name == "errors" or task.loss_name == settings.loss:
                log.info("%s, %s: %s", task.name, task.loss_name, name)
                PARTS[name](task, out, settings)
        gathered = [out / f"{name}.csv" for name in ("cold_solves", "tracked_steps", "scaling")]
        gather_rows(out / "eigensolver_cost.csv", gathered, CostRow)


def _product(task: BenchmarkTask, out: Path, settings: BenchmarkSettings) -> None:
    row = measure_product(task, repeats=settings.repeats)
    replace_rows(out / "hessian_product.csv", [row])


def _cold(task: BenchmarkTask, out: Path, settings: BenchmarkSettings) -> None:
    reference = solve_reference(task, seed=settings.seed)
    measured = compare(
        task,
        reference,
        floor_seconds=_floor(task, settings),
        accuracy=settings.accuracy,
        repeats=settings.repeats,
        time_cap=settings.time_cap,
        seed=settings.seed,
    )
    replace_rows(out / "eigensolver_reference.csv", [reference.row])
    replace_rows(out / "cold_solves.csv", measured)


def _tracking(task: BenchmarkTask, out: Path, settings: BenchmarkSettings) -> None:
    rows: list[CostRow] = []
    floor = _floor(task, settings)
    for method, rate in product(settings.tracking_methods, task.learning_rates):
        for samples in settings.tracking_samples:
            training = _training(settings, method, rate, settings.tracking_steps, samples)
            log.info("%s: %s", task.name, training)
            trajectory = train(task, training)
            truths = solve_truths(task, trajectory, training.checked_steps)
            rows.append(tracked_row(task, trajectory, truths, floor))
        if method == settings.tracking_methods[0]:
            log.info("%s: peers along the same run", task.name)
            rows += compare_peers(
                task,
                trajectory,
                truths,
                floor_seconds=floor,
                cold_steps=settings.cold_steps,
                time_cap=settings.time_cap,
            )
    replace_rows(out / "tracked_steps.csv", rows)


def _errors(task: BenchmarkTask, out: Path, settings: BenchmarkSettings) -> None:
    measured = []
    for method, rate, samples in product(
        settings.error_methods, task.learning_rates, settings.tracking_samples
    ):
        training = _training(settings, method, rate, settings.error_steps, samples)
        log.info("%s, %s: %s", task.name, task.loss_name, training)
        measured.append(measure_errors(task, training))
    replace_rows(out / "tracking_errors.csv", [row for rows, _ in measured for row in rows])
    replace_rows(out / "tracking_estimates.csv", [summary for _, summary in measured])


def _scaling(task: BenchmarkTask, out: Path, settings: BenchmarkSettings) -> None:
    if task.name != settings.scaling_task:
        return
    rows = measure_scaling(
        task,
        _training(
            settings,
            settings.tracking_methods[0],
            task.learning_rates[0],
            settings.scaling_steps,
            None,
        ),
        num_samples=settings.scaling_samples,
        samples=settings.tracking_samples,
        floor_seconds=_floor(task, settings),
    )
    replace_rows(out / "scaling.csv", rows)


def _memory(task: BenchmarkTask, out: Path, settings: BenchmarkSettings) -> None:
    if task.name != settings.memory_task:
        return
    rows = measure_memory(
        task,
        num_samples=settings.memory_samples,
        chunk_sizes=(None, settings.memory_chunk_size),
    )
    replace_rows(out / "product_memory.csv", rows)


#: Parts of the benchmark by name, in their order; each writes tables of its own.
PARTS: Mapping[str, Callable[[BenchmarkTask, Path, BenchmarkSettings], None]] = {
    "product": _product,
    "cold": _cold,
    "tracking": _tracking,
    "errors": _errors,
    "scaling": _scaling,
    "memory": _memory,
}


def _training(
    settings: BenchmarkSettings, method: str, learning_rate: float, steps: int, samples: Samples
) -> Training:
    return Training(
        method=method,
        learning_rate=learning_rate,
        steps=steps,
        batch_size=settings.batch_size,
        seed=settings.seed,
        samples=samples,
    )


def _floor(task: BenchmarkTask, settings: BenchmarkSettings) -> float:
    return measure_product(task, repeats=settings.repeats).floor_seconds
