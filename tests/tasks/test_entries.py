"""Entries that a user may write. Oracle: what the fields' documentation allows."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharpflat.tasks.arrays import write_arrays
from sharpflat.tasks.data import load, prepare
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.errors import DataError
from sharpflat.tasks.registry import DATASETS

GRAY: dict[str, Any] = {
    "prepare": "letters:all",
    "kind": "image",
    "input_shape": (1, 4, 4),
    "num_classes": 2,
    "num_train": 50,
    "num_test": 10,
    "mean": (0.5,),
    "std": (0.3,),
    "max_value": 255.0,
}
ROWS = GRAY | {"kind": "sequence", "input_shape": (4, 3)}
TEXT = {name: value for name, value in GRAY.items() if name not in ("mean", "std", "max_value")} | {
    "kind": "text",
    "input_shape": (4,),
    "vocabulary_size": 9,
}
TABLE = GRAY | {"kind": "tabular", "input_shape": (3,)}
LANGUAGE = TEXT | {"kind": "language", "num_classes": 9}


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        (GRAY, {"mean": ()}, r"mean is \(\); give image data a tuple of 1, one a channel$"),
        (GRAY, {"std": ()}, r"std is \(\); give image data a tuple of 1, one a channel$"),
        (GRAY, {"max_value": None}, "max_value is None; give the stored value that counts as 1"),
        (GRAY, {"max_value": 0.0}, "max_value is 0.0; give the stored value"),
        (GRAY, {"mean": 0.5}, "mean is 0.5; give image data a tuple of 1"),
        (GRAY, {"mean": (0.1, 0.2, 0.3)}, "give image data a tuple of 1, one a channel$"),
        (GRAY, {"input_shape": (3, 4, 4), "std": (0.3, 0.3)}, "a tuple of 3, .* or of one for all"),
        (GRAY, {"std": (0.0,)}, r"std is \(0.0,\); every number must be above 0"),
        (GRAY, {"mean": (math.nan,)}, r"mean is \(nan,\); every number must be finite"),
        (GRAY, {"input_shape": (4, 4)}, r"give image data \(channels, height, width\)"),
        (GRAY, {"kind": "images"}, "kind is 'images'; use one of image, tabular, seq"),
        (GRAY, {"num_test": 0}, "num_test is 0; it must be at least 1"),
        (GRAY, {"vocabulary_size": 9}, "vocabulary_size is 9; image data have none"),
        (ROWS, {"mean": (0.1, 0.2)}, "give sequence data a tuple of 3, one a feature"),
        (ROWS, {"max_value": None}, "max_value is None"),
        (TABLE, {"mean": (0.1, 0.2)}, "give tabular data a tuple of 3, one a feature"),
        (TABLE, {"input_shape": (3, 2)}, r"input_shape is .*; give tabular data \(features\)"),
        (LANGUAGE, {"num_classes": 2}, "num_classes is 2; each of the 9 tokens is a class"),
        (LANGUAGE, {"vocabulary_size": None}, "give language data the number of its token ids"),
        (LANGUAGE, {"std": (0.5,)}, "std is .*token ids are not normalised: leave it out"),
        (TEXT, {"vocabulary_size": None}, "vocabulary_size is None; give text data the number"),
        (TEXT, {"mean": (0.5,)}, "mean is .*token ids are not normalised: leave it out"),
        (TEXT, {"max_value": 255.0}, "max_value is 255.0; token ids are not normalised"),
    ],
)
def test_an_entry_that_says_too_little_or_too_much_is_refused(
    fields: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    DatasetEntry(**fields)
    with pytest.raises(ValueError, match=f"data set of 'letters:all': .*{message}"):
        DatasetEntry(**fields | changes)


def test_fields_that_normalise_have_no_default() -> None:
    """A default would be silently wrong for some data; text, which needs none, is at peace."""
    for name in ("mean", "std", "max_value"):
        fields = {key: value for key, value in GRAY.items() if key != name}
        with pytest.raises(ValueError, match=f"{name} is "):
            DatasetEntry(**fields)
    DatasetEntry(**TEXT)


def _written(path: Path, values: np.ndarray) -> Path:
    labels = (np.arange(60) % 2).astype(np.uint8)
    write_arrays(
        path,
        {
            "x_train": values[:50],
            "y_train": labels[:50],
            "x_test": values[50:],
            "y_test": labels[50:],
        },
    )
    return path


UNIT = np.random.default_rng(0).random((60, 4, 4))  # mean 0.5, standard deviation 0.29
STORED = {
    "bytes": ((255 * UNIT).astype(np.uint8), {"max_value": 255.0}),
    "fractions": (UNIT.astype(np.float32), {"max_value": 1.0}),
    "own unit": (
        (40 * UNIT).astype(np.float32),
        {"max_value": 1.0, "mean": (20.0,), "std": (12.0,)},
    ),
}


@pytest.mark.parametrize("name", STORED)
def test_every_way_to_store_values_gives_the_same_inputs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: ``(u - mean) / std`` of the fractions u, in NumPy."""
    values, changes = STORED[name]
    monkeypatch.setitem(DATASETS, "letters", DatasetEntry(**GRAY | changes))
    dataset = load("letters", _written(tmp_path / "a.npz", values), dtype=torch.float64)
    assert isinstance(dataset.train_inputs, torch.Tensor)
    expected = (UNIT[:50, None] - 0.5) / 0.3
    np.testing.assert_allclose(dataset.train_inputs.numpy(), expected, atol=0.014)  # 1 / 255 / 0.3


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("fractions", {"max_value": 255.0}),  # fractions taken for bytes
        ("bytes", {"max_value": 1.0}),  # bytes taken for fractions
        ("bytes", {"mean": (127.5,), "std": (76.5,)}),  # bytes' mean and std, and their max_value
        ("own unit", {"max_value": 255.0, "mean": (20.0,), "std": (12.0,)}),
    ],
)
def test_numbers_in_another_unit_than_the_data_are_refused(
    name: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "letters", DatasetEntry(**GRAY | changes))
    path = _written(tmp_path / "a.npz", STORED[name][0])
    with pytest.raises(DataError, match=r"'letters': .*standard deviation .* should be about 1"):
        load("letters", path)


def test_one_number_is_for_every_feature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the entry that repeats it."""
    entry = replace(DatasetEntry(**ROWS), input_shape=(4, 4))
    inputs = []
    for changes in ({}, {"mean": (0.5,) * 4, "std": (0.3,) * 4}):
        monkeypatch.setitem(DATASETS, "letters", replace(entry, **changes))
        path = _written(tmp_path / "a.npz", STORED["bytes"][0])
        inputs.append(load("letters", path).train_inputs[0])
    assert torch.equal(*inputs)


@pytest.mark.usefixtures("sentences")
@pytest.mark.parametrize("name", ["digits", "sst2_1k"])
def test_fingerprints_stay_those_of_the_results_there_are(
    name: str, mirror: Path, tmp_path: Path
) -> None:
    """Oracle: the definition, by hand; text has always stood there with the scale 255.0."""
    prepare(name, tmp_path / "a.npz", mirror=mirror)
    scale = {"digits": "(0.3054,) (0.3759,) 16.0", "sst2_1k": "() () 255.0"}[name]
    digest = hashlib.sha256(f"{scale}\n".encode())
    with np.load(tmp_path / "a.npz") as arrays:
        for key in sorted(arrays):
            digest.update(f"{key} {arrays[key].dtype.str} {arrays[key].shape}\n".encode())
            digest.update(arrays[key].tobytes())
    assert load(name, tmp_path / "a.npz").fingerprint == digest.hexdigest()


def test_a_whole_number_is_the_same_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the fingerprint with 16.0."""
    prepare("digits", tmp_path / "a.npz")
    expected = load("digits", tmp_path / "a.npz").fingerprint
    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], max_value=16))
    assert load("digits", tmp_path / "a.npz").fingerprint == expected
