"""A training run with a tracked subspace: where it went, what each step took, and the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from sharpflat.benchmarks.reference import sines, solve_by_eigsh
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.timing import now
from sharpflat.curvature import DominantSubspace
from sharpflat.methods import parse_method
from sharpflat.optim import ProjectedOptimizer

#: Steps between two at which the true angle is measured, the last of every ten: full checks and
#: whatever is renewed at an interval fall on multiples of ten, so that it is seen at its worst.
CHECK_EVERY = 10
#: Accepted residual of the true eigenpairs, relative to their eigenvalues.
TRUTH_TOLERANCE = 1e-5

#: Samples of the sampled products: ``None`` for products over all samples.
Samples = int | str | None


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a run trains.

    Attributes:
        method: Name of the projected method.
        learning_rate: Its learning rate.
        steps: Steps.
        batch_size: Samples a batch.
        seed: Seeds the batches and the subspace.
        samples: ``DominantSubspace``'s option of the name.

    Raises:
        ValueError: Too few steps for a single check.
    """

    method: str
    learning_rate: float
    steps: int
    batch_size: int
    seed: int
    samples: Samples = None

    def __post_init__(self) -> None:
        if self.steps < CHECK_EVERY:
            raise ValueError(
                f"a tracked run of {self.steps} steps ends before its first check of the true "
                f"angle: give it at least {CHECK_EVERY}"
            )

    @property
    def checked_steps(self) -> range:
        """Steps at which the true angle is measured."""
        return range(CHECK_EVERY - 1, self.steps, CHECK_EVERY)

    @property
    def samples_name(self) -> str:
        """``samples`` for the tables."""
        return "all" if self.samples is None else str(self.samples)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a run.

    Attributes:
        theta: The parameters before it, ``(P,)``.
        gradient_seconds: Of the batch's gradient.
        tracker_seconds: Of the subspace's update.
        projection_seconds: Of the base optimizer's step and its projection.
        products: Over all samples.
        equivalent_products: The same with the sampled products, each by its share of the samples.
        error_estimate: ``DominantSubspace.error_estimate``.
        basis: The subspace's, if the step is checked.
    """

    theta: Tensor
    gradient_seconds: float
    tracker_seconds: float
    projection_seconds: float
    products: int
    equivalent_products: float
    error_estimate: float
    basis: Tensor | None

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.gradient_seconds + self.tracker_seconds + self.projection_seconds


@dataclass(frozen=True)
class Trajectory:
    """A run that was made.

    Attributes:
        training: How it trained.
        tolerance: Of its subspace.
        steps: What happened.
    """

    training: Training
    tolerance: float
    steps: list[Step] = field(default_factory=list)

    def mean(self, name: str) -> float:
        """Mean of a field of :class:`Step` over the steps."""
        return fmean(getattr(step, name) for step in self.steps)

    def angles(self, truths: dict[int, Tensor]) -> dict[int, Tensor]:
        """Sines of the true angles ``(k,)`` at the steps whose truth is given."""
        measured = {}
        for step, truth in truths.items():
            basis = self.steps[step].basis
            assert basis is not None
            measured[step] = sines(basis, truth)
        return measured


def train(task: BenchmarkTask, training: Training) -> Trajectory:
    """Train with a tracked subspace; SGD only tracks it.

    The subspace's first, cold solve comes before the first step and counts nowhere.

    Args:
        task: Where the run starts; its model is left as it is.
        training: How.
    """
    start, method = task.theta(), parse_method(training.method)
    options: dict[str, Any] = {} if training.samples is None else {"samples": training.samples}
    subspace = DominantSubspace(task.hessian(), task.k, seed=training.seed, **options)
    optimizer = ProjectedOptimizer(
        torch.optim.SGD(task.parameters, lr=training.learning_rate),
        subspace,
        dom_weight=method.dom_weight,
        bulk_weight=method.bulk_weight,
    )
    trajectory = Trajectory(training, subspace.tol)
    batches = task.batches(training.batch_size, seed=training.seed)
    try:
        subspace.update()
        for number in range(training.steps):
            inputs, targets = next(batches)
            theta, products, worth = task.theta(), subspace.num_matvecs, _worth(subspace)
            laps = [now(task.device)]
            optimizer.zero_grad()
            task.loss(task.outputs(inputs), targets).backward()  # type: ignore[no-untyped-call]
            laps.append(now(task.device))
            subspace.update()  # the step's own finds it up to date
            laps.append(now(task.device))
            optimizer.step()
            laps.append(now(task.device))
            checked = number in training.checked_steps
            trajectory.steps.append(
                Step(
                    theta=theta,
                    gradient_seconds=laps[1] - laps[0],
                    tracker_seconds=laps[2] - laps[1],
                    projection_seconds=laps[3] - laps[2],
                    products=subspace.num_matvecs - products,
                    equivalent_products=_worth(subspace) - worth,
                    error_estimate=subspace.error_estimate,
                    basis=subspace.basis.clone() if checked else None,
                )
            )
    finally:
        task.move_to(start)
        task.model.zero_grad()
    return trajectory


def _worth(subspace: DominantSubspace) -> float:
    return subspace.equivalent_matvecs


def solve_truths(
    task: BenchmarkTask, trajectory: Trajectory, steps: Iterable[int]
) -> dict[int, Tensor]:
    """True eigenvectors ``(P, k)`` at steps of a run, by SciPy's ``eigsh`` from a random start."""
    start, operator = task.theta(), task.hessian()
    truths = {}
    try:
        for step in steps:
            task.move_to(trajectory.steps[step].theta)
            truths[step] = solve_by_eigsh(
                operator, task.k, tol=TRUTH_TOLERANCE, seed=trajectory.training.seed
            )
    finally:
        task.move_to(start)
    return truths
