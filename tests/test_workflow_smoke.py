"""The smoke tier end to end, killed on the way, by the real Snakemake on a copy of the checkout."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkouts import ROOT, copy_checkout, jobs_of, snakemake
from faults.outcomes import content
from pages import text

from sharpflat import layout
from sharpflat.analysis.claims import CLAIMS, VERDICTS
from sharpflat.analysis.finished import seeds_left_out
from sharpflat.analysis.statistics import run_statistics
from sharpflat.cli import main
from sharpflat.config import read_tier
from sharpflat.plan import all_runs

SNAKEMAKE = (sys.executable, "-m", "snakemake")
#: What says how long something took, or when it was made.
TIMED = ("summary.json", "trajectory.sha256", "energy.json", "energy.sha256")
#: What tells of all figures.
OF_ALL = ("config.json", "runs.csv", "claims.csv", "report.html")
#: A figure whose runs, with their energy, take seconds.
QUICK = "curvature_energy"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """A checkout whose workflow was killed with SIGKILL in training, and the runs at hand then."""
    folder = copy_checkout(tmp_path_factory.mktemp("smoke"))
    workflow = subprocess.Popen(
        [*SNAKEMAKE, "--cores", "2", "all", "--config", "tier=smoke"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 480
    while not (at_hand := sorted(folder.glob("results/smoke/runs/*/resume.pt"))):
        assert time.monotonic() < deadline
        assert workflow.poll() is None
        time.sleep(0.01)
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.wait()
    assert list((folder / ".snakemake/locks").iterdir())
    return folder, tuple(path.parent.name for path in at_hand)


@pytest.fixture(scope="module")
def smoke(killed: tuple[Path, tuple[str, ...]]) -> Path:
    """The same checkout once it was started again, as the pages say, and has run to its end."""
    folder, _ = killed
    (command,) = re.findall(
        r"^snakemake --unlock.*&& snakemake .*--rerun-incomplete.*$", text(), re.MULTILINE
    )
    command = command.replace("tier=laptop", "tier=smoke")
    command = command.replace("snakemake ", f"{' '.join(SNAKEMAKE)} ")
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_two_cores_killed_on_the_way_give_the_bytes_of_plain_commands(
    killed: tuple[Path, tuple[str, ...]],
    smoke: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A figure with all that it needs, and the runs at hand at the kill, in this process."""
    copy_checkout(tmp_path)
    given = content(tmp_path).keys()
    monkeypatch.chdir(tmp_path)
    tier = Path("workflow/config/smoke.yaml")
    values = yaml.safe_load(tier.read_text())
    del values["benchmark"]
    tier.write_text(yaml.safe_dump(values | {"figures": {QUICK: values["figures"][QUICK]}}))
    main(["run", "--tier", "smoke"])
    at_hand = [run for run in all_runs(read_tier("smoke", ROOT)) if run.id in killed[1]]
    resolved = str(smoke / layout.resolved_config("smoke"))
    main(["prefix", resolved, *dict.fromkeys(run.prefix.id for run in at_hand)])
    main(["train", resolved, *killed[1]])
    plain, workflow = content(tmp_path), content(smoke)
    excepted = {*given, *(path for path in plain if path.name in (*TIMED, *OF_ALL))}
    same = {path: digest for path, digest in plain.items() if path not in excepted}
    assert {path: workflow.get(path) for path in same} == same
    assert {path.suffix for path in same} == {".csv", ".json", ".npz", ".pdf", ".png", ".pt"}


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
