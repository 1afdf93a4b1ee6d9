"""A new task is entries and a small file: nothing in the package knows the names it has."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from sharpflat import layout
from sharpflat.cli import main
from sharpflat.config import parse_config, read_tier
from sharpflat.plan import all_prefixes, all_runs
from sharpflat.tasks.data import load, prepare
from sharpflat.tasks.entries import DatasetEntry, ModelEntry
from sharpflat.tasks.losses import load_loss
from sharpflat.tasks.models import build_model
from sharpflat.tasks.registry import DATASETS, LOSSES, MODELS

ROOT = Path(__file__).parents[2]

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


@pytest.fixture
def blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetEntry:
    """The entries of a new data set, model and loss."""
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
    return blobs


def test_entries_alone_make_a_data_set_a_model_and_a_loss(
    blobs: DatasetEntry, tmp_path: Path
) -> None:
    """Oracle: the loss of the new model on the new data, computed from the parts by hand."""
    prepare("two_blobs", tmp_path / "blobs.npz")
    dataset = load("two_blobs", tmp_path / "blobs.npz")
    model = build_model("linear", blobs, {"copies": 1}, seed=0)
    inputs, targets = dataset.train_subset(8)
    loss = load_loss("absolute")(model(inputs), targets)

    _, first, second = model
    hidden = inputs.flatten(1) @ first.weight.T + first.bias
    outputs = hidden @ second.weight.T + second.bias
    torch.testing.assert_close(loss, (outputs[:, 0] - targets).abs().mean())


def test_a_task_of_new_entries_is_a_few_lines_of_config(
    blobs: DatasetEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From data to the figure's table, by the commands that the workflow runs."""
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    monkeypatch.chdir(tmp_path)
    task = {
        "dataset": "two_blobs",
        "model": "linear",
        "sizes": {"copies": 2},
        "k": 2,
        "hessian_samples": "all",
        "batch_size": 4,
        "steps": 10,
        "losses": {"mse": {"learning_rate": 0.01}},
    }
    figure = {"tasks": ["blobs"], "losses": ["mse"], "methods": ["sgd", "bulk_sgd"]}
    values = dict(read_tier("smoke", tmp_path).raw)
    values |= {"tasks": {"blobs": task}, "figures": {"dom_bulk": figure}}
    del values["benchmark"]
    config = parse_config(values, tmp_path)
    Path("config.json").write_text(json.dumps(values))
    main(["data", "two_blobs", str(layout.dataset("two_blobs"))])
    main(["prefix", "config.json", *(record.id for record in all_prefixes(config))])
    main(["train", "config.json", *(record.id for record in all_runs(config))])
    main(["table", "config.json", "dom_bulk", "table.csv"])
    table = pd.read_csv("table.csv")
    assert set(table["method"]) == {"before_switch", "sgd", "bulk_sgd"}
    assert table["train_loss"].notna().all()
