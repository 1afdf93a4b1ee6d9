"""A run that is killed with SIGKILL, at any moment and however often, ends with the same bytes."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults.table import CONFIG, RANDOM_KILLS

PROGRAM, ROOT = Path(__file__).with_name("killed.py"), Path(__file__).parents[2]
LEFT = "snapshots.pt summary.json trajectory.csv trajectory.sha256"
RANDOM, WRITES = f"random:{RANDOM_KILLS}", "writes"


@pytest.fixture(scope="module")
def killed(
    trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, subprocess.CompletedProcess[str]]:
    """A hash of what the run leaves that nobody kills, and what the program says of the others."""
    checkout = tmp_path_factory.mktemp("killed") / "checkout"
    shutil.copytree(trained, checkout)
    (run,) = (checkout / "results/smoke/runs").iterdir()
    whole = [(run / name).read_bytes() for name in ("trajectory.csv", "snapshots.pt")]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), CONFIG, run.name, RANDOM, WRITES],
        cwd=checkout,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        timeout=600,
        check=True,
    )
    return hashlib.sha256(b"".join(whole)).hexdigest(), done


@pytest.mark.parametrize("when", [RANDOM, WRITES])
def test_a_killed_run_ends_with_the_same_bytes(
    killed: tuple[str, subprocess.CompletedProcess[str]], when: str
) -> None:
    """Oracle: the run that nobody killed. Nothing half written is left behind."""
    expected, done = killed
    lines = (line.split(maxsplit=3) for line in done.stdout.splitlines())
    rounds = [line[1:] for line in lines if line[0] == when]
    assert {(digest, names) for _, digest, names in rounds} == {(expected, LEFT)}
    kills = sum(int(count) for count, _, _ in rounds)
    assert kills >= (RANDOM_KILLS if when == RANDOM else 15)


def test_some_were_killed_after_a_checkpoint(
    killed: tuple[str, subprocess.CompletedProcess[str]],
) -> None:
    """Those before a change of a file: on a busy machine, none of the random ones need be."""
    _, done = killed
    assert "goes on from step" in done.stderr.partition(f"{WRITES}\n")[2]
