"""Matrix-free curvature of a mean loss: the Hessian and its Gauss-Newton decomposition.

All three operators differentiate twice in reverse mode through a graph that is recorded once per
parameter vector and shared by every product. ``torch.func.jacrev`` is not used: as the inner
derivative it gives wrong second derivatives for LayerNorm weights (torch 2.14: by 4 % of the whole
Hessian of a Transformer encoder layer, and not symmetric), while double backward agrees with
central differences to 4e-11.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpflat.curvature.checks import (
    UnsupportedLossError,
    refuse_batch_dependent_layers,
    refuse_unless_mean,
)
from sharpflat.curvature.output_curvature import output_traces

Inputs: TypeAlias = Tensor | tuple[Tensor, ...]
LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Tensors: TypeAlias = tuple[Tensor, ...]
#: Multiplies one chunk's curvature with a vector, given and returned as one tensor a parameter.
Product: TypeAlias = Callable[[Tensors], Tensors]
#: Samples whose outputs :meth:`CurvatureOperator.sample_sizes` evaluates at a time.
SIZES_CHUNK = 512


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
        self._indices: Tensor | None = None
        self._weights: Tensor | None = None
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
        """Record the graph of a chunk and return its product, to be summed over the chunks."""

    def sampled(self, indices: Tensor, weights: Tensor) -> Self:
        """The weighted sum ``Σ_j weights[j] · M_{indices[j]}(θ)`` over some of the samples.

        It reads the same model, parameters and data, at each call as they are then, and is made
        without a probe. With weights ``1 / (n π_j)``, ``π_j`` the probability (or expected
        number of draws) of sample ``indices[j]``, it is an unbiased estimate of this operator.

        A loss that is a mean over ``m`` samples tells their derivatives apart:
        ``m ∂L/∂f_i = ∂ℓ_i/∂f_i``. Weighted and pulled back to the parameters they are the
        gradient of the weighted sum of losses, whatever the loss is.

        Args:
            indices: Shape ``(m,)``, integers from 0 to ``num_samples - 1``; they may repeat.
            weights: Shape ``(m,)``, finite.

        Returns:
            An operator of the same kind over ``m`` samples.

        Raises:
            ValueError: The shapes differ or are empty, an index is out of range, or a weight is
                not finite.
            UnsupportedLossError: At the first product: the loss depends on the parameters other
                than through the outputs, or the outputs do not have samples along dimension 0.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(1, 1, bias=False)
            >>> x, y = torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)
            >>> hessian = HessianOperator(model, torch.nn.functional.mse_loss, x, y)
            >>> second = hessian.sampled(torch.tensor([1]), torch.tensor([0.5]))
            >>> second @ torch.ones(1)  # of 0.5 (3 w)²: 0.5 · 2 · 9
            tensor([9.])
        """
        device = self.targets.device
        indices = indices.to(device=device, dtype=torch.int64)
        weights = weights.to(device=self.device, dtype=self.dtype)
        if indices.ndim != 1 or indices.shape != weights.shape or len(indices) == 0:
            raise ValueError(
                f"indices and weights have shapes {tuple(indices.shape)} and "
                f"{tuple(weights.shape)}; both must be (m,) with m at least 1"
            )
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= self.num_samples:
            raise ValueError(
                f"indices reach from {low} to {high}; there are samples 0 to {self.num_samples - 1}"
            )
        if not bool(weights.isfinite().all()):
            raise ValueError("a weight is not finite")
        sample = copy.copy(self)
        sample._indices = indices if self._indices is None else self._indices[indices]
        sample._weights = weights
        sample.num_samples = len(indices)
        sample.chunk_size = min(self.chunk_size, len(indices))
        sample._recorded = None
        return sample

    def sample_sizes(self, *, seed: int = 0) -> Tensor:
        """Each sample's trace of the loss's second derivative in its outputs, ``tr ∇²_f ℓ_i``.

        From any loss, by differentiating it; the model is only evaluated. See
        :func:`~sharpflat.curvature.output_curvature.output_traces` for what is exact.

        Args:
            seed: Of the random signs where a sample has too many outputs for the exact trace.

        Returns:
            Shape ``(num_samples,)``, in the parameters' dtype; below 0 where a loss is concave.

        Raises:
            UnsupportedLossError: The outputs do not have samples along dimension 0.
        """
        generator = torch.Generator().manual_seed(seed)
        sizes = []
        for start in range(0, self.num_samples, SIZES_CHUNK):
            samples = slice(start, min(start + SIZES_CHUNK, self.num_samples))
            with torch.no_grad():
                outputs = self._outputs(samples)
            self._refuse_unless_samples_lead(outputs, samples)
            targets = self._targets(samples)

            def loss(f: Tensor, targets: Tensor = targets) -> Tensor:
                return self.loss_fn(f, targets)

            sizes.append(output_traces(loss, outputs, generator=generator))
        return torch.cat(sizes).to(self.dtype)

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
        for product in self._chunk_products():
            for row, total in zip(rows, result, strict=True):
                total.add_(self._flatten(product(self._unflatten(row))))
        return result.T.to(dtype=V.dtype)

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.matvec(other) if other.ndim == 1 else self.matmat(other)

    def _chunk_products(self) -> Iterator[Product]:
        if self.chunk_size >= self.num_samples:
            yield self._recorded_product()
            return
        for start in range(0, self.num_samples, self.chunk_size):
            yield self._record(slice(start, min(start + self.chunk_size, self.num_samples)))

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

    def _select(self, part: Tensor, samples: slice | Tensor) -> Tensor:
        return part[samples if self._indices is None else self._indices[samples]]

    def _targets(self, samples: slice | Tensor) -> Tensor:
        return self._select(self.targets, samples)

    def _outputs(self, samples: slice | Tensor) -> Tensor:
        # Only the math backend of attention can be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH):
            outputs: Tensor = self.model(*(self._select(part, samples) for part in self.inputs))
        return outputs

    def _loss(self, samples: slice | Tensor) -> Tensor:
        return self.loss_fn(self._outputs(samples), self._targets(samples))

    def _scale(self, outputs: Tensor, samples: slice) -> Tensor | float:
        """What a chunk's derivative ``∂L/∂f`` is multiplied with, so that chunks add up."""
        size = samples.stop - samples.start
        if self._weights is None:
            return float(size / self.num_samples)
        self._refuse_unless_samples_lead(outputs, samples)
        weights: Tensor = size * self._weights[samples]
        return weights.view(size, *(1,) * (outputs.ndim - 1)).to(outputs.dtype)

    def _refuse_unless_samples_lead(self, outputs: Tensor, samples: slice) -> None:
        size = samples.stop - samples.start
        if outputs.ndim == 0 or len(outputs) != size:
            raise UnsupportedLossError(
                f"the outputs of {size} samples have shape {tuple(outputs.shape)}: samples are "
                "told apart along dimension 0, which must have their number"
            )

    def _loss_derivative(
        self, outputs: Tensor, samples: slice, *, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Outputs as a leaf, and ``∂L/∂f`` there; refuses a loss that sees the parameters."""
        leaf = outputs.detach().requires_grad_()
        loss = self.loss_fn(leaf, self._targets(samples))
        derivative, *others = torch.autograd.grad(
            loss, (leaf, *self.parameters), create_graph=create_graph, allow_unused=True
        )
        if any(other is not None for other in others):
            raise UnsupportedLossError(
                "the loss depends on the parameters other than through the model's outputs, as "
                "with a penalty on the weights: the Gauss-Newton decomposition H = G + F and a "
                "weighted sum over samples leave that part out; take it out of loss_fn and add "
                "its own second derivative to the products"
            )
        return leaf, torch.zeros_like(leaf) if derivative is None else derivative

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
        if self._weights is None:
            share = (samples.stop - samples.start) / self.num_samples
            return self._derivative(share * self._loss(samples))
        outputs = self._outputs(samples)
        self._loss_derivative(outputs, samples)
        loss = self.loss_fn(outputs, self._targets(samples))
        (residuals,) = _gradient(loss, (outputs,), create_graph=True)
        cotangent = self._scale(outputs, samples) * residuals
        gradient = _gradient(outputs, self.parameters, (cotangent,), create_graph=True)
        return lambda v: _gradient(gradient, self.parameters, v)


class FunctionalHessianOperator(CurvatureOperator):
    """The functional Hessian ``F = (1/n) Σ_i Σ_c (∂ℓ_i/∂f_c) ∇² f_c(x_i)``, with ``H = G + F``.

    ``F`` is the Hessian of ``Σ_c r_c f_c(θ)`` with the loss derivatives ``r = ∂L/∂f`` held fixed,
    so its products are as direct, exact and cheap as those of ``H``.
    """

    @torch.enable_grad()
    def _record(self, samples: slice) -> Product:
        outputs = self._outputs(samples)
        _, residuals = self._loss_derivative(outputs, samples)
        scale = self._scale(outputs, samples)
        return self._derivative((scale * residuals * outputs).sum())


class GGNOperator(CurvatureOperator):
    """The Generalized Gauss-Newton matrix ``G = (1/n) Σ_i J_iᵀ (∇²_f ℓ_i) J_i``."""

    @torch.enable_grad()
    def _record(self, samples: slice) -> Product:
        outputs = self._outputs(samples)
        leaf, loss_gradient = self._loss_derivative(outputs, samples, create_graph=True)
        scale = self._scale(outputs, samples)
        # Jᵀu is linear in u, so its derivative along v with respect to u is J v.
        u = torch.zeros_like(outputs, requires_grad=True)
        pullback = _gradient(outputs, self.parameters, (u,), create_graph=True)

        def product(v: Tensors) -> Tensors:
            jacobian_v = _gradient(pullback, (u,), v)
            (curvature_v,) = _gradient(loss_gradient, (leaf,), jacobian_v)
            return _gradient(outputs, self.parameters, (scale * curvature_v,))

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
