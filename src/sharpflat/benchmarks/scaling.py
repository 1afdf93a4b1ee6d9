"""Cost of a tracked step against the number of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sharpflat.benchmarks.rows import CostRow
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.tracking import tracked_row
from sharpflat.benchmarks.trajectory import Training, solve_truths, train

#: Standard deviation of the noise on repeated samples, over that of the inputs: enough that no two
#: are alike, too little to change what they show.
NOISE = 0.1
#: Checked steps whose truth is solved: each takes some thirty products over all samples.
CHECKS = 2


def measure_scaling(
    task: BenchmarkTask,
    training: Training,
    *,
    num_samples: Sequence[int],
    samples: Sequence[int | str | None],
    floor_seconds: float,
) -> list[CostRow]:
    """Measure the same training with more and more samples in the Hessian.

    Args:
        task: Its samples are repeated with noise where it has fewer, its first ones taken where
            it has more; its model is left as it is.
        training: How every run trains, but for ``samples``.
        num_samples: Numbers of samples.
        samples: Values of ``DominantSubspace``'s option ``samples``, each measured with each.
        floor_seconds: Least time of one product over the task's own samples.
    """
    rows = []
    for count in num_samples:
        resized = resize(task, count, seed=training.seed)
        for option in samples:
            trajectory = train(resized, replace(training, samples=option))
            checked = training.checked_steps[:: -(-len(training.checked_steps) // CHECKS)]
            truths = solve_truths(resized, trajectory, checked)
            floor = floor_seconds * count / len(task.targets)
            note = f"{len(checked)} steps checked"
            if count > len(task.targets):
                note += f"; {len(task.targets)} samples repeated with noise of {NOISE:g} deviations"
            row = tracked_row(resized, trajectory, truths, floor)
            rows.append(replace(row, mode="scaling", note=note))
    return rows


def resize(task: BenchmarkTask, num_samples: int, *, seed: int) -> BenchmarkTask:
    """The task with its first samples, or with all of them over and over.

    What is repeated has normal noise of a tenth of the inputs' standard deviation, so that no two
    samples are alike; inputs that are not floating-point values, such as tokens, are repeated as
    they are.

    Args:
        task: Any task.
        num_samples: Samples wanted.
        seed: Seeds the noise.
    """
    rows = torch.arange(num_samples) % len(task.targets)
    generator = torch.Generator().manual_seed(seed)

    def part(values: Tensor) -> Tensor:
        taken = values[rows.to(values.device)]
        if not values.is_floating_point() or num_samples <= len(task.targets):
            return taken
        noise = torch.randn(taken.shape, generator=generator).to(taken)
        noise[: len(task.targets)] = 0
        return taken + NOISE * values.std() * noise

    inputs = task.inputs
    return replace(
        task,
        inputs=tuple(map(part, inputs)) if isinstance(inputs, tuple) else part(inputs),
        targets=task.targets[rows.to(task.targets.device)],
    )
