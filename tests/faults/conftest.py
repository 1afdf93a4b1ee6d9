"""A checkout of one small task, trained once; each fault is injected into a copy of its own."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from faults.outcomes import small_config
from faults.table import CONFIG, DATA, FIGURE, TABLE

from sharpflat.cli import main
from sharpflat.config import read_resolved
from sharpflat.plan import all_prefixes, all_runs

ROOT = Path(__file__).parents[2]


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
    (folder / CONFIG).write_text(json.dumps(small_config("bulk_sgd")))
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
