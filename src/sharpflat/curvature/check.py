"""A check: converge from the vectors that are tracked, at the parameters of the moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflat.curvature.eigen import EigenResult, iterate, result, solve, start
from sharpflat.curvature.krylov import SymmetricOperator
from sharpflat.curvature.tracked import TrackedVectors

#: Vectors tracked beyond k, for the gap below the Dominant subspace.
OVERSAMPLING = 2
#: Products that a check may use for each tracked vector: with a search, and without.
MATVECS_SEARCHING, MATVECS_NEARBY = 20, 4


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a check found.

    Attributes:
        found: The eigenpairs.
        vectors: The same and ``OVERSAMPLING`` more, to be tracked; nothing is learned yet.
        images: Makes the matrix times their block, without a product.
    """

    found: EigenResult
    vectors: TrackedVectors
    images: Callable[[], Tensor]


def converge(
    operator: SymmetricOperator,
    before: TrackedVectors | None,
    theta: Tensor,
    *,
    k: int,
    tol: float,
    seed: int,
    search: bool,
) -> Check:
    """Solve for the top k eigenpairs from the vectors that were tracked, or from nothing.

    Args:
        operator: The matrix at the parameters of the moment.
        before: Tracked until now, turned to the parameters of the moment.
        theta: Those parameters, ``(P,)``.
        k: Number of pairs.
        tol: Accepted ``‖sin Θ‖_F``; infinite: multiply what is tracked, and only search.
        seed: Seeds the random directions.
        search: Whether to search outside the block until no eigenvalue as high can be hidden there.
    """
    basis = start(operator, None if before is None else before.block, seed=seed)
    width = k + OVERSAMPLING
    if search:
        converged = solve(basis, k, tol, MATVECS_SEARCHING * width)
    else:
        converged = iterate(basis, k, tol, MATVECS_NEARBY * width)
    found = result(basis, k, converged=converged)
    values, coordinates, _ = basis.ritz()
    coordinates, smallest = coordinates[:, :width], float(values[-1])
    vectors = TrackedVectors(
        block=basis.vectors(coordinates),
        eigenvalues=found.eigenvalues.clone(),
        next_eigenvalue=found.next_eigenvalue,
        smallest_eigenvalue=min(smallest, before.smallest_eigenvalue) if before else smallest,
        references=[theta] * k,
        start_errors=found.errors.clone(),
        moves=torch.zeros(k, k, dtype=torch.float64),
        error_estimate=found.error_estimate,
        reached=found.error_estimate,
    )
    return Check(found=found, vectors=vectors, images=lambda: basis.images(coordinates))
