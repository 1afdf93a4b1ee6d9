"""From a setting of the configuration to what is measured."""

from __future__ import annotations

from pathlib import Path

import torch

from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.settings import Setting
from sharpflat.tasks.data import load
from sharpflat.tasks.models import build_model
from sharpflat.tasks.registry import DATASETS


def benchmark_task(
    setting: Setting,
    *,
    data: Path,
    learning_rates: tuple[float, ...],
    seed: int,
    device: torch.device,
) -> BenchmarkTask:
    """The task of a setting, at its initial parameters.

    Args:
        setting: Names the data set, the model, the loss and k.
        data: The data set's canonical file.
        learning_rates: Of the tracked runs.
        seed: Initialises the model.
        device: Where it is measured.
    """
    dataset = load(setting.dataset, data, device=device)
    model = build_model(setting.model, DATASETS[setting.dataset], dict(setting.sizes), seed=seed)
    inputs, targets = dataset.train_subset(setting.hessian_samples)
    return BenchmarkTask(
        name=setting.task,
        model=model.to(device),
        loss_name=setting.loss,
        inputs=inputs,
        targets=targets,
        k=setting.k,
        learning_rates=learning_rates,
    )
