"""The examples run, made small, and show what they promise."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
#: By name: the smallest sizes that show something, and words of what is shown.
SMALL = {
    "own_loop": ("--steps 12", "of the gradient in the subspace"),
    "gpt": ("--steps 1 --sequences 2", "λ_1 that Adam sees"),
    "resnet": ("--epochs 1 --images 16", "Dom-SGD"),
    "spectral_density": ("spectrum.png --epochs 2 --probes 2", "drawn in spectrum.png"),
}
SHARED = "two_processes"


def test_every_example_is_run():
    """Oracle: the folder."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SMALL, SHARED}


@pytest.mark.parametrize("name", SMALL)
def test_example(name, tmp_path, monkeypatch, capsys):
    """Oracle: their own docstrings. Numbers are finite."""
    options, words = SMALL[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(sys, "argv", [name, *options.split()])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert words in shown
    assert "nan" not in shown.lower().split()
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"] * (name == "spectral_density")


def test_two_processes():
    """Oracle: the same samples in one process, which the example solves for itself."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", str(EXAMPLES / f"{SHARED}.py"), "--steps", "3"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    first, second = re.findall(r"basis (\w+)", done.stdout)
    assert first == second
    together, alone = re.findall(r"(?:together|alone) (.*)", done.stdout)
    assert together.split() == alone.split()
