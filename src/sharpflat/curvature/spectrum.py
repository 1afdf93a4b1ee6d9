"""The whole spectrum of a symmetric operator: stochastic Lanczos quadrature.

A Lanczos run of m steps from a random unit vector z gives the m nodes ``θ_j`` (its Ritz values) and
weights ``w_j`` (the squares of the Ritz vectors' components along z) of the Gauss quadrature
``zᵀ f(A) z = Σ_j w_j f(θ_j)``, exact for polynomials of degree up to 2m - 1. Over random signs z
its mean is ``tr f(A) / P``, the mean of f over the eigenvalues [Golub & Meurant; Ghorbani, Krishnan
& Xiao 2019]. Every vector is orthogonalised against all before it, twice, in sums of float64: else
converged eigenvalues come again as copies, which the density shows as eigenvalues.

The package's own Krylov basis does that already. curvlinops 3.0 runs Lanczos without
reorthogonalisation and returns the mean over probes; error bars need each probe's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpflat.curvature.krylov import KrylovBasis, SymmetricOperator

#: Default width of the kernel, as a share of the range of the nodes [assumption].
WIDTH_SHARE = 0.01
#: Points at which the density is evaluated unless some are given, and how many widths they reach
#: beyond the nodes: all but 1e-4 of a kernel lies within.
NUM_POINTS, MARGIN = 1000, 4.0


@dataclass(frozen=True, kw_only=True)
class SpectralDensity:
    """The density of an operator's eigenvalues, which integrates to 1.

    Attributes:
        points: ``(n,)`` where it is evaluated, float64.
        values: ``(n,)``, the mean over the probes. P times an integral of it counts eigenvalues.
        standard_errors: ``(n,)``, of ``values`` over the probes. Where a kernel holds a single
            eigenvalue the probes scatter like squares of one Gaussian: an interval of two
            standard errors over 10 of them then holds the density less often than 95 %.
        width: Standard deviation of the Gaussian kernel that each node was replaced with.
        nodes: One tensor a probe, ``(m,)`` descending, float64; m is ``steps``, or fewer where
            they span all that the probe can reach.
        weights: One tensor a probe, ``(m,)``, 0 to 1, their sum 1.
        num_matvecs: Products used.
    """

    points: Tensor
    values: Tensor
    standard_errors: Tensor
    width: float
    nodes: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    num_matvecs: int

    def smoothed(self, *, width: float, points: Tensor | None = None) -> SpectralDensity:
        """The same nodes and weights under a kernel of another width; needs no product.

        Args:
            width: Standard deviation of the Gaussian kernel, in units of the eigenvalues.
            points: ``(n,)``. Default: 1,000 that cover the nodes and four widths more.

        Raises:
            ValueError: The width is not positive and finite.
        """
        if not 0 < width < math.inf:
            raise ValueError(f"width is {width}; it must be positive and finite")
        if points is None:
            low, high = _range(self.nodes)
            points = torch.linspace(
                low - MARGIN * width, high + MARGIN * width, NUM_POINTS, dtype=torch.float64
            )
        points = points.to("cpu", torch.float64)
        densities = torch.stack(
            [
                torch.exp(-(((points[:, None] - nodes) / width) ** 2) / 2) @ weights
                for nodes, weights in zip(self.nodes, self.weights, strict=True)
            ]
        ) / (width * math.sqrt(2 * math.pi))
        return replace(
            self,
            points=points,
            values=densities.mean(0),
            standard_errors=densities.std(0) / math.sqrt(len(densities)),
            width=width,
        )


def spectral_density(
    operator: SymmetricOperator,
    *,
    probes: int = 10,
    steps: int = 80,
    width: float | None = None,
    seed: int = 0,
) -> SpectralDensity:
    """Estimate the density of all eigenvalues by stochastic Lanczos quadrature.

    Args:
        operator: Anything with ``shape``, ``dtype``, ``device`` and ``matmat``. It holds ``steps``
            vectors of length P beside it.
        probes: Random vectors, at least 2 for a standard error. Default: 10 [assumption].
        steps: Products a probe; what is closer than about the range over ``steps`` is smeared,
            but for the outermost eigenvalues. Default: 80 [assumption].
        width: Standard deviation of the Gaussian kernel, in units of the eigenvalues. Default: a
            hundredth of the range of the nodes.
        seed: Seeds the probes.

    Raises:
        ValueError: Fewer than 2 probes, no step, or a width that is not positive and finite.
        NonFiniteProductError: A product is not finite.

    Example:
        >>> import torch
        >>> from sharpflat.curvature import MatrixOperator, spectral_density
        >>> matrix = torch.diag(torch.tensor([5.0, 1.0, 1.0, 1.0], dtype=torch.float64))
        >>> density = spectral_density(MatrixOperator(matrix), probes=3, steps=2, width=0.1)
        >>> [nodes.round(decimals=6).tolist() for nodes in density.nodes]
        [[5.0, 1.0], [5.0, 1.0], [5.0, 1.0]]
        >>> above = density.points > 3
        >>> round(float(torch.trapezoid(density.values[above], density.points[above])), 3)
        0.25
    """
    if probes < 2:
        raise ValueError(f"probes is {probes}; a standard error needs at least 2")
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1")
    if width is not None and not 0 < width < math.inf:
        raise ValueError(f"width is {width}; it must be positive and finite")
    generator = torch.Generator().manual_seed(seed)
    quadratures = [_quadrature(operator, steps, generator) for _ in range(probes)]
    nodes, weights = zip(*quadratures, strict=True)
    low, high = _range(nodes)
    if width is None:
        # Of a multiple of the identity all nodes are one.
        width = WIDTH_SHARE * ((high - low) or abs(high) or 1.0)
    empty = torch.empty(0, dtype=torch.float64)
    raw = SpectralDensity(
        points=empty,
        values=empty,
        standard_errors=empty,
        width=width,
        nodes=nodes,
        weights=weights,
        num_matvecs=sum(map(len, nodes)),
    )
    return raw.smoothed(width=width)


def _range(nodes: tuple[Tensor, ...]) -> tuple[float, float]:
    every = torch.cat(nodes)
    return float(every.min()), float(every.max())


def _quadrature(
    operator: SymmetricOperator, steps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Nodes and weights of one probe."""
    basis = KrylovBasis(operator, generator)
    signs = 2 * torch.randint(2, (operator.shape[0], 1), generator=generator) - 1
    basis.add_pending(signs.to(torch.float64))
    while basis.num_expanded < steps and basis.num_pending > 0:
        basis.expand(1)
    nodes, coordinates, _ = basis.ritz()
    return nodes, coordinates[0].square()
