"""Some of the samples that an operator averages over, chosen by number."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from sharpflat.curvature.batches import Batches
from sharpflat.curvature.bound_model import BoundModel
from sharpflat.curvature.checks import UnsupportedLossError
from sharpflat.curvature.differentiation import Loss
from sharpflat.curvature.output_curvature import sample_sizes
from sharpflat.curvature.processes import Processes
from sharpflat.curvature.recorder import Recorder
from sharpflat.curvature.samples import Samples


class SampleChoice:
    """Gives an operator over samples in tensors a weighted sum over some of them."""

    loss: Loss
    dtype: torch.dtype
    device: torch.device
    _bound: BoundModel
    _data: Samples | Batches
    _processes: Processes
    _recorder: Recorder
    _weights: Tensor | None

    def _set_data(self, data: Samples | Batches) -> None:
        raise NotImplementedError

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
            ValueError: The shapes differ or are empty, an index is out of range, a weight is
                not finite, or the data are batches.
            UnsupportedLossError: The loss gives pairs ``(sum, count)``, or the outputs do not have
                samples along dimension 0. At the first product: it depends on the parameters other
                than through the outputs.

        Example:
            >>> import torch
            >>> from sharpflat.curvature import HessianOperator
            >>> model = torch.nn.Linear(1, 1, bias=False)
            >>> x, y = torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)
            >>> hessian = HessianOperator(model, torch.nn.functional.mse_loss, x, y)
            >>> second = hessian.sampled(torch.tensor([1]), torch.tensor([0.5]))
            >>> second @ torch.ones(1)  # of 0.5 (3 w)²: 0.5 · 2 · 9
            tensor([9.])
        """
        weights = weights.to(device=self.device, dtype=self.dtype)
        if weights.shape != indices.shape or not bool(weights.isfinite().all()):
            raise ValueError(
                f"weights of shape {tuple(weights.shape)} for indices of shape "
                f"{tuple(indices.shape)}; both must be (m,), and every weight finite"
            )
        sample = copy.copy(self)
        sample._weights = weights
        sample._set_data(self._samples.at(indices))
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
            UnsupportedLossError: The outputs are not one tensor with samples along dimension 0,
                or the loss gives pairs.
            ValueError: The data are batches.
        """
        self._bound.refuse_if_changed()
        with torch.inference_mode(False), self._bound.evaluation(), self._bound.recording():
            sizes = sample_sizes(self._bound.evaluated, self.loss, self._samples, seed=seed)
        return sizes.to(self.dtype)

    @property
    def can_be_sampled(self) -> bool:
        """Whether :meth:`sampled` and :meth:`sample_sizes` can tell samples apart by number."""
        alone = not self._processes.are_several
        told_apart = self._recorder.tells_samples_apart and not self.loss.sums
        return alone and isinstance(self._data, Samples) and told_apart

    @property
    def _samples(self) -> Samples:
        if self._processes.are_several:
            raise ValueError(
                "samples that are spread over processes cannot be chosen by their numbers, as "
                "sampled tracking does: track without samples"
            )
        if isinstance(self._data, Batches):
            raise ValueError(
                "samples of batches cannot be chosen by their numbers, as sampled tracking does: "
                "give the operator inputs and targets as tensors, or track without samples"
            )
        if self.loss.sums:
            raise UnsupportedLossError(
                "a loss that gives pairs (sum, count) is no mean over samples, of which sampled "
                "tracking could weigh some: let loss_fn return a mean, or track without samples"
            )
        if not self._recorder.tells_samples_apart:
            raise UnsupportedLossError(
                "the outputs do not have samples along dimension 0, by which sampled tracking "
                "weighs them: let forward() return them so, or track without samples"
            )
        return self._data
