"""Mini-batches and random streams."""

import pytest
import torch

from sharpflat.training.batches import BatchOrder
from sharpflat.training.randomness import STREAMS, stream_seed


@pytest.mark.parametrize(("num_samples", "batch_size"), [(20, 5), (23, 5), (7, 7), (3, 10)])
def test_every_epoch_holds_every_sample_once(num_samples: int, batch_size: int) -> None:
    order = BatchOrder(num_samples, batch_size, seed=1)
    for epoch in range(3):
        first = epoch * order.batches_per_epoch
        batches = [order.indices(first + i) for i in range(order.batches_per_epoch)]
        assert all(len(batch) <= batch_size for batch in batches)
        assert torch.cat(batches).sort().values.tolist() == list(range(num_samples))


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    """What makes methods that branch from one checkpoint meet the same batches."""
    forwards, backwards = BatchOrder(50, 5, seed=3), BatchOrder(50, 5, seed=3)
    steps = range(40)
    there = {step: forwards.indices(step).tolist() for step in steps}
    back = {step: backwards.indices(step).tolist() for step in reversed(steps)}
    assert there == back
    other = BatchOrder(50, 5, seed=4)
    assert any(other.indices(step).tolist() != there[step] for step in steps)


def test_epochs_are_shuffled_differently() -> None:
    order = BatchOrder(100, 50, seed=0)
    assert order.indices(0).tolist() != order.indices(2).tolist()


def test_a_batch_of_all_samples_has_them_in_order() -> None:
    order = BatchOrder(100, 100, seed=0)
    assert order.indices(0).tolist() == order.indices(1).tolist() == list(range(100))


def test_streams_of_a_seed_differ_and_are_the_same_everywhere() -> None:
    """Oracle: sha256 of ``"0/batches"``, by hand."""
    assert len({stream_seed(seed, name) for seed in range(20) for name in STREAMS}) == 80
    assert stream_seed(0, "batches") == 0x402C26AD4EAF60
    with pytest.raises(KeyError, match="unknown random stream 'chance'"):
        stream_seed(0, "chance")
