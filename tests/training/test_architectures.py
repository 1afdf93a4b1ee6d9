"""A few steps of every model on data that packages ship, from prefix to run."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sharpflat.records import PrefixRecord, RunRecord
from sharpflat.tasks.data import load
from sharpflat.tasks.prepare import prepare
from sharpflat.training.checkpoints import read_checkpoint
from sharpflat.training.state import initial_state
from sharpflat.training.train import train_prefix, train_run

CPU = torch.device("cpu")

TASKS: dict[str, tuple[str, str, dict[str, int | str], str]] = {
    "vgg": ("digits", "vgg", {"width": 2, "depth": 2}, "cross_entropy"),
    "resnet": ("digits", "resnet", {"width": 4, "blocks": 2, "groups": 2}, "cross_entropy"),
    "vit": ("digits", "vit", {"width": 4, "depth": 1, "heads": 2, "patch": 4}, "mse"),
    "gpt": ("shakespeare5k", "gpt", {"width": 4, "depth": 1, "heads": 2}, "cross_entropy"),
    "table": (
        "breast_cancer",
        "mlp",
        {"width": 4, "depth": 2, "activation": "relu"},
        "mse",
    ),
}


def _rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "trajectory.csv").open() as file:
        return [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("task", TASKS)
def test_every_model_trains(task: str, prefix_record: PrefixRecord, tmp_path: Path) -> None:
    """Oracles: the loss at the start, and loss and accuracy of the checkpoint, prediction by
    prediction.
    """
    dataset, model, sizes, loss = TASKS[task]
    data = tmp_path / "data.npz"
    prepare(dataset, data)
    prefix = replace(
        prefix_record,
        dataset=dataset,
        model=model,
        sizes=tuple(sorted(sizes.items())),
        loss=loss,
        learning_rate=0.05,
        k=2,
        hessian_samples=100,
        tolerance=0.3,
        tracking_samples="auto",
        record_every=10,
        eigen_every=10,
        switch_alignment=None,
        switch_max_steps=10,
    )
    train_prefix(prefix, data=data, folder=tmp_path / "prefix", device=CPU)
    run = RunRecord(
        prefix=prefix,
        dom_weight=0.0,
        bulk_weight=1.0,
        steps=10,
        refresh="adaptive",
        learning_rate=0.05,
        batch_size=50,
        k=2,
        hessian_samples=100,
        record_every=10,
        eigen_every=10,
    )
    folder = tmp_path / "run"
    train_run(run, data=data, prefix_folder=tmp_path / "prefix", folder=folder, device=CPU)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    start, switch = _rows(tmp_path / "prefix")
    end = _rows(folder)[-1]
    assert end["train_loss"] < start["train_loss"]

    state = initial_state(prefix, data, device=CPU)
    state.model.load_state_dict(read_checkpoint(tmp_path / "prefix/checkpoint.pt")["model"])
    loaded = load(dataset, data)
    with torch.no_grad():
        scores = state.model(loaded.test_inputs).flatten(end_dim=-2)
    classes = loaded.test_targets.flatten()
    accuracy = (scores.max(dim=1).indices == classes).double().mean().item()
    assert switch["test_accuracy"] == pytest.approx(accuracy)
    one_hot = torch.eye(loaded.num_classes)[classes]
    expected = {
        "mse": ((scores - one_hot) ** 2).sum(dim=1).mean(),
        "cross_entropy": -(scores.log_softmax(dim=1) * one_hot).sum(dim=1).mean(),
    }[loss]
    assert switch["test_loss"] == pytest.approx(expected.item(), rel=1e-5)
