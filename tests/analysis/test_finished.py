"""Tables of figures that are still being trained. Oracle: the plan, less what was taken away."""

import json
import shutil
from pathlib import Path

import pytest

from sharpflat import seals
from sharpflat.analysis.edge_table import edge_table
from sharpflat.analysis.finished import path_of, paths_left_out, seed_of, seeds_left_out
from sharpflat.analysis.tables import figure_table
from sharpflat.config import Config, read_tier
from sharpflat.plan import all_edges, all_prefixes, all_runs, figure_edges, figure_runs

ROOT = Path(__file__).parents[2]
SUMMARY = {
    "switch_step": 0,
    "switch_reason": "max_steps",
    "status": "finished",
    "num_parameters": 610,
    "eigenvalue_dominant": 40,
    "eigenvalue_bulk": 8,
}


@pytest.fixture
def config() -> Config:
    """The smoke tier, with two seeds in every figure that loses one below."""
    seeds = {"seeds": [0, 1]}
    return read_tier("smoke", ROOT, {"figures": {"ablation_lr": seeds, "stability_edge": seeds}})


@pytest.fixture
def results(config: Config, tmp_path: Path) -> Path:
    for record in (*all_prefixes(config), *all_runs(config)):
        parent = "prefixes" if record in all_prefixes(config) else "runs"
        _write(tmp_path / parent / record.id, "trajectory.csv", seals.TRAINED)
    for edge in all_edges(config):
        _write(tmp_path / "edges" / edge.id, "edge.csv", seals.EDGE)
    return tmp_path


def _write(folder: Path, name: str, seal: str) -> None:
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    columns = {"step": 0, "train_loss": 1, "learning_rate": 0.1, "stability": "stable"}
    columns |= dict.fromkeys(("start_train_loss", "final_train_loss", "highest_train_loss"), 1)
    (folder / name).write_text(",".join(columns) + "\n" + ",".join(map(str, columns.values())))
    seals.seal(folder, seal)


def test_a_seed_without_one_of_its_runs_is_left_out_and_said(config: Config, results: Path) -> None:
    runs = figure_runs(config, config.figures["ablation_lr"])
    taken = runs[-1]
    shutil.rmtree(results / "runs" / taken.record.id)
    with pytest.raises(seals.DamagedResultError):
        figure_table(config, "ablation_lr", results)
    whole = {seed_of(run) for run in runs}
    table = figure_table(config, "ablation_lr", results, finished=True)
    left = set(table[["task", "loss", "seed"]].itertuples(index=False, name=None))
    assert left == whole - {seed_of(taken)}
    assert seeds_left_out(config, "ablation_lr", table) == [seed_of(taken)]
    # Every seed that is left has every value and method.
    assert len(table[table["method"] != "before_switch"]) == len(runs) * len(left) // len(whole)


def test_a_seed_without_the_prefix_of_its_runs_is_left_out(config: Config, results: Path) -> None:
    taken = figure_runs(config, config.figures["ablation_lr"])[0]
    shutil.rmtree(results / "prefixes" / taken.record.prefix.id)
    table = figure_table(config, "ablation_lr", results, finished=True)
    assert seeds_left_out(config, "ablation_lr", table) == [seed_of(taken)]


def test_a_path_of_which_no_seed_is_whole_is_left_out_and_said(
    config: Config, results: Path
) -> None:
    """The named methods stay, and so do the other paths, whose points may be the same runs."""
    runs = figure_runs(config, config.figures["interpolation"])
    taken = next(run for run in runs if run.method.name == "convex(0.75)")
    shutil.rmtree(results / "runs" / taken.record.id)
    table = figure_table(config, "interpolation", results, finished=True)
    assert paths_left_out(config, "interpolation", table) == [path_of(taken)]
    assert seeds_left_out(config, "interpolation", table) == []
    others = {run.method.name for run in runs if not run.method.name.startswith("convex(")}
    assert set(table["method"]) == others | {"before_switch"}
    damped = next(run for run in runs if run.method.name == "sgd_to_bulk(0.5)")
    shutil.rmtree(results / "runs" / damped.record.id)
    table = figure_table(config, "interpolation", results, finished=True)
    assert paths_left_out(config, "interpolation", table) == [path_of(damped), path_of(taken)]


def test_a_path_of_which_one_seed_is_whole_costs_the_other_seeds(
    config: Config, results: Path
) -> None:
    two = {"seeds": [0, 1], "methods": ["sgd", "sgd_to_bulk(0.5)"]}
    config = read_tier("smoke", ROOT, {"figures": {"ablation_lr": two}})
    damped = figure_runs(config, config.figures["ablation_lr"])
    for record in {run.record for run in damped}:
        if not (results / "runs" / record.id).exists():
            _write(results / "runs" / record.id, "trajectory.csv", seals.TRAINED)
    taken = next(run for run in damped if run.method.name == "sgd_to_bulk(0.5)")
    shutil.rmtree(results / "runs" / taken.record.id)
    table = figure_table(config, "ablation_lr", results, finished=True)
    assert paths_left_out(config, "ablation_lr", table) == []
    assert seeds_left_out(config, "ablation_lr", table) == [seed_of(taken)]


def test_a_whole_figure_loses_nothing(config: Config, results: Path) -> None:
    table = figure_table(config, "dom_bulk", results, finished=True)
    assert table.equals(figure_table(config, "dom_bulk", results))
    assert seeds_left_out(config, "dom_bulk", table) == []
    assert paths_left_out(config, "dom_bulk", table) == []


def test_runs_without_their_energy_are_not_finished(config: Config, results: Path) -> None:
    with pytest.raises(ValueError, match="no seed of any task and loss has all of its runs"):
        figure_table(config, "curvature_energy", results, finished=True)


def test_a_seed_without_one_of_its_searches_is_left_out(config: Config, results: Path) -> None:
    taken = figure_edges(config, config.figures["stability_edge"])[0]
    shutil.rmtree(results / "edges" / taken.record.id)
    table = edge_table(config, "stability_edge", results, finished=True)
    assert seeds_left_out(config, "stability_edge", table) == [seed_of(taken)]


def test_what_is_there_and_was_changed_is_refused(config: Config, results: Path) -> None:
    run = figure_runs(config, config.figures["dom_bulk"])[0].record
    (results / "runs" / run.id / "trajectory.csv").write_text("step,train_loss\n0,0.5\n")
    with pytest.raises(seals.DamagedResultError):
        figure_table(config, "dom_bulk", results, finished=True)
