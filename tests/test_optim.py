"""Projected steps against torch's optimizers, against steps by hand and on a quadratic."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from sharpflat.curvature import DominantSubspace, HessianOperator, NonFiniteProductError
from sharpflat.optim import ProjectedOptimizer
from sharpflat.tasks.losses import cross_entropy

K = 3
BaseOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


def two_groups(model: nn.Module) -> list[dict[str, object]]:
    """The first layer with its own learning rate and weight decay; the order is not the model's."""
    return [
        {"params": list(model[2].parameters())},
        {"params": list(model[0].parameters()), "lr": 0.03, "weight_decay": 0.1},
    ]


BASES: dict[str, BaseOptimizer] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
    "momentum": lambda m: torch.optim.SGD(two_groups(m), lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda m: torch.optim.Adam(two_groups(m), lr=0.01),
}
every_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())


class Training:
    """A small model with its data, in float64."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.x, self.y = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3
        self.model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()

    def subspace(self) -> DominantSubspace:
        hessian = HessianOperator(self.model, cross_entropy, self.x, self.y)
        return DominantSubspace(hessian, K, refresh="every_step", tol=1e-3)

    def projected(self, base: BaseOptimizer, a: float, b: float) -> ProjectedOptimizer:
        return ProjectedOptimizer(base(self.model), self.subspace(), dom_weight=a, bulk_weight=b)

    def loss(self, samples: slice = slice(None)) -> Tensor:
        return cross_entropy(self.model(self.x[samples]), self.y[samples])

    def backward(self, step: int) -> None:
        """The gradient of another mini-batch at every step."""
        self.model.zero_grad()
        self.loss(slice(10 * (step % 3), 10 * (step % 3) + 10)).backward()

    @property
    def theta(self) -> Tensor:
        return parameters_to_vector(self.model.parameters()).detach().clone()


@pytest.fixture
def training() -> Training:
    return Training()


def base_update(training: Training, optimizer: ProjectedOptimizer) -> Tensor:
    """What the base optimizer would do next, found out on copies."""
    model, base = copy.deepcopy((training.model, optimizer.base_optimizer))
    for copied, parameter in zip(model.parameters(), training.model.parameters(), strict=True):
        copied.grad = None if parameter.grad is None else parameter.grad.clone()
    base.step()
    return parameters_to_vector(model.parameters()).detach() - training.theta


@every_base
def test_weights_of_one_are_the_base_optimizer(training, base):
    """Oracle: the trajectory of torch's optimizer on its own, bit by bit."""
    other = Training()
    optimizer, plain = training.projected(base, 1.0, 1.0), base(other.model)
    for step in range(10):
        training.backward(step)
        optimizer.step()
        other.backward(step)
        plain.step()
        assert torch.equal(training.theta, other.theta)


@every_base
def test_weights_of_zero_leave_the_parameters(training, base):
    """Oracle: the parameters before."""
    optimizer, before = training.projected(base, 0.0, 0.0), training.theta
    for step in range(3):
        training.backward(step)
        optimizer.step()
    assert torch.equal(training.theta, before)
    H = optimizer.subspace.operator  # and the curvature can still be multiplied there
    assert (H @ torch.ones(len(before), dtype=torch.float64)).isfinite().all()


@every_base
@pytest.mark.parametrize(("a", "b"), [(1, 0), (0, 1), (0.5, 2), (-1, 1), (1, 1.5)])
def test_step(training, base, a, b):
    """Oracle: θ + a P u + b (u − P u) by hand, u from a copy of the base optimizer."""
    optimizer = training.projected(base, a, b)
    for step in range(4):  # the state of momentum and Adam goes on
        training.backward(step)
        u, before = base_update(training, optimizer), training.theta
        optimizer.step()
        V = optimizer.subspace.basis
        expected = before + a * (V @ (V.T @ u)) + b * (u - V @ (V.T @ u))
        assert torch.allclose(training.theta, expected, rtol=0, atol=1e-14)


def test_the_projection_is_that_of_the_point_before_the_step(training):
    """Oracle: torch.linalg.eigh of the dense Hessian where the gradient was taken."""
    optimizer = training.projected(BASES["sgd"], 1.0, 0.0)
    for step in range(3):
        training.backward(step)
        H = optimizer.subspace.operator @ torch.eye(43, dtype=torch.float64)
        V = torch.linalg.eigh(H)[1][:, -K:]
        u, before = base_update(training, optimizer), training.theta
        optimizer.step()
        error = torch.linalg.vector_norm(training.theta - before - V @ (V.T @ u))
        assert float(error) <= 2e-3 * float(torch.linalg.vector_norm(u))


def test_dom_and_bulk_updates_are_parts_of_sgds(training):
    """Oracle: geometry. One lies in the span, one is orthogonal to it, and they sum to SGD's."""
    updates = {}
    for a, b in [(1, 0), (0, 1), (1, 1)]:
        run = Training()
        optimizer = run.projected(BASES["sgd"], a, b)
        run.backward(0)
        before = run.theta
        optimizer.step()
        updates[a, b] = run.theta - before
    subspace = training.subspace()
    assert subspace.alignment(updates[1, 0]) == pytest.approx(1, abs=1e-10)
    assert subspace.alignment(updates[0, 1]) == pytest.approx(0, abs=1e-10)
    assert all(float(torch.linalg.vector_norm(update)) > 1e-3 for update in updates.values())
    total = updates[1, 0] + updates[0, 1]
    assert torch.allclose(total, updates[1, 1], rtol=0, atol=1e-15)


def test_sgd_moves_no_subspace(training):
    """Oracle: the count of products; (1, 1) needs no curvature."""
    optimizer = training.projected(BASES["sgd"], 1.0, 1.0)
    training.backward(0)
    optimizer.step()
    assert optimizer.subspace.num_matvecs == 0


@every_base
def test_frozen_parameters_stay(training, base):
    """Oracle: their values before; the others move by the step by hand."""
    training.model[0].weight.requires_grad_(False)
    frozen = training.model[0].weight.clone()
    optimizer = training.projected(base, 0.3, 0.7)
    assert optimizer.subspace.operator.shape == (23, 23)
    training.backward(0)
    u, before = base_update(training, optimizer)[20:], training.theta[20:]
    optimizer.step()
    V = optimizer.subspace.basis
    assert torch.equal(training.model[0].weight, frozen)
    expected = before + 0.3 * (V @ (V.T @ u)) + 0.7 * (u - V @ (V.T @ u))
    assert torch.allclose(training.theta[20:], expected, rtol=0, atol=1e-14)


@every_base
def test_parameter_without_a_gradient_counts_as_one_with_a_zero_gradient(training, base):
    """Oracle: the step by hand with that part of u zero; P u reaches the parameter all the same."""
    optimizer = training.projected(base, 1.0, 0.0)
    training.backward(0)
    training.model[0].bias.grad = None
    u, before = base_update(training, optimizer), training.theta
    assert not u[20:25].any()
    optimizer.step()
    V = optimizer.subspace.basis
    assert torch.allclose(training.theta, before + V @ (V.T @ u), rtol=0, atol=1e-14)
    assert (training.theta[20:25] != before[20:25]).all()


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.0, 1.0)])
def test_closure(training, a, b):
    """Oracle: the same step without a closure; its loss is handed on."""
    other = Training()
    optimizer, plain = (run.projected(BASES["sgd"], a, b) for run in (training, other))

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        training.backward(0)
        return training.loss()

    expected = training.loss().item()
    loss = optimizer.step(closure)
    other.backward(0)
    assert plain.step() is None
    assert loss.item() == expected
    assert torch.equal(training.theta, other.theta)


def test_zero_grad_and_param_groups_are_the_base_optimizers(training):
    """Oracle: the base optimizer; a scheduler on it changes the projected step's length."""
    optimizer = training.projected(BASES["sgd"], 0.0, 1.0)
    training.backward(0)
    optimizer.zero_grad(set_to_none=False)
    assert not any(p.grad.any() for p in training.model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in training.model.parameters())
    optimizer.param_groups[0]["lr"] = 0.0
    before = training.theta
    training.backward(0)
    optimizer.step()
    assert torch.equal(training.theta, before)


WRONG_PARAMETERS = {
    "too few": (lambda m: m[0].parameters(), "steps 0 .* lacks 2 that it sees"),
    "others too": (
        lambda m: [*m.parameters(), nn.Parameter(torch.ones(1))],
        "steps 1 parameters that the curvature does not see and lacks 0",
    ),
    "of another model": (lambda m: Training().model.parameters(), "steps 4 .* lacks 4"),
}


@pytest.mark.parametrize("name", WRONG_PARAMETERS)
def test_refuses_other_parameters_than_the_curvatures(training, name):
    """Oracle: the documented ValueError, which says how many and what to do."""
    choose, message = WRONG_PARAMETERS[name]
    base = torch.optim.SGD(choose(training.model), lr=0.1)
    with pytest.raises(ValueError, match=f"{message}.*every parameter of the model"):
        ProjectedOptimizer(base, training.subspace(), dom_weight=1.0, bulk_weight=0.0)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["dom_weight", "bulk_weight"])
def test_refuses_a_weight_that_is_not_finite(training, name, weight):
    """Oracle: the documented ValueError."""
    weights = {"dom_weight": 1.0, "bulk_weight": 1.0} | {name: weight}
    with pytest.raises(ValueError, match=f"{name} is {weight}; it must be a finite number"):
        ProjectedOptimizer(BASES["sgd"](training.model), training.subspace(), **weights)


def test_diverged_parameters(training):
    """Oracle: the documented error."""
    optimizer = training.projected(BASES["sgd"], 0.0, 1.0)
    training.backward(0)
    nn.init.constant_(training.model[0].weight, math.nan)
    with pytest.raises(NonFiniteProductError):
        optimizer.step()


class Quadratic:
    """``L = ½ θᵀ H θ``, its curvature the same everywhere."""

    def __init__(self, eigenvalues: list[float]) -> None:
        size = len(eigenvalues)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
        self.directions = torch.linalg.qr(noise)[0]
        values = torch.tensor(eigenvalues, dtype=torch.float64)
        self.matrix = (self.directions * values) @ self.directions.T
        self.parameter = nn.Parameter(self.directions.sum(dim=1))
        self.parameters = (self.parameter,)
        self.shape, self.dtype, self.device = (size, size), torch.float64, torch.device("cpu")

    def theta(self) -> Tensor:
        return self.parameter.detach().clone()

    def matmat(self, V: Tensor) -> Tensor:
        return self.matrix @ V


@pytest.mark.parametrize("times_the_edge", [0.98, 1.02])
@pytest.mark.parametrize("weight", ["dom", "bulk"])
def test_stability_edge_of_a_quadratic(weight, times_the_edge):
    """Oracle: direction i is stable iff η w λ_i < 2, w = a for i ≤ k and b for i > k."""
    eigenvalues, k, lr = [10.0, 8.0, 3.0, 2.0, 1.0], 2, 0.15
    # The other weight is small, so that only the directions of this one can be unstable.
    edge = times_the_edge * 2 / (lr * eigenvalues[0 if weight == "dom" else k])
    a, b = (edge, 0.1) if weight == "dom" else (0.1, edge)
    loss = Quadratic(eigenvalues)
    optimizer = ProjectedOptimizer(
        torch.optim.SGD(loss.parameters, lr=lr),
        DominantSubspace(loss, k, tol=1e-8),
        dom_weight=a,
        bulk_weight=b,
    )
    steps = 60
    for _ in range(steps):
        loss.parameter.grad = loss.matrix @ loss.theta()
        optimizer.step()
    found = loss.directions.T @ loss.theta()
    factors = [1 - lr * (a if i < k else b) * value for i, value in enumerate(eigenvalues)]
    expected = torch.tensor([factor**steps for factor in factors], dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert [abs(factor) < 1 for factor in factors].count(False) == (times_the_edge > 1)
    assert bool((found.abs() > 1).any()) == (times_the_edge > 1)
