"""Tracking with a sample of the data between full checks."""

import copy
from pathlib import Path

import pytest
import torch
from curvature.rotating import K, RotatingMatrix
from torch import Tensor, nn

from sharpflat.curvature import DominantSubspace, HessianOperator
from sharpflat.tasks.losses import cross_entropy, mse

SAMPLES, CLASSES = 1200, 3


class Training:
    """A small model on three clouds of points, whose Hessian is tracked after 300 steps of SGD."""

    def __init__(
        self, loss=mse, *, learning_rate=0.02, dtype=torch.float64, chunk_size=None, **arguments
    ) -> None:
        self.generator = torch.Generator().manual_seed(1)
        self.labels = torch.arange(SAMPLES) % CLASSES
        centres = 2 * torch.randn(CLASSES, 6, generator=self.generator)
        x = torch.randn(SAMPLES, 6, generator=self.generator) + centres[self.labels]
        self.x, self.loss, self.learning_rate = x.to(dtype), loss, learning_rate
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, CLASSES)).to(dtype)
        data = (self.model, loss, self.x, self.labels)
        self.hessian = HessianOperator(*data, chunk_size=chunk_size)
        self.subspace = DominantSubspace(self.hessian, 3, **arguments)
        for _ in range(300):
            self.step()

    def step(self) -> None:
        batch = torch.randint(SAMPLES, (200,), generator=self.generator)
        loss = self.loss(self.model(self.x[batch]), self.labels[batch])
        parameters = self.hessian.parameters
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.data.sub_(self.learning_rate * g)

    def true_error(self, sine) -> float:
        eye = torch.eye(self.hessian.shape[0], dtype=self.x.dtype)
        H = HessianOperator(self.model, self.loss, self.x, self.labels) @ eye
        vectors = torch.linalg.eigh(H.double())[1][:, -3:]
        return sine(vectors, self.subspace.basis.double())

    def run(self, steps: int, sine=None) -> list[float]:
        """Train; returns the true errors of every fifth step, if ``sine`` is given."""
        errors = []
        for step in range(steps):
            self.subspace.update()
            if sine is not None and step % 5 == 0:
                errors.append(self.true_error(sine))
            self.step()
        return errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_keeps_the_tolerance_for_fewer_products(sine, dtype):
    """Oracles: the dense Hessian, and the tracker without a sample."""
    whole, sampled = Training(dtype=dtype), Training(dtype=dtype, samples="auto")
    errors = torch.tensor(sampled.run(200, sine))
    whole.run(200)
    assert float((errors > sampled.subspace.tol).double().mean()) <= 0.05
    assert float(errors.max()) <= 1.5 * sampled.subspace.tol
    assert sampled.subspace.equivalent_matvecs < 0.7 * whole.subspace.num_matvecs


def test_renewing_a_sample_costs_a_product_a_vector(sine):
    """Oracles: the dense Hessian; the size of the block, k + 2, while no search is due."""
    training = Training(samples=300, learning_rate=0.1)
    subspace, renewals = training.subspace, 0
    subspace.update()
    state = subspace.state_dict()
    state["schedule"] = {**state["schedule"], "search_interval": 10_000}
    subspace.load_state_dict(state)
    for _ in range(110):
        training.step()
        before = subspace.num_matvecs
        subspace.update()
        if subspace.num_matvecs > before:
            assert subspace.num_matvecs - before == 5
            assert training.true_error(sine) <= subspace.error_estimate <= subspace.tol
            renewals += 1
    assert renewals >= 3


def test_products_are_counted(monkeypatch):
    """Oracle: a count of the vectors that the operators themselves were multiplied with."""
    products = {"whole": 0, "sampled": 0.0}
    matmat = HessianOperator.matmat

    def counted(self, V: Tensor) -> Tensor:
        if self.num_samples == SAMPLES:
            products["whole"] += V.shape[1]
        else:
            products["sampled"] += V.shape[1] * self.num_samples / SAMPLES
        return matmat(self, V)

    monkeypatch.setattr(HessianOperator, "matmat", counted)
    training = Training(samples=300)
    training.run(60)
    assert products["sampled"] > 0
    assert training.subspace.num_matvecs == products["whole"]
    expected = products["whole"] + products["sampled"]
    assert training.subspace.equivalent_matvecs == pytest.approx(expected)


def test_where_a_sample_does_not_pay_it_is_left():
    """Oracle: the tracker without one, whose cost is passed by little where samples mislead."""
    arguments = {"loss": cross_entropy, "learning_rate": 0.1}
    whole, auto = Training(**arguments), Training(**arguments, samples="auto")
    for training in (whole, auto):
        training.run(200)
    assert auto.subspace.equivalent_matvecs <= 1.25 * whole.subspace.num_matvecs


def test_measuring_alone_draws_no_sample():
    """Oracle: the count of equivalents, which a sample would raise."""
    training = Training(samples="auto")
    for _ in range(5):
        training.subspace.refresh()
        training.step()
    assert training.subspace.equivalent_matvecs == training.subspace.num_matvecs


def test_chunks_change_nothing_but_rounding(sine):
    """Oracle: the same run with one graph."""
    one, chunked = (Training(samples="auto", chunk_size=size) for size in (None, 500))
    one.run(40)
    chunked.run(40)
    assert sine(one.subspace.basis, chunked.subspace.basis) < 1e-6
    assert one.subspace.equivalent_matvecs == chunked.subspace.equivalent_matvecs


@pytest.mark.parametrize("samples", ["auto", 100])
def test_resumes_bitwise(tmp_path: Path, samples):
    """Oracle: the run that was not interrupted."""
    whole = Training(samples=samples)
    whole.run(33)
    torch.save(whole.subspace.state_dict(), tmp_path / "state.pt")
    model, batches = copy.deepcopy(whole.model.state_dict()), whole.generator.get_state()
    whole.run(60)
    resumed = Training(samples=samples)
    resumed.model.load_state_dict(model)
    resumed.generator.set_state(batches)
    resumed.subspace.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.run(60)
    assert torch.equal(resumed.subspace.basis, whole.subspace.basis)
    assert resumed.subspace.equivalent_matvecs == whole.subspace.equivalent_matvecs
    assert resumed.subspace.error_estimate == whole.subspace.error_estimate


def test_seeds_draw_other_samples():
    """Oracle: the samples themselves, as the state holds them."""
    drawn = []
    for seed in (0, 0, 1):
        training = Training(samples=100, seed=seed)
        training.run(3)
        drawn.append(training.subspace.state_dict()["sampling"]["surrogate"]["indices"].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("samples", [0, -1, SAMPLES + 1, 0.5, True, "some"])
def test_refuses_other_samples(samples):
    """Oracle: the documented ValueError."""
    with pytest.raises(ValueError, match=r"samples is .*; allowed are None, 'auto' and 1 to 1200"):
        Training(samples=samples)


def test_refuses_a_matrix_without_samples():
    """Oracle: the documented ValueError."""
    with pytest.raises(ValueError, match="RotatingMatrix has no samples"):
        DominantSubspace(RotatingMatrix(), K, samples="auto")


def test_refuses_batches_at_once():
    """Oracle: the documented ValueError, before anything is trained."""
    training = Training()
    batches = [(training.x[:600], training.labels[:600]), (training.x[600:], training.labels[600:])]
    hessian = HessianOperator(training.model, mse, batches)
    with pytest.raises(ValueError, match="HessianOperator has no samples to choose from"):
        DominantSubspace(hessian, 3, samples="auto")


def test_refuses_a_loss_that_gives_pairs():
    """Oracle: the documented ValueError, which names them."""
    training = Training()

    def pair(outputs, targets):
        return mse(outputs, targets) * len(targets), len(targets)

    hessian = HessianOperator(training.model, pair, training.x, training.labels)
    with pytest.raises(ValueError, match=r"no samples to choose from.*pairs \(sum, count\)"):
        DominantSubspace(hessian, 3, samples="auto")
