"""One process or the workflow on two cores, killed or not: the same bytes.

Each way runs in a checkout of its own.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from checkouts import copy_checkout
from faults.outcomes import content, small_config
from pages import text

from sharpflat.cli import main

SNAKEMAKE = (sys.executable, "-m", "snakemake")
TIER = ("--config", "tier=smoke")
#: What says how long something took, or when it was made.
TIMED = (
    "summary.json",
    "trajectory.sha256",
    "energy.json",
    "energy.sha256",
    "report.html",
    "config.json",
)


def _checkout(folder: Path) -> Path:
    """A checkout whose smoke tier takes seconds."""
    folder.mkdir()
    copy_checkout(folder)
    values = small_config("sgd", "dom_sgd", "bulk_sgd")
    del values["claims"]
    (folder / "workflow/config/smoke.yaml").write_text(yaml.safe_dump(values))
    return folder


def _left(folder: Path) -> dict[Path, str]:
    """What must be the same: every table, figure and checkpoint."""
    files = {Path("results") / path: text for path, text in content(folder / "results").items()}
    figures = content(folder / "paper_figures")
    files |= {Path("paper_figures") / path: text for path, text in figures.items()}
    timed = {path for path in files if path.name in TIMED or "logs" in path.parts}
    return {path: files[path] for path in files if path not in timed}


def _plain_commands(folder: Path) -> None:
    """Everything in one process: this one, whatever it did before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["run", "--tier", "smoke"])


def test_two_cores_killed_on_the_way_give_the_bytes_of_plain_commands(tmp_path: Path) -> None:
    """Killed with SIGKILL while runs are training, then started as the pages say."""
    folder, plain = _checkout(tmp_path / "killed"), _checkout(tmp_path / "plain")
    workflow = subprocess.Popen(
        [*SNAKEMAKE, "--cores", "2", "all", *TIER],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not list(folder.glob("results/smoke/runs/*/resume.pt")):
        assert time.monotonic() < deadline
        assert workflow.poll() is None
        time.sleep(0.01)
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.wait()
    assert not list(folder.glob("results/smoke/report.html"))
    assert list((folder / ".snakemake/locks").iterdir())
    command = ["sh", "-c", _documented_command()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    _plain_commands(plain)
    left = _left(plain)
    assert len([path for path in left if path.suffix in (".csv", ".png", ".pdf")]) >= 15
    assert _left(folder) == left


def _documented_command() -> str:
    """The pages', at this tier and with this Python's Snakemake."""
    (command,) = re.findall(
        r"^snakemake --unlock.*&& snakemake .*--rerun-incomplete.*$", text(), re.M
    )
    command = command.replace("tier=laptop", "tier=smoke")
    return command.replace("snakemake ", f"{' '.join(SNAKEMAKE)} ")
