"""Every column of a trajectory against its definition, at rows that have eigenvalues.

Oracle: :mod:`training.dense`, float64 derivatives at the parameters that the run kept. The run is
in float32; what depends on the measured basis is held to that basis, and the basis to the truth.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training.dense import Dense, descending_eigenpairs

from sharpflat.curvature import DominantSubspace, EigenResult, HessianOperator
from sharpflat.optimizers import parse_optimizer
from sharpflat.records import PrefixRecord
from sharpflat.tasks.data import load
from sharpflat.training.checkpoints import read_checkpoint
from sharpflat.training.state import initial_state
from sharpflat.training.train import Keeping, train_prefix

CPU = torch.device("cpu")
#: Nine eigenvalues part from the bulk within 20 steps: the estimate of the subspace's error divides
#: by the gap to λ_{k+1}, so that it can be close to the truth only above a bulk that is narrow.
RECORD = PrefixRecord(
    task="digits_mlp",
    dataset="digits",
    model="mlp",
    sizes=(("depth", 2), ("width", 8)),
    loss="cross_entropy",
    seed=0,
    optimizer="sgd",
    optimizer_options=parse_optimizer("sgd")[1],
    batch_size=50,
    learning_rate=0.3,
    k=9,
    hessian_samples=300,
    tolerance=0.05,
    tracking_samples=None,
    record_every=20,
    eigen_every=20,
    switch_alignment=None,
    switch_ema_decay=0.9,
    switch_max_steps=60,
    divergence_factor=100.0,
)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A row, and what is true there.

    Attributes:
        row: As written.
        before: The row before it, if there is one.
        pairs: What the solver returned.
        basis: ``(P, k)``, what was projected on, in float64.
        products: Of all vectors with the Hessian so far, counted by the operator.
        batch, train, test: Loss and gradient of the batch, the training subset, the test samples.
        hessian: Over the Hessian's samples.
        eigenvalues: Of it, descending.
        dominant: ``(P, k)``, its top eigenvectors.
    """

    row: dict[str, float]
    before: dict[str, float] | None
    pairs: EigenResult
    basis: Tensor
    products: int
    batch: Dense
    train: Dense
    test: Dense
    hessian: Tensor
    eigenvalues: Tensor
    dominant: Tensor

    @property
    def sine(self) -> float:
        """``‖sin Θ‖_F`` between the basis and the true Dominant subspace."""
        outside = self.basis - self.dominant @ (self.dominant.T @ self.basis)
        return torch.linalg.vector_norm(outside).item()

    def dominant_part(self, vector: Tensor) -> Tensor:
        return self.basis @ (self.basis.T @ vector)


@pytest.fixture(scope="module")
def recorded(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Recorded]]:
    """The rows of a prefix at the steps 0, 20, 40 and 60."""
    folder = tmp_path_factory.mktemp("recorded")
    measured: list[tuple[EigenResult, Tensor, int]] = []
    products = 0
    refresh, matmat = DominantSubspace.refresh, HessianOperator.matmat

    def counted(self: HessianOperator, V: Tensor) -> Tensor:
        nonlocal products
        products += V.shape[1]
        return matmat(self, V)

    def seen(self: DominantSubspace) -> EigenResult:
        pairs = refresh(self)
        measured.append((pairs, self.basis.double(), products))
        return pairs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HessianOperator, "matmat", counted)
        patch.setattr(DominantSubspace, "refresh", seen)
        keeping = Keeping(snapshots=3)
        train_prefix(RECORD, data=digits, folder=folder, device=CPU, keeping=keeping)
    with (folder / "trajectory.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    snapshots = read_checkpoint(folder / "snapshots.pt")["parameters"]
    assert [row["step"] for row in rows] == list(snapshots) == [0, 20, 40, 60]
    state = initial_state(RECORD, digits, device=CPU)
    data = load("digits", digits, dtype=torch.float64)

    def dense(inputs: Tensor, targets: Tensor, theta: Tensor) -> Dense:
        return Dense(state.model, RECORD.loss, inputs, targets, theta)

    found = []
    for i, (row, theta) in enumerate(zip(rows, snapshots.values(), strict=True)):
        hessian = dense(*data.train_subset(RECORD.hessian_samples), theta).hessian
        eigenvalues, vectors = descending_eigenpairs(hessian)
        pairs, basis, used = measured[i]
        found.append(
            Recorded(
                row=row,
                before=rows[i - 1] if i else None,
                pairs=pairs,
                basis=basis,
                products=used,
                batch=dense(*data.batch(state.order.indices(int(row["step"]))), theta),
                train=dense(data.train_inputs, data.train_targets, theta),
                test=dense(data.test_inputs, data.test_targets, theta),
                hessian=hessian,
                eigenvalues=eigenvalues,
                dominant=vectors[:, : RECORD.k],
            )
        )
    yield found


def _alignment(at: Recorded, gradient: Tensor) -> float:
    return (at.dominant_part(gradient).norm() / gradient.norm()).item()


def _average(at: Recorded) -> float:
    """Memory of 0.9 a step, from zero one step before the first."""
    steps, before = (20, at.before["alignment_ema"]) if at.before else (1, 0.0)
    return 0.9**steps * before + (1 - 0.9**steps) * _alignment(at, at.train.gradient)


def _largest_residual(at: Recorded) -> float:
    """Largest ``‖H v - λ v‖`` over λ_1, with the solver's own pairs."""
    vectors, values = at.pairs.eigenvectors.double(), at.pairs.eigenvalues
    residuals = torch.linalg.vector_norm(at.hessian @ vectors - vectors * values, dim=0)
    return (residuals.max() / at.eigenvalues[0]).item()


def _bulk_norm(at: Recorded) -> float:
    return (at.train.gradient - at.dominant_part(at.train.gradient)).norm().item()


#: What each column is, and to which relative accuracy float32 training must meet it.
DEFINITIONS: dict[str, tuple[Callable[[Recorded], float], float]] = {
    "batch_loss": (lambda at: at.batch.loss, 1e-5),
    "train_loss": (lambda at: at.train.loss, 1e-5),
    "test_loss": (lambda at: at.test.loss, 1e-5),
    "test_accuracy": (lambda at: at.test.accuracy, 1e-7),
    "alignment": (lambda at: _alignment(at, at.train.gradient), 1e-4),
    "batch_alignment": (lambda at: _alignment(at, at.batch.gradient), 1e-4),
    "update_alignment": (lambda at: _alignment(at, at.batch.gradient), 1e-4),  # of SGD's update
    "alignment_ema": (_average, 1e-4),
    "gradient_norm": (lambda at: at.train.gradient.norm().item(), 1e-4),
    "dominant_gradient_norm": (lambda at: at.dominant_part(at.train.gradient).norm().item(), 1e-4),
    "bulk_gradient_norm": (_bulk_norm, 1e-4),
    "eigen_residual": (_largest_residual, 0.01),
    "num_matvecs": (lambda at: at.products, 0),
    "eigen_converged": (lambda at: 1.0, 0),
}


@pytest.mark.parametrize("column", DEFINITIONS)
def test_a_column_is_what_it_says(recorded: list[Recorded], column: str) -> None:
    define, accuracy = DEFINITIONS[column]
    found = [at.row[column] for at in recorded]
    assert found == pytest.approx([define(at) for at in recorded], rel=accuracy, abs=0)


def test_the_columns_can_be_told_apart(recorded: list[Recorded]) -> None:
    """Else one could stand for the other: the definitions differ by far more than the accuracy."""
    for at in recorded:
        losses = [at.batch.loss, at.train.loss, at.test.loss]
        alignments = [_alignment(at, part.gradient) for part in (at.batch, at.train, at.test)]
        for values in (losses, alignments):
            assert min(abs(a / b - 1) for a in values for b in values if a is not b) > 5e-4
        assert at.pairs.residuals.min() < 0.5 * at.pairs.residuals.max()


def test_eigenvalues_are_those_of_the_dense_hessian(recorded: list[Recorded]) -> None:
    """A Ritz value falls short of its eigenvalue by at most the square of the error; λ_{k+1} is an
    estimate from below, accepted within a fifth of its gap."""
    k = RECORD.k
    for at in recorded:
        found = [at.row[f"eigenvalue_{i}"] for i in range(1, k + 2)]
        true = at.eigenvalues[: k + 1].tolist()
        spread = (at.eigenvalues[0] - at.eigenvalues[-1]).item()
        assert found[:k] == pytest.approx(true[:k], rel=0, abs=spread * (at.sine**2 + 1e-6))
        assert found[k] <= true[k] * (1 + 1e-5)
        assert found[k] >= true[k] - 0.3 * (true[k - 1] - true[k])


def test_the_basis_is_the_dominant_subspace(recorded: list[Recorded]) -> None:
    """And so χ_k is that of the true subspace, to within the angle between the two."""
    for at in recorded:
        assert at.sine <= RECORD.tolerance
        for name, part in (("alignment", at.train), ("batch_alignment", at.batch)):
            true = ((at.dominant.T @ part.gradient).norm() / part.gradient.norm()).item()
            assert at.row[name] == pytest.approx(true, abs=at.sine)


def test_the_estimated_error_is_within_a_factor_of_the_true_one(recorded: list[Recorded]) -> None:
    """Of 1.5 either way above a narrow bulk, and nowhere below the truth by more.

    At initialisation the gap is small beside the bulk's width, which makes the estimate, a bound,
    six times as large as the error.
    """
    for at in recorded:
        assert at.row["subspace_error"] >= at.sine / 1.5
        gap = at.eigenvalues[RECORD.k - 1] - at.eigenvalues[RECORD.k]
        if gap > 0.4 * at.eigenvalues[RECORD.k - 1]:
            assert at.row["subspace_error"] <= 1.5 * at.sine
    narrow = [at.row["subspace_error"] <= 1.5 * at.sine for at in recorded]
    assert sum(narrow) >= 3


def test_orthogonality_is_that_of_the_basis(recorded: list[Recorded]) -> None:
    """A rounding error, of which only the size is known: ``|VᵀV - I|`` in float64."""
    for at in recorded:
        gram = at.basis.T @ at.basis
        largest = (gram - torch.eye(RECORD.k)).abs().max().item()
        assert 0 < at.row["orthogonality"] < 1e-5
        assert at.row["orthogonality"] == pytest.approx(largest, abs=1e-6)


def test_every_column_has_a_definition_here(recorded: list[Recorded]) -> None:
    """Oracle: the header of the file. A new column needs one too."""
    eigenvalues = [f"eigenvalue_{i}" for i in range(1, RECORD.k + 2)]
    others = {"step", "subspace_error", "orthogonality", *eigenvalues}
    assert set(recorded[0].row) == set(DEFINITIONS) | others
