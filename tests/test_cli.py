"""The command line: an expected failure is one line that names the remedy, and exit status 1."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from planted import decay, trajectory

from sharpflat import __version__
from sharpflat.analysis.columns import refuse_wrong_table
from sharpflat.cli import main
from sharpflat.cli.main import _parser
from sharpflat.config import read_tier
from sharpflat.figures import FIGURES
from sharpflat.plan import all_runs
from sharpflat.schema import kind_of

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


@pytest.mark.parametrize("command", [["run", "--tier", "smoke"], ["cost"]])
def test_another_folder_than_a_checkout_is_refused(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = _message(*command)
    assert f"{tmp_path} is not the root of a checkout of sharpflat: change to one" in message
    assert list(tmp_path.iterdir()) == []


def test_with_debug_an_expected_failure_keeps_its_traceback(resolved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        main(["--debug", "plan", str(tmp_path / "missing.json"), str(tmp_path / "runs.csv")])
    with pytest.raises(ValueError, match="'no-such-run' is not among"):
        main(["--debug", "prefix", str(resolved), "no-such-run"])


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"sharpflat {__version__}\n"


def test_every_argument_is_described() -> None:
    parser = _parser()
    (commands,) = (action for action in parser._actions if isinstance(action.choices, dict))
    parsers = [parser, *commands.choices.values()]
    arguments = [action for each in parsers for action in each._actions]
    assert len(arguments) > 40
    assert [a.dest for a in arguments if a is not commands and not a.help] == []


def test_files_change_what_a_tier_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order in which they are given; a tier stands in a file, or in the command."""
    monkeypatch.chdir(ROOT)
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("tier: smoke\nname: first\n")
    second.write_text("name: my_study\n")
    main(["status", "--configfile", str(first), str(second)])
    assert capsys.readouterr().out.startswith("my_study, smoke tier:\n")
    main(["status", "--tier", "laptop", "--configfile", str(second)])
    assert capsys.readouterr().out.startswith("my_study, laptop tier:\n")
    second.write_text("- a list\n")
    assert "second.yaml holds ['a list'], not settings by name" in _message(
        "status", "--configfile", second
    )
    missing = _message("status", "--configfile", tmp_path / "none.yaml")
    assert f"there is no file {tmp_path / 'none.yaml'} for --configfile" in missing


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_gone_ends_a_command_in_silence(unbuffered: str) -> None:
    """As `head` goes, found at a line or at the end. Oracle: what a shell says of a SIGPIPE."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "sharpflat", "status", "--tier", "smoke"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": unbuffered},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def _drawing(table: Path, tmp_path: Path) -> list[str]:
    return ["figure", "dom_bulk", str(table), str(tmp_path / "figure.png")]


@pytest.mark.parametrize("lacking", ["step", "status", "train_loss", "test_accuracy"])
def test_a_table_that_lacks_a_column_is_named(tmp_path: Path, lacking: str) -> None:
    table = pd.read_csv(ROOT / "results/laptop/figures/dom_bulk.csv", nrows=5)
    table.drop(columns=lacking).to_csv(tmp_path / "table.csv", index=False)
    message = _message(*_drawing(tmp_path / "table.csv", tmp_path))
    assert f"table.csv is not the table of dom_bulk: it lacks the column '{lacking}'" in message


@pytest.mark.parametrize("table", sorted((ROOT / "results").glob("*/figures/*.csv")), ids=str)
def test_every_committed_table_is_the_one_of_its_figure(table: Path) -> None:
    refuse_wrong_table(pd.read_csv(table, nrows=2), kind_of(table.stem, FIGURES) or "", table)


def test_an_error_inside_a_figure_is_not_told_as_a_wrong_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one inside a claim: a fault of ours keeps its name and its traceback."""

    def broken(*_: object, **__: object) -> None:
        raise KeyError("sgd_to_bulk(0.9)")

    monkeypatch.setitem(FIGURES, "dom_bulk", broken)
    with pytest.raises(KeyError, match=r"sgd_to_bulk\(0\.9\)"):
        main(_drawing(ROOT / "results/laptop/figures/dom_bulk.csv", tmp_path))
    monkeypatch.setattr("sharpflat.analysis.claims.claims_table", broken)
    monkeypatch.chdir(ROOT)
    resolved = tmp_path / "config.json"
    resolved.write_text(json.dumps(read_tier("smoke", ROOT).raw))
    with pytest.raises(KeyError, match=r"sgd_to_bulk\(0\.9\)"):
        main(["claims", str(resolved), str(tmp_path / "claims.csv")])


def test_claims_of_a_figure_that_lacks_a_seed_are_unfinished(
    resolved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a tier is in training. The figures that have no table at all are so too."""
    monkeypatch.chdir(tmp_path)
    Path("workflow").symlink_to(ROOT / "workflow")
    table = Path("results/smoke/figures/alignment.csv")
    table.parent.mkdir(parents=True)
    runs = [trajectory("sgd", seed, decay(0.1), alignment=0.97) for seed in (0, 1)]
    for seeds in (runs, runs[:1]):
        pd.concat(seeds).assign(batch_alignment=0.9).to_csv(table, index=False)
        main(["claims", str(resolved), "claims.csv"])
        claims = pd.read_csv("claims.csv")
        verdicts = claims[claims["statistic"].str.startswith("all: ")]["verdict"].tolist()
        assert verdicts[0] == ("reproduced" if len(seeds) == 2 else "unfinished")
        assert set(verdicts[1:5]) == {"unfinished"}
