"""Stretched steps against dense float64 matrices, and against the optimizers that they stretch.

Groups, hooks, closures and copies are those of ProjectedOptimizer, whose tests hold them; what is
asked of them here is that they work around another step.
"""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sharpflat.curvature import DominantSubspace, HessianOperator
from sharpflat.stretched import AdamHessian, NoCurvatureError, StretchedOptimizer
from sharpflat.tasks.losses import cross_entropy

K = 3
BaseOptimizer = Callable[[nn.Module], torch.optim.Optimizer]
BASES: dict[str, BaseOptimizer] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.4),
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.2, momentum=0.9, nesterov=True),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, weight_decay=0.1),
}
every_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())


class Quadratic:
    """``L = ½ θᵀ H θ`` with H of known eigenvectors, from a point with a part 1 along each."""

    def __init__(self, eigenvalues: list[float]) -> None:
        size = len(eigenvalues)
        noise = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).double()
        self.directions = torch.linalg.qr(noise)[0]
        self.values = torch.tensor(eigenvalues, dtype=torch.float64)
        self.matrix = (self.directions * self.values) @ self.directions.T
        self.parameter = nn.Parameter(self.directions.sum(dim=1))
        self.parameters = (self.parameter,)
        self.shape, self.dtype, self.device = (size, size), torch.float64, torch.device("cpu")

    def theta(self) -> Tensor:
        return self.parameter.detach().clone()

    def matmat(self, V: Tensor) -> Tensor:
        return self.matrix @ V

    @property
    def along(self) -> Tensor:
        """θ along the eigenvectors."""
        return self.directions.T @ self.theta()

    def backward(self) -> None:
        self.parameter.grad = self.matrix @ self.theta()

    def stretched(self, k: int = 2, *, rho: float = 0.5, momentum: float = 0.0, **options):
        base = torch.optim.SGD(self.parameters, lr=rho, momentum=momentum)
        return StretchedOptimizer(base, DominantSubspace(self, k, tol=1e-8), **options)


class Training:
    """A small network with its data, in float64."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.x, self.y = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3
        self.model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        self.hessian = HessianOperator(self.model, cross_entropy, self.x, self.y)

    def stretched(self, base: BaseOptimizer, *, metric: bool = False, **options):
        optimizer = base(self.model)
        operator = AdamHessian(self.hessian, optimizer) if metric else self.hessian
        subspace = DominantSubspace(operator, K, refresh="every_step", tol=1e-10)
        return StretchedOptimizer(optimizer, subspace, **options)

    def backward(self, step: int) -> None:
        """The gradient of another mini-batch at every step."""
        self.model.zero_grad()
        samples = slice(10 * (step % 3), 10 * (step % 3) + 10)
        cross_entropy(self.model(self.x[samples]), self.y[samples]).backward()

    @property
    def theta(self) -> Tensor:
        return parameters_to_vector(self.model.parameters()).detach().clone()

    def dense(self) -> Tensor:
        """The Hessian, column by column."""
        return self.hessian @ torch.eye(43, dtype=torch.float64)


def dense_step(H: Tensor, u: Tensor, optimizer: StretchedOptimizer) -> Tensor:
    """``s (Σ_i a_i v_i v_iᵀ u + u − P u)`` from a dense eigendecomposition.

    λ is the optimizer's own, held against λ_{k+1}: a solve finds that from below, to a part of the
    gap.
    """
    values, vectors = torch.linalg.eigh(H)
    bulk = optimizer.bulk_curvature
    gap = float(values[-K] - values[-K - 1])
    assert -0.05 * gap <= bulk - float(values[-K - 1]) <= 1e-9
    scale = torch.full_like(values, bulk)
    scale[-K:] = values[-K:]
    step = vectors @ (bulk / scale * (vectors.T @ u))
    return step / bulk if optimizer.bulk_rate == "curvature" else step


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_exact_steps_on_a_quadratic(momentum, rho=0.3, steps=12):
    """Oracle: heavy-ball steps of each direction by hand, at the rate ρ / max(λ_i, λ_{k+1})."""
    loss = Quadratic([20.0, 6.0, 2.0, 0.5, 0.0, -0.1])
    optimizer = loss.stretched(2, rho=rho, momentum=momentum)
    expected, velocity = torch.ones(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    rates = rho / torch.tensor([20.0, 6.0, 2.0, 2.0, 2.0, 2.0], dtype=torch.float64)
    for _ in range(steps):
        loss.backward()
        optimizer.step()
        velocity = momentum * velocity + loss.values * expected
        expected = expected - rates * velocity
        assert torch.allclose(loss.along, expected, rtol=0, atol=1e-8)
    assert optimizer.bulk_curvature == pytest.approx(2, rel=1e-9)
    assert optimizer.weights.tolist() == pytest.approx([0.1, 1 / 3], rel=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("times_the_edge", [0.98, 1.02])
def test_edge_of_stability_of_a_quadratic(momentum, times_the_edge):
    """Oracle: it is stable for ρ below 2 (1 + β), whatever the eigenvalues are."""
    loss = Quadratic([50.0, 8.0, 3.0, 2.0, 1.0])
    edge = 2 * (1 + momentum)
    optimizer = loss.stretched(2, rho=times_the_edge * edge, momentum=momentum)
    for _ in range(100):
        loss.backward()
        optimizer.step()
    assert bool(torch.linalg.vector_norm(loss.along) > 5) == (times_the_edge > 1)


def test_weights_are_those_of_the_largest_bulk_rate(rho=0.5):
    """Oracle: min(1, ρ / (η λ_i)) at η = ρ / λ_{k+1}."""
    loss = Quadratic([20.0, 6.0, 2.0, 1.0])
    optimizer = loss.stretched(2, rho=rho)
    loss.backward()
    optimizer.step()
    rate = rho / 2.0
    assert optimizer.weights.tolist() == pytest.approx([rho / (rate * v) for v in (20.0, 6.0)])


@every_base
@pytest.mark.parametrize("bulk_rate", ["curvature", "base"])
def test_steps_of_a_network(base, bulk_rate):
    """Oracle: dense eigenvectors, and torch's optimizer on a model beside it."""
    training, dense = Training(), Training()
    optimizer, reference = training.stretched(base, bulk_rate=bulk_rate), base(dense.model)
    for step in range(3):
        training.backward(step)
        optimizer.step()
        H, before = dense.dense(), dense.theta
        dense.backward(step)
        reference.step()
        after = dense_step(H, dense.theta - before, optimizer)
        vector_to_parameters(before + after, dense.model.parameters())
        assert torch.allclose(training.theta, dense.theta, rtol=0, atol=1e-8)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_steps_in_adams_own_metric(amsgrad):
    """Oracle: dense eigenvectors of D^{-1/2} H D^{-1/2}, D from a copy of Adam by hand."""
    training, dense = Training(), Training()
    options = {"lr": 0.5, "betas": (0.8, 0.9), "amsgrad": amsgrad}
    base = lambda m: torch.optim.Adam(m.parameters(), **options)  # noqa: E731
    optimizer = training.stretched(base, metric=True)
    reference, mean = base(dense.model), torch.zeros(43, dtype=torch.float64)
    largest = mean
    for step in range(4):
        training.backward(step)
        optimizer.step()
        H, before = dense.dense(), dense.theta
        dense.backward(step)
        gradient = torch.cat([p.grad.reshape(-1) for p in dense.model.parameters()])
        mean = 0.9 * mean + 0.1 * gradient**2
        largest = torch.maximum(largest, mean) if amsgrad else mean
        root = ((largest / (1 - 0.9 ** (step + 1))).sqrt() + 1e-8).sqrt()
        reference.step()
        seen = root * (dense.theta - before)
        after = dense_step(H / root / root[:, None], seen, optimizer) / root
        vector_to_parameters(before + after, dense.model.parameters())
        assert torch.allclose(training.theta, dense.theta, rtol=1e-5, atol=1e-8)


def test_a_subspace_that_is_off_makes_shorter_steps(monkeypatch):
    """Oracle: the largest curvature at the angle, by a search over vectors that are that far off.

    A unit vector outside a plane that is turned by ε in one direction curves at most so much.
    """
    loss, error = Quadratic([20.0, 6.0, 2.0, 1.0]), 0.3
    optimizer = loss.stretched(2)
    optimizer.subspace.update()
    monkeypatch.setattr(type(optimizer.subspace), "error_estimate", error)
    turned = math.sqrt(1 - error**2) * loss.directions[:, 2] + error * loss.directions[:, 0]
    assert optimizer.bulk_curvature == pytest.approx(float(turned @ loss.matrix @ turned))
    monkeypatch.setattr(type(optimizer.subspace), "error_estimate", 7.0)
    assert optimizer.bulk_curvature == pytest.approx(20)
    assert optimizer.weights.tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("below", [0.0, -5.0])
@pytest.mark.parametrize("floor", [1e-3, 0.5])
def test_without_curvature_below_the_floor_bounds_the_rate(below, floor, rho=0.5):
    """Oracle: λ = floor · λ_1 by hand; negative curvature is stepped down along."""
    loss = Quadratic([20.0, below, below])
    optimizer = loss.stretched(1, rho=rho, floor=floor)
    loss.backward()
    optimizer.step()
    expected = [1 - rho, *[1 - rho * below / (20 * floor)] * 2]
    assert loss.along.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("values", [[-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]])
def test_no_curvature_at_all(values):
    """Oracle: the documented error, with the parameters where they were; "base" steps plainly."""
    loss = Quadratic(values)
    optimizer, before = loss.stretched(1, rho=0.5), loss.theta()
    loss.backward()
    with pytest.raises(NoCurvatureError, match=r"largest eigenvalue is .*Step with the base"):
        optimizer.step()
    assert torch.equal(loss.theta(), before)
    loss.stretched(1, rho=0.5, bulk_rate="base").step()
    assert torch.allclose(loss.theta(), before - 0.5 * loss.matrix @ before)


def test_all_directions_tracked():
    """Oracle: Newton's step, where k = P leaves no Bulk and all eigenvalues are above the floor."""
    loss = Quadratic([9.0, 4.0, 1.0])
    optimizer = loss.stretched(3, rho=1.0)
    loss.backward()
    optimizer.step()
    assert torch.allclose(loss.theta(), torch.zeros(3, dtype=torch.float64), atol=1e-8)


@every_base
def test_state_dict_continues_exactly(base, tmp_path):
    """Oracle: the same run without an interruption, bit by bit; the state goes through a file."""
    metric = base is BASES["adamw"]

    def go_on(run: Training, optimizer: StretchedOptimizer, steps: range) -> Tensor:
        for step in steps:
            run.backward(step)
            optimizer.step()
        return run.theta

    training = Training()
    optimizer = training.stretched(base, metric=metric)
    go_on(training, optimizer, range(2))
    torch.save([training.model.state_dict(), optimizer.state_dict()], tmp_path / "state")
    expected = go_on(training, optimizer, range(2, 4))

    other = Training()
    resumed = other.stretched(base, metric=metric)
    model_state, optimizer_state = torch.load(tmp_path / "state", weights_only=True)
    other.model.load_state_dict(model_state)
    resumed.load_state_dict(optimizer_state)
    assert torch.equal(go_on(other, resumed, range(2, 4)), expected)
    assert resumed.subspace.num_matvecs == optimizer.subspace.num_matvecs


def test_a_scheduler_moves_rho():
    """Oracle: the scheduler's formula, and the step by hand."""
    loss = Quadratic([20.0, 6.0, 2.0, 1.0])
    optimizer = loss.stretched(2, rho=0.4)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    factors = torch.ones(4, dtype=torch.float64)
    for rho in (0.4, 0.2, 0.1):
        loss.backward()
        optimizer.step()
        scheduler.step()
        factors = factors * (1 - rho * torch.tensor([1, 1, 1, 0.5], dtype=torch.float64))
    assert torch.allclose(loss.along, factors, rtol=0, atol=1e-8)


def test_several_base_optimizers():
    """Oracle: the dense step of what Muon and AdamW do together."""
    training, dense = Training(), Training()

    def bases(model: nn.Module) -> list[torch.optim.Optimizer]:
        matrices = [p for p in model.parameters() if p.ndim == 2]
        rest = [p for p in model.parameters() if p.ndim != 2]
        return [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=0.01)]

    optimizer = training.stretched(bases, bulk_rate="base")
    reference = bases(dense.model)
    training.backward(0)
    optimizer.step()
    H, before = dense.dense(), dense.theta
    dense.backward(0)
    for each in reference:
        each.step()
    expected = before + dense_step(H, dense.theta - before, optimizer)
    assert torch.allclose(training.theta, expected, rtol=0, atol=1e-8)


def test_copies():
    """Oracle: the original, which goes on alone, and which the copy then follows."""
    training = Training()
    optimizer = training.stretched(BASES["momentum"], floor=0.5, bulk_rate="base")
    model, copied = copy.deepcopy((training.model, optimizer))
    before = training.theta
    training.backward(0)
    optimizer.step()
    assert torch.equal(parameters_to_vector(model.parameters()), before)
    assert (copied.floor, copied.bulk_rate) == (0.5, "base")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bulk_rate": "largest"}, r"bulk_rate is 'largest'; allowed are curvature, base"),
        ({"floor": 0.0}, r"floor is 0.0, a share of λ_1; it must be above 0 and at most 1"),
        ({"floor": math.nan}, r"floor is nan"),
    ],
)
def test_refuses_options(options, message):
    """Oracle: the documented ValueErrors."""
    with pytest.raises(ValueError, match=message):
        Quadratic([2.0, 1.0]).stretched(1, **options)


def test_refuses_other_parameters_and_groups():
    """Oracle: the errors of ProjectedOptimizer, before anything moves."""
    loss, stray = Quadratic([2.0, 1.0]), nn.Parameter(torch.ones(1))
    subspace = DominantSubspace(loss, 1)
    with pytest.raises(ValueError, match=r"steps 1 .* lacks 1"):
        StretchedOptimizer(torch.optim.SGD([stray], lr=0.1), subspace)
    optimizer, before = loss.stretched(1), loss.theta()
    with pytest.raises(NotImplementedError, match=r"cannot be added.*anew"):
        optimizer.add_param_group({"params": [stray]})
    optimizer.base_optimizer.add_param_group({"params": [stray]})
    loss.backward()
    with pytest.raises(ValueError, match="steps 1 parameters that the curvature does not see"):
        optimizer.step()
    assert torch.equal(loss.theta(), before)


def test_adams_metric_needs_adam():
    """Oracle: the documented ValueError."""
    loss = Quadratic([2.0, 1.0])
    with pytest.raises(ValueError, match="SGD keeps no second moments"):
        AdamHessian(loss, torch.optim.SGD(loss.parameters, lr=0.1))


def test_a_metric_that_comes_where_the_parameters_are_is_solved_for():
    """Oracle: the dense matrix's eigenvectors. The subspace was asked before the first step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = torch.randn(30, 3, dtype=torch.float64), torch.arange(30) % 3
    adam = torch.optim.Adam(model.parameters(), lr=0.0)
    operator = AdamHessian(HessianOperator(model, cross_entropy, x, y), adam)
    subspace = DominantSubspace(operator, 3)

    def sine() -> float:
        dense = operator.matmat(torch.eye(operator.shape[0], dtype=torch.float64))
        vectors = torch.linalg.eigh((dense + dense.T) / 2)[1][:, -3:]
        return torch.linalg.matrix_norm(vectors - subspace.project(vectors)).item()

    assert len(subspace.eigenvalues) == 3
    cross_entropy(model(x), y).backward()
    adam.step()
    operator.read()
    assert sine() > 0.3
    subspace.update()
    assert sine() <= 0.05
    x.mul_(3.0)
    assert sine() > 0.3
    subspace.update()
    assert sine() <= 0.05
