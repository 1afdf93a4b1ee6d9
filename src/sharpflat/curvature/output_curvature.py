"""How strongly each sample's loss curves in the sample's own outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sharpflat.curvature.checks import UnsupportedLossError
from sharpflat.curvature.differentiation import Loss
from sharpflat.curvature.nested import Nested
from sharpflat.curvature.samples import Samples, refuse_unless_samples_lead

#: Outputs a sample up to which its trace is exact, and random probes beyond: passes through
#: the loss, so both cost the same at the limit. The estimate's relative standard error is then
#: at most sqrt(2 / 64) = 18 % for a positive semidefinite matrix, reached only near rank 1.
MAX_PASSES = 64


#: Samples whose outputs :func:`sample_sizes` evaluates at a time.
SIZES_CHUNK = 512


def sample_sizes(
    model: Callable[..., Nested], loss: Loss, samples: Samples, *, seed: int
) -> Tensor:
    """:func:`output_traces` over all samples, ``(n,)``.

    Raises:
        UnsupportedLossError: The outputs are not one tensor with samples along dimension 0.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = []
    for chunk in samples.chunks(SIZES_CHUNK):
        with torch.no_grad():
            outputs = chunk.outputs(model)
        if not isinstance(outputs, Tensor):
            raise UnsupportedLossError(
                f"the outputs are a {type(outputs).__name__}: sizes of samples are told from one "
                "tensor; let forward() return it, or track without samples"
            )
        refuse_unless_samples_lead(outputs, chunk.size)
        sizes.append(output_traces(loss, outputs, chunk.targets, generator=generator))
    return torch.cat(sizes)


@torch.enable_grad()
def output_traces(
    loss_fn: Loss, outputs: Tensor, targets: Nested, *, generator: torch.Generator
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
