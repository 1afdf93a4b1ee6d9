from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sharpflat.benchmarks.reference import largest_sine
from sharpflat.benchmarks.task import BenchmarkTask, descend
from sharpflat.benchmarks.tracking import tracked_row
from sharpflat.benchmarks.trajectory import Training, Trajectory, solve_truths, train
from sharpflat.curvature import DominantSubspace

TRAINING = Training(method="bulk_sgd", learning_rate=0.01, steps=21, batch_size=20, seed=0)


@pytest.fixture
def trajectory(task: BenchmarkTask) -> Trajectory:
    return train(task, TRAINING)


def test_sgd_is_only_measured(task: BenchmarkTask) -> None:
    """Oracle: plain SGD on the same batches, without a subspace."""
    run = train(task, replace(TRAINING, method="sgd", steps=11))
    descend(task, steps=10, batch_size=20, seed=0)
    assert torch.equal(task.theta(), run.steps[10].theta)
    assert sum(step.products for step in run.steps) > 0


def test_a_step_of_bulk_sgd_stays_out_of_the_basis(trajectory: Trajectory) -> None:
    """Oracle: the definition of the method, at the steps whose basis is kept."""
    kept = [number for number, step in enumerate(trajectory.steps) if step.basis is not None]
    assert kept == [9, 19]
    for number in kept:
        basis = trajectory.steps[number].basis
        assert basis is not None
        moved = trajectory.steps[number + 1].theta - trajectory.steps[number].theta
        assert float((basis.T @ moved).norm()) < 1e-4 * float(moved.norm())


def test_truth_is_the_dense_eigenspace(
    task: BenchmarkTask, trajectory: Trajectory, top_vectors: Callable[[BenchmarkTask], Tensor]
) -> None:
    """Oracle: torch's Hessian and dense eigensolver in float64, where the run was."""
    start = task.theta()
    truths = solve_truths(task, trajectory, [9, 19])
    assert torch.equal(task.theta(), start)
    for step, truth in truths.items():
        task.move_to(trajectory.steps[step].theta)
        assert largest_sine(truth, top_vectors(task)) < 1e-3


def test_a_run_leaves_the_model_as_it_was(task: BenchmarkTask) -> None:
    """Oracle: the parameters before."""
    before = task.theta()
    train(task, replace(TRAINING, steps=10))
    assert torch.equal(task.theta(), before)
    assert all(p.grad is None for p in task.parameters)


def test_row_of_a_tracked_run(task: BenchmarkTask, trajectory: Trajectory) -> None:
    """Oracle: the steps, and the angles to bases that are their own truth or turned by 0.3."""
    bases = [trajectory.steps[step].basis for step in (9, 19)]
    assert bases[0] is not None and bases[1] is not None
    generator = torch.Generator().manual_seed(1)
    other = torch.randn(task.num_parameters, generator=generator, dtype=torch.float64)
    turned = torch.linalg.qr(bases[1].double())[0]
    other = other - turned @ (turned.T @ other)
    turned[:, 0] = 0.3 * other / other.norm() + (1 - 0.3**2) ** 0.5 * turned[:, 0]
    row = tracked_row(task, trajectory, {9: bases[0].double(), 19: turned}, floor_seconds=2.0)
    assert row.sine_largest_angle == pytest.approx(0.3, abs=1e-5)
    assert (row.reached, row.accuracy, row.num_samples) == (False, 0.05, 60)
    products = [step.products for step in trajectory.steps]
    assert row.products == pytest.approx(sum(products) / 21) == row.equivalent_products
    assert row.floor_seconds == pytest.approx(2 * sum(products) / 21)
    assert row.seconds is not None and row.tracker_seconds is not None
    assert row.gradient_seconds is not None and row.projection_seconds is not None
    parts = row.gradient_seconds + row.tracker_seconds + row.projection_seconds
    assert row.seconds == pytest.approx(parts)
    assert row.seconds_min is not None and row.seconds_max is not None
    assert 0 < row.seconds_min <= row.seconds <= row.seconds_max


def test_samples_are_handed_to_the_subspace(
    task: BenchmarkTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a subspace that notes what it is given, and says what its products are worth."""
    given = []

    class Sampled(DominantSubspace):
        def __init__(self, *arguments: object, samples: object = None, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            given.append(samples)

        @property
        def equivalent_matvecs(self) -> float:
            return 0.5 * self.num_matvecs

    monkeypatch.setattr("sharpflat.benchmarks.trajectory.DominantSubspace", Sampled)
    run = train(task, replace(TRAINING, steps=10, samples="auto"))
    assert given == ["auto"] and run.training.samples_name == "auto"
    assert run.mean("equivalent_products") == 0.5 * run.mean("products") > 0


def test_a_run_too_short_to_be_checked_is_refused() -> None:
    """Oracle: the first check is at the tenth step."""
    with pytest.raises(ValueError, match="9 steps ends before its first check"):
        replace(TRAINING, steps=9)
