"""Losses that give a sum and its count, and means over something else that are refused."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from sharpflat.curvature import GGNOperator, HessianOperator, UnsupportedLossError

from .dense import dense
from .small import SAMPLES, assert_same, every_kind

PADDING = -100
WORDS, TOKENS = 5, 6


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 4, dtype=torch.float64), torch.arange(SAMPLES) % 3


def language_model() -> nn.Module:
    return nn.Sequential(nn.Embedding(WORDS, 3), nn.Tanh(), nn.Linear(3, WORDS)).double()


def sum_and_count(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    flat = outputs.flatten(0, 1), targets.flatten()
    return functional.cross_entropy(*flat, reduction="sum"), (targets != PADDING).sum()


def mean_over_tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def padded_tokens(lengths: list[int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, WORDS, (len(lengths), TOKENS), generator=generator)
    y = torch.randint(1, WORDS, (len(lengths), TOKENS), generator=generator)
    beyond = torch.arange(TOKENS) >= torch.tensor(lengths)[:, None]
    return x.masked_fill(beyond, 0), y.masked_fill(beyond, PADDING)


LENGTHS = {
    "at the end": [6] * 20 + [1, 2, 0],
    "at the start": [0, 0, 0, 1] + [6] * 19,
    "everywhere": [1 + i % 6 for i in range(SAMPLES)],
    "nowhere": [6] * SAMPLES,
}


BAD_PAIRS = {
    "mean beside a count": (
        lambda f, t: (mean_over_tokens(f, t), (t != PADDING).sum()),
        "first is not a sum over samples",
    ),
    "count that is a mean": (
        lambda f, t: (sum_and_count(f, t)[0], (t != PADDING).double().mean()),
        "count does not add up",
    ),
    "three": (lambda f, t: (*sum_and_count(f, t), 1), r"returned a tuple; it must return"),
    "a number": (lambda f, t: 1.0, "returned a float"),
}


class TestSumsWithCounts:
    """The mean over tokens that are not padding."""

    @every_kind
    @pytest.mark.parametrize("chunk_size", [None, 4])
    @pytest.mark.parametrize("where", LENGTHS)
    def test_padding(self, kind, chunk_size, where):
        """Oracle: all samples in one evaluation of the mean; for G a token a sample."""
        model = language_model()
        x, y = padded_tokens(LENGTHS[where])
        kept = (y != PADDING).flatten()
        tokens = x.flatten()[kept][:, None], y.flatten()[kept][:, None]
        expected = kind(model, mean_over_tokens, *tokens)  # each of them one sample, equally
        operator = kind(model, sum_and_count, x, y, chunk_size=chunk_size)
        assert_same(operator, expected)
        batches = [(x[i : i + 5], y[i : i + 5]) for i in range(0, SAMPLES, 5)]
        assert_same(kind(model, sum_and_count, batches, chunk_size=chunk_size), expected)

    @every_kind
    def test_batches_padded_to_their_longest(self, kind):
        """Oracle: as above; shuffling pads each sample to another length at each pass."""
        model = language_model()
        x, y = padded_tokens(LENGTHS["everywhere"])
        kept = (y != PADDING).flatten()
        tokens = x.flatten()[kept][:, None], y.flatten()[kept][:, None]

        def collate(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
            inputs, targets = (torch.stack(part) for part in zip(*rows, strict=True))
            longest = int((targets != PADDING).sum(dim=1).max())
            return inputs[:, :longest], targets[:, :longest]

        samples = TensorDataset(x, y)
        loader = DataLoader(samples, 3, shuffle=True, collate_fn=collate)
        operator = kind(model, sum_and_count, loader, memory_limit=0)
        for _ in range(3):
            assert_same(operator, kind(model, mean_over_tokens, *tokens))
        sampler = RandomSampler(samples, replacement=True)
        loader = DataLoader(samples, 3, sampler=sampler, collate_fn=collate)
        with pytest.raises(ValueError, match="other values in"):
            dense(kind(model, sum_and_count, loader, memory_limit=0))
        loader = DataLoader(samples, 3, shuffle=True, collate_fn=collate)
        with pytest.raises(UnsupportedLossError, match=r"padding.*pair \(sum, count\)"):
            dense(kind(model, mean_over_tokens, loader))

    @pytest.mark.parametrize("kind", [HessianOperator, GGNOperator])
    def test_class_weights(self, data, kind):
        """Oracle: torch's weighted mean over all samples, differentiated densely."""
        weight = torch.tensor([1.0, 3.0, 0.2], dtype=torch.float64)
        model, (x, y) = nn.Linear(4, 3).double(), data  # linear, so that H = G

        def loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            total = functional.cross_entropy(outputs, targets, weight, reduction="sum")
            return total, weight[targets].sum()

        def mean(flat: Tensor) -> Tensor:
            outputs = x @ flat[:12].view(3, 4).T + flat[12:]
            return functional.cross_entropy(outputs, y, weight)

        theta = torch.cat([p.detach().flatten() for p in model.parameters()])
        expected = torch.autograd.functional.hessian(mean, theta)
        loader = DataLoader(TensorDataset(x, y), 4, shuffle=True)
        assert torch.allclose(dense(kind(model, loss, loader)), expected, rtol=0, atol=1e-13)
        assert torch.allclose(dense(kind(model, loss, x, y)), expected, rtol=0, atol=1e-13)

    @every_kind
    def test_half_precision_holds_large_sums(self, kind):
        """Oracle: single precision; the sums alone pass the 65,504 that half precision holds."""
        x = torch.full((4000, 1), 4.0)
        model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh())
        nn.init.constant_(model[0].weight, 0.05)

        def loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
            return (outputs.float() - 5 * targets.float()).square().sum(), len(targets)

        expected = kind(model, loss, x, x) @ torch.ones(1)
        found = kind(model.half(), loss, x.half(), x.half()) @ torch.ones(1)
        assert torch.allclose(found, expected, rtol=2e-2)

    def test_sampling_is_refused(self):
        """Oracle: the method's documentation."""
        operator = HessianOperator(language_model(), sum_and_count, *padded_tokens([6] * 4))
        assert not operator.can_be_sampled
        with pytest.raises(UnsupportedLossError, match="pairs"):
            operator.sample_sizes()

    @pytest.mark.parametrize("name", BAD_PAIRS)
    def test_refuses_other_pairs(self, name):
        """Oracle: the documentation: a sum and what it is over, both additive."""
        loss, message = BAD_PAIRS[name]
        x, y = padded_tokens(LENGTHS["everywhere"])
        with pytest.raises(UnsupportedLossError, match=message):
            HessianOperator(language_model(), loss, x, y)

    def test_refuses_a_count_that_depends_on_the_parameters(self):
        """Oracle: the derivative of a quotient holds that of its denominator."""

        def soft(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            weights = outputs.sigmoid()
            return (weights * outputs.square()).sum(), weights.sum()

        x, y = padded_tokens([6] * 4)
        operator = HessianOperator(
            language_model(), lambda f, t: (soft(f, t)[0], soft(f, t)[1].detach()), x, y
        )
        assert (operator @ torch.ones(operator.shape[0])).isfinite().all()
        with pytest.raises(UnsupportedLossError, match=r"depends on the parameters.*detach\(\)"):
            HessianOperator(language_model(), soft, x, y) @ torch.ones(operator.shape[0])

    def test_refuses_nothing_but_padding(self):
        """Oracle: a mean over no tokens is not a number."""
        x, y = padded_tokens([0] * 4)
        operator = HessianOperator(language_model(), sum_and_count, x, y)
        with pytest.raises(UnsupportedLossError, match="add up to 0"):
            operator @ torch.ones(operator.shape[0])


class TestLaterBatches:
    """A loss that is no mean over samples is refused wherever it shows."""

    @every_kind
    @pytest.mark.parametrize("carries", ["targets", "loss"])
    def test_padding_in_the_last_batch(self, kind, carries):
        """Oracle: the mean over tokens is refused for the same samples in one tensor."""

        class WithLoss(nn.Module):
            def __init__(self):
                super().__init__()
                self.model = language_model()

            def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
                return mean_over_tokens(self.model(tokens), labels)

        x, y = padded_tokens([6] * 19 + [5, 2, 3, 1])
        cuts = [(i, min(i + 5, SAMPLES)) for i in range(0, SAMPLES, 5)]
        if carries == "targets":
            batches = [(x[i:j], y[i:j]) for i, j in cuts]
            arguments = (language_model(), mean_over_tokens, batches)
        else:
            batches = [((x[i:j], y[i:j]), y[i:j]) for i, j in cuts]
            arguments = (WithLoss(), lambda loss, _: loss, batches)
        with pytest.raises(UnsupportedLossError, match="not a mean over samples"):
            dense(kind(*arguments))
