"""The mean over samples after a change that breaks it, and samples that cannot be told apart.

Trusted are ``torch.autograd.functional.hessian`` of the loss as it is now, over all samples or over
single ones, and what the operators' documentation says is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn import functional

from sharpflat.curvature import (
    CurvatureOperator,
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    MatrixOperator,
    UnsupportedLossError,
    UnsupportedModelError,
    top_eigenpairs,
)
from sharpflat.curvature.algebra import LinearCombination

KINDS = [HessianOperator, GGNOperator, FunctionalHessianOperator]
every_kind = pytest.mark.parametrize("kind", KINDS)
REFUSALS = (UnsupportedLossError, UnsupportedModelError)
SAMPLES, CLASSES = 30, 3

Loss = Callable[[Any, Tensor], Tensor]


def dense(operator: Any) -> Tensor:
    return operator.matmat(torch.eye(operator.shape[0], dtype=torch.float64))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.norm(found - expected) / torch.linalg.norm(expected))


def dense_hessian(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    named = dict(model.named_parameters())

    def loss_at(theta: Tensor) -> Tensor:
        parts = torch.split(theta, [p.numel() for p in named.values()])
        views = {n: t.view_as(p) for (n, p), t in zip(named.items(), parts, strict=True)}
        return loss(functional_call(model, views, (x,)), y)

    return hessian(loss_at, torch.cat([p.detach().reshape(-1) for p in named.values()]))


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
def test_sampled_where_samples_lead(data, name, chosen, chunk_size):
    """Oracle: dense Hessians of single samples, weighted and added; also where n is T."""
    if name == "network":
        model, (x, y), loss = Mixing(), data, functional.cross_entropy
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


def operators() -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh()).double()
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    hessian_operator = HessianOperator(model, functional.mse_loss, x, y)
    matrix = torch.randn(6, 6, dtype=torch.float64)
    return {
        "Hessian": hessian_operator,
        "matrix": MatrixOperator(matrix + matrix.T),
        "combination": 2.0 * hessian_operator,
    }


FACTORS = {
    "vector": torch.linspace(0.1, 0.9, 6, dtype=torch.float64),
    "column": torch.ones(6, 1, dtype=torch.float64),
    "matrix": torch.eye(6, dtype=torch.float64),
}


@pytest.mark.parametrize("name", ["Hessian", "matrix", "combination"])
@pytest.mark.parametrize("factor", FACTORS.values(), ids=FACTORS)
def test_a_vector_is_no_factor(name, factor):
    """Oracle: the matrix would not be symmetric, and no product says so."""
    operator = operators()[name]
    with pytest.raises(TypeError, match="number"):
        factor * operator
    with pytest.raises(TypeError, match="number"):
        operator * factor


@pytest.mark.parametrize(
    "factor", [np.ones(6), [1.0] * 6, "2", None], ids=["array", "list", "text", "None"]
)
def test_what_is_no_number_is_no_factor(factor):
    """Oracle: the same."""
    with pytest.raises(TypeError, match="number"):
        operators()["Hessian"] * factor


NUMBERS = {
    "integer": 3,
    "float": 3.0,
    "of NumPy": np.float64(3.0),
    "integer of NumPy": np.int64(3),
    "of torch": torch.tensor(3.0, dtype=torch.float64),
}


@pytest.mark.parametrize("name", ["Hessian", "matrix", "combination"])
@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_factors(name, number):
    """Oracle: three times the dense matrix."""
    operator = operators()[name]
    for product in (number * operator, operator * number):
        assert isinstance(product, LinearCombination)
        assert relative_error(dense(product), 3 * dense(operator)) <= 1e-14
