"""The Slurm profile on a real cluster of one node, where this process may start one."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("run.sh")


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root may start a cluster")
@pytest.mark.skipif(
    shutil.which("slurmctld") is None, reason="no Slurm here; `make slurm` installs it"
)
@pytest.mark.skipif(
    find_spec("snakemake_executor_plugin_slurm") is None,
    reason="envs/requirements-slurm.lock is not installed; `make slurm` installs it",
)
def test_a_cancelled_job_is_started_again() -> None:
    done = subprocess.run([SCRIPT, sys.executable], capture_output=True, text=True, timeout=600)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed: the cancelled job was started again" in done.stdout
