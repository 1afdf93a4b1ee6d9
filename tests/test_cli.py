"""The command line: an expected failure is one line that names the remedy, and exit status 1."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from sharpflat.cli import main
from sharpflat.config import read_tier
from sharpflat.plan import all_runs

ROOT = Path(__file__).parents[1]


@pytest.fixture
def resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A resolved smoke configuration; commands run at the repository's root."""
    monkeypatch.chdir(ROOT)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(read_tier("smoke", ROOT).raw))
    return path


def _message(*arguments: object) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert isinstance(end.value.code, str)
    assert "\n" not in end.value.code
    return end.value.code


def test_plan_writes_the_list_of_runs(resolved: Path, tmp_path: Path) -> None:
    main(["plan", str(resolved), str(tmp_path / "runs.csv")])
    assert len(pd.read_csv(tmp_path / "runs.csv")) == len(all_runs(read_tier("smoke", ROOT)))


@pytest.mark.parametrize("command", ["prefix", "train", "edge"])
def test_an_unknown_run_is_refused(resolved: Path, command: str) -> None:
    assert "'no-such-run' is not among" in _message(command, resolved, "no-such-run")


def test_a_missing_file_is_named(resolved: Path, tmp_path: Path) -> None:
    assert "missing.json" in _message("plan", tmp_path / "missing.json", tmp_path / "runs.csv")


def test_an_unknown_data_set_is_refused(tmp_path: Path) -> None:
    assert "no data set 'mnits'" in _message("data", "mnits", tmp_path / "mnits.npz")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_figure_is_refused(resolved: Path, tmp_path: Path) -> None:
    message = _message("table", resolved, "dom_bluk", tmp_path / "t.csv")
    assert "'dom_bluk'" in message
    assert "dom_bulk, alignment" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_a_device_that_is_not_there_is_refused(resolved: Path) -> None:
    raw = json.loads(resolved.read_text()) | {"device": "cuda"}
    resolved.write_text(json.dumps(raw))
    message = _message("prefix", resolved, "any")
    assert "device = 'cuda'" in message
    assert "set device=cpu or auto" in message
