"""Tables of features that ordinary packages ship."""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from sharpflat.tasks.arrays import Prepared
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.sources.shuffle import shuffled_split


def sklearn_breast_cancer(name: str, entry: DatasetEntry, *, mirror: Path | None) -> Prepared:
    """569 cell nuclei of 30 measurements each, shipped by scikit-learn, in a random order."""
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    features = table.data.astype(np.float32)
    arrays = shuffled_split(features, table.target, entry.num_train)
    return Prepared(arrays, source="package", origin=f"scikit-learn {version('scikit-learn')}")
