"""Samples that an operator averages over, held as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sharpflat.curvature.bound_model import BoundModel
from sharpflat.curvature.checks import UnsupportedLossError, UnsupportedModelError
from sharpflat.curvature.nested import Nested, entries, map_tensors, tensors_in


@dataclass(frozen=True, eq=False)
class Chunk:
    """Samples that share a graph.

    Attributes:
        start: The number of the first of them, counted in the order in which they are read.
        size: How many.
        inputs: What the model is called with: ``model(*inputs)`` if they are a tuple or list,
            ``model(**inputs)`` if they are a mapping, else ``model(inputs)``.
        targets: Theirs.
    """

    start: int
    size: int
    inputs: Nested
    targets: Nested

    def outputs(self, model: Callable[..., Nested]) -> Nested:
        """What the model makes of the samples.

        Raises:
            UnsupportedModelError: The model writes into its inputs.
        """
        parts = tensors_in(self.inputs)
        before = [part._version for part in parts]
        if isinstance(self.inputs, Mapping):
            outputs = model(**self.inputs)
        elif isinstance(self.inputs, tuple | list):
            outputs = model(*self.inputs)
        else:
            outputs = model(self.inputs)
        if before != [part._version for part in parts]:
            raise UnsupportedModelError(
                "the model writes into its inputs, so that every evaluation sees other data: "
                "clone them in forward(), or use no inplace=True in its first layer"
            )
        return outputs


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and targets of a data set, or of the samples of it that ``indices`` name.

    Attributes:
        inputs: Tensors with samples along dimension 0, nested.
        targets: Likewise.
        indices: Shape ``(m,)``, in the order in which samples are counted; ``None`` for all.
        casts: The dtype that tensors of some dtype are cast to when they are read.

    Raises:
        ValueError: No samples, numbers of samples that differ, or something that is no tensor.
    """

    inputs: Nested
    targets: Nested
    indices: Tensor | None = None
    casts: Mapping[torch.dtype, torch.dtype] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path, entry in (*entries(self.inputs, "inputs"), *entries(self.targets, "targets")):
            if isinstance(entry, Tensor) and entry.ndim == 0:
                raise ValueError(f"{path} is a single number; samples lie along dimension 0")
            if entry is not None and not isinstance(entry, Tensor):
                raise ValueError(
                    f"{path} is a {type(entry).__name__}; inputs and targets hold tensors with "
                    "samples along dimension 0: build what is the same for all samples into the "
                    "model, and make tensors of the rest"
                )
        lengths = {len(part) for part in self.tensors}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(
                f"inputs and targets have {sorted(lengths)} samples along dimension 0; "
                "all must have the same number, at least 1"
            )

    def __len__(self) -> int:
        return len(self.tensors[0] if self.indices is None else self.indices)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All inputs, then the targets."""
        return (*tensors_in(self.inputs), *tensors_in(self.targets))

    @property
    def largest_batch(self) -> int:
        """Samples that a graph could hold at most: all."""
        return len(self)

    def at(self, indices: Tensor) -> Samples:
        """Some of these samples, given by their numbers.

        Raises:
            ValueError: Not a vector, empty, or out of range.
        """
        indices = indices.to(device=self.tensors[0].device, dtype=torch.int64)
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
            inputs=map_tensors(move, self.inputs),
            targets=map_tensors(move, self.targets),
            indices=None if self.indices is None else self.indices.to(new.device),
            casts=new.casts,
        )

    def chunk(self, chosen: slice | Tensor, *, start: int = 0) -> Chunk:
        """Some samples, by their numbers."""

        def select(part: Tensor) -> Tensor:
            selected = part[chosen if self.indices is None else self.indices[chosen]]
            selected = selected.to(self.casts.get(part.dtype, part.dtype))
            # A tensor made in inference mode cannot be differentiated through; its copy can.
            return selected.clone() if selected.is_inference() else selected

        inputs, targets = (map_tensors(select, part) for part in (self.inputs, self.targets))
        size = len(tensors_in((inputs, targets))[0])
        return Chunk(start=start, size=size, inputs=inputs, targets=targets)

    def chunks(self, size: int, *, skip: int = 0) -> Iterator[Chunk]:
        """All samples, ``size`` at a time, without the first ``skip`` chunks."""
        for start in range(skip * size, len(self), size):
            yield self.chunk(slice(start, min(start + size, len(self))), start=start)


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
