"""The table behind a figure, from made-up runs on disk."""

import json
from pathlib import Path

import pandas as pd
import pytest

from sharpflat.analysis.tables import BEFORE_SWITCH, figure_table, write_table
from sharpflat.config import Config, read_tier
from sharpflat.energy_record import seal_energy
from sharpflat.plan import all_prefixes, all_runs, figure_runs
from sharpflat.seals import TRAINED, seal

ROOT = Path(__file__).parents[2]
#: As every planted summary has it.
NUM_PARAMETERS = 610


@pytest.fixture
def config() -> Config:
    return read_tier("smoke", ROOT)


@pytest.fixture
def results(config: Config, tmp_path: Path) -> Path:
    """Every prefix switches at 10 + its seed; every run has two rows and ends 5 steps later."""
    for prefix in all_prefixes(config):
        _write(tmp_path / "prefixes" / prefix.id, 10 + prefix.seed, [0, 10 + prefix.seed])
    for run in all_runs(config):
        switch = 10 + run.prefix.seed
        _write(tmp_path / "runs" / run.id, switch, [switch, switch + 5], status="diverged")
    return tmp_path


def _write(folder: Path, switch: int, steps: list[int], status: str = "finished") -> None:
    folder.mkdir(parents=True)
    summary = {"switch_step": switch, "status": status, "num_parameters": NUM_PARAMETERS}
    summary["switch_reason"] = "max_steps" if folder.name.count("seed1") else "alignment"
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = "".join(f"{step},{0.1 + step:.8g}\n" for step in steps)
    (folder / "trajectory.csv").write_text("step,train_loss\n" + rows)
    seal(folder, TRAINED)


def test_one_row_a_cell_seed_and_step(config: Config, results: Path) -> None:
    table = figure_table(config, "dom_bulk", results)
    keys = ["task", "loss", "method", "seed", "step"]
    assert not table.duplicated(keys).any()
    methods = {BEFORE_SWITCH, "sgd", "dom_sgd", "bulk_sgd"}
    assert set(table["method"]) == methods
    tasks, losses = 3, 2
    assert len(table) == 2 * len(config.seeds) * tasks * losses * len(methods)


def test_every_row_names_the_data_set_and_the_parameters(config: Config, results: Path) -> None:
    """Oracles: the configuration's task, and the planted summaries."""
    table = figure_table(config, "dom_bulk", results)
    runs = figure_runs(config, config.figures["dom_bulk"])
    datasets = {run.record.prefix.task: run.record.prefix.dataset for run in runs}
    assert len(set(datasets.values())) > 1
    assert (table["dataset"] == table["task"].map(datasets)).all()
    assert set(table["num_parameters"]) == {NUM_PARAMETERS}


def test_steps_count_from_each_seeds_own_switch(config: Config, results: Path) -> None:
    table = figure_table(config, "dom_bulk", results)
    switch = 10 + table["seed"]
    assert (table["steps_after_switch"] == table["step"] - switch).all()
    before = table[table["method"] == BEFORE_SWITCH]
    assert (before["steps_after_switch"] <= 0).all()
    assert set(table.loc[table["method"] == "bulk_sgd", "dom_weight"]) == {0.0}
    assert set(table.loc[table["method"] == "bulk_sgd", "status"]) == {"diverged"}


def test_every_row_says_what_brought_its_prefixes_switch(config: Config, results: Path) -> None:
    """Oracle: the planted summaries, in which that of seed 1 alone came by its step."""
    table = figure_table(config, "dom_bulk", results)
    reasons = table["seed"].map({0: "alignment", 1: "max_steps"})
    assert (table["switch_reason"] == reasons).all()


def test_what_varies_has_its_value_where_it_holds(config: Config, results: Path) -> None:
    table = figure_table(config, "ablation_lr", results)
    before = table["method"] == BEFORE_SWITCH
    assert set(table["varied"]) == {"learning_rate"}
    assert table.loc[before, "value"].isna().all()
    assert (table.loc[~before, "value"] == table.loc[~before, "learning_rate"]).all()
    # Every learning rate branches from one prefix a seed, of two records.
    assert before.sum() == 2 * table["seed"].nunique()


def test_the_energys_table_has_its_own_rows(config: Config, results: Path) -> None:
    figure = config.figures["curvature_energy"]
    for run in figure_runs(config, figure):
        for place, name in (("prefixes", run.record.prefix.id), ("runs", run.record.id)):
            path = results / place / name / "energy.csv"
            path.write_text("step,steps_after_switch,matrix\n7,0,hessian\n7,0,ggn\n")
            (path.parent / "energy.json").write_text("{}")
            seal_energy(path.parent)
    table = figure_table(config, "curvature_energy", results)
    assert set(table["matrix"]) == {"hessian", "ggn"}
    assert "train_loss" not in table


def test_a_table_reads_back_as_it_was_written(
    config: Config, results: Path, tmp_path: Path
) -> None:
    table = figure_table(config, "alignment", results)
    path = tmp_path / "deep" / "table.csv"
    write_table(table, path)
    pd.testing.assert_frame_equal(pd.read_csv(path), table, check_dtype=False)
