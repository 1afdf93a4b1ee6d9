"""Products after something changed that the loss or the model reads, at the same parameters.

Trusted are the dense Hessian by ``torch.autograd.functional.hessian`` of the loss as it is now, and
operators that are built after the change. Each change moves the Hessian by more than a twentieth.
"""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from sharpflat.curvature import FunctionalHessianOperator, GGNOperator, HessianOperator

from . import situations
from .dense import dense, dense_hessian, relative_error
from .situations import OUTPUTS, SAMPLES, SITUATIONS, Net, ones
from .small import every_kind

every_situation = pytest.mark.parametrize("build", SITUATIONS.values(), ids=SITUATIONS)


@pytest.fixture(autouse=True)
def factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the global number back after each test."""
    monkeypatch.setattr(situations, "FACTOR", 1.0)


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(SAMPLES, 3, dtype=torch.float64)
    return x, torch.randn(SAMPLES, OUTPUTS, dtype=torch.float64)


@every_situation
def test_products_follow_what_is_read(data, build):
    """Oracle: the dense Hessian of the loss as it is before the change, and after it, in chunks."""
    situation = build()
    operator = HessianOperator(situation.model, situation.loss, *data, chunk_size=3)
    before = dense_hessian(situation.model, situation.loss, *data)
    assert relative_error(dense(operator), before) <= 1e-10
    situation.change()
    after = dense_hessian(situation.model, situation.loss, *data)
    assert relative_error(before, after) > 0.05
    assert relative_error(dense(operator), after) <= 1e-10


@pytest.mark.parametrize("kind", [GGNOperator, FunctionalHessianOperator])
@every_situation
def test_other_kinds_of_product(data, build, kind):
    """Oracle: an operator that is built after the change."""
    situation = build()
    operator = kind(situation.model, situation.loss, *data)
    before = dense(operator)
    situation.change()
    after = dense(kind(situation.model, situation.loss, *data))
    assert relative_error(before, after) > 0.05
    assert relative_error(dense(operator), after) <= 1e-12


@every_situation
def test_the_change_is_seen_at_each_turn(data, build):
    """Oracle: an operator that is built after the change; also one whose graph was kept of it."""
    situation = build()
    early = HessianOperator(situation.model, situation.loss, *data)
    dense(early)
    situation.change()
    late = dense(HessianOperator(situation.model, situation.loss, *data))
    for _ in range(2):
        assert relative_error(dense(early), late) <= 1e-12
    with torch.no_grad():
        next(situation.model.parameters()).mul_(1.1)
    moved = dense(HessianOperator(situation.model, situation.loss, *data))
    assert relative_error(dense(early), moved) <= 1e-12


@every_situation
def test_loss_and_gradient_follow(data, build):
    """Oracle: autograd's, of the loss as it is now."""
    situation = build()
    operator = HessianOperator(situation.model, situation.loss, *data)
    dense(operator)
    situation.change()
    loss, gradient = operator.loss_and_gradient()
    expected = situation.loss(situation.model(data[0]), data[1])
    parts = torch.autograd.grad(expected, tuple(situation.model.parameters()))
    assert loss == pytest.approx(float(expected.detach()), rel=1e-12)
    assert relative_error(gradient, torch.cat([p.reshape(-1) for p in parts])) <= 1e-12


@every_situation
def test_a_sample_follows(data, build):
    """Oracle: the same sample of an operator that is built after the change."""
    situation = build()
    indices, weights = torch.tensor([7, 2, 2, 0]), torch.tensor([0.3, 1.0, 0.25, 2.0]).double()
    whole = HessianOperator(situation.model, situation.loss, *data)
    sample = whole.sampled(indices, weights)
    dense(sample)
    situation.change()
    fresh = HessianOperator(situation.model, situation.loss, *data).sampled(indices, weights)
    assert relative_error(dense(sample), dense(fresh)) <= 1e-12


@every_situation
def test_what_did_not_change_is_not_recorded_again(data, build):
    """Oracle: evaluations of the model, one a chunk for three products."""
    situation = build()
    sizes: list[int] = []
    situation.model.register_forward_hook(lambda *call: sizes.append(len(call[2])))
    operator = HessianOperator(situation.model, situation.loss, *data, chunk_size=5)
    sizes.clear()
    for _ in range(3):
        operator @ ones(operator.shape[0])
    assert sizes == [5, 5]


def list_of_batches(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(x[i : i + 4], y[i : i + 4]) for i in range(0, SAMPLES, 4)]


def loader(x: Tensor, y: Tensor) -> DataLoader:
    return DataLoader(TensorDataset(x, y), batch_size=4)


def shuffled(x: Tensor, y: Tensor) -> DataLoader:
    return DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)


@every_kind
@pytest.mark.parametrize("memory_limit", [0, None])
@pytest.mark.parametrize("read", [list_of_batches, loader, shuffled])
@pytest.mark.parametrize("changed", ["inputs", "targets", "one input"])
def test_data_behind_batches(data, kind, memory_limit, read, changed):
    """Oracle: the changed data in tensors; a refusal in words is as right."""
    x, y = data
    model = Net()
    operator = kind(model, mse_loss, read(x, y), memory_limit=memory_limit)
    before = dense(operator)
    assert relative_error(before, dense(kind(model, mse_loss, x, y))) <= 1e-12
    {"inputs": x, "targets": y, "one input": x[5, 1]}[changed].mul_(2).add_(1)
    after = dense(kind(model, mse_loss, x, y))
    # The generalised Gauss-Newton matrix of squared error does not depend on the targets.
    assert relative_error(before, after) > 1e-3 or (kind, changed) == (GGNOperator, "targets")
    for _ in range(2):
        try:
            found = dense(operator)
        except ValueError as refusal:
            assert "batches" in str(refusal)
        else:
            assert relative_error(found, after) <= 1e-12


def test_a_batch_that_is_none_is_refused(data):
    """Oracle: the constructor's documentation; it is not the end of a pass."""

    class Batches:
        def __iter__(self):
            return iter([(data[0][:2], data[1][:2]), None, (data[0][2:], data[1][2:])])

    with pytest.raises(ValueError, match="a batch is a NoneType; it must be a pair"):
        HessianOperator(Net(), mse_loss, Batches())
