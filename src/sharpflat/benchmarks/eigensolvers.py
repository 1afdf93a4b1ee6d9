"""Cold solves: what each method needs for the same eigenspace to the same accuracy."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch

from sharpflat.benchmarks.peers import METHODS, Method, Solution, failure, surroundings
from sharpflat.benchmarks.reference import Reference, largest_sine
from sharpflat.benchmarks.rows import CostRow
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.timing import OutOfTimeError, ProductCounter, timed


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A method at one value of its knob, ``None`` if it could not run at all."""

    method: Method
    value: float | None
    row: CostRow


def compare(
    task: BenchmarkTask,
    reference: Reference,
    *,
    floor_seconds: float,
    accuracy: float,
    repeats: int,
    time_cap: float,
    seed: int,
    methods: Sequence[Method] = METHODS,
) -> list[CostRow]:
    """Measure every method at the loosest setting that is accurate enough.

    The search for that setting also warms each method up. The timed runs take turns, one of each
    method after the other, so that a machine that slows down for a while slows all of them.

    Args:
        task: What to solve.
        reference: The truth.
        floor_seconds: Least time of one product.
        accuracy: Largest accepted sine of the largest angle.
        repeats: Timed runs of each method that is accurate enough.
        time_cap: Seconds that the search may spend on one method.
        seed: Seeds every method's random vectors.
        methods: The methods.

    Returns:
        A row for each method.
    """
    found = [_loosest(task, reference, method, accuracy, time_cap, seed) for method in methods]
    seconds: list[list[float]] = [[] for _ in found]
    for _ in range(repeats):
        for measured, times in zip(found, seconds, strict=True):
            if measured.row.reached and measured.value is not None:
                gc.collect()  # no method pays for what another one left behind
                times.append(_solve(task, measured.method, measured.value, seed)[1])
    return [
        _with_times(measured.row, times, floor_seconds)
        for measured, times in zip(found, seconds, strict=True)
    ]


def _loosest(
    task: BenchmarkTask,
    reference: Reference,
    method: Method,
    accuracy: float,
    time_cap: float,
    seed: int,
) -> _Measured:
    """The first setting of a method's ladder that is accurate enough, or its last and a note."""
    row = CostRow(
        task=task.name,
        method=method.name,
        mode="cold",
        threads=torch.get_num_threads(),
        device=str(task.device),
        num_parameters=task.num_parameters,
        num_samples=len(task.targets),
        k=task.k,
        samples="all",
        accuracy=accuracy,
    )
    counter = ProductCounter(deadline=time.perf_counter() + time_cap)
    value = None
    for candidate in method.ladder(task.k):
        counter.count = 0
        try:
            solution, seconds = _solve(task, method, candidate, seed, counter)
        except OutOfTimeError:
            return _Measured(
                method=method,
                value=value,
                row=replace(row, note=_join(row.note, f"no more settings in {time_cap:g} s")),
            )
        except Exception as error:
            # A peer that is absent or fails is a result, not an end of the comparison.
            if method.package is None:
                raise
            return _Measured(
                method=method, value=value, row=replace(row, note=failure(method.package, error))
            )
        value = candidate
        sine = largest_sine(solution.eigenvectors, reference.eigenvectors)
        row = replace(
            row,
            setting=method.setting(value),
            products=counter.count,
            equivalent_products=counter.count,
            seconds=seconds,
            sine_largest_angle=sine,
            error_estimate=solution.error_estimate,
            reached=sine <= accuracy,
            note=solution.note,
        )
        if row.reached:
            return _Measured(method=method, value=value, row=row)
    return _Measured(
        method=method, value=value, row=replace(row, note=_join(row.note, "end of its settings"))
    )


def _solve(
    task: BenchmarkTask,
    method: Method,
    value: float,
    seed: int,
    counter: ProductCounter | None = None,
) -> tuple[Solution, float]:
    counter = counter or ProductCounter()
    with surroundings():
        return timed(lambda: method.solve(task, value, seed, counter), task.device)


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _with_times(row: CostRow, times: Sequence[float], floor_seconds: float) -> CostRow:
    """A row with the times of its repeats; one that was not repeated keeps the time it has."""
    if not times and row.seconds is not None:
        times = [row.seconds]
    if not times:
        return row
    return replace(
        row,
        seconds=median(times),
        seconds_min=min(times),
        seconds_max=max(times),
        floor_seconds=(row.products or 0) * floor_seconds,
    )
