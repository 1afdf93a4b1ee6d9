from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import Tensor

from sharpflat.benchmarks.errors import measure_errors
from sharpflat.benchmarks.reference import sines
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.trajectory import Training, train


@pytest.mark.parametrize("method", ["sgd", "dom_sgd"])
def test_estimates_beside_the_truth(
    task: BenchmarkTask, method: str, top_vectors: Callable[[BenchmarkTask], Tensor]
) -> None:
    """Oracle: dense eigenspaces along the same run, and pandas' quantiles."""
    training = Training(method=method, learning_rate=0.03, steps=30, batch_size=20, seed=0)
    rows, summary = measure_errors(task, training)
    assert [row.step for row in rows] == [9, 19, 29]
    run = train(task, training)
    for row in rows:
        task.move_to(run.steps[row.step].theta)
        basis = run.steps[row.step].basis
        assert basis is not None
        true = sines(basis, top_vectors(task))
        assert row.sine_frobenius == pytest.approx(float(true.norm()), rel=0.05, abs=1e-3)
        assert row.sine_largest_angle == pytest.approx(float(true[0]), rel=0.05, abs=1e-3)
        assert row.error_estimate == run.steps[row.step].error_estimate
        assert (row.task, row.loss, row.training, row.samples) == ("tiny", "mse", method, "all")
    table = pd.DataFrame([vars(row) for row in rows])
    ratios = table["error_estimate"] / table["sine_frobenius"]
    assert summary.ratio_median == pytest.approx(ratios.median())
    assert summary.ratio_5 == pytest.approx(ratios.quantile(0.05))
    assert summary.ratio_95 == pytest.approx(ratios.quantile(0.95))
    beyond = sum(row.sine_frobenius > 0.05 for row in rows)
    assert summary.beyond_tolerance == pytest.approx(beyond / 3)
    assert summary.largest_sine == table["sine_largest_angle"].max()
    assert summary.largest_sine_frobenius == table["sine_frobenius"].max()
    assert summary.checks == 3 and summary.products == run.mean("products")


def test_a_truth_beyond_the_tolerance_is_counted(
    task: BenchmarkTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a truth at a right angle to everything at one of two checks."""

    def solve_truths(task: BenchmarkTask, trajectory: object, steps: range) -> dict[int, Tensor]:
        basis = train(task, training).steps[9].basis
        assert basis is not None
        away = torch.linalg.qr(torch.eye(53, dtype=torch.float64)[:, :3] - basis.double())[0]
        return {9: torch.linalg.qr(basis.double())[0], 19: away}

    training = Training(method="bulk_sgd", learning_rate=0.01, steps=20, batch_size=20, seed=0)
    monkeypatch.setattr("sharpflat.benchmarks.errors.solve_truths", solve_truths)
    rows, summary = measure_errors(task, training)
    assert rows[0].sine_frobenius < 1e-3 < 0.05 < rows[1].sine_frobenius
    assert summary.beyond_tolerance == 0.5
