"""Losses whose mean is over something other than samples are refused, wherever that shows."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpflat.curvature import (
    HessianOperator,
    UnsupportedLossError,
)

from .small import KINDS

SAMPLES, TOKENS, WORDS = 400, 6, 5
X = torch.randint(WORDS, (SAMPLES, TOKENS), generator=torch.Generator().manual_seed(0))
PADDING = -100


def language_model() -> nn.Module:
    return nn.Sequential(nn.Embedding(WORDS, 4), nn.Tanh(), nn.Linear(4, WORDS))


def mean_over_tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def padded(*samples: int) -> Tensor:
    targets = X.roll(1, dims=1).clone()
    targets[list(samples), TOKENS // 2 :] = PADDING
    return targets


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [range(1, SAMPLES, 2), [7], [SAMPLES - 2], range(30, 50)])
def test_refuses_padding_wherever_it_is(kind, samples):
    """Oracle: ``ignore_index`` makes it a mean over tokens; none of these is a probed sample."""
    with pytest.raises(UnsupportedLossError, match=r"not a mean over samples.*padding"):
        kind(language_model(), mean_over_tokens, X, padded(*samples))


@pytest.mark.parametrize("kind", KINDS)
def test_allows_tokens_without_padding(kind):
    """Oracle: the same number of tokens a sample makes a mean over samples; chunks agree."""
    arguments = (language_model().double(), mean_over_tokens, X, padded())
    operator, chunked = kind(*arguments), kind(*arguments, chunk_size=70)
    v = torch.randn(operator.shape[0], dtype=torch.float64)
    assert torch.allclose(operator @ v, chunked @ v, rtol=1e-9, atol=1e-12)


def test_refuses_a_rare_class_with_a_weight():
    """Oracle: one sample of 400 counts double, and is not among the probed ones."""
    targets = torch.zeros(SAMPLES, dtype=torch.int64)
    targets[9] = 1
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
    with pytest.raises(UnsupportedLossError, match=r"samples 7 to 13 .*class weights"):
        HessianOperator(nn.Linear(TOKENS, 2), loss, X.float(), targets)


def test_refuses_padding_that_only_the_model_sees():
    """Oracle: a model that returns its mean loss over the tokens that are not padding."""

    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = language_model()

        def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
            return mean_over_tokens(self.model(tokens), labels)

    def take(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs

    assert HessianOperator(WithLoss(), take, (X, padded()), X).shape
    with pytest.raises(UnsupportedLossError, match="not a mean over samples"):
        HessianOperator(WithLoss(), take, (X, padded(*range(30, 50))), X)


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_padding_that_the_outputs_carry(kind):
    """Oracle: a mask that depends on the inputs and passes through the outputs, at a product."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.layer(x)[..., 0].tanh(), (x[..., 0] > 0).float()])  # (2, m, T)

    class SamplesFirst(Masked):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).movedim(0, -1)

    def masked_mean(outputs: Tensor, targets: Tensor) -> Tensor:
        values, mask = outputs.unbind(dim=-1)
        return ((values - targets).square() * mask).sum() / mask.detach().sum()

    x = torch.ones(SAMPLES, TOKENS, 1)
    assert (kind(SamplesFirst(), masked_mean, x, x[..., 0]) @ torch.ones(2)).isfinite().all()
    x[30:50, 2:] = -1.0
    with pytest.raises(UnsupportedLossError, match="not a mean over samples"):
        kind(SamplesFirst(), masked_mean, x, x[..., 0]) @ torch.ones(2)


def test_the_message_tells_its_numbers_apart():
    """Oracle: two numbers that are called different are written differently."""
    x, y = torch.ones(SAMPLES, 1, dtype=torch.float64), torch.zeros(SAMPLES, dtype=torch.float64)

    def nearly(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.flatten() - targets).square().mean() + 1 + 1e-8 * len(outputs)

    with pytest.raises(UnsupportedLossError) as refused:
        HessianOperator(nn.Linear(1, 1).double(), nearly, x, y)
    numbers = [w.rstrip(",;") for w in str(refused.value).split() if w[:2] in ("1.", "2.", "3.")]
    assert len(numbers) == 2
    assert numbers[0] != numbers[1]


class Standardised(nn.Sequential):
    """Statistics of the batch that a model computes itself, which for one sample are NaN."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self[0](x).tanh()
        return self[1]((hidden - hidden.mean(dim=0)) / hidden.std(dim=0))


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batches", [False, True])
def test_refuses_statistics_of_the_batch_that_one_sample_has_not(kind, batches):
    """Oracle: in chunks of 10 its products are 40 % off those in one graph."""
    x, y = torch.randn(50, 6), torch.arange(50) % 3
    data = ([(x[:10], y[:10]), (x[10:], y[10:])],) if batches else (x, y)
    message = "not a mean over samples: .* alone .*nan.*mix samples"
    with pytest.raises(UnsupportedLossError, match=message):
        kind(Standardised(nn.Linear(6, 5), nn.Linear(5, 3)), nn.CrossEntropyLoss(), *data)


def test_names_mixing_where_a_loss_mixes():
    """Oracle: a loss over outputs that are centred over the batch."""
    loss = lambda outputs, targets: (outputs - outputs.mean(dim=0)).square().mean()  # noqa: E731
    with pytest.raises(UnsupportedLossError, match=r"not a mean over samples: .*mix samples"):
        HessianOperator(nn.Linear(3, 2), loss, torch.randn(40, 3), torch.zeros(40))
