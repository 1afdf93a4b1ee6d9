"""The true eigenspace, solved twice in float64, and angles to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from sharpflat.benchmarks.rows import ReferenceRow
from sharpflat.benchmarks.scipy_bridge import as_columns, as_scipy, starting_vectors
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.threads import one_numpy_thread
from sharpflat.benchmarks.timing import ProductCounter
from sharpflat.curvature import top_eigenpairs
from sharpflat.curvature.krylov import SymmetricOperator

#: Accepted ``‖sin Θ‖_F`` of the reference, and products that it may take.
TOLERANCE, MAX_MATVECS = 1e-7, 3000
#: Largest angle at which two solvers count as agreeing: far below any accuracy compared here.
AGREEMENT = 1e-4


class NoReferenceError(RuntimeError):
    """There is no eigenspace that angles could be measured against."""


@dataclass(frozen=True)
class Reference:
    """The true eigenspace.

    Attributes:
        eigenvectors: ``(P, k)`` orthonormal, float64.
        row: What is told of it in the tables.
    """

    eigenvectors: Tensor
    row: ReferenceRow


def sines(vectors: Tensor, truth: Tensor) -> Tensor:
    """Sines ``(k,)`` of the angles between two spans of k columns, largest first.

    Args:
        vectors: ``(P, k)``, of any length and not quite orthogonal.
        truth: ``(P, k)``, orthonormal, float64.
    """
    basis = torch.linalg.qr(vectors.to(truth))[0]
    sine: Tensor = torch.linalg.svdvals(basis - truth @ (truth.T @ basis))
    return sine


def largest_sine(vectors: Tensor, truth: Tensor) -> float:
    """Sine of the largest angle between two spans; 1 if a vector is not finite."""
    finite = bool(torch.isfinite(vectors).all())
    return float(sines(vectors, truth)[0].clamp(max=1.0)) if finite else 1.0


def solve_by_eigsh(operator: SymmetricOperator, k: int, *, tol: float, seed: int) -> Tensor:
    """The top eigenvectors ``(P, k)``, float64 and orthonormal, by SciPy's ``eigsh``.

    Args:
        operator: Multiplies in its own dtype; all other arithmetic is in float64.
        k: How many.
        tol: Largest accepted residual, relative to the eigenvalue.
        seed: Seeds the random start.
    """
    start = starting_vectors(operator.shape[0], 1, seed=seed)[:, 0]
    with one_numpy_thread():
        matrix = as_scipy(operator, ProductCounter())
        _, vectors = eigsh(matrix, k=k, which="LA", v0=start, tol=tol)
    basis: Tensor = torch.linalg.qr(as_columns(vectors, operator.device))[0]
    return basis


def solve_reference(task: BenchmarkTask, *, seed: int) -> Reference:
    """Solve in float64 with this package's solver and with SciPy's.

    Both multiply with this package's operator; only what it computes itself, the product, is not
    checked here but by its own tests.

    Raises:
        NoReferenceError: The two disagree, or ``λ_k`` and ``λ_{k+1}`` cannot be told apart.
    """
    double = task.in_double()
    operator = double.hessian()
    found = top_eigenpairs(operator, double.k, tol=TOLERANCE, seed=seed, max_matvecs=MAX_MATVECS)
    if not found.converged:
        raise NoReferenceError(
            f"task {task.name!r}: the eigenspace of dimension {task.k} is not found to "
            f"{TOLERANCE:g} in {MAX_MATVECS} products (λ_k = {float(found.eigenvalues[-1]):.6g}, "
            f"λ_(k+1) = {found.next_eigenvalue:.6g}): choose a k with a gap below it, "
            "or other parameters"
        )
    truth = solve_by_eigsh(operator, task.k, tol=TOLERANCE, seed=seed)
    disagreement = largest_sine(truth, found.eigenvectors)
    if disagreement > AGREEMENT:
        raise NoReferenceError(
            f"task {task.name!r}: this package's solver and SciPy's eigsh find eigenspaces "
            f"{disagreement:.2g} apart (sine of the largest angle) in float64; one of them is "
            "wrong: run the tests of sharpflat.curvature, and choose a k with a gap below it"
        )
    return Reference(
        eigenvectors=found.eigenvectors,
        row=ReferenceRow(
            task=task.name,
            largest_eigenvalue=float(found.eigenvalues[0]),
            kth_eigenvalue=float(found.eigenvalues[-1]),
            next_eigenvalue=found.next_eigenvalue,
            products=found.num_matvecs,
            error_estimate=found.error_estimate,
            sine_against_eigsh=disagreement,
        ),
    )
