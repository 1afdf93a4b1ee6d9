"""The workflow itself: every tier's DAG, the smoke tier end to end, and what reruns after a change.

Each test runs the real Snakemake on a copy of the checkout.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkouts import ROOT, copy_checkout, jobs_of, snakemake, touch_everything

from sharpflat.analysis.claims import CLAIMS, VERDICTS
from sharpflat.analysis.statistics import run_statistics
from sharpflat.config import read_tier
from sharpflat.plan import figure_runs


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the smoke tier has run."""
    folder = copy_checkout(tmp_path_factory.mktemp("smoke"))
    snakemake(folder, "all", "--config", "tier=smoke")
    return folder


def test_the_smoke_tier_has_a_complete_dag(checkout: Path) -> None:
    """Those of the other tiers are the README's commands."""
    jobs = jobs_of(snakemake(checkout, "all", "--dry-run", "--config", "tier=smoke"))
    assert jobs["prepare_data"] == 3
    assert (
        jobs["resolve_config"]
        == jobs["list_runs"]
        == jobs["decide_claims"]
        == jobs["write_report"]
        == 1
    )
    assert jobs["collect_table"] == jobs["draw_figure"] >= 7
    assert jobs["prefix"] >= 1
    assert jobs["train"] >= 4


@pytest.mark.parametrize("figure", ["dom_bulk", "alignment", "curvature_energy"])
def test_a_figure_that_is_asked_for_trains_its_runs_alone(checkout: Path, figure: str) -> None:
    output = snakemake(checkout, figure, "--dry-run", "--config", "tier=smoke")
    jobs = jobs_of(output)
    assert jobs[figure] == jobs["draw_figure"] == jobs["collect_table"] == jobs["list_runs"] == 1
    study = read_tier("smoke", ROOT)
    shown = [run.record for run in figure_runs(study, study.figures[figure])]
    for folder, expected in (
        ("runs", {run.id for run in shown}),
        ("prefixes", {run.prefix.id for run in shown}),
    ):
        trained = re.findall(rf"results/smoke/{folder}/(\S+)/trajectory.csv \(update\)", output)
        assert sorted(trained) == sorted(expected)


@pytest.mark.parametrize(("device", "gpus"), [("auto", 0), ("cuda", 1)])
def test_training_asks_a_cluster_for_a_gpu_where_the_config_wants_one(
    checkout: Path, device: str, gpus: int
) -> None:
    asked = ("--config", "tier=smoke", f"device={device}")
    output = snakemake(checkout, "dom_bulk", "--dry-run", *asked)
    assert f"gpu={gpus}," in output
    assert f"gpu={1 - gpus}," not in output


@pytest.mark.parametrize(
    ("setting", "fragments"),
    [
        ("tier=desktop", ("tier = 'desktop'", "smoke, laptop, paper")),
        ("sedes=3", ("'sedes'", "allowed are tier")),
    ],
)
def test_a_wrong_setting_stops_before_any_job(
    checkout: Path, setting: str, fragments: tuple[str, ...]
) -> None:
    output = snakemake(checkout, "all", "--config", setting, fails=True)
    assert all(fragment in output for fragment in fragments)
    assert "Job stats" not in output


def test_nothing_in_a_name_reaches_a_shell(tmp_path: Path) -> None:
    """The checkout's folder, and the mirror's, which the one job that fails here is given."""
    folder = tmp_path / 'it\'s; touch hacked & "$(touch hacked)" #'
    folder.mkdir()
    copy_checkout(folder)
    data = ("results/data/digits.npz", "results/data/mnist5k.npz")
    mirror = "a 'b'; touch hacked"
    asked = (*data, "--keep-going", "--config", "tier=smoke", f"data_mirror={mirror}")
    snakemake(folder, *asked, fails=True)
    assert (folder / data[0]).stat().st_size > 100_000
    said = (folder / "results/smoke/logs/data/mnist5k.log").read_text()
    assert f"data_mirror {mirror!r} has no file mnist5k.npz" in said
    assert not list(tmp_path.rglob("hacked"))


def test_another_working_directory_is_refused(checkout: Path, tmp_path: Path) -> None:
    here = ("all", "--dry-run", "--snakefile", str(checkout / "Snakefile"))
    output = snakemake(tmp_path, *here, fails=True)
    assert f"the working directory is {tmp_path}" in output
    assert f"change to {checkout}, or give --directory" in output
    assert list(tmp_path.iterdir()) == []
    asked = ("--directory", str(checkout), "--config", "tier=smoke")
    assert jobs_of(snakemake(tmp_path, *here, *asked))["write_report"] == 1


def test_a_folder_that_neither_python_nor_snakemake_takes_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a{b}:c"
    folder.mkdir()
    copy_checkout(folder)
    output = snakemake(folder, "all", "--dry-run", fails=True)
    assert f"{folder} holds : and {{ and }}" in output
    assert "rename or move the checkout" in output


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of which Snakemake believes that the smoke tier and its benchmarks are made."""
    folder = copy_checkout(tmp_path_factory.mktemp("finished"))
    touch_everything(folder, *EVERYTHING)
    return folder


def test_snakemakes_report_holds_every_figure_with_its_caption(finished: Path) -> None:
    output = snakemake(finished, *EVERYTHING, "--report", "report.html")
    page = (finished / "report.html").read_text()
    for figure in (*read_tier("smoke", ROOT).figures, "eigensolver_cost"):
        assert f"Adding {figure}.png" in output
    for category in ("Figures", "Tables", "Claims", "Runs", "Page"):
        assert f'"{category}"' in page
    for stretch in ("from one checkpoint", "found by bisection", "set in", "smoke settings"):
        assert stretch in page


EVERYTHING = ("all", "benchmarks", "--config", "tier=smoke")
PACKAGE = "src/sharpflat"
TRAINED = {
    "prefix": 8,
    "train": 19,
    "energy": 3,
    "collect_table": 10,
    "decide_claims": 1,
    "write_report": 1,
}
UNTRAINED = {"prepare_data": 0, "prefix": 0, "train": 0}


def _appended(text: str) -> Callable[[str], str]:
    return lambda source: f"{source}\n{text}\n"


def _replaced(old: str, new: str) -> Callable[[str], str]:
    def change(source: str) -> str:
        assert old in source
        return source.replace(old, new, 1)

    return change


#: What is changed, and the jobs that it asks for, each with the number of its rules.
CHANGES: dict[str, tuple[dict[str, Callable[[str], str]], dict[str, int]]] = {
    "comment, docstring, module and entry that nothing uses": (
        {
            f"{PACKAGE}/training/loop.py": _appended("# another word"),
            f"{PACKAGE}/config.py": _replaced('"""', '"""Truly: '),
            f"{PACKAGE}/curvature/trace.py": _appended("TRACE = 1"),
            f"{PACKAGE}/curvature/__init__.py": _appended(
                "from sharpflat.curvature.trace import TRACE"
            ),
            f"{PACKAGE}/tasks/registry.py": _appended(
                'DATASETS["more"] = DATASETS["digits"]\nMODELS["more"] = MODELS["mlp"]\n'
                'LOSSES["more"] = LOSSES["mse"]'
            ),
            f"{PACKAGE}/__init__.py": _replaced("__version__ =", "__version__ = '9' +"),
        },
        {},
    ),
    "training": (
        {f"{PACKAGE}/training/loop.py": _appended("MORE = 1")},
        TRAINED | {"prepare_data": 0, "measure_eigensolvers": 0},
    ),
    "configuration": (
        {f"{PACKAGE}/config.py": _appended("MORE = 1")},
        TRAINED | {"prepare_data": 0},
    ),
    "settings": (
        {f"{PACKAGE}/settings.py": _appended("MORE = 1")},
        TRAINED | {"prepare_data": 0},
    ),
    "an entry, and a model": (
        {
            f"{PACKAGE}/tasks/registry.py": _replaced("(0.1307,)", "(0.1308,)"),
            f"{PACKAGE}/tasks/models/cnn.py": _appended("MORE = 1"),
        },
        {"prepare_data": 1, "prefix": 6, "train": 15, "energy": 3, "measure_eigensolvers": 1},
    ),
    "how the energy is measured": (
        {f"{PACKAGE}/curvature/energy.py": _appended("MORE = 1")},
        {
            "prepare_data": 0,
            "prefix": 0,
            "train": 0,
            "energy": 3,
            "collect_table": 1,
            "measure_eigensolvers": 0,
        },
    ),
    "torch in the lock": (
        {"envs/requirements.lock": _replaced("torch==2", "torch==3")},
        TRAINED | {"prepare_data": 0, "measure_eigensolvers": 1},
    ),
    "torch as it is installed": (
        {"src/torch-9.egg-info": _appended("Name: torch\nVersion: 9")},
        TRAINED | {"prepare_data": 0, "measure_eigensolvers": 1},
    ),
    "benchmarks": (
        {f"{PACKAGE}/benchmarks/memory_child.py": _appended("MORE = 1")},
        {
            "prepare_data": 0,
            "prefix": 0,
            "train": 0,
            "energy": 0,
            "measure_eigensolvers": 1,
            "draw_eigensolver_cost": 1,
        },
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_result_depends_on_makes_it_anew_and_nothing_else_does(
    finished: Path, change: str
) -> None:
    """In one go: the first dry run after a change knows everything that is stale."""
    files, expected = CHANGES[change]
    before = {name: (finished / name).read_text() for name in files if (finished / name).exists()}
    for name, changed in files.items():
        (finished / name).parent.mkdir(exist_ok=True)
        (finished / name).write_text(changed(before.get(name, "")).lstrip())
    try:
        output = snakemake(finished, *EVERYTHING, "--dry-run")
    finally:
        for name in files:
            (finished / name).unlink()
            if name in before:
                (finished / name).write_text(before[name])
    if not expected:
        assert "Nothing to be done" in output
        return
    jobs = jobs_of(output)
    assert {stage: jobs.get(stage, 0) for stage in expected} == expected


def test_smoke_leaves_the_figures_and_their_tables(smoke: Path) -> None:
    for figure in read_tier("smoke", ROOT).figures:
        assert (smoke / f"paper_figures/smoke/{figure}.png").stat().st_size > 10_000
        assert (smoke / f"paper_figures/smoke/{figure}.pdf").read_bytes()[:5] == b"%PDF-"
        assert len(pd.read_csv(smoke / f"results/smoke/figures/{figure}.csv")) > 10
    assert "Nothing to be done" in snakemake(smoke, "all", "--config", "tier=smoke")


def test_smoke_shows_that_dom_sgd_stalls_and_the_others_go_on(smoke: Path) -> None:
    """On MNIST; the other tasks are too short to show it, but start every method alike."""
    runs = run_statistics(pd.read_csv(smoke / "results/smoke/figures/dom_bulk.csv"))
    starts = runs.groupby(["task", "loss", "seed"])["start_train_loss"]
    assert len(starts) == 3 * 2 * 2
    assert (starts.nunique() == 1).all()
    mnist = runs[(runs["task"] == "mnist_mlp") & (runs["loss"] == "mse")]
    falls = 1 - mnist["final_train_loss"] / mnist["start_train_loss"]
    assert (falls[mnist["method"] == "dom_sgd"] < 0.05).all()
    assert (falls[mnist["method"].isin(["sgd", "bulk_sgd"])] > 0.1).all()


def test_smoke_leaves_claims_and_a_report(smoke: Path) -> None:
    claims = pd.read_csv(smoke / "results/smoke/claims.csv")
    assert set(claims["claim"]) == set(CLAIMS)
    assert claims["verdict"].isin(VERDICTS).all()
    page = (smoke / "results/smoke/report.html").read_text()
    assert all(f'id="{name}"' in page for name in read_tier("smoke", ROOT).figures)


def test_figures_are_redrawn_from_their_tables_alone(smoke: Path) -> None:
    """As in a clone, which holds the tables: neither data nor runs are there, nor is torch."""
    figure = smoke / "paper_figures/smoke/dom_bulk.png"
    expected = figure.read_bytes()
    blocked = smoke / "blocked"
    (blocked / "torch").mkdir(parents=True)
    (blocked / "torch/__init__.py").write_text("raise ImportError('a figure needs no torch')")
    table = smoke / "results/smoke/figures/dom_bulk.csv"
    command = [sys.executable, "-m", "sharpflat", "figure", "dom_bulk", str(table), "again.png"]
    subprocess.run(command, cwd=smoke, env={"PYTHONPATH": "blocked:src"}, check=True)
    assert (smoke / "again.png").read_bytes() == expected


def test_a_new_method_or_seed_trains_only_what_is_new(smoke: Path, tmp_path: Path) -> None:
    methods = ["sgd", "dom_sgd", "bulk_sgd", "convex(0.9)"]
    changes = tmp_path / "more.yaml"
    changes.write_text(yaml.safe_dump({"figures": {"dom_bulk": {"methods": methods}}}))
    asked = ("all", "--dry-run", "--configfile", str(changes), "--config", "tier=smoke")
    jobs = jobs_of(snakemake(smoke, *asked))
    assert jobs["train"] > 0
    assert (jobs.get("prefix", 0), jobs.get("prepare_data", 0)) == (0, 0)
    changes.write_text(yaml.safe_dump({"seeds": [0, 1, 2]}))
    jobs = jobs_of(snakemake(smoke, *asked))
    assert jobs["train"] > 0
    assert jobs["prefix"] > 0
    assert jobs.get("prepare_data", 0) == 0


def test_a_change_of_a_figures_look_trains_nothing(smoke: Path) -> None:
    style = smoke / "src/sharpflat/figures/style.py"
    original = style.read_text()
    style.write_text(original + "\n# another look\n")
    jobs = jobs_of(snakemake(smoke, "all", "--dry-run", "--config", "tier=smoke"))
    style.write_text(original)
    assert "train" not in jobs
    assert jobs["draw_figure"] == len(read_tier("smoke", ROOT).figures)
