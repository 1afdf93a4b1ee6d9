"""The workflow itself: its DAG at the smoke tier, and what it refuses.

Each test runs the real Snakemake on a copy of the checkout. What reruns after a change, and the
smoke tier end to end, have files of their own; other workflows and readers have theirs.
"""

import re
from pathlib import Path

import pytest
from checkouts import ROOT, copy_checkout, jobs_of, snakemake

from sharpflat.config import read_tier
from sharpflat.plan import figure_runs


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


def test_the_smoke_tier_has_a_complete_dag_from_anywhere(checkout: Path, tmp_path: Path) -> None:
    """Those of the other tiers are the README's commands, given in the checkout itself."""
    asked = ("--directory", str(checkout), "--config", "tier=smoke")
    jobs = jobs_of(snakemake(tmp_path, *_all_of(checkout), *asked))
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


def test_another_working_directory_is_refused(checkout: Path, tmp_path: Path) -> None:
    output = snakemake(tmp_path, *_all_of(checkout), fails=True)
    assert f"the working directory is {tmp_path}" in output
    assert f"change to {checkout}, or give --directory" in output
    assert list(tmp_path.iterdir()) == []


def _all_of(checkout: Path) -> tuple[str, ...]:
    """A dry run of the checkout's workflow, wherever Snakemake is started."""
    return ("all", "--dry-run", "--snakefile", str(checkout / "Snakefile"))


@pytest.mark.parametrize(
    ("figure", "device", "gpus"),
    [("dom_bulk", "auto", 0), ("alignment", "cuda", 1), ("curvature_energy", "cpu", 0)],
)
def test_a_figure_that_is_asked_for_trains_its_runs_alone(
    checkout: Path, figure: str, device: str, gpus: int
) -> None:
    """And asks a cluster for a GPU where the configuration wants one."""
    asked = ("--config", "tier=smoke", f"device={device}")
    output = snakemake(checkout, figure, "--dry-run", *asked)
    assert f"gpu={gpus}," in output
    assert f"gpu={1 - gpus}," not in output
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


def test_a_folder_that_neither_python_nor_snakemake_takes_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a{b}:c"
    folder.mkdir()
    copy_checkout(folder)
    output = snakemake(folder, "all", "--dry-run", fails=True)
    assert f"{folder} holds : and {{ and }}" in output
    assert "rename or move the checkout" in output
