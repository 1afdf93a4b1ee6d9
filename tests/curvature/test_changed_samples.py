"""The mean over samples after a change that breaks it.

Trusted are ``torch.autograd.functional.hessian`` of the loss as it is now, over all samples, and
what the operators' documentation says is refused.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpflat.curvature import (
    HessianOperator,
    UnsupportedLossError,
    UnsupportedModelError,
    top_eigenpairs,
)

from .dense import dense, dense_hessian, relative_error
from .small import every_kind

REFUSALS = (UnsupportedLossError, UnsupportedModelError)
SAMPLES, CLASSES = 30, 3


class Mixing(nn.Module):
    """A network that takes the mean over the samples out of its hidden layer, if told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4).double()
        self.second = nn.Linear(4, CLASSES).double()
        self.options = {"centred": False}
        self.centred = False
        self.squash: Callable[[Tensor], Tensor] = torch.tanh

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.squash(self.first(x))
        if self.centred or self.options["centred"]:
            hidden = hidden - hidden.mean(dim=0)
        outputs: Tensor = self.second(hidden)
        return outputs


def centred(hidden: Tensor) -> Tensor:
    return torch.tanh(hidden) - torch.tanh(hidden).mean(dim=0)


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 4, dtype=torch.float64), torch.arange(SAMPLES) % CLASSES


IGNORED = {
    "some": [1, 3, 4, 5, 9],
    "one": [17],
    "all of the first chunks": list(range(12)),
    "in the last chunk": [28, 29],
}


class TestIgnoredTargets:
    """Targets that are set to ``ignore_index`` in place: what is left is no mean over samples."""

    @every_kind
    @pytest.mark.parametrize("used", [False, True], ids=["fresh", "after a product"])
    @pytest.mark.parametrize("ignored", IGNORED.values(), ids=IGNORED)
    def test_refused_at_each_product_until_undone(self, data, kind, used, ignored):
        """Oracle: chunks then count as many samples as they hold; undone, the product before."""
        x, y = data
        model = Mixing()
        operator = kind(model, functional.cross_entropy, x, y, chunk_size=7)
        v = torch.ones(operator.shape[0], dtype=torch.float64)
        expected = kind(model, functional.cross_entropy, x, y.clone(), chunk_size=7) @ v
        if used:
            operator @ v
        kept = y.clone()
        y[ignored] = -100
        for _ in range(2):
            with pytest.raises(UnsupportedLossError, match="not a mean over samples"):
                operator @ v
        y.copy_(kept)
        assert relative_error(operator @ v, expected) <= 1e-12

    def test_refused_after_the_parameters_moved(self, data):
        """Oracle: as without a move."""
        x, y = data
        model = Mixing()
        operator = HessianOperator(model, functional.cross_entropy, x, y, chunk_size=7)
        dense(operator)
        y[IGNORED["some"]] = -100
        with torch.no_grad():
            model.first.weight.mul_(1.1)
        with pytest.raises(UnsupportedLossError, match="not a mean over samples"):
            dense(operator)

    @pytest.mark.parametrize(
        "use",
        [
            lambda H: H.loss_and_gradient(),
            lambda H: top_eigenpairs(H, 1),
            lambda H: (
                H.sampled(torch.arange(SAMPLES), torch.full((SAMPLES,), 1 / SAMPLES))
                @ torch.ones(H.shape[0])
            ),
        ],
        ids=["loss_and_gradient", "top_eigenpairs", "sampled"],
    )
    def test_refused_by_all_that_rests_on_the_mean(self, data, use):
        """Oracle: the documentation; a weighted sum would not add up to the loss."""
        x, y = data
        operator = HessianOperator(Mixing(), functional.cross_entropy, x, y, chunk_size=7)
        dense(operator)
        y[IGNORED["some"]] = -100
        with pytest.raises(UnsupportedLossError):
            use(operator)

    def test_in_one_chunk_it_is_right_or_refused(self, data):
        """Oracle: the dense Hessian, which one graph of all samples does not miss."""
        x, y = data
        model = Mixing()
        operator = HessianOperator(model, functional.cross_entropy, x, y)
        dense(operator)
        y[IGNORED["some"]] = -100
        try:
            found = dense(operator)
        except UnsupportedLossError:
            return
        expected = dense_hessian(model, functional.cross_entropy, x, y)
        assert relative_error(found, expected) <= 1e-10

    @every_kind
    def test_other_targets_are_followed(self, data, kind):
        """Oracle: an operator that is built after targets were changed to other classes."""
        x, y = data
        model = Mixing()
        operator = kind(model, functional.cross_entropy, x, y, chunk_size=7)
        before = dense(operator)
        y[IGNORED["some"]] = 0
        x[3].mul_(2)
        after = dense(kind(model, functional.cross_entropy, x, y, chunk_size=7))
        assert relative_error(before, after) > 1e-3
        assert relative_error(dense(operator), after) <= 1e-12


def centre_through(place: str, model: Mixing) -> Callable[[], object]:
    """Make the model mix its samples.

    Returns:
        What undoes it.
    """
    if place == "attribute":
        model.centred = True
        return lambda: setattr(model, "centred", False)
    if place == "dict":
        model.options["centred"] = True
        return lambda: model.options.update(centred=False)
    if place == "function":
        model.squash = centred
        return lambda: setattr(model, "squash", torch.tanh)
    if place == "hook of a layer":
        return model.first.register_forward_hook(lambda _, __, out: out - out.mean(dim=0)).remove
    if place == "hook before a layer":
        return model.second.register_forward_pre_hook(
            lambda _, inputs: (inputs[0] - inputs[0].mean(dim=0),)
        ).remove
    assert place == "hook of the model"
    # Without a square the mean would drop out of the softmax's second derivative for no sample.
    return model.register_forward_hook(lambda _, __, out: out * out.mean(dim=0)).remove


PLACES = [
    "attribute",
    "dict",
    "function",
    "hook of a layer",
    "hook before a layer",
    "hook of the model",
]


@every_kind
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "after a product"])
@pytest.mark.parametrize("place", PLACES)
def test_a_model_that_comes_to_mix_samples(data, kind, used, place):
    """Oracle: products of chunks are then those of other losses; undone, the product before."""
    x, y = data
    model = Mixing()
    whole = dense_hessian(model, functional.cross_entropy, x, y)
    operator = kind(model, functional.cross_entropy, x, y, chunk_size=7)
    v = torch.ones(operator.shape[0], dtype=torch.float64)
    expected = kind(model, functional.cross_entropy, x, y, chunk_size=7) @ v
    if used:
        operator @ v
    undo = centre_through(place, model)
    assert relative_error(dense_hessian(model, functional.cross_entropy, x, y), whole) > 1e-3
    for _ in range(2):
        with pytest.raises(REFUSALS):
            operator @ v
    undo()
    assert relative_error(operator @ v, expected) <= 1e-12


class Reduced(nn.Module):
    """Squared error, its mean or its sum."""

    def __init__(self) -> None:
        super().__init__()
        self.summed = False

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs, targets, reduction="sum" if self.summed else "mean")


@every_kind
@pytest.mark.parametrize("as_closure", [False, True], ids=["module", "closure"])
def test_a_loss_that_comes_to_be_a_sum(data, kind, as_closure):
    """Oracle: chunks of a sum would be weighed as those of a mean."""
    x, _ = data
    y = torch.randn(SAMPLES, CLASSES, dtype=torch.float64)
    reduced = Reduced()
    loss = (lambda f, t: reduced(f, t)) if as_closure else reduced
    operator = kind(Mixing(), loss, x, y, chunk_size=7)
    expected = dense(operator)
    reduced.summed = True
    for _ in range(2):
        with pytest.raises(UnsupportedLossError, match="not a mean over samples"):
            dense(operator)
    reduced.summed = False
    assert relative_error(dense(operator), expected) <= 1e-12
