"""Products over a weighted sample of the data, exact on a block where all of it was last seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sharpflat.curvature.inner import inner
from sharpflat.curvature.krylov import SymmetricOperator

#: Size that every sample has besides its own, as a share of the mean size: what a sample adds to
#: the curvature beside its loss's second derivative in the outputs (its functional part).
LEAST_SIZE = 0.05


@runtime_checkable
class SampleableOperator(SymmetricOperator, Protocol):
    """A mean over samples that can be evaluated on some of them."""

    @property
    def num_samples(self) -> int:
        """Samples ``n`` of the mean."""

    @property
    def can_be_sampled(self) -> bool:
        """Whether single samples can be told apart: not where data come in batches."""

    def sample_sizes(self) -> Tensor:
        """How much each sample may weigh in the mean now, ``(n,)``."""

    def sampled(self, indices: Tensor, weights: Tensor) -> SymmetricOperator:
        """The sum of ``weights[j]`` times the matrix of sample ``indices[j]``."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Samples drawn with unequal probabilities, weighted so that sums over them are unbiased.

    Attributes:
        indices: ``(m,)``, ascending.
        weights: ``(m,)``, ``1 / (n π_i)`` with the probability ``π_i`` that sample i was drawn.
    """

    indices: Tensor
    weights: Tensor


def draw(sizes: Tensor, count: int, *, seed: int) -> Sample:
    """Draw without replacement, with probability proportional to size.

    A sample whose probability would pass 1 is taken for certain, and the others share the rest.
    Systematic sampling in random order meets the probabilities exactly and draws ``count`` samples.

    Args:
        sizes: ``(n,)``; their signs do not matter. A twentieth of their mean is added to each.
        count: Samples to draw, 1 to n.
        seed: Seeds the order and the start.

    Example:
        >>> import torch
        >>> sample = draw(torch.tensor([1.0, 1.0, 1.0, 97.0]), 2, seed=0)
        >>> 3 in sample.indices, sample.weights[-1]  # the largest for certain, so it weighs 1 / n
        (True, tensor(0.2500, dtype=torch.float64))
    """
    sizes = sizes.detach().to("cpu", torch.float64).abs()
    sizes = sizes + LEAST_SIZE * sizes.mean() if bool(sizes.any()) else torch.ones_like(sizes)
    probabilities = inclusion_probabilities(sizes, count)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(sizes), generator=generator)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    ends = probabilities[order].cumsum(0)
    ends[-1] = count  # to rounding
    ticks = (ends - start).ceil().clamp_min(0)
    drawn = torch.diff(ticks, prepend=ticks.new_zeros(1)) > 0
    indices = order[drawn].sort().values
    return Sample(indices=indices, weights=1 / (len(sizes) * probabilities[indices]))


def inclusion_probabilities(sizes: Tensor, count: int) -> Tensor:
    """Probabilities ``(n,)`` proportional to positive sizes, none above 1, that sum to a count."""
    certain = torch.zeros(len(sizes), dtype=torch.bool)
    while True:
        left = count - int(certain.sum())
        shares = left * sizes / sizes[~certain].sum().clamp_min(torch.finfo(sizes.dtype).tiny)
        probabilities = torch.where(certain, 1.0, shares)
        above = (probabilities >= 1) & ~certain
        if not bool(above.any()):
            return probabilities
        certain |= above


class SampledCurvature:
    """``Ĥ(θ) = H_S(θ) + C``: a sample's matrix, corrected to be exact on a block at one ``θ_r``.

    With a block ``V`` and ``W = H(θ_r) V - H_S(θ_r) V`` the symmetric correction
    ``C v = W (Vᵀ v) + V (Wᵀ v) - V (Vᵀ W) (Vᵀ v)`` has ``C V = W``: a control variate, as
    variance-reduced PCA has for a fixed matrix (Shamir 2015, arXiv:1409.2848). At ``θ_r`` the
    Rayleigh quotients and residuals of V are those of all samples, so that near it the sample
    errs only in how the eigenspace turns.

    Args:
        operator: The curvature over all samples.
        sample: Which of them, and their weights.
        block: ``V``, ``(P, l)`` orthonormal.
        correction: ``W``, ``(P, l)``.
    """

    def __init__(
        self, operator: SampleableOperator, sample: Sample, block: Tensor, correction: Tensor
    ) -> None:
        self.shape, self.dtype, self.device = operator.shape, operator.dtype, operator.device
        self.sample, self.block, self.correction = sample, block, correction
        self.num_matvecs = 0
        self._matrix = _matrix_of(operator, sample)
        overlap = inner(block, correction)
        self._overlap = (overlap + overlap.T) / 2

    @classmethod
    def exact_on(
        cls, operator: SampleableOperator, sample: Sample, block: Tensor, images: Tensor
    ) -> SampledCurvature:
        """Correct a sample's matrix to ``images = H V`` at the parameters of the moment."""
        correction = images - _matrix_of(operator, sample).matmat(block)
        sampled = cls(operator, sample, block, correction)
        sampled.num_matvecs = block.shape[1]
        return sampled

    def matmat(self, V: Tensor) -> Tensor:
        """``(P, m)`` to ``(P, m)``."""
        self.num_matvecs += V.shape[1]
        along, across = inner(self.block, V), inner(self.correction, V)
        inside = (across - self._overlap @ along).to(V)
        return self._matrix.matmat(V) + self.correction @ along.to(V) + self.block @ inside


def _matrix_of(operator: SampleableOperator, sample: Sample) -> SymmetricOperator:
    indices = sample.indices.to(operator.device)
    return operator.sampled(indices, sample.weights.to(operator.device, operator.dtype))
