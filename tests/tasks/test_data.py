from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpflat.tasks.arrays import write_arrays
from sharpflat.tasks.data import load, prepare
from sharpflat.tasks.errors import DataError
from sharpflat.tasks.registry import DATASETS

Arrays = dict[str, NDArray[Any]]


def test_gray_images_are_normalised(images: Arrays, mirror: Path) -> None:
    """Oracle: NumPy, with the published mean 0.1307 and std 0.3081."""
    dataset = load("mnist5k", mirror / "mnist5k.npz", dtype=torch.float64)
    expected = (images["x_train"][:, None] / 255 - 0.1307) / 0.3081
    assert isinstance(dataset.train_inputs, Tensor)
    assert dataset.train_inputs.shape == (12, 1, 28, 28)
    np.testing.assert_allclose(dataset.train_inputs.numpy(), expected, rtol=1e-13)
    expected = (images["x_test"][:, None] / 255 - 0.1307) / 0.3081
    assert isinstance(dataset.test_inputs, Tensor)
    np.testing.assert_allclose(dataset.test_inputs.numpy(), expected, rtol=1e-13)
    assert dataset.train_targets.dtype == torch.int64
    assert dataset.test_targets.tolist() == images["y_test"].tolist()
    assert (dataset.name, dataset.num_classes, dataset.num_train) == ("mnist5k", 10, 12)
    with pytest.raises(FrozenInstanceError):
        dataset.name = "other"  # type: ignore[misc]


def test_colour_images_are_normalised_by_channel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Oracle: NumPy, channel by channel."""
    entry = replace(DATASETS["cifar10_5k"], num_train=2, num_test=1, fingerprints={})
    monkeypatch.setitem(DATASETS, "cifar10_5k", entry)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    labels = np.array([0, 9, 1], dtype=np.uint8)
    arrays = {"x_train": pixels[:2], "y_train": labels[:2], "x_test": pixels[2:]}
    write_arrays(tmp_path / "a.npz", {**arrays, "y_test": labels[2:]})
    inputs = load("cifar10_5k", tmp_path / "a.npz").train_inputs
    assert isinstance(inputs, Tensor)
    assert (inputs.shape, inputs.dtype) == ((2, 3, 32, 32), torch.float32)
    assert inputs.is_contiguous()
    for channel in range(3):
        expected = (pixels[:2, :, :, channel] / 255 - entry.mean[channel]) / entry.std[channel]
        np.testing.assert_allclose(inputs[:, channel].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_digits_are_read_as_images_and_as_rows(tmp_path: Path) -> None:
    """Oracles: each reading the other's, and the mean 0 and std 1 that normalising is for."""
    inputs = {}
    for name in ("digits", "digits_rows"):
        prepare(name, tmp_path / f"{name}.npz")
        inputs[name] = load(name, tmp_path / f"{name}.npz").train_inputs
    images, (rows, mask) = inputs["digits"], inputs["digits_rows"]
    assert torch.equal(images.squeeze(1), rows)
    assert mask.shape == (1437, 8)
    assert mask.all()
    assert abs(rows.mean().item()) < 1e-3
    assert abs(rows.std().item() - 1) < 1e-3


@pytest.mark.usefixtures("sentences")
def test_text_is_cut_to_the_longest_row_at_hand(mirror: Path, tmp_path: Path) -> None:
    """Oracle: the lengths 4, 2 and 6 of the sentences, counted by hand."""
    prepare("sst2_1k", tmp_path / "a.npz", mirror=mirror)
    dataset = load("sst2_1k", tmp_path / "a.npz")
    tokens, mask = dataset.train_inputs
    assert (tokens.dtype, mask.dtype) == (torch.int64, torch.bool)
    assert mask.sum(dim=1).tolist() == [4, 2, 6]
    for indices, longest in (([1], 2), ([1, 0], 4), ([2, 1, 1], 6)):
        inputs, targets = dataset.batch(torch.tensor(indices))
        assert torch.equal(inputs[0], tokens[indices][:, :longest])
        assert torch.equal(inputs[1], mask[indices][:, :longest])
        assert targets.tolist() == dataset.train_targets[indices].tolist()
    assert dataset.train_subset(2)[0][0].shape == (2, 4)


@pytest.mark.usefixtures("images")
def test_a_subset_is_the_first_samples(mirror: Path) -> None:
    """Oracle: slicing."""
    dataset = load("mnist5k", mirror / "mnist5k.npz")
    inputs, targets = dataset.train_subset(5)
    assert torch.equal(inputs, dataset.train_inputs[:5])
    assert torch.equal(targets, dataset.train_targets[:5])
    batch, _ = dataset.batch(torch.tensor([7, 0]))
    assert torch.equal(batch, dataset.train_inputs[[7, 0]])
    for n in (0, 13):
        with pytest.raises(ValueError, match=f"{n} training samples.*'mnist5k': take 1 to 12"):
            dataset.train_subset(n)


def test_the_fingerprint_is_of_contents(images: Arrays, mirror: Path, tmp_path: Path) -> None:
    """Oracles: the same arrays in a file of other bytes, another scale, another label."""
    first = load("mnist5k", mirror / "mnist5k.npz").fingerprint
    np.savez_compressed(tmp_path / "same.npz", **images)
    assert load("mnist5k", tmp_path / "same.npz").fingerprint == first
    entry = DATASETS["mnist5k"]
    DATASETS["mnist5k"] = replace(entry, std=(0.25,))
    assert load("mnist5k", tmp_path / "same.npz").fingerprint != first
    DATASETS["mnist5k"] = replace(entry, fingerprints={})
    images["y_train"][0] += 1
    write_arrays(tmp_path / "other.npz", images)
    assert load("mnist5k", tmp_path / "other.npz").fingerprint != first


def test_a_file_that_is_not_the_data_set_is_refused(images: Arrays, tmp_path: Path) -> None:
    """Oracle: files made wrong in one way each."""
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match="cannot read"):
        load("mnist5k", path)
    for key, value, message in (
        ("y_train", np.full(12, 10, np.uint8), "a label 10; expected labels from 0 to 9"),
        ("x_test", images["x_test"][:5], r"x_test has shape \(5, 28, 28\)"),
        ("x_train", images["x_train"] // 2, "x_train has sha256"),
    ):
        write_arrays(path, {**images, key: value})
        with pytest.raises(DataError, match=message):
            load("mnist5k", path)
