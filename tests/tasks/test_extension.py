"""A new task is entries and a small file: nothing in the package knows the names it has."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from checkouts import copy_checkout

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
    linear = ModelEntry(build="made_up_task:linear", kinds=("image",), sizes=("copies",))
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


SOURCE = """
import numpy as np

from sharpflat.tasks.arrays import Prepared


def rings(name, entry, *, mirror):
    random = np.random.RandomState(0)
    labels = (np.arange(60) % 2).astype(np.uint8)
    angles = random.uniform(0, 2 * np.pi, 60)
    radii = 1 + 2 * labels + 0.1 * random.randn(60)
    x = (radii * np.stack([np.cos(angles), np.sin(angles)])).T.astype(np.float32)
    arrays = {"x_train": x[:40], "y_train": labels[:40], "x_test": x[40:], "y_test": labels[40:]}
    return Prepared(arrays, source="package", origin="made up")
"""

MODEL = """
import torch
from torch import nn


class Radial(nn.Module):
    def __init__(self, features, classes, centres):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(centres, features))
        self.head = nn.Linear(centres, classes)

    def forward(self, x):
        distances = (x[:, None] - self.centres).square().sum(dim=2)
        return self.head(torch.exp(-distances / 2))


def build(dataset, *, centres):
    return Radial(*dataset.input_shape, dataset.num_classes, centres)
"""

ENTRIES = {
    "DATASETS": """
    "rings": DatasetEntry(
        prepare="sharpflat.tasks.sources.rings:rings",
        kind="tabular",
        input_shape=(2,),
        num_classes=2,
        num_train=40,
        num_test=20,
        mean=(0.0,),
        std=(1.6,),
        max_value=1.0,
    ),""",
    "MODELS": """
    "radial": ModelEntry(
        build="sharpflat.tasks.models.radial:build", kinds=("tabular",), sizes=("centres",)
    ),""",
}


def test_a_new_task_in_a_checkout_is_two_files_two_entries_and_a_config(tmp_path: Path) -> None:
    """As a new user would, in a copy of this checkout, by the command that takes all steps.

    Oracle: the parameters counted by hand, which k may reach and not exceed.
    """
    checkout = copy_checkout(tmp_path)
    tasks = checkout / "src/sharpflat/tasks"
    (tasks / "sources/rings.py").write_text(SOURCE)
    (tasks / "models/radial.py").write_text(MODEL)
    registry = (tasks / "registry.py").read_text()
    for name, entry in ENTRIES.items():
        opening = next(line for line in registry.splitlines() if line.startswith(f"{name}: "))
        registry = registry.replace(opening, opening + entry)
    (tasks / "registry.py").write_text(registry)
    tier = checkout / "workflow/config/smoke.yaml"
    values = yaml.safe_load(tier.read_text())
    parameters = 4 * 2 + (4 * 2 + 2)
    task = {
        "dataset": "rings",
        "model": "radial",
        "sizes": {"centres": 4},
        "k": parameters + 1,
        "hessian_samples": "all",
        "batch_size": 10,
        "steps": 20,
        "losses": {"cross_entropy": {"learning_rate": 0.1}},
    }
    figure = {"tasks": ["rings"], "losses": ["cross_entropy"], "methods": ["sgd", "bulk_sgd"]}
    values |= {"tasks": {"rings": task}, "figures": {"dom_bulk": figure}, "seeds": [0]}
    del values["benchmark"]
    tier.write_text(yaml.safe_dump(values))
    refused = _sharpflat(checkout, "run", "--tier", "smoke")
    assert refused.returncode == 1
    message = f"config: tasks.rings.k = {parameters + 1} exceeds its {parameters} parameters"
    assert refused.stderr.splitlines()[-1].startswith(f"sharpflat: {message}")
    assert not (checkout / "results/smoke/prefixes").exists()

    task["k"] = 2
    tier.write_text(yaml.safe_dump(values))
    done = _sharpflat(checkout, "run", "--tier", "smoke")
    assert done.returncode == 0, done.stderr
    assert (checkout / "paper_figures/smoke/dom_bulk.png").exists()
    table = pd.read_csv(checkout / "results/smoke/figures/dom_bulk.csv")
    assert set(table["num_parameters"]) == {parameters}
    losses = table[table["method"] == "sgd"]["train_loss"]
    assert losses.iloc[-1] < losses.iloc[0]


def _sharpflat(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sharpflat", *arguments]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
