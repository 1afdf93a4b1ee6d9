"""What a registry says about a data set and about a model (free of torch)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Sizes = Mapping[str, int | str]
"""Size options of a model by name: positive integers, and words where its entry has choices."""

Kind = Literal["image", "tabular", "sequence", "text", "language"]

#: What the dimensions of one input are, by kind.
DIMENSIONS: Mapping[Kind, tuple[str, ...]] = {
    "image": ("channels", "height", "width"),
    "tabular": ("features",),
    "sequence": ("length", "features"),
    "text": ("length",),
    "language": ("length",),
}


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """One data set: where it comes from, what it holds, and how to recognise it.

    Attributes:
        prepare: ``"module:function"`` of its source, called as ``function(name, entry, mirror=…)``;
            returns :class:`sharpflat.tasks.arrays.Prepared`.
        kind: ``"image"``: a model gets (N, C, H, W) values. ``"tabular"``: values (N, features).
            ``"sequence"``: values (N, L, features) and a mask (N, L). ``"text"``: token ids (N, L)
            and a mask (N, L). ``"language"``: token ids (N, L), all of one length, and a label at
            every position, (N, L): the token that follows.
        input_shape: Shape of one input as a model gets it: (C, H, W), (features,), (L, features)
            or (L,).
        num_classes: Number of classes; labels lie in ``[0, num_classes)``. Of a language, the
            number of its tokens.
        num_train: Number of training samples.
        num_test: Number of test samples.
        mean: Mean per channel or feature, or one for all, subtracted at load, with ``max_value``
            as the unit. Needed for values, of no use for tokens; so are the next two.
        std: Standard deviation per channel or feature, or one for all, divided by at load, in the
            same unit.
        max_value: Stored value that counts as 1: 255 for pixels of a byte, 1 for values that are
            stored in the unit of ``mean`` and ``std``.
        vocabulary_size: Number of token ids, in text padding and unknown included; ``None`` for
            values.
        fingerprints: sha256 of the raw bytes (C order) of stored arrays. A key is an array's name,
            or ``"name[:n]"`` for its first n rows.
        source_fingerprints: sha256 of what the source reads before it makes arrays of it; the
            source checks these.
        variants: sha256 of the whole of the training inputs for known versions of them, by a
            description. Which one is at hand is recorded; none is required.

    Raises:
        ValueError: A field is missing, of no use for the kind, or outside what is allowed.

    Example:
        >>> DatasetEntry(
        ...     prepare="letters:a",
        ...     kind="image",
        ...     input_shape=(1, 28, 28),
        ...     num_classes=26,
        ...     num_train=5000,
        ...     num_test=1000,
        ... )
        Traceback (most recent call last):
        ...
        ValueError: data set of 'letters:a': mean is (); give image data a tuple of 1, ...
    """

    prepare: str
    kind: Kind
    input_shape: tuple[int, ...]
    num_classes: int
    num_train: int
    num_test: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    max_value: float | None = None
    vocabulary_size: int | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    source_fingerprints: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_sizes()
        if self.kind in ("text", "language"):
            self._check_tokens()
        else:
            self._check_values()

    def _check_sizes(self) -> None:
        if self.kind not in DIMENSIONS:
            raise self._wrong("kind", f"use one of {', '.join(DIMENSIONS)}")
        if len(self.input_shape) != len(DIMENSIONS[self.kind]) or min(self.input_shape) < 1:
            dimensions = ", ".join(DIMENSIONS[self.kind])
            raise self._wrong("input_shape", f"give {self.kind} data ({dimensions}), each above 0")
        for name in ("num_classes", "num_train", "num_test"):
            if getattr(self, name) < 1:
                raise self._wrong(name, "it must be at least 1")

    def _check_tokens(self) -> None:
        if self.vocabulary_size is None or self.vocabulary_size < 1:
            raise self._wrong(
                "vocabulary_size", f"give {self.kind} data the number of its token ids"
            )
        if self.kind == "language" and self.num_classes != self.vocabulary_size:
            raise self._wrong(
                "num_classes",
                f"each of the {self.vocabulary_size} tokens is a class: give vocabulary_size",
            )
        for name, unused in (("mean", ()), ("std", ()), ("max_value", None)):
            if getattr(self, name) != unused:
                raise self._wrong(name, "token ids are not normalised: leave it out")

    def _check_values(self) -> None:
        if self.vocabulary_size is not None:
            raise self._wrong("vocabulary_size", f"{self.kind} data have none: leave it out")
        scaled, count = "channel", self.input_shape[0]
        if self.kind in ("tabular", "sequence"):
            scaled, count = "feature", self.input_shape[-1]
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if not isinstance(numbers, tuple) or len(numbers) not in (1, count):
                one = "" if count == 1 else ", or of one for all"
                raise self._wrong(
                    name, f"give {self.kind} data a tuple of {count}, one a {scaled}{one}"
                )
            if not all(math.isfinite(number) for number in numbers):
                raise self._wrong(name, "every number must be finite")
        if min(self.std) <= 0:
            raise self._wrong("std", "every number must be above 0")
        if self.max_value is None or not 0 < self.max_value < math.inf:
            raise self._wrong(
                "max_value",
                "give the stored value that counts as 1 in mean and std, such as 255 for bytes",
            )

    def _wrong(self, name: str, remedy: str) -> ValueError:
        return ValueError(
            f"data set of {self.prepare!r}: {name} is {getattr(self, name)!r}; {remedy}"
        )

    @property
    def input_name(self) -> str:
        """Stem of the names of the stored input arrays: ``tokens``, or ``x`` for values."""
        return "x" if self.vocabulary_size is None else "tokens"

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one sample's target: a class, or one at every position of a language's."""
        return self.input_shape if self.kind == "language" else ()

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
            shapes[f"y_{split}"] = (count, *self.target_shape)
        if self.vocabulary_size is not None:
            shapes["vocabulary"] = (self.vocabulary_size,)
        return shapes


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One model: how to build it and what it takes.

    Attributes:
        build: ``"module:function"`` that builds it, called as ``function(dataset, **sizes)``;
            raises ``ValueError`` for sizes that do not go together. It is called on torch's meta
            device too, to count the parameters, so it looks at no value of a tensor. No layer may
            mix samples or draw at random: no BatchNorm, no dropout.
        kinds: Kinds of data set it takes.
        sizes: Names of its size options, each a positive integer; all must be given.
        choices: Names of the options that are words, each with the words it takes; ``build`` has a
            default for them.
    """

    build: str
    kinds: tuple[Kind, ...]
    sizes: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
