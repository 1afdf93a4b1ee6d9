"""What a registry says about a data set and about a model (free of torch)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["image", "sequence", "text"]


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """One data set: where it comes from, what it holds, and how to recognise it.

    Attributes:
        prepare: ``"module:function"`` of its source, called as ``function(name, entry, mirror=…)``;
            returns :class:`sharpflat.tasks.arrays.Prepared`.
        kind: ``"image"``: a model gets (N, C, H, W) values. ``"sequence"``: it gets values
            (N, L, features) and a mask (N, L). ``"text"``: token ids (N, L) and a mask (N, L).
        input_shape: Shape of one input as a model gets it: (C, H, W), (L, features) or (L,).
        num_classes: Number of classes; labels lie in ``[0, num_classes)``.
        num_train: Number of training samples.
        num_test: Number of test samples.
        mean: Mean per channel or feature, subtracted at load, with ``max_value`` as the unit.
        std: Standard deviation per channel or feature, divided by at load, in the same unit.
        max_value: Stored value of a fully lit pixel.
        vocabulary_size: Number of token ids, padding and unknown included; ``None`` unless text.
        fingerprints: sha256 of the raw bytes (C order) of stored arrays. A key is an array's name,
            or ``"name[:n]"`` for its first n rows.
        source_fingerprints: sha256 of what the source reads before it makes arrays of it; the
            source checks these.
        variants: sha256 of the whole of the training inputs for known versions of them, by a
            description. Which one is at hand is recorded; none is required.
    """

    prepare: str
    kind: Kind
    input_shape: tuple[int, ...]
    num_classes: int
    num_train: int
    num_test: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    max_value: float = 255.0
    vocabulary_size: int | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    source_fingerprints: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)

    @property
    def input_name(self) -> str:
        """Stem of the names of the stored input arrays: ``tokens`` for text, ``x`` otherwise."""
        return "tokens" if self.kind == "text" else "x"

    @property
    def array_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every array in the canonical file.

        Images are stored as published: (N, H, W) with one channel, (N, H, W, C) with more.
        """
        stored = self.input_shape
        if self.kind == "image":
            channels, *sides = self.input_shape
            stored = (*sides,) if channels == 1 else (*sides, channels)
        shapes: dict[str, tuple[int, ...]] = {}
        for split, count in (("train", self.num_train), ("test", self.num_test)):
            shapes[f"{self.input_name}_{split}"] = (count, *stored)
            shapes[f"y_{split}"] = (count,)
        if self.vocabulary_size is not None:
            shapes["vocabulary"] = (self.vocabulary_size,)
        return shapes


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One model: how to build it, what it takes, and how large it is.

    Attributes:
        build: ``"module:function"`` that builds it, called as ``function(dataset, **sizes)``.
        kinds: Kinds of data set it takes.
        sizes: Names of its size options, each a positive integer.
        num_parameters: Number of parameters P for a data set and sizes, without building anything;
            raises ``ValueError`` for sizes that do not go together.
    """

    build: str
    kinds: tuple[Kind, ...]
    sizes: tuple[str, ...]
    num_parameters: Callable[[DatasetEntry, Mapping[str, int]], int]
