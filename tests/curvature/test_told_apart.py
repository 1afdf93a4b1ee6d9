"""Samples that are chosen by number, where outputs do and do not tell them apart.

Trusted are ``torch.autograd.functional.hessian`` of the loss of single samples.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpflat.curvature import (
    CurvatureOperator,
    HessianOperator,
    UnsupportedLossError,
)

from .dense import dense, dense_hessian, relative_error
from .small import every_kind

STEPS = 4  # of every sequence


class Sequences(nn.Module):
    """A recurrent network over ``(n, T, 2)`` whose outputs are ``(T, n, 2)``, or samples first."""

    def __init__(self, *, samples_first: bool) -> None:
        super().__init__()
        self.recurrent = nn.RNN(2, 3).double()
        self.head = nn.Linear(3, 2).double()
        self._samples_first = samples_first

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.recurrent(x.transpose(0, 1))[0])
        return outputs.transpose(0, 1) if self._samples_first else outputs


def batch_second(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs.transpose(0, 1), targets)


def sequences(count: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, STEPS, 2, dtype=torch.float64)
    return x, torch.randn(count, STEPS, 2, dtype=torch.float64)


class TestSamplesThatCannotBeToldApart:
    """Outputs ``(T, n, C)``: where T is the number of samples, only a second look tells."""

    @every_kind
    @pytest.mark.parametrize(
        ("count", "chunk_size", "chosen"),
        [
            (8, None, [0, 2, 5, 7]),
            (8, None, [1, 1, 1, 1]),
            (STEPS, None, [0, 1, 2, 3]),
            (8, STEPS, [0, 1, 2, 3, 4, 5, 6, 7]),
            (8, None, [0, 2, 5]),
            (8, None, [0, 2, 5, 6, 7]),
        ],
        ids=[
            "as many as steps",
            "one again and again",
            "all",
            "chunks of as many as steps",
            "fewer than steps",
            "more than steps",
        ],
    )
    def test_sampled_is_refused(self, kind, count, chunk_size, chosen):
        """Oracle: weights of samples would be given to time steps."""
        model = Sequences(samples_first=False)
        operator = kind(model, batch_second, *sequences(count), chunk_size=chunk_size)
        weights = torch.linspace(0.1, 0.9, len(chosen), dtype=torch.float64)
        with pytest.raises(UnsupportedLossError):
            dense(operator.sampled(torch.tensor(chosen), weights))

    @every_kind
    @pytest.mark.parametrize("count", [STEPS, 8])
    def test_sample_sizes_are_refused(self, kind, count):
        """Oracle: sizes of time steps are none of samples."""
        operator = kind(Sequences(samples_first=False), batch_second, *sequences(count))
        with pytest.raises(UnsupportedLossError):
            operator.sample_sizes()

    @pytest.mark.parametrize("chunk_size", [None, 3, STEPS])
    @pytest.mark.parametrize("count", [STEPS, 8])
    def test_all_samples_together_are_no_matter(self, count, chunk_size):
        """Oracle: the dense Hessian; the mean over all samples needs no telling apart."""
        model, (x, y) = Sequences(samples_first=False), sequences(count)
        operator = HessianOperator(model, batch_second, x, y, chunk_size=chunk_size)
        assert relative_error(dense(operator), dense_hessian(model, batch_second, x, y)) <= 1e-9


def chosen_sum(
    single: Callable[[Tensor], Tensor], indices: Tensor, weights: Tensor, like: CurvatureOperator
) -> Tensor:
    total = torch.zeros(like.shape, dtype=torch.float64)
    for index, weight in zip(indices, weights, strict=True):
        total += weight * single(index[None])
    return total


@pytest.mark.parametrize("chunk_size", [None, 3, STEPS])
@pytest.mark.parametrize("chosen", [[0, 2, 5, 7], [3, 3, 1], [6]], ids=["4", "repeated", "one"])
@pytest.mark.parametrize("name", ["network", "sequences", "sequences of n steps"])
def test_sampled_where_samples_lead(name, chosen, chunk_size):
    """Oracle: dense Hessians of single samples, weighted and added; also where n is T."""
    if name == "network":
        model, loss = (
            nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)),
            functional.cross_entropy,
        )
        model, x, y = model.double(), torch.randn(30, 4).double(), torch.arange(30) % 3
    else:
        model = Sequences(samples_first=True)
        (x, y), loss = sequences(STEPS if name.endswith("n steps") else 8), functional.mse_loss
    indices = torch.tensor(chosen) % len(x)
    weights = torch.linspace(0.1, 0.9, len(chosen), dtype=torch.float64)
    operator = HessianOperator(model, loss, x, y, chunk_size=chunk_size)
    expected = chosen_sum(
        lambda i: dense_hessian(model, loss, x[i], y[i]), indices, weights, operator
    )
    assert relative_error(dense(operator.sampled(indices, weights)), expected) <= 1e-9


@pytest.mark.parametrize("count", [1, STEPS, 8])
def test_sample_sizes_where_samples_lead(count):
    """Oracle: by hand, 2 / (T C) for each of T C outputs of the squared error's mean."""
    operator = HessianOperator(
        Sequences(samples_first=True), functional.mse_loss, *sequences(count)
    )
    expected = torch.full((count,), 2.0, dtype=torch.float64)
    assert torch.allclose(operator.sample_sizes(), expected, rtol=1e-10)
