import pytest
import torch

from sharpflat.benchmarks.scaling import NOISE, measure_scaling, resize
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.trajectory import Training


def test_fewer_samples_are_the_first_and_more_are_repeated_with_noise(task: BenchmarkTask) -> None:
    """Oracle: the samples themselves, and the size of the noise."""
    assert isinstance(task.inputs, torch.Tensor)
    fewer, more = resize(task, 20, seed=0), resize(task, 6000, seed=0)
    assert isinstance(fewer.inputs, torch.Tensor) and isinstance(more.inputs, torch.Tensor)
    assert torch.equal(fewer.inputs, task.inputs[:20])
    assert torch.equal(fewer.targets, task.targets[:20])
    assert torch.equal(more.inputs[:60], task.inputs)
    assert torch.equal(more.targets, task.targets.repeat(100))
    noise = (more.inputs - task.inputs.repeat(100, 1))[60:]
    assert float(noise.std() / task.inputs.std()) == pytest.approx(NOISE, rel=0.02)
    again, other = resize(task, 120, seed=0), resize(task, 120, seed=1)
    assert isinstance(again.inputs, torch.Tensor) and isinstance(other.inputs, torch.Tensor)
    assert not torch.equal(again.inputs, other.inputs)
    assert torch.equal(again.inputs, resize(task, 120, seed=0).inputs)  # type: ignore[arg-type]


def test_tokens_are_repeated_as_they_are(masked_task: BenchmarkTask) -> None:
    """Oracle: the tokens and their mask."""
    more = resize(masked_task, 16, seed=0)
    for repeated, part in zip(more.inputs, masked_task.inputs, strict=True):
        assert torch.equal(repeated, part.repeat(2, 1))


def test_a_row_for_every_number_of_samples_and_every_option(task: BenchmarkTask) -> None:
    """Oracle: what was asked for; least times in proportion to the samples."""
    training = Training(method="bulk_sgd", learning_rate=0.01, steps=10, batch_size=20, seed=0)
    before = task.theta()
    rows = measure_scaling(
        task, training, num_samples=(30, 120), samples=(None,), floor_seconds=1.0
    )
    assert torch.equal(task.theta(), before)
    assert [(row.mode, row.num_samples) for row in rows] == [("scaling", 30), ("scaling", 120)]
    for row in rows:
        assert row.equivalent_products is not None and row.equivalent_products > 0
        assert row.floor_seconds == pytest.approx(row.equivalent_products * row.num_samples / 60)
        assert row.sine_largest_angle is not None and row.sine_largest_angle < 0.05
    assert rows[0].note == "1 steps checked"
    assert rows[1].note == "1 steps checked; 60 samples repeated with noise of 0.1 deviations"
