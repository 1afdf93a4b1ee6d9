"""Trace and diagonal of a symmetric operator from products, with standard errors.

Half of the products build a Krylov space Q from one random vector; on it the operator is known
exactly. The other half are Hutchinson's random signs z for what is left, with ``R = I - Q Qᵀ``:

    ``tr A = tr(Qᵀ A Q) + E[zᵀ R A R z]``,
    ``diag A = diag(A Q Qᵀ + Q Qᵀ A - Q Qᵀ A Q Qᵀ) + E[z ∘ R A R z]``.

Hutch++ [Meyer et al. 2021] splits in the same way, but spends two products on a vector of Q where a
Krylov space costs one, and holds outliers worse. XTrace and XDiag [Epperly, Tropp & Webber 2024]
use each vector for both parts; the spread of their leave-one-out estimates is no standard error.
Root mean squares of errors over 150 seeds in percent of the trace, on H, G and F of an MLP (P =
325, 400 steps of SGD) and on five outliers above a bulk, in brackets the standard errors that go
with them:

| operator, loss, products | Hutchinson | Hutch++ | XTrace | here |
| --- | --- | --- | --- | --- |
| H, squared error, 30 | 3.4 | 4.4 | 4.4 (3.3) | 3.5 (3.7) |
| H, squared error, 90 | 2.1 | 1.3 | 0.9 (0.6) | 1.0 (0.9) |
| G, cross-entropy, 90 | 2.5 | 0.8 | 0.3 (0.2) | 0.3 (0.3) |
| F, cross-entropy, 90 | 1.8 | 2.2 | 2.4 (1.8) | 2.0 (1.8) |
| outliers and bulk, 30 | 5.8 | 2.8 | 2.1 (2.1) | 2.2 (2.0) |

Without outliers Hutchinson alone is better, by a factor of 1.4, and for a matrix that is all but
diagonal by any. The diagonal's errors compare alike. With a third of the products for Q errors were
1.4 to 3 times as large for H and G at 90 products, and 0.85 times without outliers. Of a multiple
outlier a Krylov space holds one vector; the others are left to the probes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflat.curvature.checks import as_count
from sharpflat.curvature.energy import PROBES_AT_ONCE, Estimate
from sharpflat.curvature.inner import combine, inner
from sharpflat.curvature.krylov import (
    NOT_FINITE,
    KrylovBasis,
    NonFiniteProductError,
    SymmetricOperator,
)

#: Products: standard errors of 1 to 3 % of the trace for the H and G of trained networks
#: [assumption].
NUM_MATVECS = 60


@dataclass(frozen=True, kw_only=True)
class DiagonalEstimate:
    """A diagonal that random probes estimated.

    Attributes:
        values: ``(P,)``, float64.
        standard_errors: ``(P,)``, float64, of each entry over the probes.
    """

    values: Tensor
    standard_errors: Tensor


def trace(
    operator: SymmetricOperator, *, num_matvecs: int = NUM_MATVECS, seed: int = 0
) -> Estimate:
    """Estimate ``tr A``, without bias.

    It is exact, with a standard error of 0 but for rounding, if half of the products reach all of
    the operator's range. Standard errors do not know of the products' own rounding.

    Args:
        operator: ``A``, anything with ``shape``, ``dtype``, ``device`` and ``matmat``. It holds
            ``num_matvecs / 2`` vectors of length P beside it.
        num_matvecs: Products, at least 4. Default: 60.
        seed: Seeds every random vector.

    Raises:
        ValueError: Fewer than 4 products.
        NonFiniteProductError: A product is not finite.

    Example:
        >>> import torch
        >>> from sharpflat.curvature import MatrixOperator, trace
        >>> matrix = torch.diag(torch.tensor([5.0, 3.0, 0.0, 0.0], dtype=torch.float64))
        >>> round(trace(MatrixOperator(matrix), num_matvecs=8).value, 6)
        8.0
    """
    _check(num_matvecs)
    deflated = _Deflated(operator, num_matvecs, seed)
    samples = torch.cat([inner(z, Az).diagonal() for z, Az in deflated.probes()])
    return Estimate(
        value=float(deflated.values.sum() + samples.mean()),
        standard_error=float(samples.std()) / math.sqrt(len(samples)),
    )


def diagonal(
    operator: SymmetricOperator, *, num_matvecs: int = NUM_MATVECS, seed: int = 0
) -> DiagonalEstimate:
    """Estimate ``diag A``, each entry without bias, and as exact as :func:`trace` where that is.

    Args:
        operator: ``A``, as for :func:`trace`.
        num_matvecs: Products, at least 4. Default: 60.
        seed: Seeds every random vector.

    Raises:
        ValueError: Fewer than 4 products.
        NonFiniteProductError: A product is not finite.

    Example:
        >>> import torch
        >>> from sharpflat.curvature import MatrixOperator, diagonal
        >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        >>> diagonal(MatrixOperator(matrix), num_matvecs=4).values.round(decimals=6)
        tensor([2., 2.], dtype=torch.float64)
    """
    _check(num_matvecs)
    deflated = _Deflated(operator, num_matvecs, seed)
    known = deflated.diagonal()
    total, squares, count = torch.zeros_like(known), torch.zeros_like(known), 0
    for z, Az in deflated.probes():
        samples = (z * Az).double()
        total += samples.sum(1)
        squares += samples.square().sum(1)
        count += samples.shape[1]
    mean = total / count
    variance = ((squares - count * mean.square()) / (count - 1)).clamp_min(0)
    return DiagonalEstimate(values=known + mean, standard_errors=(variance / count).sqrt())


def _check(num_matvecs: int) -> None:
    if as_count(num_matvecs) < 4:
        raise ValueError(
            f"num_matvecs is {num_matvecs!r}; a standard error needs at least 4, and an integer"
        )


class _Deflated:
    """An operator split into what a Krylov space holds of it, and products with what is left."""

    def __init__(self, operator: SymmetricOperator, num_matvecs: int, seed: int) -> None:
        self.operator = operator
        self.generator = torch.Generator().manual_seed(seed)
        basis = KrylovBasis(operator, self.generator)
        while basis.num_expanded < min(num_matvecs // 2, operator.shape[0]):
            if basis.num_pending == 0:
                basis.add_random()
            basis.expand(1)
        self.num_probes = num_matvecs - basis.num_matvecs
        self.values, coordinates, _ = basis.ritz()
        self.vectors = basis.vectors(coordinates)
        self.images = basis.images(coordinates)

    def diagonal(self) -> Tensor:
        """``diag(A Q Qᵀ + Q Qᵀ A - Q Qᵀ A Q Qᵀ)``, ``(P,)``, float64."""
        known = torch.zeros(len(self.vectors), dtype=torch.float64, device=self.vectors.device)
        columns = zip(self.values.tolist(), self.vectors.T, self.images.T, strict=True)
        for value, vector, image in columns:
            q = vector.double()
            known += q * (2 * image.double() - value * q)
        return known

    def probes(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Random signs z and ``R A R z``, both ``(P, m)``, a few at a time."""
        for start in range(0, self.num_probes, PROBES_AT_ONCE):
            count = min(PROBES_AT_ONCE, self.num_probes - start)
            # One probe a draw, so that the probes do not depend on how many are held at a time.
            signs = [
                torch.randint(2, (len(self.vectors),), generator=self.generator)
                for _ in range(count)
            ]
            z = (2 * torch.stack(signs, dim=1) - 1).to(self.vectors)
            products = self.operator.matmat(self._rest(z).to(self.operator.dtype))
            if not bool(products.isfinite().all()):
                raise NonFiniteProductError(NOT_FINITE)
            yield z, self._rest(products.to(z))

    def _rest(self, block: Tensor) -> Tensor:
        return block - combine(self.vectors, inner(self.vectors, block))
