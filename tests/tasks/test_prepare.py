import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sharpflat.tasks.arrays import write_arrays
from sharpflat.tasks.errors import DataError
from sharpflat.tasks.prepare import prepare

Arrays = dict[str, NDArray[Any]]


def files(folder: Path) -> list[str]:
    """Names of the files in ``folder``, of which there are none if it is not there."""
    return sorted(path.name for path in folder.glob("*"))


def test_a_mirror_is_copied_with_its_provenance(
    images: Arrays, mirror: Path, tmp_path: Path
) -> None:
    """Oracle: the arrays put into the mirror."""
    path = tmp_path / "new" / "mnist.npz"
    prepare("mnist5k", path, mirror=mirror)
    assert files(path.parent) == ["mnist.npz", "mnist.provenance.json"]
    with np.load(path, allow_pickle=False) as archive:
        for name, array in images.items():
            np.testing.assert_array_equal(archive[name], array)
    record = json.loads(path.with_suffix(".provenance.json").read_text())
    assert record["source"] == "mirror"
    assert record["origin"] == "mnist5k.npz"
    assert record["variant"] == "made up"
    assert record["arrays"]["y_test"]["shape"] == [6]
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.usefixtures("images")
def test_preparing_twice_gives_the_same_bytes(mirror: Path, tmp_path: Path) -> None:
    """Oracle: the first run's files."""
    for folder in ("a", "b"):
        prepare("mnist5k", tmp_path / folder / "mnist.npz", mirror=mirror)
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_mirror_that_differs_in_one_pixel_is_refused(
    images: Arrays, mirror: Path, tmp_path: Path
) -> None:
    """Oracle: the fingerprints of the arrays before the change."""
    images["x_test"][3, 4, 5] ^= 1
    write_arrays(mirror / "mnist5k.npz", images)
    with pytest.raises(DataError, match=r"'mnist5k': array x_test has sha256 .*; expected .*"):
        prepare("mnist5k", tmp_path / "out" / "mnist.npz", mirror=mirror)
    assert files(tmp_path / "out") == []


@pytest.mark.usefixtures("images")
def test_a_mirror_that_is_cut_off_or_lacks_the_file_is_refused(
    mirror: Path, tmp_path: Path
) -> None:
    """Oracle: a mirror damaged on purpose."""
    file = mirror / "mnist5k.npz"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cannot read the arrays of .*mnist5k\.npz"):
        prepare("mnist5k", tmp_path / "out" / "mnist.npz", mirror=mirror)
    file.unlink()
    with pytest.raises(DataError, match=r"has no file mnist5k\.npz"):
        prepare("mnist5k", tmp_path / "out" / "mnist.npz", mirror=mirror)
    assert files(tmp_path / "out") == []


@pytest.mark.usefixtures("images")
def test_a_failed_write_leaves_nothing(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a disk that fills up half-way."""

    def fill_up(path: Path, arrays: Arrays) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sharpflat.tasks.prepare.write_arrays", fill_up)
    with pytest.raises(OSError, match="No space left"):
        prepare("mnist5k", tmp_path / "out" / "mnist.npz", mirror=mirror)
    assert files(tmp_path / "out") == []


def test_an_unknown_data_set_is_refused(tmp_path: Path) -> None:
    """Oracle: the registry."""
    with pytest.raises(ValueError, match=r"no data set 'mnist'.*mnist5k"):
        prepare("mnist", tmp_path / "mnist.npz")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracle: an import that Python is told to refuse."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"sklearn.*pip install 'sharpflat\[data\]'"):
        prepare("digits", tmp_path / "digits.npz")
