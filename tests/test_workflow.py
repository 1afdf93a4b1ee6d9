"""The workflow itself: every tier's DAG, the smoke tier end to end, and what reruns after a change.

Each test runs the real Snakemake on a copy of the checkout.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sharpflat.analysis.claims import VERDICTS
from sharpflat.analysis.statistics import run_statistics
from sharpflat.config import TIERS, read_tier

ROOT = Path(__file__).parents[1]


def _copy(folder: Path) -> Path:
    for name in ("Snakefile", "workflow", "src", "envs"):
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


def _snakemake(folder: Path, *arguments: str, fails: bool = False) -> str:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output
    return output


def _jobs(dry_run: str) -> dict[str, int]:
    """Number of jobs by the stage of their rule, from a dry run's table."""
    table = dry_run.split("Job stats:")[-1].split("total")[0]
    counts: dict[str, int] = {}
    for line in table.splitlines()[3:]:
        if line.split():
            rule, count = line.split()
            numbered = rule.startswith(("prefix_", "train_", "energy_"))
            stage = rule.split("_")[0] if numbered else rule
            counts[stage] = counts.get(stage, 0) + int(count)
    return counts


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _copy(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the smoke tier has run."""
    folder = _copy(tmp_path_factory.mktemp("smoke"))
    _snakemake(folder, "all", "--config", "tier=smoke")
    return folder


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_has_a_complete_dag(checkout: Path, tier: str) -> None:
    jobs = _jobs(_snakemake(checkout, "all", "--dry-run", "--config", f"tier={tier}"))
    assert jobs["data"] == 3
    assert jobs["resolve"] == jobs["plan"] == jobs["claims_table"] == jobs["report_page"] == 1
    assert jobs["table"] == jobs["figure"] >= 7
    assert jobs["prefix"] >= 1
    assert jobs["train"] >= 4


@pytest.mark.parametrize("figure", ["dom_bulk", "alignment", "curvature_energy"])
def test_a_figure_can_be_asked_for_by_name(checkout: Path, figure: str) -> None:
    jobs = _jobs(_snakemake(checkout, figure, "--dry-run", "--config", "tier=smoke"))
    assert jobs[figure] == jobs["figure"] == jobs["table"] == 1


def test_the_mirror_reaches_the_data_rule(checkout: Path) -> None:
    asked = ("--config", "tier=laptop", "data_mirror=some/where")
    output = _snakemake(checkout, "all", "--dry-run", "--printshellcmds", *asked)
    assert "data mnist5k results/data/mnist5k.npz --mirror some/where" in output


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0), ("auto", 0), ("cuda", 1)])
def test_training_asks_a_cluster_for_a_gpu_where_the_config_wants_one(
    checkout: Path, device: str, gpus: int
) -> None:
    asked = ("--config", "tier=smoke", f"device={device}")
    output = _snakemake(checkout, "dom_bulk", "--dry-run", *asked)
    assert f"gpu={gpus}," in output
    assert f"gpu={1 - gpus}," not in output


@pytest.mark.parametrize(
    ("setting", "fragments"),
    [
        ("tier=desktop", ("tier = 'desktop'", "smoke, laptop, paper")),
        ("sedes=3", ("'sedes'", "allowed are tier")),
        ("threads=0", ("threads = 0", "minimum of 1")),
        ("device=gpu", ("device = 'gpu'", "cuda")),
    ],
)
def test_a_wrong_setting_stops_before_any_job(
    checkout: Path, setting: str, fragments: tuple[str, ...]
) -> None:
    output = _snakemake(checkout, "all", "--config", setting, fails=True)
    assert all(fragment in output for fragment in fragments)
    assert "Job stats" not in output


def test_smoke_leaves_the_figures_and_their_tables(smoke: Path) -> None:
    for figure in read_tier("smoke", ROOT).figures:
        assert (smoke / f"paper_figures/smoke/{figure}.png").stat().st_size > 10_000
        assert (smoke / f"paper_figures/smoke/{figure}.pdf").read_bytes()[:5] == b"%PDF-"
        assert len(pd.read_csv(smoke / f"results/smoke/figures/{figure}.csv")) > 10
    assert "Nothing to be done" in _snakemake(smoke, "all", "--config", "tier=smoke")


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
    assert set(claims["claim"]) == {"C1", "C2", "C3", "C4", "C5", "C6", "C7"}
    assert claims["verdict"].isin(VERDICTS).all()
    page = (smoke / "results/smoke/report.html").read_text()
    assert all(f'<figure id="{name}">' in page for name in read_tier("smoke", ROOT).figures)


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
    jobs = _jobs(_snakemake(smoke, *asked))
    assert jobs["train"] > 0
    assert (jobs.get("prefix", 0), jobs.get("data", 0)) == (0, 0)
    changes.write_text(yaml.safe_dump({"seeds": [0, 1, 2]}))
    jobs = _jobs(_snakemake(smoke, *asked))
    assert jobs["train"] > 0
    assert jobs["prefix"] > 0
    assert jobs.get("data", 0) == 0


def test_a_change_of_a_figures_look_trains_nothing(smoke: Path) -> None:
    style = smoke / "src/sharpflat/figures/style.py"
    original = style.read_text()
    style.write_text(original + "\n# another look\n")
    jobs = _jobs(_snakemake(smoke, "all", "--dry-run", "--config", "tier=smoke"))
    style.write_text(original)
    assert "train" not in jobs
    assert jobs["figure"] == len(read_tier("smoke", ROOT).figures)
