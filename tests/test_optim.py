"""Projected steps against torch's optimizers, against steps by hand and on a quadratic."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sharpflat.curvature import (
    DominantSubspace,
    HessianOperator,
    ModelChangedError,
    NonFiniteProductError,
    UnsupportedModelError,
)
from sharpflat.optim import ProjectedOptimizer
from sharpflat.tasks.losses import cross_entropy

K = 3
BaseOptimizer = Callable[[nn.Module], torch.optim.Optimizer]
BaseOptimizers = Callable[[nn.Module], list[torch.optim.Optimizer]]


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


def muon_and_adamw(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices and AdamW for the rest, both with decoupled weight decay."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    return [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.2),
        torch.optim.AdamW(rest, lr=0.01, weight_decay=0.3),
    ]


SEVERAL: dict[str, BaseOptimizers] = {
    "momentum": lambda m: [BASES["momentum"](m)],
    "adam": lambda m: [BASES["adam"](m)],
    "muon and adamw": muon_and_adamw,
}
some_bases = pytest.mark.parametrize("bases", SEVERAL.values(), ids=SEVERAL.keys())
every_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())


class Training:
    """A small model with its data, in float64."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.x, self.y = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3
        self.model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()

    def subspace(self, tol: float = 1e-3) -> DominantSubspace:
        operator = HessianOperator(self.model, cross_entropy, self.x, self.y)
        return DominantSubspace(operator, K, refresh="every_step", tol=tol)

    def projected(
        self, base: BaseOptimizer | BaseOptimizers, a: float, b: float, *, tol: float = 1e-3
    ) -> ProjectedOptimizer:
        return ProjectedOptimizer(base(self.model), self.subspace(tol), dom_weight=a, bulk_weight=b)

    def loss(self, samples: slice = slice(None)) -> Tensor:
        return cross_entropy(self.model(self.x[samples]), self.y[samples])

    def backward(self, step: int) -> None:
        """The gradient of another mini-batch at every step."""
        self.model.zero_grad()
        self.loss(slice(10 * (step % 3), 10 * (step % 3) + 10)).backward()

    @property
    def theta(self) -> Tensor:
        return parameters_to_vector(self.model.parameters()).detach().clone()

    def dominant_projector(self) -> Tensor:
        """``P_k`` from torch's dense Hessian and eigenvectors, without the package."""
        named = dict(self.model.named_parameters())

        def loss(theta: Tensor) -> Tensor:
            parts = torch.split(theta, [p.numel() for p in named.values()])
            views = {n: t.view_as(p) for (n, p), t in zip(named.items(), parts, strict=True)}
            return cross_entropy(functional_call(self.model, views, (self.x,)), self.y)

        V = torch.linalg.eigh(hessian(loss, self.theta, vectorize=True))[1][:, -K:]
        return V @ V.T

    def step_densely(self, bases: list[torch.optim.Optimizer], a: float, b: float) -> None:
        """``θ ← θ + (a P + b (I − P)) u``, with u from torch's optimizers."""
        P, before = self.dominant_projector(), self.theta
        for base in bases:
            base.step()
        u = self.theta - before
        vector_to_parameters(before + a * (P @ u) + b * (u - P @ u), self.model.parameters())


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


@some_bases
def test_trajectory(bases, a=0.3, b=1.2):
    """Oracle: 20 steps with the dense projector, torch's optimizers beside it."""
    training, dense = Training(), Training()
    optimizer, reference = training.projected(bases, a, b, tol=1e-12), bases(dense.model)
    start = training.theta
    for step in range(20):
        training.backward(step)
        optimizer.step()
        dense.backward(step)
        dense.step_densely(reference, a, b)
        assert torch.allclose(training.theta, dense.theta, rtol=0, atol=1e-10)
    assert (training.theta - start).abs().max() > 0.1


def test_weight_decay_is_split():
    """Oracle: AdamW's decay by hand; without a gradient it is all of the update."""
    training = Training()
    optimizer = training.projected(
        lambda m: torch.optim.AdamW(m.parameters(), lr=0.1, weight_decay=0.5), 0.0, 1.0, tol=1e-12
    )
    for parameter in training.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before, P = training.theta, training.dominant_projector()
    optimizer.step()
    expected = before - 0.1 * 0.5 * (before - P @ before)
    assert torch.allclose(training.theta, expected, rtol=0, atol=1e-12)


@some_bases
def test_state_dict_continues_exactly(bases, tmp_path):
    """Oracle: the same run without an interruption, bit by bit; the state goes through a file."""
    training = Training()
    optimizer = training.projected(bases, 0.2, 1.0)

    def go_on(run: Training, optimizer: ProjectedOptimizer, steps: range) -> Tensor:
        for step in steps:
            run.backward(step)
            optimizer.step()
        return run.theta

    go_on(training, optimizer, range(2))
    torch.save([training.model.state_dict(), optimizer.state_dict()], tmp_path / "state")
    expected = go_on(training, optimizer, range(2, 4))

    other = Training()
    resumed = other.projected(bases, 0.2, 1.0)
    model_state, optimizer_state = torch.load(tmp_path / "state", weights_only=True)
    other.model.load_state_dict(model_state)
    resumed.load_state_dict(optimizer_state)
    assert torch.equal(go_on(other, resumed, range(2, 4)), expected)
    assert resumed.subspace.num_matvecs == optimizer.subspace.num_matvecs


def test_refuses_states_of_others(training):
    """Oracle: the documented ValueErrors."""
    one = training.projected(BASES["adam"], 0.0, 1.0)
    two = training.projected(muon_and_adamw, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"\['param_groups', 'state'\].*into base_optimizer"):
        one.load_state_dict(one.base_optimizer.state_dict())
    with pytest.raises(ValueError, match="of 2 base optimizers, and here are 1"):
        one.load_state_dict(two.state_dict())


@some_bases
def test_schedulers(training, bases):
    """Oracle: the scheduler's formula, in the base optimizers' own groups, even after a load."""
    optimizer = training.projected(bases, 0.0, 1.0)
    assert isinstance(optimizer, torch.optim.Optimizer)
    groups = [group for base in optimizer.base_optimizers for group in base.param_groups]
    rates = [group["lr"] for group in groups]
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    for step in range(3):
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # makes the groups anew
        training.backward(step)
        optimizer.step()
        scheduler.step()
    groups = [group for base in optimizer.base_optimizers for group in base.param_groups]
    assert [group["lr"] for group in groups] == [rate / 8 for rate in rates]
    assert optimizer.param_groups == groups
    assert set(optimizer.state) == set(training.model.parameters())
    kept = {p: values for base in optimizer.base_optimizers for p, values in base.state.items()}
    assert all(optimizer.state[p] is values for p, values in kept.items())


def test_scheduler_of_momentum(training):
    """Oracle: OneCycleLR's first values; it reads the base optimizer's defaults."""
    optimizer = training.projected(BASES["momentum"], 0.0, 1.0)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10, max_momentum=0.7)
    assert [group["momentum"] for group in optimizer.base_optimizer.param_groups] == [0.7, 0.7]
    both = training.projected(muon_and_adamw, 0.0, 1.0)
    with pytest.raises(ValueError, match="must support momentum"):
        torch.optim.lr_scheduler.OneCycleLR(both, max_lr=1.0, total_steps=10)


def test_hooks(training):
    """Oracle: torch's contract for them."""
    optimizer, called = training.projected(BASES["sgd"], 0.0, 1.0), []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    optimizer.register_state_dict_pre_hook(lambda *_: called.append("saving"))
    optimizer.register_state_dict_post_hook(lambda _, state: state | {"mine": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, state: called.append(state["mine"]))
    optimizer.register_load_state_dict_post_hook(lambda *_: called.append("loaded"))
    training.backward(0)
    optimizer.step()
    assert called == ["before", "after"]
    optimizer.load_state_dict(optimizer.state_dict())
    assert called[2:] == ["saving", 1, "loaded"]


def test_refuses_another_group(training):
    """Oracle: the documented errors, before anything moves."""
    optimizer, stray = training.projected(BASES["sgd"], 0.0, 1.0), nn.Parameter(torch.ones(1))
    with pytest.raises(NotImplementedError, match=r"cannot be added.*anew"):
        optimizer.add_param_group({"params": [stray]})
    before = training.theta
    optimizer.base_optimizer.add_param_group({"params": [stray]})
    training.backward(0)
    with pytest.raises(ValueError, match="steps 1 parameters that the curvature does not see"):
        optimizer.step()
    assert torch.equal(training.theta, before)


def test_refuses_lists_that_overlap_or_leave_gaps(training):
    """Oracle: the documented ValueErrors."""
    matrices, rest = muon_and_adamw(training.model)
    everything = torch.optim.SGD(training.model.parameters(), lr=0.1)
    for bases, message in [
        ([matrices, everything], "2 parameters are stepped by more than one"),
        ([rest], "lacks 2"),
        ([], "lacks 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            ProjectedOptimizer(bases, training.subspace(), dom_weight=0.0, bulk_weight=1.0)
    several = training.projected(muon_and_adamw, 0.0, 1.0)
    with pytest.raises(AttributeError, match="2 base optimizers: read base_optimizers"):
        _ = several.base_optimizer


class SharpnessAware(torch.optim.Optimizer):
    """SAM with SGD [Foret et al. 2021]: climbs to θ + ρ g / ‖g‖, and steps with the gradient there.

    Unlike torch's optimizers it leaves the grad mode alone, as many in the wild do.
    """

    def __init__(self, parameters) -> None:
        super().__init__(parameters, {"lr": 0.1, "rho": 0.05})

    def step(self, closure):
        parameters, rho = self.param_groups[0]["params"], self.param_groups[0]["rho"]
        loss = closure()
        norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in parameters]))
        climbs = [rho * p.grad / norm for p in parameters]
        for p, climb in zip(parameters, climbs, strict=True):
            p.data += climb
        closure()
        for p, climb in zip(parameters, climbs, strict=True):
            p.data -= climb + self.param_groups[0]["lr"] * p.grad
        return loss


CLOSURES: dict[str, BaseOptimizers] = {
    "lbfgs": lambda m: [torch.optim.LBFGS(m.parameters(), lr=0.3, max_iter=4)],
    "sam": lambda m: [SharpnessAware(m.parameters())],
    "muon and adamw": muon_and_adamw,
}


@pytest.mark.parametrize("bases", CLOSURES.values(), ids=CLOSURES.keys())
def test_closures(bases):
    """Oracle: the dense projector over three steps, each optimizer's own calls of the closure."""
    training, dense = Training(), Training()
    optimizer, reference = training.projected(bases, 0.2, 1.0, tol=1e-12), bases(dense.model)
    calls = {id(training): 0, id(dense): 0}

    def closure_of(run: Training) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            calls[id(run)] += 1
            run.backward(0)
            return run.loss()

        return closure

    for _ in range(3):
        expected = training.loss().item()
        assert optimizer.step(closure_of(training)).item() == pytest.approx(expected, abs=1e-14)
        P, before, closure = dense.dominant_projector(), dense.theta, closure_of(dense)
        if len(reference) > 1:  # called once, for all of them
            closure()
            for base in reference:
                base.step()
        else:
            reference[0].step(closure)
        u = dense.theta - before
        vector_to_parameters(before + 0.2 * (P @ u) + (u - P @ u), dense.model.parameters())
        assert torch.allclose(training.theta, dense.theta, rtol=0, atol=1e-10)
    assert calls[id(training)] == calls[id(dense)] >= (3 if len(reference) > 1 else 6)


def test_copies(training):
    """Oracle: the original goes on alone."""
    optimizer = training.projected(BASES["adam"], 0.0, 1.0)
    model, copied = copy.deepcopy((training.model, optimizer))
    training.backward(0)
    before = parameters_to_vector(model.parameters()).detach().clone()
    optimizer.step()
    assert torch.equal(parameters_to_vector(model.parameters()), before)
    for parameter, original in zip(model.parameters(), training.model.parameters(), strict=True):
        parameter.grad = original.grad.clone()
    copied.step()
    assert torch.allclose(parameters_to_vector(model.parameters()), training.theta, atol=1e-14)


def test_refuses_a_step_of_a_model_that_was_replaced_or_inside_autocast(training):
    """Oracle: parameters stay where they were; the subspace knows nothing of the new ones."""
    optimizer = training.projected(BASES["sgd"], 0.0, 1.0)
    training.backward(0)
    optimizer.step()
    training.backward(1)
    optimizer.subspace.update()  # so that the step itself makes no product
    before = training.theta
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(UnsupportedModelError, match="outside of it"),
    ):
        optimizer.step()
    training.model.load_state_dict(copy.deepcopy(training.model.state_dict()), assign=True)
    with pytest.raises(ModelChangedError, match="was replaced"):
        optimizer.step()
    assert torch.equal(training.theta, before)
