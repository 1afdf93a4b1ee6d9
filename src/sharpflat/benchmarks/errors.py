"""The tracked subspace's error estimate beside the truth, along training."""

from __future__ import annotations

import numpy as np
import torch

from sharpflat.benchmarks.rows import ErrorRow, EstimateRow
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.trajectory import Training, Trajectory, solve_truths, train


def measure_errors(task: BenchmarkTask, training: Training) -> tuple[list[ErrorRow], EstimateRow]:
    """Train with a tracked subspace, and measure the true angle at the last of every ten steps.

    Args:
        task: Where the run starts; its model is left as it is.
        training: How the run trains.

    Returns:
        A row for every checked step, and one that sums them up.
    """
    trajectory = train(task, training)
    angles = trajectory.angles(solve_truths(task, trajectory, training.checked_steps))
    rows = [
        ErrorRow(
            task=task.name,
            loss=task.loss_name,
            training=training.method,
            learning_rate=training.learning_rate,
            samples=training.samples_name,
            step=step,
            error_estimate=trajectory.steps[step].error_estimate,
            sine_frobenius=float(torch.linalg.vector_norm(sines)),
            sine_largest_angle=float(sines[0]),
        )
        for step, sines in angles.items()
    ]
    return rows, _summary(task, trajectory, rows)


def _summary(task: BenchmarkTask, trajectory: Trajectory, rows: list[ErrorRow]) -> EstimateRow:
    training = trajectory.training
    estimates = np.array([row.error_estimate for row in rows])
    truths = np.array([row.sine_frobenius for row in rows])
    # An angle of zero is right to rounding whatever was estimated.
    ratios = estimates / truths.clip(min=np.finfo(np.float32).eps)
    low, middle, high = np.percentile(ratios, [5, 50, 95])
    return EstimateRow(
        task=task.name,
        loss=task.loss_name,
        training=training.method,
        learning_rate=training.learning_rate,
        samples=training.samples_name,
        tolerance=trajectory.tolerance,
        checks=len(rows),
        ratio_median=float(middle),
        ratio_5=float(low),
        ratio_95=float(high),
        beyond_tolerance=float((truths > trajectory.tolerance).mean()),
        largest_sine_frobenius=float(truths.max()),
        largest_sine=max(row.sine_largest_angle for row in rows),
        products=trajectory.mean("products"),
        equivalent_products=trajectory.mean("equivalent_products"),
        seconds=trajectory.mean("seconds"),
    )
