"""What fault tests run, how they run it, and what they look at afterwards."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from faults.table import FIGURE

from sharpflat.cli import main
from sharpflat.config import read_tier

ROOT = Path(__file__).parents[2]


def small_config(*methods: str) -> dict[str, Any]:
    """Short runs on scikit-learn's digits, with a checkpoint every fifth step."""
    values = dict(read_tier("smoke", ROOT).raw)
    task = {
        "dataset": "digits",
        "model": "mlp",
        "sizes": {"width": 8, "depth": 2},
        "k": 3,
        "hessian_samples": 300,
        "steps": 20,
        "record_every": 5,
        "tolerance": 0.05,
        "switch": {"alignment": None, "max_steps": 20},
        "losses": {"mse": {"learning_rate": 0.02}},
    }
    runs = {"tasks": ["digits_mlp"], "losses": ["mse"], "methods": list(methods)}
    del values["benchmark"]
    return values | {
        "seeds": [0],
        "checkpoint_every": 5,
        "tasks": {"digits_mlp": task},
        "figures": {
            FIGURE: runs,
            "curvature_energy": runs | {"snapshots": 1, "probes": 2},
        },
    }


def words(checkout: Path, command: tuple[str, ...]) -> list[str]:
    """A command of the fault table, with the names of the checkout's prefix and run."""
    names = {
        "PREFIX": next((checkout / "results/smoke/prefixes").iterdir()).name,
        "RUN": next((checkout / "results/smoke/runs").iterdir()).name,
    }
    return [names.get(word, word) for word in command]


def refusal(command: list[str]) -> str:
    """What a command says when it fails: one line, and no traceback."""
    with pytest.raises(SystemExit) as failure:
        main(command)
    message = failure.value.code
    assert isinstance(message, str)
    assert message.startswith("sharpflat: ")
    assert "\n" not in message
    return message


def content(folder: Path) -> dict[Path, str]:
    """A hash of every file under a folder."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
