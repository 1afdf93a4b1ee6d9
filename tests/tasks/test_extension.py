"""A new task is entries and a small file: nothing in the package knows the names it has."""

from pathlib import Path

import pytest
import torch

from sharpflat.tasks.data import load, prepare
from sharpflat.tasks.entries import DatasetEntry, ModelEntry
from sharpflat.tasks.losses import load_loss
from sharpflat.tasks.models import build_model
from sharpflat.tasks.registry import DATASETS, LOSSES, MODELS

SMALL_FILE = """
import numpy as np
from torch import nn

from sharpflat.tasks.arrays import Prepared


def two_blobs(name, entry, *, mirror):
    x = np.random.RandomState(0).randn(12, 2, 2).astype(np.float32)
    y = (np.arange(12) % 2).astype(np.uint8)
    arrays = {"x_train": x[:8], "y_train": y[:8], "x_test": x[8:], "y_test": y[8:]}
    return Prepared(arrays, source="package", origin="made up")


def linear(dataset, *, copies):
    return nn.Sequential(nn.Flatten(), *[nn.Linear(4, 4) for _ in range(copies)], nn.Linear(4, 2))


def absolute(outputs, targets):
    return (outputs[:, 0] - targets).abs().mean()
"""


def test_a_task_is_added_by_entries_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the loss of the new model on the new data, computed from the parts by hand."""
    (tmp_path / "made_up_task.py").write_text(SMALL_FILE)
    monkeypatch.syspath_prepend(tmp_path)
    blobs = DatasetEntry(
        prepare="made_up_task:two_blobs",
        kind="image",
        input_shape=(1, 2, 2),
        num_classes=2,
        num_train=8,
        num_test=4,
        mean=(0.0,),
        std=(2.0,),
        max_value=1.0,
    )
    linear = ModelEntry(
        build="made_up_task:linear",
        kinds=("image",),
        sizes=("copies",),
        num_parameters=lambda dataset, sizes: 20 * sizes["copies"] + 10,
    )
    monkeypatch.setitem(DATASETS, "two_blobs", blobs)
    monkeypatch.setitem(MODELS, "linear", linear)
    monkeypatch.setitem(LOSSES, "absolute", "made_up_task:absolute")

    prepare("two_blobs", tmp_path / "blobs.npz")
    dataset = load("two_blobs", tmp_path / "blobs.npz")
    model = build_model("linear", blobs, {"copies": 1}, seed=0)
    inputs, targets = dataset.train_subset(8)
    loss = load_loss("absolute")(model(inputs), targets)

    _, first, second = model
    hidden = inputs.flatten(1) @ first.weight.T + first.bias
    outputs = hidden @ second.weight.T + second.bias
    torch.testing.assert_close(loss, (outputs[:, 0] - targets).abs().mean())
