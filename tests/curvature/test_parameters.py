"""An operator over a block of the parameters is that block of the whole matrix."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpflat.curvature import (
    DominantSubspace,
    HessianOperator,
    ModelChangedError,
    UnsupportedLossError,
    top_eigenpairs,
)
from sharpflat.optim import ProjectedOptimizer
from sharpflat.tasks.losses import cross_entropy

from .dense import dense
from .small import every_kind


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


@pytest.fixture
def arguments():
    """A model of three layers in float64, with its loss and data."""
    x = torch.randn(11, 4, dtype=torch.float64)
    return network().double(), cross_entropy, x, torch.arange(11) % 3


def places(model: nn.Module, names: list[str]) -> Tensor:
    """Where parameters lie among all of them."""
    found, start = [], 0
    for name, parameter in model.named_parameters():
        if name in names:
            found.append(torch.arange(start, start + parameter.numel()))
        start += parameter.numel()
    return torch.cat(found)


CHOICES = {
    "pattern": (lambda m: ["2.*"], ["2.weight", "2.bias"]),
    "two patterns, out of order": (lambda m: ["4.bias", "*.weight"], None),
    "module": (lambda m: [m[2]], ["2.weight", "2.bias"]),
    "parameter": (lambda m: [m[4].weight], ["4.weight"]),
    "what a module gives": (lambda m: m[2].parameters(), ["2.weight", "2.bias"]),
    "all of it": (lambda m: [m], None),
    "all but one": (lambda m: ["[!0]*", m[0].bias], None),
}
CHOSEN_NAMES = {
    "two patterns, out of order": ["0.weight", "2.weight", "4.weight", "4.bias"],
    "all of it": ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"],
    "all but one": ["0.bias", "2.weight", "2.bias", "4.weight", "4.bias"],
}


@every_kind
@pytest.mark.parametrize("name", CHOICES)
def test_block(arguments, kind, name):
    """Oracle: rows and columns of the matrix over all parameters, in the model's order."""
    choose, names = CHOICES[name]
    where = places(arguments[0], names or CHOSEN_NAMES[name])
    whole = dense(kind(*arguments))
    block = kind(*arguments, chunk_size=4, parameters=choose(arguments[0]))
    assert torch.allclose(dense(block), whole[where][:, where], rtol=1e-10, atol=1e-14)
    assert len(block.theta()) == len(where)


@every_kind
@pytest.mark.parametrize("write", ["in place", "data"])
def test_parameters_outside_the_block_are_read_at_the_call(arguments, kind, write):
    """Oracle: an operator built after they moved, trainable or frozen."""
    model = arguments[0]
    model[0].bias.requires_grad_(False)
    block = kind(*arguments, parameters=["2.*"])
    v = torch.ones(block.shape[0], dtype=torch.float64)
    before = block @ v
    for parameter in (model[0].weight, model[0].bias):
        with torch.no_grad():
            (parameter if write == "in place" else parameter.data).mul_(1.5)
        now = block @ v
        assert torch.equal(now, kind(*arguments, parameters=["2.*"]) @ v)
        assert not torch.equal(now, before)
        before = now


def test_tied_weights_answer_to_each_of_their_names(arguments):
    """Oracle: the block chosen by the parameter itself."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double()
    model[2].weight = model[0].weight
    arguments = (model, *arguments[1:])
    expected = dense(HessianOperator(*arguments, parameters=[model[0].weight]))
    for choice in ("0.weight", "2.weight"):
        assert torch.equal(dense(HessianOperator(*arguments, parameters=[choice])), expected)
    assert expected.shape == (16, 16)


def test_frozen_parameters_of_a_block_are_left_out(arguments):
    """Oracle: the trainable one alone."""
    arguments[0][2].bias.requires_grad_(False)
    block = HessianOperator(*arguments, parameters=["2.*"])
    assert block.parameters == (arguments[0][2].weight,)


def test_unused_parameters_of_a_block_have_no_curvature(arguments):
    """Oracle: zeros beside the used ones; a block of unused ones alone is refused."""
    model = arguments[0]
    model.register_parameter("unused", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    matrix = dense(HessianOperator(*arguments, parameters=["unused", "4.bias"]))
    assert matrix.shape == (5, 5)
    assert not matrix[:2].any()
    assert not matrix[:, :2].any()
    with pytest.raises(UnsupportedLossError, match="depends on none of the parameters"):
        HessianOperator(*arguments, parameters=["unused"]) @ torch.ones(2)


@every_kind
def test_block_of_a_sample_and_of_batches(arguments, kind):
    """Oracle: the sample's and the batches' matrix over all parameters."""
    model, loss, x, y = arguments
    where = places(model, ["2.weight", "2.bias"])
    indices, weights = torch.tensor([3, 0]), torch.tensor([0.5, 2.0])
    whole = dense(kind(*arguments).sampled(indices, weights))[where][:, where]
    block = kind(*arguments, parameters=["2.*"]).sampled(indices, weights)
    assert torch.allclose(dense(block), whole, rtol=1e-10, atol=1e-14)
    batched = kind(model, loss, [(x[:6], y[:6]), (x[6:], y[6:])], parameters=["2.*"])
    expected = dense(kind(*arguments))[where][:, where]
    assert torch.allclose(dense(batched), expected, rtol=1e-10, atol=1e-14)


def test_rebind_keeps_the_choice(arguments):
    """Oracle: the choice; a change inside the block is told, one outside it is none."""
    model = arguments[0]
    block = HessianOperator(*arguments, parameters=["2.*"])
    v = torch.ones(24, dtype=torch.float64)
    model[0].bias.requires_grad_(False)
    assert (block @ v).isfinite().all()
    model[2] = nn.Linear(5, 4).double()
    with pytest.raises(ModelChangedError, match=r"2\.weight was replaced"):
        block @ v
    block.rebind()
    assert torch.equal(block @ v, HessianOperator(*arguments, parameters=["2.*"]) @ v)


REFUSED = {
    "no such name": (lambda m: ["layers.*"], r"'layers\.\*' matches no parameter.*0\.weight, 2\."),
    "one typing error": (lambda m: ["2.*", "5.*"], r"'5\.\*' matches no parameter"),
    "another module": (lambda m: [nn.Linear(2, 2)], "a Linear matches no parameter"),
    "module without any": (lambda m: [m[1]], "a Tanh matches no parameter"),
    "another parameter": (lambda m: [nn.Parameter(torch.ones(2))], "a Parameter matches no"),
    "frozen": (lambda m: ["0.bias"], "matches only frozen parameters"),
    "nothing": (lambda m: [], "parameters is empty"),
    "not a list": (lambda m: "2.*", r"is a str; it must be a list.*parameters=\[\.\.\.\]"),
    "a module that is no list": (lambda m: m, r"is a Sequential; it must be a list"),
    "a number": (lambda m: [2], "holds a int"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_choices_that_match_nothing(arguments, name):
    """Oracle: the constructor's documentation, with the names that there are."""
    choose, message = REFUSED[name]
    arguments[0][0].bias.requires_grad_(False)
    with pytest.raises(ValueError, match=message):
        HessianOperator(*arguments, parameters=choose(arguments[0]))


def test_tracking_and_projected_steps_on_a_block(arguments):
    """Oracle: eigenvectors of the dense block; SGD by hand, with the block's step projected."""
    model, _, x, y = arguments
    block = HessianOperator(*arguments, parameters=[model[2]])
    subspace = DominantSubspace(block, k=2, refresh="every_step", tol=1e-6)
    sgd = torch.optim.SGD(model[2].parameters(), lr=0.1)
    optimizer = ProjectedOptimizer(sgd, subspace, dom_weight=0.0, bulk_weight=1.0)
    others = [p.clone() for p in (*model[0].parameters(), *model[4].parameters())]
    for _ in range(2):
        before = block.theta()
        vectors = torch.linalg.eigh(dense(block))[1][:, -2:]
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        gradient = torch.cat([p.grad.flatten() for p in block.parameters])
        optimizer.step()
        expected = before - 0.1 * (gradient - vectors @ (vectors.T @ gradient))
        assert torch.allclose(block.theta(), expected, rtol=0, atol=1e-9)
    now = (*model[0].parameters(), *model[4].parameters())
    assert all(map(torch.equal, others, now))
    found = top_eigenpairs(block, 2, tol=1e-8).eigenvalues
    assert torch.allclose(found, torch.linalg.eigvalsh(dense(block)).flip(0)[:2], rtol=1e-8)
