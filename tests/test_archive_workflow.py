"""Archives beside Snakemake: they are no rule's, and make nothing stale. Oracle: its dry runs."""

import json
import os
import shutil
from pathlib import Path

import pytest
from archives import write_results
from checkouts import ROOT, copy_checkout, jobs_of, snakemake, touch_everything

from sharpflat import layout, seals
from sharpflat.archive import FILES, SEAL
from sharpflat.cli import main
from sharpflat.config import read_tier
from sharpflat.plan import all_runs

ALL = ("all", "--config", "tier=smoke")
TRAINED = {"prepare_data", "prefix", "train", "edge", "energy"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with results, of which Snakemake believes that it made all of the smoke tier."""
    folder = copy_checkout(tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_results(read_tier("smoke", ROOT))
    touch_everything(folder, *ALL)
    return folder


def test_packing_and_unpacking_make_nothing_stale(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    main(["pack", "--tier", "smoke"])
    main(["unpack", "--tier", "smoke"])
    assert "Nothing to be done" in snakemake(finished, *ALL, "--dry-run")
    # What was lost and comes back is later than what was made of it; nothing is trained for that.
    run = layout.run("smoke", all_runs(read_tier("smoke", ROOT))[0].id)
    asked = (str(run / "trajectory.csv"), "--dry-run", "--config", "tier=smoke")
    shutil.rmtree(run)
    assert jobs_of(snakemake(finished, *asked))["train"] == 1
    main(["unpack", "--tier", "smoke"])
    assert "Nothing to be done" in snakemake(finished, *asked)
    output = snakemake(finished, *ALL, "--dry-run")
    assert "Nothing to be done" in output or not TRAINED & jobs_of(output).keys()


def test_an_archive_alone_changes_no_job(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a fresh clone, which plans to train everything until results are unpacked there."""
    clone = copy_checkout(tmp_path)
    expected = jobs_of(snakemake(clone, *ALL, "--dry-run"))
    monkeypatch.chdir(finished)
    main(["pack", "--tier", "smoke"])
    (clone / "results/smoke").mkdir(parents=True, exist_ok=True)
    for name in (*FILES, SEAL):
        shutil.copy(finished / layout.results("smoke") / name, clone / "results/smoke" / name)
    assert jobs_of(snakemake(clone, *ALL, "--dry-run")) == expected


def test_results_that_were_copied_without_snakemakes_records_are_taken_where_they_are_asked_for(
    finished: Path, tmp_path: Path
) -> None:
    """As from a tarball, all files as old as each other: times and records tell nothing there."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns(".snakemake"))
    for path in copy.rglob("*"):
        os.utime(path, (1.7e9, 1.7e9))
    assert "Nothing to be done" in snakemake(copy, *ALL, "--dry-run")
    (copy / "fewer.yaml").write_text("seeds: [0]\n")
    fewer = ("all", "--configfile", "fewer.yaml", "--config", "tier=smoke", "--dry-run")
    refusal = snakemake(copy, *fewer, fails=True)
    assert "results/smoke/config.json is of other settings than asked for" in refusal
    (copy / "results/smoke/config.json").unlink()
    jobs = jobs_of(snakemake(copy, *fewer))
    assert jobs["collect_table"] == jobs["draw_figure"] > 0 and jobs["decide_claims"] == 1
    shutil.copy(finished / "results/smoke/config.json", copy / "results/smoke")
    run = copy / layout.run("smoke", all_runs(read_tier("smoke", ROOT))[0].id)
    summary = json.loads((run / "summary.json").read_text()) | {"code": "of last week"}
    (run / "summary.json").write_text(json.dumps(summary))
    seals.seal(run, seals.TRAINED)
    refusal = snakemake(copy, *ALL, "--dry-run", fails=True)
    assert f"{run.relative_to(copy)} is stale" in refusal and "sharpflat status" in refusal
