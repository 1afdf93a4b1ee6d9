"""Matrix-free curvature of a mean loss: the Hessian and its Gauss-Newton decomposition.

All three operators differentiate twice in reverse mode through a graph that is recorded once per
parameter vector and shared by every product. ``torch.func.jacrev`` is not used: as the inner
derivative it gives wrong second derivatives for LayerNorm weights (torch 2.14: by 4 % of the whole
Hessian of a Transformer encoder layer, and not symmetric), while double backward agrees with
central differences to 4e-11.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpflat.curvature.checks import refuse_batch_dependent_layers, refuse_unless_mean

Inputs: TypeAlias = Tensor | tuple[Tensor, ...]
LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Tensors: TypeAlias = tuple[Tensor, ...]
#: Multiplies one chunk's curvature with a vector, given and returned as one tensor a parameter.
Product: TypeAlias = Callable[[Tensors], Tensors]


class CurvatureOperator(ABC):
    """A symmetric ``(P, P)`` matrix ``(1/n) Σ_i M_i(θ)`` that is only ever multiplied.

    ``P`` counts the parameters that require gradients, flattened in ``model.parameters()`` order.
    The parameters are read at each call: after a training step the same operator is the curvature
    at the new point.

    Args:
        model: Any module without batch-dependent or random layers; ``model(*inputs)`` if
            ``inputs`` is a tuple, else ``model(inputs)``.
        loss_fn: ``loss_fn(outputs, targets)``, the mean over samples.
        inputs: Tensor or tuple of tensors, samples along dimension 0.
        targets: Tensor, samples along dimension 0.
        chunk_size: Samples whose graph is held in memory at a time. Default: all, which records
            the graph once per θ. With chunks the graph of each is recorded again in every call,
            so ask for several products at once (``operator @ V``).

    Raises:
        UnsupportedModelError: A layer depends on the rest of the batch or on chance.
        UnsupportedLossError: The loss is not a deterministic mean over samples.
        ValueError: No samples, numbers of samples that differ, no trainable parameter, or a
            chunk size below 1.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        inputs: Inputs,
        targets: Tensor,
        *,
        chunk_size: int | None = None,
    ) -> None:
        self.model = model
        self.loss_fn = loss_fn
        self.inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        self.targets = targets
        self.parameters = tuple(p for p in model.parameters() if p.requires_grad)
        self.num_samples = len(targets)
        self.chunk_size = self.num_samples if chunk_size is None else chunk_size
        self._check_arguments()
        self._sizes = [p.numel() for p in self.parameters]
        num_parameters = sum(self._sizes)
        self.shape = (num_parameters, num_parameters)
        self.dtype = self.parameters[0].dtype
        self.device = self.parameters[0].device
        self._recorded: Product | None = None
        self._recorded_at = torch.empty(0)
        self._recorded_versions: list[int] = []
        refuse_batch_dependent_layers(model)
        with torch.no_grad():
            refuse_unless_mean(self._loss, self.num_samples)

    def _check_arguments(self) -> None:
        lengths = {len(part) for part in self.inputs} | {self.num_samples}
        if len(lengths) != 1 or self.num_samples == 0:
            raise ValueError(
                f"inputs and targets have {sorted(lengths)} samples along dimension 0; "
                "all must have the same number, at least 1"
            )
        if not self.parameters:
            raise ValueError(f"{type(self.model).__name__} has no parameter that requires_grad")
        if self.chunk_size < 1:
            raise ValueError(f"chunk_size is {self.chunk_size}; it must be at least 1")

    @abstractmethod
    def _record(self, samples: slice) -> Product:
        """Record the graph of a chunk and return its product, weighted as a mean over it."""

    def theta(self) -> Tensor:
        """A copy of the parameters now, ``(P,)``."""
        return self._flatten(tuple(p.detach() for p in self.parameters))

    def matvec(self, v: Tensor) -> Tensor:
        """Multiply with one vector.

        Args:
            v: Shape ``(P,)``; cast to the parameters' dtype for the product.

        Returns:
            Shape ``(P,)``, in the dtype of ``v``.
        """
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: Tensor) -> Tensor:
        """Multiply with the columns of a matrix, sharing one graph.

        Args:
            V: Shape ``(P, m)``; cast to the parameters' dtype for the product.

        Returns:
            Shape ``(P, m)``, in the dtype of ``V``.

        Raises:
            ValueError: ``V`` does not have ``P`` rows.
        """
        if V.ndim != 2 or V.shape[0] != self.shape[1]:
            raise ValueError(f"cannot multiply {self.shape} with {tuple(V.shape)}")
        # One vector's entries lie side by side in a row, so that splitting it copies nothing.
        rows = V.to(dtype=self.dtype).T.contiguous()
        result = torch.zeros_like(rows)
        for product, weight in self._chunk_products():
            for row, total in zip(rows, result, strict=True):
                total.add_(self._flatten(product(self._unflatten(row))), alpha=weight)
        return result.T.to(dtype=V.dtype)

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.matvec(other) if other.ndim == 1 else self.matmat(other)

    def _chunk_products(self) -> Iterator[tuple[Product, float]]:
        if self.chunk_size >= self.num_samples:
            yield self._recorded_product(), 1.0
            return
        for start in range(0, self.num_samples, self.chunk_size):
            stop = min(start + self.chunk_size, self.num_samples)
            yield self._record(slice(start, stop)), (stop - start) / self.num_samples

    def _recorded_product(self) -> Product:
        # By value, since `parameter.data` can be written without moving the version counter, and
        # by version, since autograd refuses a graph whose parameters were written to, even with
        # equal values. A copy of θ costs nothing beside a product.
        theta = self.theta()
        versions = [p._version for p in self.parameters]
        known = versions == self._recorded_versions and torch.equal(theta, self._recorded_at)
        if self._recorded is None or not known:
            self._recorded = None  # frees the old graph before the new one is built
            self._recorded = self._record(slice(0, self.num_samples))
            self._recorded_at, self._recorded_versions = theta, versions
        return self._recorded

    def _unflatten(self, v: Tensor) -> Tensors:
        parts = torch.split(v, self._sizes)
        return tuple(part.view_as(p) for part, p in zip(parts, self.parameters, strict=True))

    def _flatten(self, tensors: Tensors) -> Tensor:
        return torch.cat([t.reshape(-1) for t in tensors])

    def _outputs(self, samples: slice | Tensor) -> Tensor:
        # Only the math backend of attention can be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH):
            outputs: Tensor = self.model(*(part[samples] for part in self.inputs))
        return outputs

    def _loss(self, samples: slice | Tensor) -> Tensor:
        return self.loss_fn(self._outputs(samples), self.targets[samples])

    def _derivative(self, scalar: Tensor) -> Product:
        """Product with the second derivative of a scalar that depends on the parameters."""
        gradient = _gradient(scalar, self.parameters, create_graph=True)
        return lambda v: _gradient(gradient, self.parameters, v)


class HessianOperator(CurvatureOperator):
    """The Hessian ``H = (1/n) Σ_i ∇² ℓ_i(θ)`` of the mean loss, by Hessian-vector products.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> hessian = HessianOperator(model, torch.nn.functional.mse_loss, x, torch.zeros(2, 1))
        >>> hessian @ torch.ones(1)  # of mean((w x)²): 2 (1 + 9) / 2
        tensor([10.])
    """

    @torch.enable_grad()
    def _record(self, samples: slice) -> Product:
        return self._derivative(self._loss(samples))


class FunctionalHessianOperator(CurvatureOperator):
    """The functional Hessian ``F = (1/n) Σ_i Σ_c (∂ℓ_i/∂f_c) ∇² f_c(x_i)``, with ``H = G + F``.

    ``F`` is the Hessian of ``Σ_c r_c f_c(θ)`` with the loss derivatives ``r = ∂L/∂f`` held fixed,
    so its products are as direct, exact and cheap as those of ``H``.
    """

    @torch.enable_grad()
    def _record(self, samples: slice) -> Product:
        outputs = self._outputs(samples)
        leaf = outputs.detach().requires_grad_()
        (residuals,) = _gradient(self.loss_fn(leaf, self.targets[samples]), (leaf,))
        return self._derivative((residuals * outputs).sum())


class GGNOperator(CurvatureOperator):
    """The Generalized Gauss-Newton matrix ``G = (1/n) Σ_i J_iᵀ (∇²_f ℓ_i) J_i``."""

    @torch.enable_grad()
    def _record(self, samples: slice) -> Product:
        outputs = self._outputs(samples)
        leaf = outputs.detach().requires_grad_()
        loss_gradient = _gradient(
            self.loss_fn(leaf, self.targets[samples]), (leaf,), create_graph=True
        )
        # Jᵀu is linear in u, so its derivative along v with respect to u is J v.
        u = torch.zeros_like(outputs, requires_grad=True)
        pullback = _gradient(outputs, self.parameters, (u,), create_graph=True)

        def product(v: Tensors) -> Tensors:
            jacobian_v = _gradient(pullback, (u,), v)
            curvature_v = _gradient(loss_gradient, (leaf,), jacobian_v)
            return _gradient(outputs, self.parameters, curvature_v)

        return product


def _gradient(
    outputs: Tensor | Tensors,
    inputs: Tensors,
    cotangents: Tensors | None = None,
    *,
    create_graph: bool = False,
) -> Tensors:
    """``torch.autograd.grad`` that keeps the graph and gives zeros where nothing depends."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    if cotangents is None:
        cotangents = tuple(torch.ones_like(output) for output in outputs)
    dependent = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    if not dependent:
        return tuple(torch.zeros_like(part) for part in inputs)
    return torch.autograd.grad(
        [o for o, _ in dependent],
        inputs,
        [c for _, c in dependent],
        retain_graph=True,
        create_graph=create_graph,
        materialize_grads=True,
    )


class MatrixOperator:
    """A symmetric matrix that is at hand, for the solver.

    Args:
        matrix: Symmetric, ``(P, P)``, floating point.
    """

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"the matrix has shape {tuple(matrix.shape)}; it must be square")
        self.matrix = matrix
        self.shape = (len(matrix), len(matrix))
        self.dtype = matrix.dtype
        self.device = matrix.device

    def matmat(self, V: Tensor) -> Tensor:
        """``(P, m)`` to ``(P, m)``."""
        return self.matrix @ V
