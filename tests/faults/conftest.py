"""A checkout of one small task, trained once; each fault is injected into a copy of its own."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.table import CONFIG, DATA, FIGURE, TABLE

from sharpflat.cli import main
from sharpflat.config import read_resolved, read_tier
from sharpflat.plan import all_prefixes, all_runs

ROOT = Path(__file__).parents[2]


def small_config() -> dict[str, Any]:
    """One run of Bulk-SGD on scikit-learn's digits, with a checkpoint every fifth step."""
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
    runs = {"tasks": ["digits_mlp"], "losses": ["mse"], "methods": ["bulk_sgd"]}
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


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    """Commands set torch up for a whole process, which here goes on to other tests."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout after every command of the small configuration."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    (folder / CONFIG).parent.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(small_config()))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = read_resolved(Path(CONFIG), ROOT)
        (prefix,), (run,) = all_prefixes(config), all_runs(config)
        for command in (
            ["data", "digits", DATA],
            ["prefix", CONFIG, prefix.id],
            ["train", CONFIG, run.id],
            ["energy", CONFIG, prefix.id, run.id],
            ["table", CONFIG, FIGURE, TABLE],
        ):
            main(command)
    return folder


@pytest.fixture
def checkout(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained checkout, and the working folder."""
    copy = tmp_path / "checkout"
    shutil.copytree(trained, copy)
    monkeypatch.chdir(copy)
    return copy
