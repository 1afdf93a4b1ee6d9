"""The data that an operator averages over."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sharpflat.curvature.bound_model import BoundModel
from sharpflat.curvature.checks import UnsupportedLossError, UnsupportedModelError


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and targets of a data set, or of the samples of it that ``indices`` name.

    Attributes:
        inputs: Tensors with samples along dimension 0.
        targets: Likewise.
        indices: Shape ``(m,)``, in the order in which samples are counted; ``None`` for all.

    Raises:
        ValueError: No samples, or numbers of samples that differ.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    indices: Tensor | None = None

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (*self.inputs, self.targets)}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(
                f"inputs and targets have {sorted(lengths)} samples along dimension 0; "
                "all must have the same number, at least 1"
            )

    def __len__(self) -> int:
        return len(self.targets if self.indices is None else self.indices)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All inputs, then the targets."""
        return (*self.inputs, self.targets)

    def at(self, indices: Tensor) -> Samples:
        """Some of these samples, given by their numbers.

        Raises:
            ValueError: Not a vector, empty, or out of range.
        """
        indices = indices.to(device=self.targets.device, dtype=torch.int64)
        if indices.ndim != 1 or len(indices) == 0:
            raise ValueError(
                f"indices have shape {tuple(indices.shape)}; they must be (m,), m >= 1"
            )
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= len(self):
            raise ValueError(
                f"indices reach from {low} to {high}; there are samples 0 to {len(self) - 1}"
            )
        return replace(self, indices=indices if self.indices is None else self.indices[indices])

    def moved(self, old: BoundModel, new: BoundModel) -> Samples:
        """On the device of a model that was moved, and in its precision where they had the old."""

        def move(part: Tensor) -> Tensor:
            return part.to(new.device, new.dtype if part.dtype == old.dtype else part.dtype)

        return Samples(
            inputs=tuple(map(move, self.inputs)),
            targets=move(self.targets),
            indices=None if self.indices is None else self.indices.to(new.device),
        )

    def outputs(self, model: nn.Module, chosen: slice | Tensor) -> Tensor:
        """What the model makes of some samples.

        Raises:
            UnsupportedModelError: The model writes into its inputs.
        """
        parts = [self._select(part, chosen) for part in self.inputs]
        before = [part._version for part in parts]
        outputs: Tensor = model(*parts)
        if before != [part._version for part in parts]:
            raise UnsupportedModelError(
                "the model writes into its inputs, so that every evaluation sees other data: "
                "clone them in forward(), or use no inplace=True in its first layer"
            )
        return outputs

    def chosen_targets(self, chosen: slice | Tensor) -> Tensor:
        """The targets of some samples."""
        return self._select(self.targets, chosen)

    def _select(self, part: Tensor, chosen: slice | Tensor) -> Tensor:
        selected = part[chosen if self.indices is None else self.indices[chosen]]
        # A tensor made in inference mode cannot be differentiated through; its copy can.
        return selected.clone() if selected.is_inference() else selected


def refuse_unless_samples_lead(outputs: Tensor, size: int) -> None:
    """Raise unless outputs tell samples apart along dimension 0.

    Raises:
        UnsupportedLossError: Gives the shape.
    """
    if outputs.ndim == 0 or len(outputs) != size:
        raise UnsupportedLossError(
            f"the outputs of {size} samples have shape {tuple(outputs.shape)}: samples are told "
            "apart along dimension 0, which must have their number"
        )
