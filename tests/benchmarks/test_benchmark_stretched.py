"""The comparison of stretched optimizers, on a task of seconds. Oracles are named with each."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from checkouts import ROOT

from sharpflat.benchmarks import stretched
from sharpflat.benchmarks.stretched import climb, summarise, train
from sharpflat.benchmarks.stretched_setting import (
    CANDIDATES,
    COMPARISONS,
    JUDGED_SEEDS,
    RECORD_EVERY,
    Comparison,
    setting_of,
)
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.optimizers import parse_optimizer
from sharpflat.settings import Setting
from sharpflat.training.batches import BatchOrder
from sharpflat.training.randomness import stream_seed


@pytest.fixture
def setting() -> Setting:
    return replace(setting_of(COMPARISONS[0], ROOT), batch_size=20, hessian_samples=60, k=3)


def test_plain_training_is_torchs(task: BenchmarkTask, setting: Setting) -> None:
    """Oracle: torch's SGD on the same batches, step by step."""
    start = task.theta()
    run = train(task, setting, CANDIDATES["sgd"], 0.1, steps=RECORD_EVERY, seed=3)
    after = task.theta()
    task.move_to(start)
    optimizer = torch.optim.SGD(task.parameters, lr=0.1)
    order = BatchOrder(60, 20, seed=stream_seed(3, "batches"))
    losses = []
    for step in range(RECORD_EVERY + 1):
        losses.append(task.loss(task.outputs(task.inputs), task.targets).item())
        if step == RECORD_EVERY:
            break
        rows = order.indices(step)
        optimizer.zero_grad()
        task.loss(task.outputs(task.inputs[rows]), task.targets[rows]).backward()
        optimizer.step()
    assert torch.equal(after, task.theta())
    assert (run.steps, run.losses) == ([0, RECORD_EVERY], [losses[0], losses[-1]])
    assert run.final_loss == losses[-1]
    assert (run.products, run.seconds[0]) == (0, 0)
    assert run.seconds[1] > 0


@pytest.mark.parametrize("name", [name for name in CANDIDATES if CANDIDATES[name].base])
def test_stretched_training_falls_and_counts_its_products(
    task: BenchmarkTask, setting: Setting, name: str
) -> None:
    """Oracle: the loss before; every solve multiplies k + 1 vectors or more."""
    run = train(task, setting, CANDIDATES[name], CANDIDATES[name].start / 3, steps=10, seed=0)
    assert run.final_loss < run.losses[0]
    assert run.products > setting.k


def test_a_run_that_diverges_ends(task: BenchmarkTask, setting: Setting) -> None:
    """Oracle: a learning rate of ten thousand."""
    run = train(task, setting, CANDIDATES["sgd"], 1e4, steps=30, seed=0)
    assert (run.status, run.final_loss, run.steps) == ("diverged", math.inf, [0])


@pytest.mark.parametrize("best", [0.02, 0.3, 1.0, 1.2, 5.0, 80.0])
def test_the_climb_takes_its_tries_towards_the_best(best: float) -> None:
    """Oracle: a valley on a log scale; four moves by a factor of three reach 81."""
    losses = climb(lambda value: abs(math.log(value / best)), 1.0, 5)
    assert len(losses) == 5
    found = min(losses, key=lambda value: losses[value])
    assert abs(math.log(found / best)) <= math.log(3)


def test_a_value_that_diverges_is_not_chosen() -> None:
    """Oracle: infinite losses above a bound."""
    losses = climb(lambda value: math.inf if value > 2 else 1 / value, 1.0, 5)
    assert min(losses, key=lambda value: losses[value]) == pytest.approx(3**0.5)


@pytest.mark.parametrize(
    ("loss_of", "best"),
    [
        (lambda value: 1.0, 1.0),  # ties all along: the first stays
        (lambda value: 0.0 if value < 1 else value, 1 / 3),
        (lambda value: math.inf if value > 0.05 else 1 / value, 1 / 27),  # the start diverges
        (lambda value: math.inf, 1.0),
    ],
)
def test_every_climb_takes_all_its_tries(loss_of: Callable[[float], float], best: float) -> None:
    """Oracle: the number asked for, of different values, and the least of them by hand."""
    losses = climb(loss_of, 1.0, 7)
    assert len(losses) == 7
    assert losses == {value: loss_of(value) for value in losses}
    found = min(losses, key=lambda value: losses[value])
    assert best <= found * (1 + 1e-9)
    assert found <= best * 3


def test_a_start_that_diverges_goes_down_until_finite() -> None:
    """Oracle: the values by hand; on from the first finite one until it has two neighbours."""
    losses = climb(lambda value: math.inf if value > 0.05 else 1.0 / value, 1.0, 6)
    values = [3.0**exponent for exponent in (0, -1, -2, -3, -4, -2.5)]
    assert list(losses) == pytest.approx(values)


def test_no_judged_seed_tunes_and_every_optimizer_has_its_base() -> None:
    """Oracle: the protocol that the page states."""
    for comparison in COMPARISONS:
        assert not set(comparison.tuning_seeds) & set(JUDGED_SEEDS)
        assert set(comparison.without) <= set(CANDIDATES)
    for candidate in CANDIDATES.values():
        parse_optimizer(candidate.optimizer)
        if candidate.base:
            assert CANDIDATES[candidate.base].optimizer == candidate.optimizer


def test_tables_are_put_together_comparison_by_comparison(
    task: BenchmarkTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: what was asked for; a second time replaces a comparison's rows and no others."""
    start = task.theta()

    def same_task(*_: object, **__: object) -> BenchmarkTask:
        task.move_to(start)
        return task

    deterministic = torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(stretched, "benchmark_task", same_task)
    monkeypatch.setattr(stretched, "JUDGED_SEEDS", (0, 1))
    monkeypatch.setattr(stretched, "TRIES", 2)
    comparisons = [
        Comparison(task="cancer_mlp", loss=loss, batch_size=20, hessian_samples=60, steps=10)
        for loss in ("mse", "cross_entropy")
    ]
    for chosen in (comparisons, comparisons[:1]):
        monkeypatch.setattr(stretched, "COMPARISONS", chosen)
        stretched.main(tmp_path, ["cancer_mlp"], ROOT)
    torch.use_deterministic_algorithms(deterministic)
    runs = pd.read_csv(tmp_path / "stretched.csv")
    assert set(runs.groupby(["loss", "optimizer"]).size()) == {2 + 2}
    assert list(runs["loss"].unique()) == ["cross_entropy", "mse"]
    judged = runs[runs["role"] == "judged"]
    assert (judged.groupby(["loss", "optimizer"])["value"].nunique() == 1).all()
    summary = pd.read_csv(tmp_path / "stretched_summary.csv")
    others = len(("adamw", "muon"))
    pairs = 2 * (1 + others) + 2 * others  # AdamW is the base of two
    assert len(summary) == 2 * 3 * pairs
    before = (tmp_path / "stretched_summary.csv").read_bytes()
    summarise(tmp_path)
    assert (tmp_path / "stretched_summary.csv").read_bytes() == before
