from typing import Any

import pytest
import torch

from sharpflat.benchmarks.peers import METHODS
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.tracking import ColdPeer, track

OPTIONS: dict[str, Any] = {
    "training": "bulk_sgd",
    "learning_rate": 0.01,
    "batch_size": 20,
    "floor_seconds": 0,
    "seed": 0,
}
EIGSH = next(method for method in METHODS if method.name == "sharpflat + eigsh")


@pytest.fixture
def cold() -> ColdPeer:
    return ColdPeer(EIGSH, 1e-6, reached=True)


@pytest.mark.parametrize("training", ["bulk_sgd", "dom_sgd"])
def test_a_tracked_run_and_its_peer(task: BenchmarkTask, cold: ColdPeer, training: str) -> None:
    """Oracle: converged solves at every tenth step, and what the words say of each other."""
    rows, checks = track(
        task,
        training=training,
        learning_rate=0.01,
        steps=25,
        batch_size=20,
        floor_seconds=1e-6,
        seed=0,
        peer=cold,
    )
    tracked, peer = rows
    assert [check.step for check in checks] == [0, 10, 20]
    assert tracked.sine_largest_angle == max(check.sine_largest_angle for check in checks)
    assert tracked.sine_largest_angle < 0.1 and tracked.mode == peer.mode == "tracked"
    assert peer.sine_largest_angle is not None and peer.sine_largest_angle < 0.01
    assert tracked.products is not None and peer.products is not None
    assert 0 < tracked.products < peer.products
    assert tracked.floor_seconds == pytest.approx(tracked.products * 1e-6)
    assert peer.note == "timed in 3 steps"
    for row in rows:
        assert row.seconds_min is not None and row.seconds is not None
        assert row.seconds_max is not None
        assert 0 < row.seconds_min <= row.seconds <= row.seconds_max
        assert (row.training, row.learning_rate) == (training, 0.01)


def test_a_run_leaves_the_model_as_it_was(task: BenchmarkTask, cold: ColdPeer) -> None:
    """Oracle: the parameters before."""
    before = task.theta()
    track(task, **OPTIONS, steps=3, peer=cold)
    assert torch.equal(task.theta(), before)
    assert all(p.grad is None for p in task.parameters)


def test_measuring_does_not_change_the_run(task: BenchmarkTask, cold: ColdPeer) -> None:
    """Oracle: the same run without a peer; angles and products are equal."""
    _, with_peer = track(task, **OPTIONS, steps=21, peer=cold)
    _, without = track(task, **OPTIONS, steps=21)
    assert with_peer == without
