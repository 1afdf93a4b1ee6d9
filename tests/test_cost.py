"""The estimate of a tier's hours. Oracle: its formula, with times that the test sets."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from sharpflat import cost
from sharpflat.config import Config, read_tier
from sharpflat.cost import Times, UnknownRateError, estimate
from sharpflat.plan import all_runs

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


@pytest.fixture
def config() -> Config:
    return read_tier("smoke", ROOT)


@pytest.fixture
def rates(config: Config, tmp_path: Path) -> Path:
    """Finished runs: 1 product a step for SGD, 2 for Bulk-SGD, 5 where a part is sharp."""
    for run in all_runs(config):
        products = 1 if run.dom_weight == run.bulk_weight == 1 else 2 if run.dom_weight == 0 else 5
        folder = tmp_path / "runs" / run.id
        folder.mkdir(parents=True)
        summary = {
            "switch_step": 100,
            "last_step": 100 + run.steps,
            "num_matvecs": products * run.steps,
            "record": asdict(run),
        }
        (folder / "summary.json").write_text(json.dumps(summary))
    return tmp_path


def test_hours_are_steps_times_what_a_step_takes(
    config: Config, rates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = Times(step=1.0, full_gradient=50.0, product=10.0)
    monkeypatch.setattr(cost, "_time", lambda settings, device: times)
    first = next(iter(estimate(config, rates, device=CPU)))
    assert first.figure == "dom_bulk"
    seeds, methods = len(config.seeds), 3
    assert first.runs == len(config.figures["dom_bulk"].cells) * methods * seeds
    expected = 0.0
    for cell in config.figures["dom_bulk"].cells:
        before, after = cell.before.switch_max_steps, cell.after.steps
        for steps, products in ((before, 1), (after, 1), (after, 2), (after, 5)):
            records = steps / cell.before.record_every
            expected += steps * (1.0 + 10.0 * products) + records * 50.0
    assert first.hours == pytest.approx(seeds * expected / 3600)


def test_runs_that_an_earlier_figure_has_cost_nothing(
    config: Config, rates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cost, "_time", lambda settings, device: Times(step=1, full_gradient=1, product=1)
    )
    costs = {found.figure: found for found in estimate(config, rates, device=CPU)}
    assert costs["alignment"].runs == costs["alignment"].hours == 0
    assert sum(found.runs for found in costs.values()) == len(all_runs(config))


def test_times_are_those_of_the_tiers_own_models(config: Config, rates: Path) -> None:
    hours = [found.hours for found in estimate(config, rates, device=CPU)]
    assert hours[0] > 0
    assert sum(hours) < 1  # the smoke tier takes minutes


def test_without_a_finished_run_there_is_nothing_to_learn_from(
    config: Config, tmp_path: Path
) -> None:
    with pytest.raises(UnknownRateError, match=f"no finished run under {tmp_path}"):
        next(iter(estimate(config, tmp_path, device=CPU)))
