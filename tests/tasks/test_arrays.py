import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sharpflat.tasks.arrays import check_arrays, read_arrays, sha256, write_arrays
from sharpflat.tasks.errors import DataError
from sharpflat.tasks.registry import DATASETS

Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def tokens() -> Arrays:
    return {
        "tokens_train": np.array([[2, 3, 0], [3, 0, 0]], dtype=np.int32),
        "y_train": np.array([0, 1], dtype=np.uint8),
        "tokens_test": np.array([[1, 2, 3]], dtype=np.int32),
        "y_test": np.array([1], dtype=np.uint8),
        "vocabulary": np.array(["<pad>", "<unk>", "a", "é"]),
    }


def test_numpy_reads_what_is_written_without_pickle(tmp_path: Path, tokens: Arrays) -> None:
    """Oracle: np.load."""
    write_arrays(tmp_path / "a.npz", tokens)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert sorted(archive.files) == sorted(tokens)
        for name, array in tokens.items():
            np.testing.assert_array_equal(archive[name], array)


def test_what_numpy_writes_is_read(tmp_path: Path, tokens: Arrays) -> None:
    """Oracle: np.savez_compressed, with which mirrors may have been made."""
    np.savez_compressed(tmp_path / "a.npz", **tokens)
    for name, array in read_arrays(tmp_path / "a.npz", tokens).items():
        np.testing.assert_array_equal(array, tokens[name])


def test_bytes_depend_on_the_arrays_only(
    tmp_path: Path, tokens: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a second file, written years later from other layouts in another order."""
    write_arrays(tmp_path / "a.npz", tokens)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    others = {name: np.asfortranarray(tokens[name]) for name in reversed(tokens)}
    write_arrays(tmp_path / "b.npz", others)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_sha256_is_over_bytes_in_c_order() -> None:
    """Oracle: sha256sum of the bytes 0 1 2 3."""
    expected = "054edec1d0211f624fed0cbca9d4f9400b0e491c43742af2c5b0abebf0c990d8"
    array = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    assert sha256(array) == sha256(np.asfortranarray(array)) == expected


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _pickle(path: Path) -> None:
    member = io.BytesIO()
    np.lib.format.write_array(member, np.array([{}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("y_train.npy", member.getvalue())


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _flip_a_bit,
        _pickle,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(pickle.dumps([1])),
        lambda path: np.savez(path, other=np.zeros(2)),
        lambda path: path.unlink(),
    ],
    ids=["truncated", "bit flipped", "pickled array", "empty", "pickle", "other array", "absent"],
)
def test_a_damaged_file_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """Oracle: files damaged on purpose."""
    path = tmp_path / "a.npz"
    write_arrays(path, {"y_train": np.zeros(1000, dtype=np.uint8)})
    damage(path)
    with pytest.raises(DataError, match=r"cannot read the arrays of .*a\.npz") as caught:
        read_arrays(path, ["y_train"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokens_train", np.zeros((2, 4), np.int32), r"tokens_train has shape \(2, 4\).*\(2, 3\)"),
        ("tokens_train", np.ones((2, 3)), "has dtype float64; expected int32"),
        ("tokens_train", np.full((2, 3), 4, np.int32), "ids from 4 to 4; expected 0 to 3"),
        ("tokens_train", np.array([[2, 0, 2], [2, 2, 2]], np.int32), "padding before a word"),
        ("tokens_test", np.zeros((1, 3), np.int32), "padding before a word"),
        ("y_train", np.array([0, 2], np.uint8), "a label 2; expected labels from 0 to 1"),
        ("y_test", np.array([1]), "y_test has dtype int64; expected uint8"),
        ("vocabulary", np.array(["a"]), r"vocabulary has shape \(1,\)"),
    ],
)
def test_wrong_tokens_are_refused(
    tokens: Arrays, key: str, value: NDArray[Any], message: str
) -> None:
    """Oracle: arrays made wrong in one way each."""
    entry = replace(
        DATASETS["sst2_1k"],
        input_shape=(3,),
        num_train=2,
        num_test=1,
        vocabulary_size=4,
        fingerprints={},
    )
    check_arrays("made_up", entry, tokens)
    with pytest.raises(DataError, match=message) as caught:
        check_arrays("made_up", entry, {**tokens, key: value})
    assert "data set 'made_up'" in str(caught.value)


def test_a_language_has_a_label_at_every_position_and_no_padding() -> None:
    """Oracle: arrays made wrong in one way each; token 0 may stand anywhere."""
    entry = replace(
        DATASETS["shakespeare5k"],
        input_shape=(3,),
        num_train=2,
        num_test=1,
        num_classes=4,
        vocabulary_size=4,
        fingerprints={},
    )
    arrays = {
        "tokens_train": np.array([[0, 1, 0], [3, 0, 2]], np.int32),
        "y_train": np.array([[1, 0, 3], [0, 2, 1]], np.uint8),
        "tokens_test": np.array([[1, 0, 0]], np.int32),
        "y_test": np.array([[0, 0, 1]], np.uint8),
        "vocabulary": np.array(list("abcd")),
    }
    check_arrays("made_up", entry, arrays)
    for key, value, message in (
        ("y_train", np.array([1, 0], np.uint8), r"y_train has shape \(2,\).*\(2, 3\)"),
        ("y_test", np.array([[0, 0, 4]], np.uint8), "a label 4; expected labels from 0 to 3"),
        ("tokens_test", np.array([[1, 0, 4]], np.int32), "ids from 0 to 4; expected 0 to 3"),
    ):
        with pytest.raises(DataError, match=message):
            check_arrays("made_up", entry, {**arrays, key: value})


def test_wrong_images_are_refused(images: Arrays) -> None:
    """Oracle: arrays made wrong in one way each."""
    entry = DATASETS["mnist5k"]
    infinite = np.full((12, 28, 28), np.inf, dtype=np.float32)
    for value, message in (
        (images["x_train"].astype(np.int64), "dtype int64; expected uint8 or float32"),
        (infinite, "values that are not finite"),
        (images["x_train"][::-1], f"has sha256 .*expected {entry.fingerprints['x_train']}"),
    ):
        with pytest.raises(DataError, match=message):
            check_arrays("mnist5k", entry, {**images, "x_train": value})
    del images["x_train"]
    with pytest.raises(DataError, match="array x_train is missing"):
        check_arrays("mnist5k", entry, images)


def test_a_fingerprint_of_first_rows_ignores_the_others(images: Arrays) -> None:
    """Oracle: a change behind, and one within, the rows it covers."""
    first = {"x_train[:5]": DATASETS["mnist5k"].fingerprints["x_train[:5]"]}
    entry = replace(DATASETS["mnist5k"], fingerprints=first)
    images["x_train"][5] += 1
    check_arrays("mnist5k", entry, images)
    images["x_train"][4] += 1
    with pytest.raises(DataError, match=r"array x_train\[:5\] has sha256"):
        check_arrays("mnist5k", entry, images)


def test_a_fingerprint_of_no_array_is_a_mistake_in_the_entry(images: Arrays) -> None:
    """Oracle: a misspelt key."""
    entry = replace(DATASETS["mnist5k"], fingerprints={"x_trian": "00"})
    with pytest.raises(ValueError, match="'x_trian' names no array"):
        check_arrays("mnist5k", entry, images)
