"""What is recorded at a step: losses, gradients and curvature at the parameters before it.

Losses have a rhythm of their own: they cost two passes over the samples, the eigenspace dozens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpflat.curvature import (
    DominantSubspace,
    NonFiniteProductError,
    PreconditionedOperator,
    top_eigenpairs,
)
from sharpflat.training.optimizers import next_update
from sharpflat.training.state import TrainingState

#: Products after which the preconditioned Hessian's first eigenvalue is a bound from below.
UPDATE_MATVECS = 100


def orthogonality(basis: Tensor) -> float:
    """Largest entry of ``|V^T V - I|`` of a basis ``(P, k)``."""
    gram = basis.T @ basis
    return (gram - torch.eye(len(gram)).to(gram)).abs().max().item()


def measure_losses(state: TrainingState) -> tuple[dict[str, float], Tensor]:
    """The columns of every row, at the parameters of the moment.

    Returns:
        ``train_loss`` and ``test_loss``, means over the whole subsets, ``test_accuracy``, and
        ``gradient_norm`` of the full gradient; with them that gradient, ``(P,)``.

    Raises:
        NonFiniteProductError: The parameters have diverged.
    """
    train_loss, gradient = state.full_gradient()
    if not math.isfinite(train_loss):
        raise NonFiniteProductError(f"the training loss is {train_loss}")
    test_loss, test_accuracy = state.test()
    row = {
        "train_loss": train_loss,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "gradient_norm": torch.linalg.vector_norm(gradient).item(),
    }
    return row, gradient


def measure_eigenspace(
    subspace: DominantSubspace, *, gradient: Tensor, batch_gradient: Tensor
) -> dict[str, float]:
    """The columns of a row at which the eigenspace is due.

    Converges the subspace at the parameters of the moment, so that its numbers rest on residuals.
    That is the tracker's full check, and the next one comes later for it.

    Args:
        subspace: Measures the alignment.
        gradient: Of all training samples, ``(P,)``.
        batch_gradient: Of the step's mini-batch, ``(P,)``.

    Returns:
        ``alignment`` is χ_k of the full gradient, ``batch_alignment`` of the mini-batch's;
        ``dominant_gradient_norm`` and ``bulk_gradient_norm`` split the full gradient;
        ``eigen_residual`` is the largest ``‖H v - λ v‖`` over ``λ_1``; ``subspace_error`` the
        estimated ``‖sin Θ‖_F``; ``orthogonality`` the largest entry of ``|V^T V - I|``;
        ``eigen_converged`` is 0 where the solver reached its limit of products before its
        tolerance.

    Raises:
        NonFiniteProductError: The parameters have diverged.
    """
    pairs = subspace.refresh()
    alignment = subspace.alignment(gradient)
    norm = torch.linalg.vector_norm(gradient).item()
    eigenvalues = [*pairs.eigenvalues.tolist(), pairs.next_eigenvalue]
    return {
        "alignment": alignment,
        "batch_alignment": subspace.alignment(batch_gradient),
        "dominant_gradient_norm": alignment * norm,
        "bulk_gradient_norm": math.sqrt(max(1.0 - alignment**2, 0.0)) * norm,
        **{f"eigenvalue_{i}": value for i, value in enumerate(eigenvalues, start=1)},
        "eigen_residual": pairs.residuals.max().item() / max(abs(eigenvalues[0]), 1e-30),
        "subspace_error": pairs.error_estimate,
        "orthogonality": orthogonality(subspace.basis),
        "eigen_converged": int(pairs.converged),
    }


def measure_update(
    subspace: DominantSubspace,
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    closure: Callable[[], Any] | None,
    tolerance: float,
) -> tuple[dict[str, float], int]:
    """The columns of such a row that are of the base optimizer's own, whole update.

    Args:
        subspace: Converged at the parameters of the moment.
        optimizers: Base optimizers, with the mini-batch's gradient; no step is taken.
        closure: Of one that needs it.
        tolerance: Accepted sine of the angle to the preconditioned Hessian's first eigenvector.

    Returns:
        ``update_alignment``, χ_k of the update; for Adam, AdamW and RMSProp also
        ``preconditioned_eigenvalue_1``, λ_1 of ``D^{-1/2} H D^{-1/2}`` with ``D = √v + ε`` of this
        update, which is stable below 2/η, and ``preconditioned_converged``, 0 where it is but a
        bound from below. With them the products that these took.

    Raises:
        NonFiniteProductError: The parameters have diverged.
    """
    operator = subspace.operator
    update, diagonal = next_update(optimizers, operator.parameters, closure)
    for what, vector in (("update", update), ("root of second moments", diagonal)):
        if vector is not None and not bool(vector.isfinite().all()):
            raise NonFiniteProductError(f"the optimizer's {what} is not finite")
    row = {"update_alignment": subspace.alignment(update)}
    if diagonal is None:
        return row, 0
    # A start at no cost: where D is the same for all, this is the eigenvector.
    first = diagonal.sqrt()[:, None] * subspace.basis[:, :1]
    pairs = top_eigenpairs(
        PreconditionedOperator(operator, diagonal),
        1,
        tol=tolerance,
        initial=first / torch.linalg.vector_norm(first),
        max_matvecs=UPDATE_MATVECS,
    )
    row["preconditioned_eigenvalue_1"] = pairs.eigenvalues[0].item()
    row["preconditioned_converged"] = int(pairs.converged)
    return row, pairs.num_matvecs
