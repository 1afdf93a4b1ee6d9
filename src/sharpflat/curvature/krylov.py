"""A growing orthonormal basis with its image under a symmetric operator: ``H Q = [Q F] M``.

The columns of ``Q`` have been multiplied with ``H``; the *pending* columns ``F`` have not. Together
they are orthonormal and hold all of ``H Q``, so that Rayleigh-Ritz values and the norm of every
Ritz pair's residual follow from the small matrix ``M`` without another product. Expanding a pending
column costs one product. With one start vector this is Lanczos with full reorthogonalisation, with
a start block it is block Lanczos, and any choice of columns in between keeps the relation exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from sharpflat.curvature.checks import refuse_autocast
from sharpflat.curvature.inner import combine, inner, norms
from sharpflat.curvature.snapshot import version

#: Largest accepted ``|uᵀ A v - vᵀ A u|`` over ‖A‖, by the precision of products: far above what
#: they are rounded to (2e-6 in float32 was seen, TF32 has 1e-3), far below a wrong derivative.
ASYMMETRY = {torch.float64: 1e-6, torch.float32: 1e-2}
#: By how much that passes the rounding of products where they are known worse.
OVER_ROUNDING = 5
#: Norms below this have squares that float64 cannot hold.
LEAST_NORM = 1e-150
NOT_FINITE = (
    "a curvature-vector product is not finite: the parameters have diverged, or the loss or the "
    "data are not finite"
)


class SymmetricOperator(Protocol):
    """What the solver needs of a matrix: its size, where it lives, and products."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(P, P)``."""

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the products; it sets the rounding level."""

    @property
    def device(self) -> torch.device:
        """Where vectors are kept."""

    def matmat(self, V: Tensor) -> Tensor:
        """``(P, m)`` to ``(P, m)``."""


class NonFiniteProductError(FloatingPointError):
    """A product with the operator is not finite, as at parameters that have diverged."""


def refuse_unless_symmetric(
    square: Tensor, scale: float, dtype: torch.dtype, *, rounding: Callable[[], float]
) -> bool:
    """Raise if ``Uᵀ A U`` of orthonormal vectors shows that A is not symmetric.

    Args:
        square: ``Uᵀ A U``, ``(m, m)``.
        scale: A lower bound of ‖A‖.
        dtype: Of the products with A.
        rounding: Tells how well products are known; asked only where they look asymmetric. A
            softmax near 0 and 1, at a loss of 1e-7 in float32, rounds to a tenth of itself.

    Returns:
        Whether they look asymmetric by their rounding.

    Raises:
        ValueError: Says by how much, and where to look.
    """
    apart = float((square - square.T).abs().max()) if len(square) else 0.0
    limit = torch.finfo(dtype)
    if not apart > ASYMMETRY.get(dtype, math.inf) * scale + limit.tiny / limit.eps:
        return False
    if apart > OVER_ROUNDING * rounding():
        raise ValueError(
            f"the operator is not symmetric: uᵀ A v and vᵀ A u differ by {apart:.2g}, where ‖A v‖ "
            f"is at most {scale:.2g}, so that eigenpairs and errors would be wrong. Look for a "
            "layer or loss whose second derivative is wrong (an autograd function of your own, a "
            "hook on a tensor in forward()); of a matrix of your own take (A + Aᵀ) / 2 if that is "
            "meant"
        )
    return True


def rounding_of(operator: SymmetricOperator, vectors: Tensor, products: Tensor) -> float:
    """Largest change of products ``(P, m)`` where the same vectors, scaled, are rounded anew."""
    again = operator.matmat(1.1 * vectors).to(products) / 1.1
    return norms(again - products).max().item()


class KrylovBasis:
    """The relation ``H Q = [Q F] M`` and the operations that keep it.

    Vectors are kept in the operator's dtype, in float32 if that is a half precision, and cast for
    the products; the small matrix ``M`` is kept in float64 on the CPU.

    Args:
        operator: The symmetric matrix.
        generator: Source of random directions.
    """

    def __init__(self, operator: SymmetricOperator, generator: torch.Generator) -> None:
        refuse_autocast(operator.device)
        self.operator = operator
        self.generator = generator
        self.num_matvecs = 0
        # One vector a row, so that appending and selecting vectors moves contiguous memory.
        dtype = torch.promote_types(operator.dtype, torch.float32)
        self._storage = torch.empty(0, operator.shape[0], dtype=dtype, device=operator.device)
        self._image = torch.zeros(0, 0, dtype=torch.float64)  # M: (expanded + pending, expanded)
        self._scale = 0.0  # the largest ‖H q‖ met: a lower bound of ‖H‖
        self._looks_asymmetric = False  # by the rounding of products

    @property
    def num_expanded(self) -> int:
        """Columns of ``Q``."""
        return self._image.shape[1]

    @property
    def num_pending(self) -> int:
        """Columns of ``F``."""
        return self._image.shape[0] - self._image.shape[1]

    @property
    def rounding(self) -> float:
        """Norm below which a residual is rounding of the products."""
        # 16 ε ‖H‖: Hessian-vector products in float32 repeat to about 8 ε ‖H‖ across chunkings.
        return 16 * torch.finfo(self.operator.dtype).eps * self._scale

    @property
    def _rows(self) -> Tensor:
        return self._storage[: self._image.shape[0]]

    @property
    def _expanded(self) -> Tensor:
        return self._storage[: self.num_expanded]

    @property
    def _pending(self) -> Tensor:
        return self._storage[self.num_expanded : self._image.shape[0]]

    def add_pending(self, block: Tensor) -> None:
        """Append the part of a ``(P, m)`` block that the basis does not hold yet."""
        block = block.to(self._storage)
        self._append(block, 1e-6 * norms(block).max().item())

    def add_random(self) -> None:
        """Make a random direction outside ``Q`` the first pending column.

        It keeps its part in the other pending columns: they hold the residuals, and what a search
        looks for may lie there.
        """
        z = torch.randn(
            self.operator.shape[0],
            1,
            generator=self.generator,
            dtype=self._storage.dtype,
            device=self.generator.device,
        ).to(self._storage)
        inside = inner(self._pending.T, z)
        old = self._image.shape[0]
        self.add_pending(z)
        rest = inner(self._storage[old : self._image.shape[0]].T, z)
        self._rotate_to_first(torch.cat([inside, rest]).to("cpu"))

    def expand(self, count: int) -> None:
        """Multiply the first ``count`` pending columns with the operator.

        Raises:
            NonFiniteProductError: A product is not finite.
            ValueError: The operator is not symmetric, writes into the vectors, or is too small.
        """
        old = self.num_expanded
        vectors = self._storage[old : old + count].T.to(self.operator.dtype)
        before = version(vectors)
        products = self.operator.matmat(vectors).to(self._storage)
        if version(vectors) != before:
            raise ValueError(
                f"matmat of {type(self.operator).__name__} writes into the vectors that it is "
                "given, which are the solver's: let it compute with a copy, V.clone()"
            )
        self.num_matvecs += count
        largest = norms(products).max().item()
        if not largest < float("inf"):
            raise NonFiniteProductError(NOT_FINITE)
        if largest < LEAST_NORM and bool(products.any()):
            raise ValueError(
                f"products are at most {float(products.abs().max()):.2g}, and their squares "
                "vanish in float64: multiply the operator with a number, 1e150 * operator"
            )
        self._scale = max(self._scale, largest)
        coordinates = self._append(products, self.rounding)
        self._image = torch.cat([self._image, coordinates], dim=1)
        if not self._looks_asymmetric:
            self._looks_asymmetric = refuse_unless_symmetric(
                self._image[: self.num_expanded],
                self._scale,
                self.operator.dtype,
                rounding=lambda: rounding_of(self.operator, vectors, products),
            )

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rayleigh-Ritz on ``Q``.

        Returns:
            Ritz values ``(j,)`` descending, their coordinates ``(j, j)``, and the coordinates of
            their residuals in the pending columns ``(f, j)``; column norms are residual norms.
        """
        square = self._image[: self.num_expanded]
        values, coordinates = torch.linalg.eigh((square + square.T) / 2)
        values, coordinates = values.flip(0), coordinates.flip(1)
        return values, coordinates, self._image[self.num_expanded :] @ coordinates

    def vectors(self, coordinates: Tensor) -> Tensor:
        """Vectors ``(P, m)`` with coordinates ``(j, m)`` in ``Q``."""
        return combine(self._expanded.T, coordinates)

    def pending_vectors(self, coordinates: Tensor) -> Tensor:
        """Vectors ``(P, m)`` with coordinates ``(f, m)`` in the pending columns."""
        return combine(self._pending.T, coordinates)

    def images(self, coordinates: Tensor) -> Tensor:
        """``H Q c = [Q F] M c``, ``(P, m)``, for coordinates ``(j, m)`` in ``Q``: no product."""
        return combine(self._rows.T, self._image @ coordinates)

    def rotate_pending(self, rotation: Tensor) -> None:
        """Choose another orthonormal basis of the pending columns, ``rotation`` ``(f, f)``."""
        self._pending.copy_(self.pending_vectors(rotation).T)
        self._image[self.num_expanded :] = rotation.T @ self._image[self.num_expanded :]

    def follow_last(self) -> None:
        """Rotate the pending columns: first the part of the last product outside ``Q``."""
        self._rotate_to_first(self._image[self.num_expanded :, -1:])

    def _rotate_to_first(self, direction: Tensor) -> None:
        """Rotate the pending columns: first the one with coordinates ``(f, 1)`` among them."""
        if len(direction) > 1:
            self.rotate_pending(torch.linalg.svd(direction, full_matrices=True)[0])

    def restart(self, keep: int) -> None:
        """Shrink ``Q`` to its ``keep`` leading Ritz vectors (thick restart)."""
        values, coordinates, residuals = self.ritz()
        kept = self.vectors(coordinates[:, :keep]).T
        self._storage[: keep + self.num_pending] = torch.cat([kept, self._pending])
        self._image = torch.cat([torch.diag(values[:keep]), residuals[:, :keep]])

    def _append(self, block: Tensor, floor: float) -> Tensor:
        """Split a block into its part in the basis and new pending columns.

        Returns:
            Coordinates of the block ``(expanded + pending, m)``, the new columns last. A column
            whose new part has a norm of at most ``floor`` adds none.
        """
        first_new = self._image.shape[0]
        rows = block.T
        # Twice is enough (Giraud et al. 2005): orthogonal to rounding whatever was cancelled.
        rows, overlap = _orthogonalise(rows, self._rows)
        coordinates = torch.zeros(first_new + len(rows), len(rows), dtype=torch.float64)
        coordinates[:first_new] = overlap.T
        for column, row in enumerate(rows):
            rest = row[None]
            if self._image.shape[0] > first_new:
                # Against all again: what cancels here magnifies the rounding of the step before.
                rest, overlap = _orthogonalise(rest, self._rows)
                coordinates[: self._image.shape[0], column] += overlap[0]
            norm = norms(rest.T).item()
            if norm > floor:
                coordinates[self._image.shape[0], column] = norm
                self._append_row(rest / norm)
        return coordinates[: self._image.shape[0]]

    def _append_row(self, row: Tensor) -> None:
        used = self._image.shape[0]
        if used == len(self._storage):
            self._storage = torch.cat([self._storage, torch.empty_like(row).expand(used + 8, -1)])
        self._storage[used] = row
        self._image = torch.cat([self._image, self._image.new_zeros(1, self.num_expanded)])


def _orthogonalise(rows: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Remove from each row its part in an orthonormal basis; return that part's coordinates too."""
    # Whatever the first sum over P gets wrong is left in the rows for the second to find.
    roughly = basis @ rows.T
    rows = rows - combine(basis.T, roughly).T
    rest = inner(basis.T, rows.T)
    rows = rows - combine(basis.T, rest).T
    return rows, (roughly.double() + rest).T.cpu()
