"""Inputs, targets and outputs in structures."""

from collections import OrderedDict, UserDict
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sharpflat.curvature import HessianOperator, UnsupportedLossError
from sharpflat.tasks.losses import cross_entropy, mse

from .dense import dense
from .small import KINDS, SAMPLES, assert_same, every_kind, network


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 4, dtype=torch.float64), torch.arange(SAMPLES) % 3


@dataclass
class Output:
    """As Hugging Face's models return."""

    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    note: str | None = None


@dataclass
class MappingOutput(OrderedDict):
    """A mapping whose fields are attributes too, made from them alone."""

    logits: Tensor
    cache: object = None

    def __post_init__(self) -> None:
        self["logits"] = self.logits


class Named(nn.Module):
    """A model of keyword inputs, with outputs of any kind."""

    def __init__(self, wrap=lambda logits, hidden: logits) -> None:
        super().__init__()
        self.first, self.last, self.wrap = nn.Linear(4, 5), nn.Linear(5, 3), wrap

    def forward(self, values: Tensor, mask: Tensor | None = None) -> object:
        values = values if mask is None else values * mask
        hidden = self.first(values).tanh()
        return self.wrap(self.last(hidden), hidden)


WRAPS = {
    "dict": (lambda f, h: {"f": f, "h": h}, lambda out: out["f"]),
    "tuple": (lambda f, h: (h, f), lambda out: out[1]),
    "dataclass": (
        lambda f, h: Output(logits=f, hidden=(h, h), note="x"),
        lambda out: out.logits,
    ),
    "mapping dataclass": (
        lambda f, h: MappingOutput(logits=f, cache=object()),
        lambda out: out["logits"],
    ),
    "with integers": (lambda f, h: (f, f.argmax(1)), lambda out: out[0]),
}


class TestNested:
    """Inputs and outputs in structures."""

    @every_kind
    def test_inputs(self, data, kind):
        """Oracle: the masked tensor, given alone."""
        x, y = data
        mask = (x > 0).to(x.dtype)
        model = Named().double()
        expected = kind(model, mse, x * mask, y)
        forms = [(x, mask), [x, mask], {"values": x, "mask": mask}, UserDict(values=x, mask=mask)]
        forms += [{"values": x * mask, "mask": None}, OrderedDict(mask=mask, values=x)]
        for inputs in forms:
            operator = kind(model, mse, inputs, y, chunk_size=9)
            assert_same(operator, expected)
            chosen = torch.tensor([3, 1]), torch.tensor([1.0, 0.5])
            assert_same(operator.sampled(*chosen), expected.sampled(*chosen))
        loader = DataLoader(
            TensorDataset(x, mask, y), 6, collate_fn=lambda rows: _collated(rows), shuffle=True
        )
        assert_same(kind(model, mse, loader), expected)

    @every_kind
    def test_targets(self, data, kind):
        """Oracle: the loss with its second target built in."""
        x, _ = data

        def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
            return (targets["weight"] * (outputs - targets["y"]).square().sum(1)).mean()

        weights = torch.rand(SAMPLES, dtype=torch.float64)
        goals = torch.randn(SAMPLES, 3, dtype=torch.float64)
        model = network()
        root = weights.sqrt()[:, None]
        expected = HessianOperator(
            model,
            lambda f, t: mse_of(f * t[:, 3:], t[:, :3]),
            x,
            torch.cat([goals * root, root], 1),
        )
        if kind is HessianOperator:
            assert_same(kind(model, loss, x, {"y": goals, "weight": weights}), expected)
        H, G, F = (dense(k(model, loss, x, {"y": goals, "weight": weights})) for k in KINDS)
        assert torch.allclose(G + F, H, atol=1e-12)

    @every_kind
    @pytest.mark.parametrize("name", WRAPS)
    def test_outputs(self, data, kind, name):
        """Oracle: the operator of the logits alone, over all samples and over a sample."""
        wrap, logits = WRAPS[name]
        plain, wrapped = Named().double(), Named(wrap).double()
        wrapped.load_state_dict(plain.state_dict())
        expected = kind(plain, cross_entropy, *data)
        chosen = torch.tensor([3, 1]), torch.tensor([1.0, 0.5])
        operator = kind(wrapped, lambda f, t: cross_entropy(logits(f), t), *data, chunk_size=9)
        assert_same(operator, expected)
        assert_same(operator.sampled(*chosen), expected.sampled(*chosen))
        with pytest.raises(UnsupportedLossError, match="told from one tensor"):
            operator.sample_sizes()

    def test_a_loss_of_several_outputs(self, data):
        """Oracle: all outputs side by side in one tensor, one of them an input of the other."""

        def loss(parts: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
            logits, hidden = parts
            return cross_entropy(logits * hidden[:, :1], targets) + hidden.square().sum(1).mean()

        pair = Named(lambda f, h: (f, h)).double()
        joined = Named(lambda f, h: torch.cat([f, h], dim=1)).double()
        joined.load_state_dict(pair.state_dict())
        chosen = torch.tensor([3, 1]), torch.tensor([1.0, 0.5])
        for kind in KINDS:
            expected = kind(joined, lambda f, t: loss((f[:, :3], f[:, 3:]), t), *data)
            assert_same(kind(pair, loss, *data), expected)
            assert_same(kind(pair, loss, *data).sampled(*chosen), expected.sampled(*chosen))

    def test_what_is_no_tensor_is_refused(self, data):
        """Oracle: samples cannot be chosen from a list of words, nor from a number."""
        x, y = data
        for extra, said in ((["a"] * SAMPLES, "is a str"), (3, "is a int")):
            with pytest.raises(ValueError, match=rf"inputs\['extra'\].*{said}"):
                HessianOperator(network(), mse, {"x": x, "extra": extra}, y)
        with pytest.raises(ValueError, match=r"inputs\['s'\] is a single number"):
            HessianOperator(network(), mse, {"x": x, "s": torch.tensor(1.0)}, y)
        with pytest.raises(UnsupportedLossError, match="no tensor of real numbers"):
            HessianOperator(Named(lambda f, h: object()).double(), mse, x, y)


def mse_of(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(dim=1).mean()


def _collated(rows: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
    x, mask, y = (torch.stack(part) for part in zip(*rows, strict=True))
    return {"values": x, "mask": mask}, y
