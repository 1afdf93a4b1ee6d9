"""The canonical form of a data set: named NumPy arrays in one uncompressed ``.npz``."""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.errors import DataError
from sharpflat.tasks.text import PADDING

Arrays = Mapping[str, NDArray[Any]]

_REMEDY = (
    "prepare it again from the official download, or from a data_mirror whose file is the "
    "published one"
)


@dataclass(frozen=True)
class Prepared:
    """What a source hands over.

    Attributes:
        arrays: The arrays of the canonical file, by name.
        source: How they came.
        origin: The file, address or package (with version) they came from.
    """

    arrays: Arrays
    source: Literal["mirror", "download", "package"]
    origin: str


def sha256(array: NDArray[Any]) -> str:
    """Hex sha256 of the raw bytes of ``array`` in C order."""
    return hashlib.sha256(array.tobytes()).hexdigest()


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write ``arrays`` to ``path`` as an ``.npz`` whose bytes depend on nothing but the arrays."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            # A bare ZipInfo bears a constant date, where np.savez may stamp the time of writing.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as stream:
                np.lib.format.write_array(
                    stream, np.ascontiguousarray(arrays[name]), allow_pickle=False
                )


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Read the arrays called ``names`` from the ``.npz`` at ``path``; pickles are refused.

    Raises:
        DataError: If the file is absent, damaged, or lacks one of them.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                with archive.open(f"{name}.npy") as stream:
                    arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as e:
        raise DataError(f"cannot read the arrays of {path}: {e}; {_REMEDY}") from e
    return arrays


def check_arrays(name: str, entry: DatasetEntry, arrays: Arrays) -> None:
    """Refuse arrays that are not data set ``name``: shapes, dtypes, values, then fingerprints.

    Raises:
        DataError: At the first thing that is wrong.
    """
    for key, shape in entry.array_shapes.items():
        if key not in arrays:
            raise _wrong(name, key, "is missing", "an array of that name")
        if arrays[key].shape != shape:
            raise _wrong(name, key, f"has shape {arrays[key].shape}", str(shape))
    for split in ("train", "test"):
        _check_labels(name, f"y_{split}", arrays[f"y_{split}"], entry.num_classes)
        key = f"{entry.input_name}_{split}"
        if entry.vocabulary_size is None:
            _check_values(name, key, arrays[key])
        else:
            _check_tokens(name, key, arrays[key], entry.vocabulary_size)
        if entry.kind == "text":
            _check_padding(name, key, arrays[key])
    for key, expected in entry.fingerprints.items():
        found = sha256(_part(arrays, key))
        if found != expected:
            raise _wrong(name, key, f"has sha256 {found}", expected)


def _part(arrays: Arrays, key: str) -> NDArray[Any]:
    """The array, or first rows of one, that a fingerprint's ``key`` names."""
    match = re.fullmatch(r"(\w+)(?:\[:(\d+)\])?", key)
    if match is None or match[1] not in arrays:
        raise ValueError(
            f"fingerprint key {key!r} names no array: use one of {sorted(arrays)}, or 'name[:n]'"
        )
    return arrays[match[1]][: int(match[2])] if match[2] else arrays[match[1]]


def _check_labels(name: str, key: str, labels: NDArray[Any], num_classes: int) -> None:
    if labels.dtype != np.uint8:
        raise _wrong(name, key, f"has dtype {labels.dtype}", "uint8")
    if labels.max() >= num_classes:
        raise _wrong(
            name, key, f"has a label {labels.max()}", f"labels from 0 to {num_classes - 1}"
        )


def _check_values(name: str, key: str, values: NDArray[Any]) -> None:
    if values.dtype not in (np.uint8, np.float32):
        raise _wrong(name, key, f"has dtype {values.dtype}", "uint8 or float32")
    if not np.isfinite(values).all():
        raise _wrong(name, key, "has values that are not finite", "finite values")


def _check_tokens(name: str, key: str, tokens: NDArray[Any], vocabulary_size: int) -> None:
    if tokens.dtype != np.int32:
        raise _wrong(name, key, f"has dtype {tokens.dtype}", "int32")
    if tokens.min() < 0 or tokens.max() >= vocabulary_size:
        found = f"has token ids from {tokens.min()} to {tokens.max()}"
        raise _wrong(name, key, found, f"0 to {vocabulary_size - 1}")


def _check_padding(name: str, key: str, tokens: NDArray[Any]) -> None:
    is_word = tokens != PADDING
    if not is_word[:, 0].all() or (is_word[:, 1:] > is_word[:, :-1]).any():
        raise _wrong(name, key, "has padding before a word", "a word first and padding last")


def _wrong(name: str, key: str, found: str, expected: str) -> DataError:
    return DataError(f"data set {name!r}: array {key} {found}; expected {expected}; {_REMEDY}")
