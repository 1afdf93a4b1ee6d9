"""The estimate of a tier's hours. Oracle: its formula, with times that the test sets."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from sharpflat import cost
from sharpflat.cli import main
from sharpflat.config import Config, read_tier
from sharpflat.cost import FOLLOWED_STEPS, FOLLOWING, Times, estimate
from sharpflat.plan import all_edges, all_runs, figure_runs
from sharpflat.settings import Setting
from sharpflat.tasks.registry import DATASETS

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def times_of(
    *, step: float, full_gradient: float, product: float, bulk: float = 0.0, dominant: float = 0.0
) -> Times:
    following = {"bulk": bulk, "dominant": dominant}
    return Times(step=step, full_gradient=full_gradient, product=product, following=following)


@pytest.fixture
def config() -> Config:
    return read_tier("smoke", ROOT)


@pytest.fixture
def rates(config: Config, tmp_path: Path) -> Path:
    """Finished runs: 30 products a record, and beyond them 2 a step for Bulk-SGD, 5 for others.

    With cross-entropy three times as many a step. As many over all samples, and half as many again
    over a tenth of them for other than SGD.
    """
    for run in all_runs(config):
        step = 0 if run.dom_weight == run.bulk_weight == 1 else 2 if run.dom_weight == 0 else 5
        step *= 3 if run.prefix.loss == "cross_entropy" else 1
        products = 30 * (1 + run.steps // run.eigen_every) + step * run.steps
        folder = tmp_path / "runs" / run.id
        folder.mkdir(parents=True)
        summary = {
            "switch_step": 100,
            "last_step": 100 + run.steps,
            "status": "finished",
            "num_matvecs": products - step * run.steps // 2,
            "equivalent_matvecs": products,
            "record": asdict(run),
        }
        (folder / "summary.json").write_text(json.dumps(summary))
    return tmp_path


def test_hours_are_steps_times_what_a_step_takes(
    config: Config, rates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = times_of(step=1.0, full_gradient=50.0, product=10.0, bulk=0.25, dominant=0.5)
    monkeypatch.setattr(cost, "_time", lambda settings, device: times)
    first = next(iter(estimate(config, rates, device=CPU)))
    assert first.figure == "dom_bulk"
    seeds, methods = len(config.seeds), 3
    assert first.runs == len(config.figures["dom_bulk"].cells) * methods * seeds
    expected = 0.0
    for cell in config.figures["dom_bulk"].cells:
        before, after = cell.before.switch_max_steps, cell.after.steps
        bulk, dominant = (6, 15) if cell.before.loss == "cross_entropy" else (2, 5)
        of_methods = ((before, 0, 0), (after, 0, 0), (after, 0.25, bulk), (after, 0.5, dominant))
        for steps, following, products in of_methods:
            expected += steps * (1.0 + following + 10.0 * products)
            expected += steps / cell.before.record_every * 50.0
            expected += steps / cell.before.eigen_every * 30 * 10.0
    assert first.hours == pytest.approx(seeds * expected / 3600)


def test_what_is_timed_is_said_before_it_is(
    config: Config, rates: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    def timed(settings: Setting, device: torch.device) -> Times:
        said.append(caplog.messages[-1])
        return times_of(step=1.0, full_gradient=0.0, product=0.0)

    monkeypatch.setattr(cost, "_time", timed)
    with caplog.at_level("INFO", "sharpflat"):
        next(iter(estimate(config, rates, device=CPU)))
    assert said == [
        f"timing {model}, {loss}"
        for model in ("mlp", "cnn", "transformer")
        for loss in ("mse", "cross_entropy")
    ]


def test_runs_that_an_earlier_figure_has_cost_nothing(
    config: Config, rates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cost, "_time", lambda settings, device: times_of(step=1, full_gradient=1, product=1)
    )
    costs = {found.figure: found for found in estimate(config, rates, device=CPU)}
    assert costs["alignment"].runs == costs["alignment"].hours == 0
    searches = len(all_edges(config))
    assert costs["stability_edge"].runs == 8 * searches
    assert sum(found.runs for found in costs.values()) == len(all_runs(config)) + 8 * searches


def test_times_are_those_of_the_tiers_own_models(config: Config, rates: Path) -> None:
    hours = [found.hours for found in estimate(config, rates, device=CPU)]
    assert hours[0] > 0
    assert sum(hours) < 1  # the smoke tier takes minutes


def test_following_is_timed_where_a_step_takes_no_product(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all steps but the first two, of either method."""
    timed: list[int] = []
    monkeypatch.setattr(cost, "median", lambda seconds: timed.append(len(seconds)) or seconds[0])
    before = config.figures["alignment"].cells[0].before
    prefix = next(run.prefix for run in all_runs(config) if run.prefix.task == before.task)
    entry = DATASETS[prefix.dataset]
    for weights in FOLLOWING.values():
        assert 0 < cost._following_seconds(prefix, entry, weights, CPU) < math.inf
    assert timed == [FOLLOWED_STEPS - 2] * len(FOLLOWING)


def test_what_is_like_no_finished_run_is_unknown_and_the_others_are_not(
    config: Config,
    rates: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Oracle: the same estimate with every run finished; figures that none is lacking agree."""
    times = times_of(step=1.0, full_gradient=0.0, product=0.0)
    monkeypatch.setattr(cost, "_time", lambda settings, device: times)
    monkeypatch.chdir(ROOT)
    whole = list(estimate(config, rates, device=CPU))
    lost = ("transformer", "mse", "bulk")
    for path in (rates / "runs").glob("digits_transformer-mse-*-dom0-bulk1-*/summary.json"):
        path.unlink()
    found = list(estimate(config, rates, device=CPU))
    unknown = {figure.figure for figure in found if figure.unknown}
    assert "dom_bulk" in unknown and len(unknown) < sum(figure.runs > 0 for figure in found)
    for here, there in zip(found, whole, strict=True):
        assert here.runs == there.runs
        assert here.unknown in ((), (lost,))
        assert here.unknown or here.hours == there.hours
    main(["cost", "--tier", "smoke", "--rates", str(rates)])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    lacking = f"unknown: no finished run of transformer on mse with bulk steps under {rates}"
    assert {figure.figure for figure in found if lacking in lines[figure.figure]} == unknown
    hours = sum(figure.hours for figure in found if not figure.unknown)
    time = f"{hours:9.1f} h" if hours >= 1 else f"{60 * hours:9.1f} min"
    assert f"{time}, without the {len(unknown)} that are unknown" in lines["all"]
    assert int(lines["all"].split()[1]) == sum(figure.runs for figure in found)


def test_without_any_finished_run_every_figure_is_unknown(config: Config, tmp_path: Path) -> None:
    found = list(estimate(config, tmp_path, device=CPU))
    assert all(figure.unknown and figure.hours == 0 for figure in found if figure.runs)


def test_a_search_tries_as_many_learning_rates_as_finished_ones_did(
    config: Config, rates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But no more than it may. Oracle: the cost of one of its runs."""
    times = times_of(step=1.0, full_gradient=0.0, product=0.0)
    monkeypatch.setattr(cost, "_time", lambda settings, device: times)
    searches = all_edges(config)
    for trials, expected in ((3, 3), (50, 8)):
        for number in range(3):
            folder = rates / "edges" / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "summary.json").write_text(json.dumps({"trials": trials}))
        costs = {found.figure: found for found in estimate(config, rates, device=CPU)}
        assert costs["stability_edge"].runs == expected * len(searches)
        hours = expected * sum(edge.start.steps for edge in searches) / 3600
        assert costs["stability_edge"].hours == pytest.approx(hours)


def test_the_nearest_learning_rate_and_where_it_diverges_count(
    config: Config, rates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: finished runs with squared error, at a hundred times the rate, of three steps."""
    times = times_of(step=1.0, full_gradient=0.0, product=0.0)
    monkeypatch.setattr(cost, "_time", lambda settings, device: times)
    whole = next(iter(estimate(config, rates, device=CPU))).hours
    summaries = list((rates / "runs").glob("*-mse-*/summary.json"))
    for path in summaries:
        summary = json.loads(path.read_text()) | {"last_step": 103, "status": "diverged"}
        summary["record"]["learning_rate"] *= 100
        copy = path.parents[1] / f"{path.parent.name}-fast"
        copy.mkdir()
        (copy / "summary.json").write_text(json.dumps(summary))
    assert next(iter(estimate(config, rates, device=CPU))).hours == whole
    for path in summaries:
        path.unlink()
    ended = next(iter(estimate(config, rates, device=CPU))).hours
    runs = [run.record for run in figure_runs(config, config.figures["dom_bulk"])]
    runs = [run for run in runs if run.prefix.loss == "mse"]
    saved = sum(run.steps - 3 for run in runs)
    saved += sum(prefix.switch_max_steps - 3 for prefix in {run.prefix for run in runs})
    assert whole - ended == pytest.approx(saved / 3600)


def test_products_of_a_step_grow_with_the_learning_rate(
    config: Config, rates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the same finished runs at ten times the rate cost a tenth in tracking alone."""
    times = times_of(step=0.0, full_gradient=0.0, product=1.0)
    monkeypatch.setattr(cost, "_time", lambda settings, device: times)
    shown = {run.record.id for run in figure_runs(config, config.figures["dom_bulk"])}
    hours = []
    for factor in (1, 10, 1e6):
        for path in (rates / "runs").glob("*/summary.json"):
            summary = json.loads(path.read_text())
            summary["record"]["learning_rate"] *= factor
            path.write_text(json.dumps(summary))
            if path.parent.name not in shown:
                path.unlink()
        hours.append(next(iter(estimate(config, rates, device=CPU))).hours)
    whole, tenth, records = hours
    assert 0 < records < tenth < whole
    assert tenth - records == pytest.approx((whole - records) / 10, rel=1e-4)
