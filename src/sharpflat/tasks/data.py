"""Data sets in memory, as tensors a model takes."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from sharpflat.tasks.arrays import Arrays, check_arrays, read_arrays
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.errors import DataError
from sharpflat.tasks.prepare import prepare
from sharpflat.tasks.registry import DATASETS, look_up
from sharpflat.tasks.text import PADDING

__all__ = ["DataError", "Dataset", "Inputs", "load", "prepare", "select"]

#: Spread of the normalised training inputs, and its inverse, from which on their entry cannot be
#: right: bytes and fractions of one differ by 255, and a related data set's std by less than 2.
WRONG_SCALE = 10.0

Inputs = Tensor | tuple[Tensor, ...]
"""A model's inputs, samples along dimension 0: images (N, C, H, W), features (N, F) or a language's
tokens (N, L), called ``model(inputs)``; or rows and their mask, (N, L, …) and bool (N, L), called
``model(*inputs)``."""


@dataclass(frozen=True)
class Dataset:
    """A data set on a device.

    Attributes:
        name: Its name in the registry.
        num_classes: Number of classes.
        train_inputs: Inputs of the training samples.
        train_targets: int64 (N,), classes of the training samples; (N, L) of a language.
        test_inputs: Inputs of the test samples.
        test_targets: int64, classes of the test samples, likewise.
        fingerprint: Hex sha256 over names, dtypes, shapes and bytes of all stored arrays, and over
            what normalises them.
    """

    name: str
    num_classes: int
    train_inputs: Inputs
    train_targets: Tensor
    test_inputs: Inputs
    test_targets: Tensor
    fingerprint: str

    @property
    def num_train(self) -> int:
        """Number of training samples."""
        return len(self.train_targets)

    def train_subset(self, n: int) -> tuple[Inputs, Tensor]:
        """Inputs and targets of the first ``n`` training samples.

        Raises:
            ValueError: If there are not that many.
        """
        if not 1 <= n <= self.num_train:
            raise ValueError(
                f"a subset of {n} training samples was asked of data set {self.name!r}: "
                f"take 1 to {self.num_train}"
            )
        return select(self.train_inputs, slice(n)), self.train_targets[:n]

    def batch(self, indices: Tensor) -> tuple[Inputs, Tensor]:
        """Inputs and targets of the training samples at ``indices``, int64 (B,)."""
        return select(self.train_inputs, indices), self.train_targets[indices]


def select(inputs: Inputs, rows: Tensor | slice) -> Inputs:
    """The samples ``rows`` of ``inputs``; masked inputs are cut to the longest of them.

    Cutting changes no output of a model that minds the mask, and spares it the padding.
    """
    if isinstance(inputs, Tensor):
        return inputs[rows]
    values, mask = (part[rows] for part in inputs)
    longest = int(mask.any(dim=0).sum())
    return values[:, :longest], mask[:, :longest]


def load(
    name: str,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Load data set ``name`` from the canonical file that :func:`prepare` wrote.

    Args:
        name: A name in :data:`sharpflat.tasks.registry.DATASETS`.
        path: The ``.npz`` file.
        device: Where the tensors go.
        dtype: Of values, normalised with the entry's mean and std.

    Raises:
        ValueError: If there is no data set of that name.
        DataError: If the file is absent, damaged, or not that data set, or the entry normalises it
            in another unit than its own.
    """
    entry = look_up(DATASETS, name, what="data set")
    arrays = read_arrays(path, entry.array_shapes)
    check_arrays(name, entry, arrays)
    return Dataset(
        name=name,
        num_classes=entry.num_classes,
        train_inputs=_inputs(name, entry, arrays, "train", device, dtype),
        train_targets=torch.from_numpy(arrays["y_train"]).to(device, torch.int64),
        test_inputs=_inputs(name, entry, arrays, "test", device, dtype),
        test_targets=torch.from_numpy(arrays["y_test"]).to(device, torch.int64),
        fingerprint=_fingerprint(entry, arrays),
    )


def _inputs(
    name: str,
    entry: DatasetEntry,
    arrays: Arrays,
    split: str,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Inputs:
    stored = torch.from_numpy(arrays[f"{entry.input_name}_{split}"])
    if entry.vocabulary_size is not None:
        tokens = stored.to(device, torch.int64)
        return tokens if entry.kind == "language" else (tokens, tokens != PADDING)
    assert entry.max_value is not None
    values = stored.to(device, dtype) / entry.max_value
    # Channels, and features, are the last dimension of what is stored.
    if entry.kind == "image" and entry.input_shape[0] == 1:
        values = values.unsqueeze(-1)
    mean = torch.tensor(entry.mean, device=device, dtype=dtype)
    std = torch.tensor(entry.std, device=device, dtype=dtype)
    values = (values - mean) / std
    if split == "train":
        _check_scale(name, entry, values)
    if entry.kind == "image":
        return values.movedim(-1, 1).contiguous()
    if entry.kind == "tabular":
        return values
    return values, torch.ones(values.shape[:2], device=device, dtype=torch.bool)


def _check_scale(name: str, entry: DatasetEntry, normalised: Tensor) -> None:
    """Refuse an entry whose numbers are in another unit than the data."""
    spread = normalised.std(correction=0).item()
    if not 1 / WRONG_SCALE <= spread <= WRONG_SCALE:
        raise DataError(
            f"data set {name!r}: its training inputs, normalised with mean {entry.mean}, std "
            f"{entry.std} and max_value {entry.max_value}, have standard deviation {spread:.3g}, "
            "which should be about 1: give mean and std of the stored values over max_value"
        )


def _fingerprint(entry: DatasetEntry, arrays: Arrays) -> str:
    # Token ids have no scale; the number stands for that in the fingerprints of results.
    scale = 255.0 if entry.max_value is None else float(entry.max_value)
    digest = sha256(f"{entry.mean} {entry.std} {scale}\n".encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
