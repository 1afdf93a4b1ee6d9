"""What is recorded at a step: losses, gradients and curvature at the parameters before it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpflat.curvature import DominantSubspace
from sharpflat.training.state import TrainingState


def orthogonality(basis: Tensor) -> float:
    """Largest entry of ``|V^T V - I|`` of a basis ``(P, k)``."""
    gram = basis.T @ basis
    return (gram - torch.eye(len(gram)).to(gram)).abs().max().item()


def measure(
    state: TrainingState,
    subspace: DominantSubspace,
    *,
    step: int,
    batch_loss: float,
    batch_gradient: Tensor,
) -> dict[str, float]:
    """One row of a trajectory.

    Converges the subspace at the parameters of the moment, so that its numbers rest on residuals.

    Args:
        state: The run.
        subspace: Measures the alignment.
        step: The step about to be taken.
        batch_loss: Loss of its mini-batch.
        batch_gradient: Gradient of its mini-batch, ``(P,)``.

    Returns:
        ``train_loss`` and ``test_loss`` are means over the whole subsets; ``alignment`` is χ_k of
        the full gradient, ``batch_alignment`` of the mini-batch's; the gradient norms split the
        full gradient; ``eigen_residual`` is the largest ``‖H v - λ v‖`` over ``λ_1``;
        ``subspace_error`` the estimated ``‖sin Θ‖_F``; ``orthogonality`` the largest entry of
        ``|V^T V - I|``; ``eigen_converged`` is 0 where the solver
        reached its limit of products before its tolerance.

    Raises:
        NonFiniteProductError: The parameters have diverged.
    """
    train_loss, gradient = state.full_gradient()
    test_loss, test_accuracy = state.test()
    pairs = subspace.refresh()
    alignment = subspace.alignment(gradient)
    norm = torch.linalg.vector_norm(gradient).item()
    eigenvalues = [*pairs.eigenvalues.tolist(), pairs.next_eigenvalue]
    return {
        "step": step,
        "batch_loss": batch_loss,
        "train_loss": train_loss,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
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
