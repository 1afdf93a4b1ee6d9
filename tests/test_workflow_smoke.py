"""The smoke tier end to end, by the real Snakemake on a copy of the checkout."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkouts import ROOT, copy_checkout, jobs_of, snakemake

from sharpflat.analysis.claims import CLAIMS, VERDICTS
from sharpflat.analysis.finished import seeds_left_out
from sharpflat.analysis.statistics import run_statistics
from sharpflat.config import read_tier


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the smoke tier has run."""
    folder = copy_checkout(tmp_path_factory.mktemp("smoke"))
    snakemake(folder, "all", "--config", "tier=smoke")
    return folder


def test_smoke_leaves_the_figures_and_their_tables(smoke: Path) -> None:
    config = read_tier("smoke", ROOT)
    for figure in config.figures:
        assert (smoke / f"paper_figures/smoke/{figure}.png").stat().st_size > 10_000
        assert (smoke / f"paper_figures/smoke/{figure}.pdf").read_bytes()[:5] == b"%PDF-"
        table = pd.read_csv(smoke / f"results/smoke/figures/{figure}.csv")
        assert seeds_left_out(config, figure, table) == []
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
