"""A run that is killed with SIGKILL, at any moment and however often, ends with the same bytes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults.table import CONFIG, RANDOM_KILLS

PROGRAM, ROOT = Path(__file__).with_name("killed.py"), Path(__file__).parents[2]
LEFT = "snapshots.pt summary.json trajectory.csv trajectory.sha256"


@pytest.mark.parametrize("when", [f"random:{RANDOM_KILLS}", "writes"])
def test_a_killed_run_ends_with_the_same_bytes(checkout: Path, when: str) -> None:
    """Oracle: the run that nobody killed. Nothing half written is left behind."""
    (run,) = (checkout / "results/smoke/runs").iterdir()
    whole = [(run / name).read_bytes() for name in ("trajectory.csv", "snapshots.pt")]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), CONFIG, run.name, when],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        timeout=300,
        check=True,
    )
    rounds = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    expected = hashlib.sha256(b"".join(whole)).hexdigest()
    assert {(digest, names) for _, digest, names in rounds} == {(expected, LEFT)}
    kills = sum(int(count) for count, _, _ in rounds)
    assert kills >= (RANDOM_KILLS if when != "writes" else 15)
    # Some of them after a checkpoint: on a busy machine, none of the random ones need be.
    assert when != "writes" or "goes on from step" in done.stderr
