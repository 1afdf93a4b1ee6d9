"""Matrix-free curvature of a mean loss: the Hessian and its Gauss-Newton decomposition."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpflat.curvature.algebra import OperatorAlgebra, real_vectors
from sharpflat.curvature.base import CurvatureOperator
from sharpflat.curvature.differentiation import (
    Tensors,
    gradient,
    loss_derivative,
    parameter_gradient,
)
from sharpflat.curvature.graphs import Product
from sharpflat.curvature.krylov import refuse_unless_symmetric
from sharpflat.curvature.nested import Nested, real_tensors, with_real_tensors
from sharpflat.curvature.recorder import scaled


class HessianOperator(CurvatureOperator):
    """The Hessian ``H = (1/n) Σ_i ∇² ℓ_i(θ)`` of the mean loss, by Hessian-vector products.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> hessian = HessianOperator(model, torch.nn.functional.mse_loss, x, torch.zeros(2, 1))
        >>> hessian @ torch.ones(1)  # of mean((w x)²): 2 (1 + 9) / 2
        tensor([10.])

        Read batch by batch, with a loss that counts what is not padding (here 0), over one block:

        >>> samples = torch.utils.data.TensorDataset(x, torch.tensor([[0.0], [1.0]]))
        >>> loader = torch.utils.data.DataLoader(samples, batch_size=1, shuffle=True)
        >>> def loss_fn(outputs, targets):
        ...     kept = targets != 0
        ...     return ((outputs - targets).square() * kept).sum(), kept.sum()
        >>> HessianOperator(model, loss_fn, loader, parameters=["weight"]) @ torch.ones(1)
        tensor([18.])
    """

    def _record(self, outputs: Nested, targets: Nested, scale: float | Tensor) -> Product:
        if isinstance(scale, float):
            return self._second_derivative(scale * self.loss(outputs, targets))
        loss_derivative(self.loss, outputs, targets, self._leaves)  # for its refusal
        # Views, so that what the loss sees of one output is not reached through another.
        seen = tuple(tensor.view_as(tensor) for tensor in real_tensors(outputs))
        loss = self.loss(with_real_tensors(outputs, seen), targets)
        derivatives = gradient(loss, seen, create_graph=True)
        return self._second_derivative(seen, scaled(scale, derivatives))


class FunctionalHessianOperator(CurvatureOperator):
    """The functional Hessian ``F = (1/n) Σ_i Σ_c (∂ℓ_i/∂f_c) ∇² f_c(x_i)``, with ``H = G + F``.

    Where the outputs are several tensors, c runs over all their entries.

    ``F`` is the Hessian of ``Σ_c r_c f_c(θ)`` with the loss derivatives ``r = ∂L/∂f`` held fixed,
    so its products are as direct, exact and cheap as those of ``H``.
    """

    def _record(self, outputs: Nested, targets: Nested, scale: float | Tensor) -> Product:
        _, derivatives = loss_derivative(self.loss, outputs, targets, self._leaves)
        return self._second_derivative(real_tensors(outputs), scaled(scale, derivatives))


class GGNOperator(CurvatureOperator):
    """The Generalized Gauss-Newton matrix ``G = (1/n) Σ_i J_iᵀ (∇²_f ℓ_i) J_i``.

    Where the outputs are several tensors, f is all their entries together. A model that returns
    its loss has none of its curvature in G: let ``loss_fn`` take the scores that it returns too.
    """

    def _record(self, outputs: Nested, targets: Nested, scale: float | Tensor) -> Product:
        leaves, loss_gradient = loss_derivative(
            self.loss, outputs, targets, self._leaves, create_graph=True
        )
        real = real_tensors(outputs)
        # Jᵀu is linear in u, so its derivative along v with respect to u is J v.
        u = tuple(torch.zeros_like(tensor, requires_grad=True) for tensor in real)
        pullback = parameter_gradient(real, self._leaves, u)

        def product(v: Tensors) -> Tensors:
            jacobian_v = gradient(pullback, u, v)
            curvature_v = gradient(loss_gradient, leaves, jacobian_v)
            return gradient(real, self._leaves, scaled(scale, curvature_v))

        return product


class MatrixOperator(OperatorAlgebra):
    """A symmetric matrix that is at hand, for the solver.

    Args:
        matrix: Symmetric, ``(P, P)``, floating point.

    Raises:
        ValueError: It is not.
    """

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"the matrix has shape {tuple(matrix.shape)}; it must be square")
        if not matrix.is_floating_point():
            raise ValueError(f"the matrix is {matrix.dtype}; it must be floating point: cast it")
        if matrix.layout != torch.strided or not len(matrix):
            raise ValueError(
                f"the matrix is {matrix.layout} of size {len(matrix)}; it must be dense, with at "
                "least one row: matrix.to_dense(), or an operator of your own with a matmat"
            )
        largest = float(matrix.abs().max())
        refuse_unless_symmetric(matrix, largest, matrix.dtype, rounding=lambda: 0.0)
        self.matrix = matrix
        self.shape = (len(matrix), len(matrix))
        self.dtype = matrix.dtype
        self.device = matrix.device

    def matmat(self, V: Tensor) -> Tensor:
        """``(P, m)`` to ``(P, m)``."""
        return self.matrix @ real_vectors(V, self.dtype)
