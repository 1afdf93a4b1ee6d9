"""Tables that packages ship. Oracles: scikit-learn's own table, NumPy."""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer

from sharpflat.tasks.data import load, prepare


def test_the_table_is_scikit_learns_in_another_order(tmp_path: Path) -> None:
    prepare("breast_cancer", tmp_path / "a.npz")
    published = load_breast_cancer()
    expected = np.column_stack([published.data.astype(np.float32), published.target])
    with np.load(tmp_path / "a.npz") as arrays:
        features = np.concatenate([arrays["x_train"], arrays["x_test"]])
        labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    found = np.column_stack([features, labels])
    assert np.array_equal(np.unique(found, axis=0), np.unique(expected, axis=0))
    assert not np.array_equal(found, expected)


def test_every_feature_has_mean_0_and_deviation_1(tmp_path: Path) -> None:
    """The entry's numbers have four digits, and no mean is above six deviations."""
    prepare("breast_cancer", tmp_path / "a.npz")
    inputs = load("breast_cancer", tmp_path / "a.npz").train_inputs
    assert isinstance(inputs, torch.Tensor)
    assert inputs.shape == (455, 30)
    np.testing.assert_allclose(inputs.mean(dim=0), 0, atol=6e-3)
    np.testing.assert_allclose(inputs.std(dim=0, correction=0), 1, rtol=1e-3)
