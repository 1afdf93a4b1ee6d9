"""What the interactive figures draw. Oracle: small tables whose series can be counted by hand."""

import base64
import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sharpflat.report.explorer import MAX_RECORDS, Explorer
from sharpflat.report.labels import STABILITY_COLOURS
from sharpflat.report.page import write_report
from sharpflat.report.run_index import RunIndex

from .conftest import METHODS, RATES, STEPS, TASKS, summaries, table


def _explore(rows: pd.DataFrame, kind: str = "of_my_own") -> tuple[dict[str, Any], Explorer]:
    explorer = Explorer(RunIndex(summaries()))
    figure = explorer.add(kind, rows)
    assert figure is not None
    return figure, explorer


def _names(figure: dict[str, Any]) -> list[str]:
    return [dimension["name"] for dimension in figure["dimensions"]]


def test_a_table_of_curves_has_a_series_a_task_method_value_and_seed() -> None:
    figure, _ = _explore(table(varied=True))
    assert figure["panel_keys"] == [f"{task}, mse" for task in TASKS]
    assert _names(figure) == ["method", "value", "seed"]
    assert figure["dimensions"][1]["label"] == "learning rate"
    assert len(figure["series"]) == len(TASKS) * len(METHODS) * len(RATES) * 2
    assert figure["x"] == ["steps_after_switch", "step"]
    assert figure["y"] == ["train_loss", "alignment"]


def test_every_curve_finds_its_run_also_where_runs_differ_by_a_setting_alone() -> None:
    figure, _ = _explore(table(varied=True))
    method, rate, seed = (dimension["values"] for dimension in figure["dimensions"])
    for panel, (a, b, c), _, run, ending in figure["series"]:
        assert run.startswith(f"{TASKS[panel]}-{method[a]}-lr{rate[b]:g}-seed{seed[c]:g}-")
        diverges = (method[a], rate[b], seed[c]) == ("sgd", RATES[1], 1)
        assert ending == ("diverged" if diverges else "stable")


def test_a_curve_whose_run_the_table_does_not_tell_has_none() -> None:
    rows = table(varied=True).drop(columns=["learning_rate", "varied"])
    figure, _ = _explore(rows[rows["method"] != "sgd"])  # SGD's runs differ by how they ended
    assert {series[3] for series in figure["series"]} == {None}


def test_runs_that_diverged_alike_are_told_apart_by_how_long_they_were_to_be() -> None:
    """As where one figure trains for 20 steps and another for 10 from the same checkpoint."""
    longer = summaries()[2 * len(RATES) * len(METHODS) // 4 :]
    shorter = [
        {**run, "id": f"{run['id']}-short", "record": {**run["record"], "steps": 10}}
        for run in longer
    ]
    rows = table(varied=True)
    rows = rows[(rows["task"] == TASKS[1]) & (rows["seed"] == 1) & (rows["learning_rate"] == 0.1)]
    own = rows[rows["method"] == "sgd"]
    index = RunIndex([*longer, *shorter])
    assert not str(index.find(own, longest=20)).endswith("-short")
    assert str(index.find(own, longest=10)).endswith("-short")
    assert index.find(own) is None


def test_equal_trajectories_are_stored_once_for_all_figures() -> None:
    explorer = Explorer(RunIndex(summaries()))
    explorer.add("dom_bulk", table(varied=False))
    explorer.add("generalization", table(varied=False))
    assert len(explorer.data()["trajectories"]) == len(TASKS) * len(METHODS) * 2


def test_of_a_long_curve_every_nth_record_and_the_last_are_kept_and_it_is_counted() -> None:
    steps = np.arange(10 * MAX_RECORDS)
    losses = 1.0 / (1 + steps)
    rows = pd.DataFrame({"method": "sgd", "seed": 0, "step": steps, "train_loss": losses})
    figure, explorer = _explore(rows)
    (stored,) = explorer.data()["trajectories"]
    assert figure["thinned"] == 1
    assert stored["step"] == [*range(0, 10 * MAX_RECORDS, 10), 10 * MAX_RECORDS - 1]


def test_what_a_long_curve_recorded_seldom_is_not_thinned_away() -> None:
    steps = np.arange(10 * MAX_RECORDS)
    seldom = np.where(steps % 25 == 3, 1.0, np.nan)  # never where every tenth record is
    rows = pd.DataFrame({"method": "sgd", "seed": 0, "step": steps, "train_loss": 1.0})
    _, explorer = _explore(rows.assign(alignment=seldom))
    (stored,) = explorer.data()["trajectories"]
    assert stored["alignment"].count(1) == np.isfinite(seldom).sum()


def test_a_setting_of_a_new_kind_of_figure_is_a_choice_where_it_tells_series_apart() -> None:
    rows = table(varied=False)
    both = pd.concat([rows.assign(optimizer="momentum"), rows.assign(optimizer="adam")])
    both = both[["optimizer", *rows]]  # settings stand before the steps
    figure, _ = _explore(both)
    assert _names(figure) == ["method", "seed", "optimizer"]
    assert len(figure["series"]) == 2 * len(TASKS) * len(METHODS) * 2


def test_words_after_the_step_and_the_first_of_numbered_columns_are_taken() -> None:
    rows = table(varied=False).assign(matrix="hessian", eigenvalue_1=2.0, eigenvalue_2=1.0)
    figure, _ = _explore(pd.concat([rows, rows.assign(matrix="ggn")]))
    assert "matrix" in _names(figure)
    assert figure["y"] == ["train_loss", "alignment", "eigenvalue_1"]


def test_free_weights_are_named_by_their_numbers() -> None:
    rows = table(varied=False).assign(method="weights(0.5, 2)", dom_weight=0.5, bulk_weight=2.0)
    figure, _ = _explore(rows)
    assert figure["dimensions"][0]["labels"] == ["a = 0.5, b = 2"]
    assert figure["sgd"] is None


def test_a_table_without_steps_has_a_point_a_row() -> None:
    rows = pd.DataFrame({"task": "mnist_mlp", "solver": ["a", "a", "b"], "size": [1, 2, 1]})
    rows = rows.assign(seconds=[0.5, math.nan, 2.0])
    figure, explorer = _explore(rows, "eigensolver_cost")
    assert (figure["kind"], figure["first"], _names(figure)) == ("points", "seconds", ["solver"])
    stored = explorer.data()["trajectories"]
    assert stored == [{"size": [1, 2], "seconds": [0.5, None]}, {"size": [1], "seconds": [2]}]


def test_trials_are_coloured_by_how_they_ended_from_calm_to_warning() -> None:
    endings = ["unstable", "stable", "diverged"]
    rows = pd.DataFrame({"method": "sgd", "seed": 0, "learning_rate": [2.0, 1.0, 3.0]})
    rows = rows.assign(stability=endings, start_train_loss=1.0, highest_train_loss=[2.0, 1.0, 9.0])
    figure, _ = _explore(rows, "stability_edge")
    assert (figure["x"][0], figure["first"]) == ("learning_rate", "highest_train_loss")
    stability = figure["dimensions"][_names(figure).index("stability")]
    assert stability["values"] == ["stable", "unstable", "diverged"]
    assert [light for light, _ in stability["colours"]] == list(STABILITY_COLOURS.values())


def test_a_table_of_words_alone_is_not_drawn() -> None:
    explorer = Explorer(RunIndex([]))
    assert explorer.add("of_my_own", pd.DataFrame({"answer": ["yes", "no"]})) is None


def test_the_page_is_small_and_holds_what_was_recorded(
    small_tier: dict[str, Any], tmp_path: Path
) -> None:
    write_report(tmp_path / "report.html", **small_tier)
    text = (tmp_path / "report.html").read_text()
    found = re.search(r'id="data">([^<]+)<', text)
    assert found is not None
    data = json.loads(gzip.decompress(base64.b64decode(found[1])))
    (_, _, trajectory, run, _) = data["figures"]["dom_bulk"]["series"][0]
    assert data["trajectories"][trajectory]["steps_after_switch"] == list(STEPS)
    assert data["runs"][run]["settings"]["learning_rate"] == "0.01"
    assert set(data["figures"]) == {"dom_bulk", "ablation_lr", "of_my_own"}
    assert len(text) < 2.5e6  # a quarter of what the page of a whole tier may be: Plotly's share


def test_a_table_of_an_earlier_version_has_a_page_that_says_what_it_lacks(
    small_tier: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "dom_bulk.csv"
    table(varied=False).drop(columns=["dom_weight", "bulk_weight"]).to_csv(path, index=False)
    figures = {"dom_bulk": ("dom_bulk", path, small_tier["figures"]["dom_bulk"][2])}
    write_report(tmp_path / "report.html", **{**small_tier, "figures": figures})
    assert "This table has no column" in (tmp_path / "report.html").read_text()


def test_a_figure_of_a_users_name_is_described_by_its_kind(
    small_tier: dict[str, Any], tmp_path: Path
) -> None:
    solves = {"task": "mnist_mlp", "mode": "cold", "method": "a", "reached": True, "seconds": 2.5}
    pd.DataFrame([solves]).to_csv(tmp_path / "mine.csv", index=False)
    picture = small_tier["figures"]["dom_bulk"][2]
    figures = {"mine": ("eigensolver_cost", tmp_path / "mine.csv", picture)}
    write_report(tmp_path / "report.html", **{**small_tier, "figures": figures})
    assert "mnist_mlp: a 2.5" in (tmp_path / "report.html").read_text()
