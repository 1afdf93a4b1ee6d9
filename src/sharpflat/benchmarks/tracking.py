"""Tracked steps: what a training step costs with the Dominant subspace kept up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor

from sharpflat.benchmarks.rows import CostRow
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.trajectory import CHECK_EVERY, Training, Trajectory


def tracked_row(
    task: BenchmarkTask, trajectory: Trajectory, truths: dict[int, Tensor], floor_seconds: float
) -> CostRow:
    """What a step of a run costs, with the largest true angle at the steps whose truth is given.

    A step is timed whole: the batch's gradient, the subspace's update, the projected step. The
    subspace's first, cold solve and all that measures the truth are left out.

    Args:
        task: What was trained.
        trajectory: The run.
        truths: True eigenvectors at some of its checked steps.
        floor_seconds: Least time of one product.
    """
    training = trajectory.training
    angles = trajectory.angles(truths).values()
    worst = max(float(sines.norm()) for sines in angles)
    by_stretch = stretches([step.seconds for step in trajectory.steps])
    worth = trajectory.mean("equivalent_products")
    return replace(
        step_row(task, training),
        method="sharpflat",
        setting=f"tol={trajectory.tolerance:g}, samples={training.samples_name}",
        samples=training.samples_name,
        products=trajectory.mean("products"),
        equivalent_products=worth,
        seconds=trajectory.mean("seconds"),
        seconds_min=min(by_stretch),
        seconds_max=max(by_stretch),
        gradient_seconds=trajectory.mean("gradient_seconds"),
        tracker_seconds=trajectory.mean("tracker_seconds"),
        projection_seconds=trajectory.mean("projection_seconds"),
        sine_largest_angle=max(float(sines[0]) for sines in angles),
        sine_frobenius=worst,
        accuracy=trajectory.tolerance,
        error_estimate=trajectory.mean("error_estimate"),
        reached=worst <= trajectory.tolerance,
        floor_seconds=worth * floor_seconds,
    )


def stretches(seconds: Sequence[float]) -> list[float]:
    """Means over stretches of steps: single steps differ by what they have to do."""
    return [fmean(seconds[i : i + CHECK_EVERY]) for i in range(0, len(seconds), CHECK_EVERY)]


def step_row(task: BenchmarkTask, training: Training) -> CostRow:
    """What every row of a run's step says, whoever tracked."""
    return CostRow(
        task=task.name,
        method="",
        mode="tracked",
        threads=torch.get_num_threads(),
        device=str(task.device),
        num_parameters=task.num_parameters,
        num_samples=len(task.targets),
        k=task.k,
        training=training.method,
        learning_rate=training.learning_rate,
    )
