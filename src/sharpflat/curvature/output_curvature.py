"""How strongly each sample's loss curves in the sample's own outputs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sharpflat.curvature.differentiation import LossFunction

#: Outputs a sample up to which its trace is exact, and random probes beyond: passes through
#: the loss, so both cost the same at the limit. The estimate's relative standard error is then
#: at most sqrt(2 / 64) = 18 % for a positive semidefinite matrix, reached only near rank 1.
MAX_PASSES = 64


@torch.enable_grad()
def output_traces(
    loss_fn: LossFunction, outputs: Tensor, targets: Tensor, *, generator: torch.Generator
) -> Tensor:
    """``tr ∇²_f ℓ_i`` for every sample of a loss that is the mean of its samples' losses.

    One differentiation an output component gives its diagonal entry for every sample at once,
    since no sample's loss depends on another's outputs. Beyond :data:`MAX_PASSES` components
    it is Hutchinson's estimate ``mean(zᵀ (∇²_f ℓ_i) z)`` over as many vectors of random signs.

    Args:
        loss_fn: The mean over samples.
        outputs: Shape ``(m, ...)``, samples along dimension 0.
        targets: Theirs.
        generator: Of the random signs, on the CPU.

    Returns:
        Shape ``(m,)``, in the dtype of the outputs.
    """
    leaf = outputs.detach().flatten(start_dim=1) if outputs.ndim > 1 else outputs.detach()[:, None]
    leaf.requires_grad_()
    mean = loss_fn(leaf.view_as(outputs), targets)
    (gradient,) = torch.autograd.grad(mean, leaf, create_graph=True)
    if not gradient.requires_grad:  # a loss that is linear in the outputs
        return torch.zeros_like(leaf[:, 0])
    exact = leaf.shape[1] <= MAX_PASSES
    directions = _unit_vectors(leaf) if exact else _random_signs(leaf, generator)
    traces = torch.zeros_like(leaf[:, 0])
    for direction in directions:
        (curved,) = torch.autograd.grad(
            gradient, leaf, direction.expand_as(leaf), retain_graph=True, materialize_grads=True
        )
        traces += (direction * curved).sum(dim=1)
    return len(outputs) * (traces if exact else traces / MAX_PASSES)


def _unit_vectors(leaf: Tensor) -> Iterator[Tensor]:
    return iter(torch.eye(leaf.shape[1], dtype=leaf.dtype, device=leaf.device))


def _random_signs(leaf: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    for _ in range(MAX_PASSES):
        bits = torch.randint(2, leaf.shape, generator=generator)
        yield (2 * bits - 1).to(dtype=leaf.dtype, device=leaf.device)
