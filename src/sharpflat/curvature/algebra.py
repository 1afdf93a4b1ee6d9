"""Symmetric operators made of others: sums, shifts, preconditioning, and a bridge to SciPy.

An operator that inherits :class:`OperatorAlgebra` can be written as in linear algebra,
``-A``, ``2 * A - B``, ``A + 0.1 * identity``; what comes out can be multiplied, solved and combined
again, and reads its parts at each product, so that it moves with their parameters.
"""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sharpflat.curvature.checks import refuse_unless_operator, refuse_unless_tensor
from sharpflat.curvature.krylov import SymmetricOperator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse.linalg import LinearOperator


def real_vectors(V: Tensor, dtype: torch.dtype) -> Tensor:
    """Vectors to multiply with, integers and truth values among them in a real dtype.

    Raises:
        TypeError: They are no tensor.
        ValueError: They are complex.
    """
    refuse_unless_tensor(V)
    if V.is_complex():
        raise ValueError(
            f"cannot multiply with {V.dtype}: multiply real and imaginary parts apart, as two "
            "columns (V.real, V.imag)"
        )
    return V if V.is_floating_point() else V.to(dtype)


class OperatorAlgebra:
    """Gives a symmetric operator ``A @ v``, ``-A``, ``a * A``, ``A / a``, ``A + B`` and ``A - B``.

    Example:
        >>> import torch
        >>> from sharpflat.curvature import MatrixOperator
        >>> A = combination((2.0, MatrixOperator(torch.diag(torch.tensor([1.0, 3.0])))), shift=-1.0)
        >>> (-A).matmat(torch.ones(2, 1)).T  # -(2 A - I)
        tensor([[-1., -5.]])
    """

    #: ``array * A`` is refused as ``A * array`` is, where NumPy would make an array of operators.
    __array_ufunc__ = None

    def __matmul__(self: SymmetricOperator, other: Tensor) -> Tensor:
        refuse_unless_tensor(other)
        return self.matmat(other[:, None])[:, 0] if other.ndim == 1 else self.matmat(other)

    def __neg__(self: SymmetricOperator) -> LinearCombination:
        return combination((-1.0, self))

    def __mul__(self: SymmetricOperator, factor: float) -> LinearCombination:
        return combination((factor, self))

    __rmul__ = __mul__

    def __truediv__(self: SymmetricOperator, divisor: float) -> LinearCombination:
        return combination((1.0 / float(divisor), self))

    def __add__(self: SymmetricOperator, other: SymmetricOperator) -> LinearCombination:
        return combination((1.0, self), (1.0, other))

    def __sub__(self: SymmetricOperator, other: SymmetricOperator) -> LinearCombination:
        return combination((1.0, self), (-1.0, other))

    def to_scipy(self: SymmetricOperator) -> LinearOperator:
        """A ``scipy.sparse.linalg.LinearOperator`` in float64, for SciPy's solvers.

        Products keep the operator's own precision.

        Example:
            >>> import torch
            >>> from scipy.sparse.linalg import eigsh
            >>> from sharpflat.curvature import MatrixOperator
            >>> A = MatrixOperator(torch.diag(torch.tensor([1.0, 2.0, 5.0])))
            >>> eigsh(A.to_scipy(), k=1, return_eigenvectors=False).round(6)
            array([5.])
        """
        from scipy.sparse.linalg import LinearOperator

        def multiply(block: NDArray[np.float64]) -> NDArray[np.float64]:
            vectors = real_vectors(torch.as_tensor(block, device=self.device), self.dtype)
            vectors = vectors.to(self.dtype)
            products = self.matmat(vectors.reshape(self.shape[0], -1))
            return np.asarray(products.reshape(vectors.shape).double().cpu().numpy())

        return LinearOperator(
            self.shape,
            matvec=multiply,
            rmatvec=multiply,
            matmat=multiply,
            rmatmat=multiply,
            dtype="float64",
        )


class LinearCombination(OperatorAlgebra):
    """``Σ_i a_i A_i + s I``; made by :func:`combination`."""

    def __init__(self, terms: tuple[tuple[float, SymmetricOperator], ...], shift: float) -> None:
        first = terms[0][1]
        for _, operator in terms:
            refuse_unless_operator(operator)
            if (operator.shape, operator.dtype, operator.device) != (
                first.shape,
                first.dtype,
                first.device,
            ):
                raise ValueError(
                    f"operators of shape {first.shape}, {first.dtype} on {first.device} and of "
                    f"shape {operator.shape}, {operator.dtype} on {operator.device} do not add up"
                )
        self.terms = terms
        self.shift = shift
        self.shape, self.dtype, self.device = first.shape, first.dtype, first.device

    def matmat(self, V: Tensor) -> Tensor:
        """``(P, m)`` to ``(P, m)``, one product with each operator a column."""
        V = real_vectors(V, self.dtype)
        total = self.shift * V
        for factor, operator in self.terms:
            total = total + factor * operator.matmat(V)
        return total


def combination(*terms: tuple[float, SymmetricOperator], shift: float = 0.0) -> LinearCombination:
    """The operator ``Σ_i a_i A_i + s I``.

    Args:
        terms: Pairs ``(a_i, A_i)``, at least one.
        shift: ``s``.

    Raises:
        TypeError: A factor is no single number, or something is no operator.
        ValueError: No term, or operators that differ in shape, dtype or device.
    """
    if not terms:
        raise ValueError("a combination needs at least one operator")
    for factor in (shift, *(factor for factor, _ in terms)):
        if not (isinstance(factor, Real) or (isinstance(factor, Tensor) and factor.ndim == 0)):
            raise TypeError(
                f"a factor is a {type(factor).__name__}; it must be a single number: with a vector "
                "on both sides, take PreconditionedOperator"
            )
    return LinearCombination(terms, shift)


class PreconditionedOperator(OperatorAlgebra):
    """``D^{-1/2} A D^{-1/2}`` with a positive diagonal D: the curvature that Adam and RMSProp see.

    It has the eigenvalues of ``D^{-1} A``; an optimizer that divides by D is stable where
    ``learning rate · λ_1 < 2``.

    Args:
        operator: ``A``.
        diagonal: ``(P,)``, positive, such as ``√v + ε`` of Adam's second moments v.

    Raises:
        ValueError: The diagonal has another length, or an entry that is not positive and finite.
    """

    def __init__(self, operator: SymmetricOperator, diagonal: Tensor) -> None:
        if diagonal.shape != (operator.shape[0],):
            raise ValueError(
                f"the diagonal has shape {tuple(diagonal.shape)}; it must be ({operator.shape[0]},)"
            )
        if not bool(((diagonal > 0) & diagonal.isfinite()).all()):
            raise ValueError("the diagonal must be positive and finite; add a small number to it")
        self.operator = operator
        self.scale = diagonal.to(operator.device, operator.dtype).rsqrt()[:, None]
        self.shape, self.dtype, self.device = operator.shape, operator.dtype, operator.device

    def matmat(self, V: Tensor) -> Tensor:
        """``(P, m)`` to ``(P, m)``."""
        return self.scale * self.operator.matmat(self.scale * V)
