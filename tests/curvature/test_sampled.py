"""Operators over a weighted sample of the data, and the sizes that a sample is drawn by."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpflat.curvature import (
    HessianOperator,
    UnsupportedLossError,
)
from sharpflat.tasks.losses import cross_entropy, mse

from .conftest import evaluated
from .dense import dense, relative_error
from .small import every_kind

SAMPLES, CLASSES = 9, 3
INDICES = torch.tensor([7, 2, 2, 0, 5])
WEIGHTS = torch.tensor([0.3, 1.0, 0.25, 2.0, -0.5], dtype=torch.float64)


def cauchy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Neither convex nor known to the package; its outputs interact through the product."""
    one_hot = functional.one_hot(targets, CLASSES).to(outputs.dtype)
    distance = (outputs - one_hot).square().sum(dim=1) + outputs.prod(dim=1).sin()
    return torch.log1p(distance.square()).mean()


LOSSES = {"mse": mse, "cross_entropy": cross_entropy, "cauchy": cauchy}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@pytest.fixture
def data():
    """A small model in float64, its inputs and its targets."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, CLASSES)).double()
    return model, torch.randn(SAMPLES, 4, dtype=torch.float64), torch.arange(SAMPLES) % CLASSES


def weighted_singles(kind, model, loss, x, y) -> Tensor:
    singles = [dense(kind(model, loss, x[[i]], y[[i]])) for i in INDICES.tolist()]
    return sum(w * single for w, single in zip(WEIGHTS, singles, strict=True))


@every_kind
@every_loss
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_weighted_sum_of_single_samples(data, kind, loss, chunk_size):
    """Oracle: dense matrices of operators over one sample each, weighted and added."""
    model, x, y = data
    operator = kind(model, loss, x, y, chunk_size=chunk_size)
    sample = operator.sampled(INDICES, WEIGHTS)
    assert (type(sample), sample.shape, sample.num_samples) == (kind, operator.shape, 5)
    expected = weighted_singles(kind, model, loss, x, y)
    assert relative_error(dense(sample), expected) <= 1e-12


@every_kind
def test_all_samples_with_equal_weights(case, kind):
    """Oracle: the operator itself, for every model, attention and its tuple of inputs too."""
    operator = kind(*case.arguments)
    n = operator.num_samples
    sample = operator.sampled(torch.arange(n).flip(0), torch.full((n,), 1 / n, dtype=torch.float64))
    V = torch.randn(operator.shape[0], 3, dtype=torch.float64)
    assert relative_error(sample @ V, operator @ V) <= 1e-12


@every_kind
def test_outputs_of_any_shape(kind):
    """Oracle: single samples, for outputs (m, classes, positions) and (m,)."""
    x = torch.randn(SAMPLES, 4, dtype=torch.float64)
    y = torch.randint(CLASSES, (SAMPLES, 4))
    sequence = nn.Sequential(
        nn.Unflatten(1, (1, 4)), nn.Conv1d(1, CLASSES, 3, padding=1), nn.Tanh()
    ).double()
    scalar = nn.Sequential(nn.Linear(4, 1), nn.Tanh(), nn.Flatten(0)).double()
    for model, targets, loss in [
        (sequence, y, functional.cross_entropy),
        (scalar, x[:, 0], functional.mse_loss),
    ]:
        sample = kind(model, loss, x, targets).sampled(INDICES, WEIGHTS)
        expected = weighted_singles(kind, model, loss, x, targets)
        assert relative_error(dense(sample), expected) <= 1e-12


@every_kind
def test_a_sample_of_a_sample(data, kind):
    """Oracle: single samples; the second indices count within the first."""
    model, x, y = data
    first = kind(model, mse, x, y).sampled(torch.tensor([4, 8, 1]), torch.ones(3))
    second = first.sampled(torch.tensor([1, 2]), torch.tensor([0.5, 2.0]))
    singles = [dense(kind(model, mse, x[[i]], y[[i]])) for i in (8, 1)]
    assert relative_error(dense(second), 0.5 * singles[0] + 2 * singles[1]) <= 1e-12


@every_kind
def test_follows_the_parameters(data, kind):
    """Oracle: a sample drawn after the parameters moved; the whole operator is not disturbed."""
    model, x, y = data
    operator = kind(model, cross_entropy, x, y)
    v = torch.ones(operator.shape[0], dtype=torch.float64)
    whole, sample = operator @ v, operator.sampled(INDICES, WEIGHTS)
    sample @ v
    assert torch.equal(operator @ v, whole)
    with torch.no_grad():
        model[0].weight.add_(0.1)
    again = kind(model, cross_entropy, x, y).sampled(INDICES, WEIGHTS)
    assert torch.equal(sample @ v, again @ v)


def test_costs_no_probe(data):
    """Oracle: evaluations of the model, counted: none to draw, one to record."""
    model, x, y = data
    operator = HessianOperator(model, mse, x, y)
    with evaluated(model) as sizes:
        sample = operator.sampled(INDICES, WEIGHTS)
        assert not sizes
        sample @ torch.ones(sample.shape[0], 2)
    assert sizes == [len(INDICES)]


@every_kind
def test_refuses_a_penalty_on_the_parameters(data, kind):
    """Oracle: a penalty belongs to no sample, and no product of the outputs holds it."""
    model, x, y = data

    def penalised(outputs: Tensor, targets: Tensor) -> Tensor:
        return mse(outputs, targets) + sum(p.square().sum() for p in model.parameters())

    operator = HessianOperator(model, penalised, x, y)
    v = torch.ones(operator.shape[0], dtype=torch.float64)
    assert relative_error(operator @ v, HessianOperator(model, mse, x, y) @ v + 2 * v) <= 1e-12
    with pytest.raises(UnsupportedLossError, match="depends on the parameters other than"):
        kind(model, penalised, x, y).sampled(INDICES, WEIGHTS) @ v


def test_refuses_outputs_without_samples_in_front(data):
    """Oracle: the weights of samples cannot be told apart there."""
    model, x, y = data

    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, inputs):
            return self.model(inputs).T

    operator = HessianOperator(Transposed(), lambda f, t: mse(f.T, t), x, y)
    assert not operator.can_be_sampled
    with pytest.raises(UnsupportedLossError, match="do not have samples along dimension 0"):
        operator.sampled(INDICES, WEIGHTS)
    with pytest.raises(UnsupportedLossError, match="do not have samples along dimension 0"):
        operator.sample_sizes()


BAD_SAMPLES = {
    "none": (torch.tensor([], dtype=torch.int64), torch.tensor([]), r"indices have shape \(0,\)"),
    "of two lengths": (INDICES, WEIGHTS[1:], r"shape \(4,\) for indices of shape \(5,\)"),
    "of two dimensions": (INDICES[None], WEIGHTS[None], r"indices have shape \(1, 5\)"),
    "beyond the data": (torch.tensor([9]), torch.ones(1), "from 9 to 9; there are samples 0 to 8"),
    "before the data": (torch.tensor([-1]), torch.ones(1), "from -1 to -1"),
    "not finite": (torch.tensor([1]), torch.tensor([torch.inf]), "every weight finite"),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_refuses_bad_samples(data, name):
    """Oracle: the method's documentation."""
    model, x, y = data
    indices, weights, message = BAD_SAMPLES[name]
    with pytest.raises(ValueError, match=message):
        HessianOperator(model, mse, x, y).sampled(indices, weights)


def single_trace(model: nn.Module, loss, x: Tensor, y: Tensor) -> Tensor:
    outputs = model(x).detach()
    H = torch.autograd.functional.hessian(lambda f: loss(f, y), outputs)
    return H.reshape(outputs.numel(), -1).trace()


@every_kind
@every_loss
def test_sample_sizes(data, kind, loss):
    """Oracle: the trace of the dense second derivative of each sample's loss alone."""
    model, x, y = data
    expected = [single_trace(model, loss, x[[i]], y[[i]]) for i in range(SAMPLES)]
    sizes = kind(model, loss, x, y).sample_sizes()
    assert sizes.dtype == torch.float64
    assert torch.allclose(sizes, torch.stack(expected), rtol=1e-10)


def test_sample_sizes_of_known_losses(data):
    """Oracle: by hand, 2 C for squared error, Σ_c p_c (1 - p_c) for cross-entropy, 0 if linear."""
    model, x, y = data
    p = model(x).detach().softmax(dim=1)
    sizes = HessianOperator(model, cross_entropy, x, y).sample_sizes()
    assert torch.allclose(sizes, (p * (1 - p)).sum(dim=1))
    assert torch.allclose(
        HessianOperator(model, mse, x, y).sample_sizes(), torch.tensor(6.0).double()
    )
    assert not HessianOperator(model, lambda f, _: f.sum(1).mean(), x, y).sample_sizes().any()


def test_sample_sizes_in_chunks():
    """Oracle: the sizes by hand, over more samples than are evaluated at a time."""
    model = nn.Linear(2, 2).double()
    x, y = torch.randn(1_200, 2, dtype=torch.float64), torch.arange(1_200) % 2
    largest = []
    model.register_forward_hook(lambda *call: largest.append(len(call[2])))
    operator = HessianOperator(model, cross_entropy, x, y)
    largest.clear()
    p = model(x).detach().softmax(dim=1)
    largest.clear()
    assert torch.allclose(operator.sample_sizes(), (p * (1 - p)).sum(dim=1))
    assert max(largest) <= 512


def test_sample_sizes_of_many_outputs():
    """Oracle: Σ_c p_c (1 - p_c) over 300 classes, within the estimate's standard error.

    The estimate from 64 random signs has the variance (2 / 64) Σ_{i≠j} p_i² p_j², a relative
    standard error below 0.2 % here; four of them for the mean, and one seed gives one estimate.
    """
    model = nn.Linear(4, 300).double()
    x, y = torch.randn(40, 4, dtype=torch.float64), torch.arange(40)
    operator = HessianOperator(model, cross_entropy, x, y)
    sizes, p = operator.sample_sizes(), model(x).detach().softmax(dim=1)
    squares = p.square()
    spread = (squares.sum(dim=1).square() - squares.square().sum(dim=1)) * 2 / 64
    assert ((sizes - (p * (1 - p)).sum(dim=1)).abs() <= 5 * spread.sqrt()).all()
    assert torch.equal(sizes, operator.sample_sizes())
    assert not torch.equal(sizes, operator.sample_sizes(seed=1))
