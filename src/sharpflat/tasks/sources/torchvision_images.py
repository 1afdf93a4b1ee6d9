"""Image data sets that torchvision downloads, checking the publishers' MD5 sums."""

from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpflat.tasks.arrays import Prepared, read_arrays
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.sources.access import downloading, mirror_file


def mnist(name: str, entry: DatasetEntry, *, mirror: Path | None) -> Prepared:
    """The first images of MNIST, in the official order."""
    return _first_images(name, entry, mirror, "MNIST")


def fashion_mnist(name: str, entry: DatasetEntry, *, mirror: Path | None) -> Prepared:
    """The first images of Fashion-MNIST, in the official order."""
    return _first_images(name, entry, mirror, "FashionMNIST")


def cifar10(name: str, entry: DatasetEntry, *, mirror: Path | None) -> Prepared:
    """The first images of CIFAR-10, in the official order."""
    return _first_images(name, entry, mirror, "CIFAR10")


def _first_images(name: str, entry: DatasetEntry, mirror: Path | None, class_name: str) -> Prepared:
    if mirror is None:
        return _download(name, entry, class_name)
    filename = f"{name}.npz"
    arrays = read_arrays(mirror_file(name, mirror, filename), entry.array_shapes)
    return Prepared(arrays, source="mirror", origin=filename)


def _download(name: str, entry: DatasetEntry, class_name: str) -> Prepared:
    from torchvision import datasets

    arrays: dict[str, NDArray[Any]] = {}
    with downloading(name, f"torchvision's {class_name}"), TemporaryDirectory() as folder:
        for split, count in (("train", entry.num_train), ("test", entry.num_test)):
            images = getattr(datasets, class_name)(folder, train=split == "train", download=True)
            arrays[f"x_{split}"] = np.asarray(images.data)[:count]
            arrays[f"y_{split}"] = np.asarray(images.targets)[:count].astype(np.uint8)
    return Prepared(
        arrays, source="download", origin=f"torchvision {version('torchvision')} {class_name}"
    )
