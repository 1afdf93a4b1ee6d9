"""The tracked subspace where the rest of model or loss changes together with a training step.

Trusted are the eigenvectors, by ``torch.linalg.eigh``, of the dense Hessian that
``torch.autograd.functional.hessian`` gives of the loss as it is now, and the count of products.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.functional import mse_loss

from sharpflat.curvature import DominantSubspace, HessianOperator

SAMPLES, K, TOL = 60, 3, 0.05
#: Steps so small that tracking alone needs few products.
SMALL = 1e-4

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A model that is trained, its loss, and all of its data."""

    model: nn.Module
    loss: Loss
    x: Tensor
    y: Tensor

    def objective(self) -> Tensor:
        value: Tensor = self.loss(self.model(self.x), self.y)
        return value

    def eigenvectors(self) -> Tensor:
        """The top ones, of the model in evaluation mode."""
        named = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        whole = Whole(self)

        def loss_at(theta: Tensor) -> Tensor:
            parts = torch.split(theta, [p.numel() for p in named.values()])
            views = {
                f"model.{n}": t.view_as(p) for (n, p), t in zip(named.items(), parts, strict=True)
            }
            value: Tensor = functional_call(whole, views, ())
            return value

        was_training = self.model.training
        self.model.eval()
        dense = hessian(loss_at, torch.cat([p.detach().reshape(-1) for p in named.values()]))
        self.model.train(was_training)
        return torch.linalg.eigh((dense + dense.T) / 2)[1][:, -K:]

    def step(self, lr: float = SMALL, batch: slice | Tensor = slice(None)) -> None:
        """One step of SGD, the model evaluated in the mode that it has."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        value = self.loss(self.model(self.x[batch]), self.y[batch])
        gradients = torch.autograd.grad(value, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(lr * gradient)


class Whole(nn.Module):
    """Model and loss in one, so that a loss that reads the parameters reads those given."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.model = problem.model
        self.problem = problem

    def forward(self) -> Tensor:
        return self.problem.objective()


class Net(nn.Module):
    """A frozen layer, a mask, and a number before what is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)
        self.register_buffer("mask", torch.tensor([1.0, 1.0, 1.0, 0.1, 0.1, 0.1]))
        self.scale = 1.0
        self.options = {"scale": 1.0}
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(self.frozen(x) * self.mask) * self.scale * self.options["scale"]
        outputs: Tensor = self.second(torch.tanh(hidden))
        return outputs


class Weighted(nn.Module):
    """Squared error, its outputs weighted."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.tensor([1.0, 1.0, 10.0], dtype=torch.float64)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (self.weights * (outputs - targets).square()).mean()


def problem(make: Callable[[], nn.Module] = Net, loss: Loss = mse_loss) -> Problem:
    torch.manual_seed(1)
    model = make()
    x = torch.randn(SAMPLES, 6, dtype=torch.float64) * torch.tensor([3.0, 2, 1, 1, 1, 1]).double()
    return Problem(model=model, loss=loss, x=x, y=torch.randn(SAMPLES, 3, dtype=torch.float64))


def frozen() -> tuple[Problem, Callable[[], object]]:
    own = problem()
    weight = own.model.frozen.weight
    return own, lambda: weight.copy_(torch.randn_like(weight))


def frozen_through_data() -> tuple[Problem, Callable[[], object]]:
    own = problem()
    weight = own.model.frozen.weight
    return own, lambda: weight.data.copy_(torch.randn_like(weight))


def frozen_replaced() -> tuple[Problem, Callable[[], object]]:
    own = problem()
    layer = nn.Linear(6, 6).double().requires_grad_(False)
    return own, lambda: setattr(own.model, "frozen", layer)


def buffer() -> tuple[Problem, Callable[[], object]]:
    own = problem()
    return own, lambda: own.model.mask.copy_(own.model.mask.flip(0))


def number() -> tuple[Problem, Callable[[], object]]:
    own = problem()
    return own, lambda: setattr(own.model, "scale", 3.0)


def number_in_a_dict() -> tuple[Problem, Callable[[], object]]:
    own = problem()
    return own, lambda: own.model.options.update(scale=3.0)


def hook() -> tuple[Problem, Callable[[], object]]:
    own = problem()
    return own, lambda: own.model.first.register_forward_hook(lambda _, __, out: 3 * out)


def loss_replaced() -> tuple[Problem, Callable[[], object]]:
    loss = Weighted()
    return problem(loss=loss), lambda: setattr(loss, "weights", loss.weights.flip(0))


def loss_in_place() -> tuple[Problem, Callable[[], object]]:
    loss = Weighted()
    return problem(loss=loss), lambda: loss.weights.copy_(loss.weights.flip(0))


def loss_over_a_dict() -> tuple[Problem, Callable[[], object]]:
    loss = Weighted()
    options = {"weights": loss.weights}
    return (
        problem(loss=lambda f, t: (options["weights"] * (f - t).square()).mean()),
        lambda: options.update(weights=loss.weights.flip(0)),
    )


def loss_over_a_tensor() -> tuple[Problem, Callable[[], object]]:
    weights = Weighted().weights
    return (
        problem(loss=lambda f, t: (weights * (f - t).square()).mean()),
        lambda: weights.copy_(weights.flip(0)),
    )


def loss_over_a_module() -> tuple[Problem, Callable[[], object]]:
    loss = Weighted()
    return (
        problem(loss=lambda f, t: loss(f, t)),
        lambda: setattr(loss, "weights", loss.weights.flip(0)),
    )


CHANGES: dict[str, Callable[[], tuple[Problem, Callable[[], object]]]] = {
    "frozen weight": frozen,
    "frozen weight through data": frozen_through_data,
    "frozen layer replaced": frozen_replaced,
    "buffer": buffer,
    "number of the model": number,
    "number in a dict of the model": number_in_a_dict,
    "forward hook": hook,
    "attribute of the loss replaced": loss_replaced,
    "attribute of the loss in place": loss_in_place,
    "dict in the loss's closure": loss_over_a_dict,
    "tensor in the loss's closure": loss_over_a_tensor,
    "module in the loss's closure": loss_over_a_module,
}


def track(subspace: DominantSubspace, own: Problem, steps: int) -> None:
    for _ in range(steps):
        subspace.update()
        own.step()


@pytest.mark.parametrize(
    ("samples", "moved"),
    [(None, True), ("auto", True), (None, False)],
    ids=["with a step", "with a step, sampled", "alone"],
)
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_solved_for_at_the_next_update(sine, name, samples, moved):
    """Oracle: the eigenvectors of the dense Hessian, from which the old basis is far."""
    own, change = CHANGES[name]()
    operator = HessianOperator(own.model, own.loss, own.x, own.y)
    subspace = DominantSubspace(operator, K, tol=TOL, samples=samples)
    track(subspace, own, 25)
    subspace.update()
    assert sine(own.eigenvectors(), subspace.basis) <= TOL
    with torch.no_grad():
        change()
    if moved:
        own.step()
    assert sine(own.eigenvectors(), subspace.basis) > 0.3
    for _ in range(4):
        subspace.update()
        assert sine(own.eigenvectors(), subspace.basis) <= TOL
        own.step()


@pytest.mark.filterwarnings("ignore:model.scale changed at each")
@pytest.mark.parametrize("samples", [None, "auto"])
def test_a_number_that_is_annealed(sine, samples):
    """Oracle: the eigenvectors, at each of 25 steps that change a number by 6 %."""
    own = problem()
    operator = HessianOperator(own.model, own.loss, own.x, own.y)
    subspace = DominantSubspace(operator, K, tol=TOL, samples=samples)
    start = own.eigenvectors()
    for _ in range(25):
        subspace.update()
        assert sine(own.eigenvectors(), subspace.basis) <= 1.5 * TOL
        own.step()
        own.model.scale *= 1.06
    assert sine(own.eigenvectors(), start) > 10 * TOL


def test_what_changes_at_every_step_is_named_once():
    """Oracle: the page on the library: after five steps a warning names it."""
    own = problem()
    subspace = DominantSubspace(HessianOperator(own.model, own.loss, own.x, own.y), K, tol=TOL)
    with pytest.warns(UserWarning, match=r"^model\.scale changed at each of 5 updates") as said:
        for _ in range(12):
            subspace.update()
            own.step()
            own.model.scale *= 1.06
    assert len(said) == 1


class Normalised(nn.Module):
    """BatchNorm between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.second(torch.tanh(self.norm(self.first(x))))
        return outputs


class Remembering(Net):
    """Keeps what it last saw, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.last: Tensor | None = None
        self.all: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(self.frozen(x) * self.mask))
        outputs: Tensor = self.second(hidden)
        self.remember(hidden, outputs)
        return outputs

    def remember(self, hidden: Tensor, outputs: Tensor) -> None:
        raise NotImplementedError


class Counting(Remembering):
    def remember(self, hidden: Tensor, outputs: Tensor) -> None:
        self.calls += 1


class Detaching(Remembering):
    def remember(self, hidden: Tensor, outputs: Tensor) -> None:
        self.last = hidden.detach()


class Collecting(Remembering):
    def remember(self, hidden: Tensor, outputs: Tensor) -> None:
        self.all["hidden"] = hidden.detach().clone()
        self.all["outputs"] = outputs  # with its graph


def appending() -> Problem:
    values: list[float] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        value = mse_loss(outputs, targets)
        values.append(float(value.detach()))
        return value

    return problem(loss=loss)


def over_the_model() -> Problem:
    torch.manual_seed(1)
    model = Net()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        penalty = sum(p.square().sum() for p in model.parameters() if p.requires_grad)
        return mse_loss(outputs, targets) + 0.01 * penalty

    return problem(lambda: model, loss)


class Trainer:
    """Holds the model that is trained; its method is the loss."""

    def __init__(self) -> None:
        self.model = Net()
        self.beta = 0.01
        self.values: list[float] = []

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value = mse_loss(outputs, targets) + self.beta * self.model.second.weight.square().sum()
        self.values.append(float(value.detach()))
        return value


def method_of_a_trainer() -> Problem:
    torch.manual_seed(1)
    trainer = Trainer()
    return problem(lambda: trainer.model, trainer.loss)


QUIET: dict[str, Callable[[], Problem]] = {
    "nothing": problem,
    "model that counts its calls": lambda: problem(Counting),
    "model that keeps a detached activation": lambda: problem(Detaching),
    "model that collects activations": lambda: problem(Collecting),
    "loss that appends to a list": appending,
    "loss over the trained model": over_the_model,
    "method of a trainer that holds the model": method_of_a_trainer,
}


def products_of_small_steps(
    subspace: DominantSubspace, own: Problem, step: Callable[[], Any], sine: Callable[..., float]
) -> int:
    """Products of 20 updates, after the first ones, between which full checks are close."""
    for _ in range(25):
        subspace.update()
        step()
    before = subspace.num_matvecs
    for _ in range(20):
        subspace.update()
        step()
    subspace.update()
    assert sine(own.eigenvectors(), subspace.basis) <= 1.5 * TOL
    return subspace.num_matvecs - before


@pytest.mark.filterwarnings("error")  # of changes at each update
@pytest.mark.parametrize("name", QUIET)
def test_what_changes_no_curvature_is_no_change(sine, name):
    """Oracle: the count of products; solving afresh takes at least 13 here, at each update."""
    own = QUIET[name]()
    operator = HessianOperator(own.model, own.loss, own.x, own.y)
    subspace = DominantSubspace(operator, K, tol=TOL)
    assert products_of_small_steps(subspace, own, own.step, sine) < 20 * K


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("batch_size", [SAMPLES, 40], ids=["all samples", "batches"])
def test_running_statistics_move_with_the_parameters(sine, batch_size):
    """Oracle: the count of products, 13 or more a solve; every step is one in train mode."""
    own = problem(Normalised, Weighted())
    for _ in range(60):  # until the statistics are those of the data
        own.model(own.x)
    own.model.eval()
    operator = HessianOperator(own.model, own.loss, own.x, own.y)
    subspace = DominantSubspace(operator, K, tol=TOL)
    own.model.norm.momentum = 0.01
    own.model.train()
    before = own.model.norm.running_mean.clone()

    def step() -> None:
        own.step(batch=torch.randperm(SAMPLES)[:batch_size])

    assert products_of_small_steps(subspace, own, step, sine) < 20 * K
    assert not torch.equal(own.model.norm.running_mean, before)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy], ids=["deep", "shallow"])
def test_a_copy_sees_what_changes_after_it_was_made(sine, copied):
    """Oracle: the eigenvectors of the dense Hessian at the step after a change of a buffer."""
    own = problem()
    subspace = DominantSubspace(HessianOperator(own.model, own.loss, own.x, own.y), K, tol=TOL)
    for _ in range(5):
        own.step()
        subspace.update()
    other = copied(subspace)
    model = other.operator.model
    after = Problem(model=model, loss=own.loss, x=own.x, y=own.y)
    model.mask.copy_(model.mask.flip(0))
    for _ in range(3):
        after.step()
        other.update()
        assert sine(after.eigenvectors(), other.basis) <= TOL
