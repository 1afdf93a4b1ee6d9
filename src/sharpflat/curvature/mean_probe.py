"""Refusal of losses that are not a mean over samples, whose chunks could not be put together."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from sharpflat.curvature.checks import UnsupportedLossError
from sharpflat.curvature.differentiation import LossFunction

#: Samples whose loss is evaluated with the model: enough to meet several classes, and cheap.
PROBE_SAMPLES = 16
#: Groups that all the targets are looked at in, and outputs that are held for one of them.
GROUPS = 64
GROUP_OUTPUTS = 2**22
#: Relative rounding error allowed between a mean and its parts. Single precision sums samples in
#: another order, 1e3 units in the last place; half precision rounds each output, 8 units.
TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-4,
    torch.float16: 8e-3,
    torch.bfloat16: 6e-2,
}


class MeanProbe:
    """A few samples beside which the weight of all others is told.

    A mean over ``m`` samples has the derivative ``∂L/∂f_i = (1/m) ∂ℓ_i/∂f_i`` in one's outputs. So
    ``m ∂L/∂f_i`` of the probed samples is the same alone and beside any others, unless those
    count more or less, as padded sequences do (``ignore_index``), or the classes of a weighted
    loss. The outputs of the others need not be theirs, so that the loss alone is evaluated, over
    every target.

    Args:
        outputs: Gives the model's outputs for indices of samples.
        targets: Gives the targets for indices of samples.
        loss_fn: The loss.
        num_samples: Samples in the data set.
        precision: Of the parameters.

    Raises:
        UnsupportedLossError: The loss is not a scalar, changes from call to call, or is not a
            mean over samples.
    """

    def __init__(
        self,
        outputs: Callable[[Tensor], Tensor],
        targets: Callable[[Tensor], Tensor],
        loss_fn: LossFunction,
        num_samples: int,
        *,
        precision: torch.dtype,
    ) -> None:
        self._size = min(PROBE_SAMPLES, num_samples)
        self._loss_fn = loss_fn
        # Spread over the data, which may be sorted by class.
        probe = torch.linspace(0, num_samples - 1, self._size).round().long()

        def loss(samples: Tensor) -> Tensor:
            return loss_fn(outputs(samples), targets(samples))

        precisions = {precision}
        with torch.enable_grad(), _precisions_into(precisions):
            self._outputs, self._targets = outputs(probe).detach(), targets(probe)
        with torch.no_grad():
            whole = loss(probe)
            self._refuse_bad_value(whole, loss(probe))
            self._precision = _lowest({whole.dtype, self._outputs.dtype})
            tolerance = TOLERANCE[_lowest(precisions | {self._precision})]
            leads = self._outputs.ndim > 0 and len(self._outputs) == self._size
            if self._size == 1 or not bool(torch.isfinite(whole)):
                self.tells_samples_apart = False
                return
            first, rest = probe[:1], probe[1:]
            leads = leads and len(outputs(first)) == 1
            self._refuse_unless_parts(loss, whole, first, rest, tolerance)
            self.tells_samples_apart = leads
            others = self._groups(num_samples)
            if not leads:
                for group in others:
                    union = loss(torch.cat([probe, group]))
                    self._refuse_unless_parts(loss, union, probe, group, tolerance)
                return
        self._alone = self._derivative(self._outputs, self._targets)
        for group in others:
            tiled = self._outputs[torch.arange(len(group)) % self._size]
            self.refuse_unless_equal_weights(tiled, targets(group), first=int(group[0]))

    def _groups(self, num_samples: int) -> list[Tensor]:
        outputs_each = prod(self._outputs.shape[1:])
        largest = max(1, GROUP_OUTPUTS // max(1, outputs_each))
        size = min(-(-num_samples // GROUPS), largest)
        return list(torch.split(torch.arange(num_samples), size))

    def _refuse_bad_value(self, whole: Tensor, again: Tensor) -> None:
        if whole.ndim != 0:
            raise UnsupportedLossError(
                f"the loss has shape {tuple(whole.shape)}, not a scalar: return its mean over "
                "samples"
            )
        if not torch.equal(whole, again) and bool(torch.isfinite(whole)):
            raise UnsupportedLossError(
                "two evaluations of the loss on the same samples differ: "
                "remove the randomness from the model or the loss"
            )

    def _refuse_unless_parts(
        self,
        loss: Callable[[Tensor], Tensor],
        whole: Tensor,
        first: Tensor,
        second: Tensor,
        tolerance: float,
    ) -> None:
        """A mean satisfies ``m L(all) = m_1 L(first) + m_2 L(second)``; a sum does not."""
        size = len(first) + len(second)
        parts = [float(loss(part)) * len(part) / size for part in (first, second)]
        mean, found = sum(parts), float(whole)
        if abs(mean - found) > tolerance * sum(map(abs, parts)):
            one, other = _told_apart(found, mean)
            raise UnsupportedLossError(
                f"the loss is not a mean over samples: {size} samples give {one}, the mean of "
                f"their losses is {other}; {_REMEDY}"
            )

    def _derivative(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """``m ∂L/∂f`` of the probed samples, the first of the given ones."""
        leaf = outputs.detach().requires_grad_()
        with torch.enable_grad():
            loss = self._loss_fn(leaf, targets)
            if not loss.requires_grad:
                return None
            (derivative,) = torch.autograd.grad(loss, leaf, allow_unused=True)
        return None if derivative is None else len(outputs) * derivative[: self._size]

    def refuse_unless_equal_weights(self, outputs: Tensor, targets: Tensor, *, first: int) -> None:
        """Raise if some samples count more or less than the probed ones.

        Args:
            outputs: Shape ``(m, ...)``, outputs that samples have or might have.
            targets: Theirs.
            first: The number of the first of them, for the message.

        Raises:
            UnsupportedLossError: Names the samples and how much a sample counts beside them.
        """
        beside = self._derivative(
            torch.cat([self._outputs, outputs]), torch.cat([self._targets, targets])
        )
        if self._alone is None or beside is None:
            return
        size = float(self._alone.double().square().sum())
        ratio = float((self._alone.double() * beside.double()).sum()) / size if size else 1.0
        # Not finite where the loss of outputs and targets that do not belong together is not.
        if abs(ratio - 1) > TOLERANCE[self._precision]:
            raise UnsupportedLossError(
                f"the loss is not a mean over samples: beside samples {first} to "
                f"{first + len(outputs) - 1} every other counts {ratio:.6g} times what it counts "
                f"without them, as with padding (ignore_index) or class weights; {_REMEDY}"
            )


_REMEDY = (
    "use reduction='mean' without class weights or padding, or divide the sum over samples by "
    "their number"
)


def _precisions_into(found: set[torch.dtype]) -> saved_tensors_hooks:
    """Collects the precisions that a model computes in, autocast within it included."""

    def pack(tensor: Tensor) -> None:
        if tensor.is_floating_point():
            found.add(tensor.dtype)

    return saved_tensors_hooks(pack, lambda nothing: nothing)  # never differentiated


def _lowest(precisions: set[torch.dtype]) -> torch.dtype:
    known = [dtype for dtype in precisions if dtype in TOLERANCE]
    return max(known, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Both with as many digits as it takes to tell them apart, at least 6."""
    for digits in range(6, 18):
        texts = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts
