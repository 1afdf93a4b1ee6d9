"""The whole benchmark: every task measured, every table written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from sharpflat.benchmarks.eigensolvers import Measured, compare
from sharpflat.benchmarks.floor import measure_product
from sharpflat.benchmarks.memory import measure_memory
from sharpflat.benchmarks.reference import solve_reference
from sharpflat.benchmarks.rows import (
    CostRow,
    MemoryRow,
    ProductRow,
    ReferenceRow,
    TrackingRow,
    write_rows,
)
from sharpflat.benchmarks.task import BenchmarkTask, descend
from sharpflat.benchmarks.tracking import ColdPeer, track

#: The peer that the tracked training step is compared with.
STEP_PEER = "curvlinops + eigsh"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """What the configuration decides.

    Attributes:
        descent_steps: SGD steps from the models that are given to where they are measured.
        batch_size: Samples a batch, there and in tracked runs.
        accuracy: Largest accepted sine of the largest angle of a cold solve.
        repeats: Timed runs of each cold solve, and of a product.
        time_cap: Seconds that the search for a method's setting may take.
        tracking_methods: Projected methods that train in tracked runs; the peer's cold solve, which
            costs the same in a step of any, is timed along the first.
        tracking_steps: Steps of a tracked run.
        peer_steps: Steps of it at which the peer's cold solve is timed too.
        memory_task: Name of the task whose memory is measured; default none.
        memory_samples: Numbers of samples to measure it at.
        memory_chunk_size: Chunk size to compare with no chunks.
        seed: Seeds batches and solvers.
    """

    descent_steps: int = 1500
    batch_size: int = 50
    accuracy: float = 0.01
    repeats: int = 5
    time_cap: float = 300.0
    tracking_methods: tuple[str, ...] = ("bulk_sgd", "dom_sgd")
    tracking_steps: int = 200
    peer_steps: int = 3
    memory_task: str | None = None
    memory_samples: tuple[int, ...] = (5_000, 10_000, 20_000, 40_000, 60_000)
    memory_chunk_size: int = 5_000
    seed: int = 0


def run(tasks: Sequence[BenchmarkTask], out: Path, *, settings: BenchmarkSettings) -> None:
    """Measure every task and write the tables into a folder.

    ``eigensolver_cost.csv`` has a row for every method and task; ``eigensolver_reference.csv``,
    ``hessian_product.csv``, ``eigensolver_tracking.csv`` and ``product_memory.csv`` hold what
    stands behind it. Each is written anew after every task, so that an end by force costs only
    the task at hand.

    Args:
        tasks: The models move by ``settings.descent_steps``.
        out: The folder; it is made.
        settings: What the configuration decides.

    Raises:
        ValueError: ``settings.memory_task`` is not among the tasks.
        NoReferenceError: A task has no eigenspace to measure angles against.
    """
    names = [task.name for task in tasks]
    if settings.memory_task is not None and settings.memory_task not in names:
        raise ValueError(
            f"memory_task is {settings.memory_task!r}: use one of the tasks, {', '.join(names)}"
        )
    costs: list[CostRow] = []
    references: list[ReferenceRow] = []
    products: list[ProductRow] = []
    checks: list[TrackingRow] = []
    memory: list[MemoryRow] = []
    for task in tasks:
        descend(
            task,
            steps=settings.descent_steps,
            batch_size=settings.batch_size,
            seed=settings.seed,
        )
        log.info("%s: reference", task.name)
        reference = solve_reference(task, seed=settings.seed)
        references.append(reference.row)
        one_product = measure_product(task, repeats=settings.repeats)
        products.append(one_product)
        log.info("%s: cold solves", task.name)
        cold = compare(
            task,
            reference,
            floor_seconds=one_product.floor_seconds,
            accuracy=settings.accuracy,
            repeats=settings.repeats,
            time_cap=settings.time_cap,
            seed=settings.seed,
        )
        costs += [measured.row for measured in cold]
        for training, learning_rate in product(settings.tracking_methods, task.learning_rates):
            log.info("%s: %s at learning rate %g", task.name, training, learning_rate)
            tracked, checked = track(
                task,
                training=training,
                learning_rate=learning_rate,
                steps=settings.tracking_steps,
                batch_size=settings.batch_size,
                floor_seconds=one_product.floor_seconds,
                seed=settings.seed,
                peer=_cold_peer(cold) if training == settings.tracking_methods[0] else None,
                peer_steps=settings.peer_steps,
            )
            costs += tracked
            checks += checked
        if task.name == settings.memory_task:
            log.info("%s: memory", task.name)
            memory += measure_memory(
                task,
                num_samples=settings.memory_samples,
                chunk_sizes=(None, settings.memory_chunk_size),
            )
        write_rows(out / "eigensolver_cost.csv", CostRow, costs)
        write_rows(out / "eigensolver_reference.csv", ReferenceRow, references)
        write_rows(out / "hessian_product.csv", ProductRow, products)
        write_rows(out / "eigensolver_tracking.csv", TrackingRow, checks)
        write_rows(out / "product_memory.csv", MemoryRow, memory)


def _cold_peer(cold: Sequence[Measured]) -> ColdPeer | None:
    for measured in cold:
        if measured.method.name == STEP_PEER and measured.value is not None:
            return ColdPeer(measured.method, measured.value, measured.row.reached)
    return None
