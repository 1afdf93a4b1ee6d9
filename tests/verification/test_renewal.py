"""Keeping stale results. Oracle: results that the test trained by today's code, and altered."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sharpflat import layout, seals
from sharpflat.cli import main
from sharpflat.records import RunRecord
from sharpflat.verification import older_code

ROOT = Path(__file__).parents[2]
OLDER = "of last week"


def _make_stale(folder: Path, **changes: object) -> None:
    summary = json.loads((folder / "summary.json").read_text()) | {"code": OLDER} | changes
    (folder / "summary.json").write_text(json.dumps(summary))
    seals.seal(folder, seals.TRAINED)


def _alter_loss(run: Path, altered: Callable[[str], str]) -> None:
    """Write another loss into the second record; the seal is left to :func:`_make_stale`."""
    path = run / "trajectory.csv"
    rows = path.read_text().splitlines()
    cells = rows[2].split(",")
    place = rows[0].split(",").index("train_loss")
    cells[place] = altered(cells[place])
    path.write_text("\n".join([*rows[:2], ",".join(cells), *rows[3:]]) + "\n")


def _summary(folder: Path) -> dict:
    seals.check_seal(folder, seals.TRAINED)
    return json.loads((folder / "summary.json").read_text())


def _folders(committed: RunRecord) -> tuple[Path, Path]:
    return layout.prefix("smoke", committed.prefix.id), layout.run("smoke", committed.id)


def _renew(*more: str, minutes: str = "1") -> None:
    options = ("--configfile", "figure.yaml", "--seed", "3", "--minutes", minutes)
    main(["renew", "--tier", "smoke", *options, *more])


def _older_checkout(folder: Path, committed: RunRecord, change: str = "") -> str:
    """Copy this code with a change of a module that results depend on, and return its hash."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "workflow").symlink_to(ROOT / "workflow")
    (folder / "src/sharpflat/verification/older_code.py").unlink()  # as before there was one
    module = folder / "src/sharpflat/tasks/losses.py"
    module.write_text(f"{module.read_text()}\nOLDER = True\n{change}")
    prefix = committed.prefix
    program = (
        "from types import SimpleNamespace; from sharpflat.sources import training_code_hash; "
        f"task = SimpleNamespace(dataset={prefix.dataset!r}, model={prefix.model!r}, "
        f"loss={prefix.loss!r}); print(training_code_hash(task))"
    )
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    command = [sys.executable, "-c", program]
    return subprocess.check_output(command, env=environment, text=True).strip()


@pytest.fixture(scope="module")
def older(
    trained: tuple[Path, RunRecord], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A checkout of an older code that makes the same numbers, and its hash."""
    folder = tmp_path_factory.mktemp("older")
    return folder, _older_checkout(folder, trained[1])


@pytest.fixture
def older_here(monkeypatch: pytest.MonkeyPatch, committed: RunRecord) -> str:
    """In place of a checkout's processes today's code once more, which takes a second; its hash."""

    class Here:
        def __init__(self):
            self.folder = Path("older")
            self.codes = dict.fromkeys((committed.id, committed.prefix.id), (OLDER, OLDER))

        @contextmanager
        def training(self, train, record, summary, *, paths, arguments):
            train(record, device=torch.device("cpu"), **paths, **arguments)
            yield

    monkeypatch.setattr(older_code, "older_code", lambda folder, values: Here())
    return OLDER


def _make_of_another_machine(committed: RunRecord, code: str) -> None:
    """Results of an older code that rounded otherwise in one number."""
    prefix, run = _folders(committed)
    hardware = _summary(run)["hardware"] | {"processor": "another"}
    _alter_loss(run, lambda loss: repr(float(loss) * (1 + 1e-7)))
    for folder in (prefix, run):
        _make_stale(folder, hardware=hardware, code=code)


def test_a_stale_result_that_comes_out_the_same_is_todays(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    folders = _folders(committed)
    code = [_summary(folder)["code"] for folder in folders]
    for folder in folders:
        _make_stale(folder)
    _renew()
    printed = capsys.readouterr().out
    assert "2 stale results, 2 stretches" in printed
    assert "2 results are today's, too; put them" in printed
    found = [_summary(folder) for folder in folders]
    assert [summary["code"] for summary in found] == code
    older = {"code": OLDER, "stretches": 2, "seed": 3, "compared_with": "the results"}
    older["hardware"] = found[0]["hardware"]
    assert [summary["renewed"] for summary in found] == [[older], [older]]
    _renew()
    assert "0 stale results, 0 stretches" in capsys.readouterr().out
    main(["status", "--tier", "smoke", "--configfile", "figure.yaml"])
    printed = capsys.readouterr().out
    assert "runs      1 there, 0 stale" in printed


def test_one_digit_leaves_everything_stale(committed: RunRecord) -> None:
    prefix, run = _folders(committed)
    _alter_loss(run, lambda loss: loss[:-1] + ("1" if loss[-1] != "1" else "2"))
    for folder in (prefix, run):
        _make_stale(folder)
    with pytest.raises(SystemExit, match=r"nothing is renewed: 1 of 2 stretches .* train_loss"):
        _renew()
    assert [_summary(folder)["code"] for folder in (prefix, run)] == [OLDER, OLDER]


def test_what_was_not_trained_again_stays_stale(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    """As when the time is spent before the switch."""
    folders = _folders(committed)
    for folder in folders:
        _make_stale(folder)
    _renew(minutes="1e-9")
    assert "0 results are today's, too; 2 are still stale" in capsys.readouterr().out
    assert [_summary(folder)["code"] for folder in folders] == [OLDER, OLDER]


def test_a_fresh_prefix_does_not_vouch_for_another_codes_run(committed: RunRecord) -> None:
    """Its stretch is compared for the run that branches there; itself it is left as it is."""
    prefix, run = _folders(committed)
    before = _summary(prefix)
    _make_stale(run)
    _renew()
    assert _summary(prefix) == before
    assert _summary(run)["renewed"][0]["code"] == OLDER


def test_another_kind_of_machine_shows_nothing_by_its_rounding(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    """The run was made elsewhere and differs in the last digit: it stays stale, its prefix not."""
    prefix, run = _folders(committed)
    hardware = _summary(run)["hardware"] | {"processor": "another"}
    _alter_loss(run, lambda loss: repr(float(loss) * (1 + 1e-7)))
    _make_stale(prefix)
    _make_stale(run, hardware=hardware)
    _renew()
    assert "1 results are today's, too; 1 are still stale" in capsys.readouterr().out
    assert [_summary(folder)["code"] == OLDER for folder in (prefix, run)] == [False, True]


def test_what_differs_elsewhere_by_more_leaves_everything_stale(committed: RunRecord) -> None:
    prefix, run = _folders(committed)
    hardware = _summary(run)["hardware"] | {"processor": "another"}
    _alter_loss(run, lambda loss: repr(float(loss) * 2))
    _make_stale(prefix)
    _make_stale(run, hardware=hardware)
    with pytest.raises(SystemExit, match="nothing is renewed: 1 of 2 stretches"):
        _renew()
    assert [_summary(folder)["code"] for folder in (prefix, run)] == [OLDER, OLDER]


def test_the_code_that_trained_them_shows_it_on_another_kind_of_machine(
    committed: RunRecord, older: tuple[Path, str], capsys: pytest.CaptureFixture
) -> None:
    checkout, code = older
    folders = _folders(committed)
    today = [_summary(folder)["code"] for folder in folders]
    assert code not in today
    _make_of_another_machine(committed, code)
    _renew("--trained-by", str(checkout))
    printed = capsys.readouterr().out
    assert "by the code that trained it, here: " in printed
    assert "2 results are today's, too; put them" in printed
    found = [_summary(folder) for folder in folders]
    assert [summary["code"] for summary in found] == today
    assert [summary["renewed"][0]["code"] for summary in found] == [code, code]
    assert {summary["renewed"][0]["compared_with"] for summary in found} == {"the older code"}
    assert "another" not in {summary["renewed"][0]["hardware"]["processor"] for summary in found}


def test_an_older_code_with_other_numbers_leaves_everything_stale(
    committed: RunRecord, tmp_path: Path
) -> None:
    """A loss that is larger by a millionth: far within the band of another kind of machine."""
    change = f"_exact = {committed.prefix.loss}\n"
    change += f"def {committed.prefix.loss}(*given): return _exact(*given) * (1 + 1e-6)\n"
    code = _older_checkout(tmp_path, committed, change)
    _make_of_another_machine(committed, code)
    with pytest.raises(SystemExit, match=r"nothing is renewed: 2 of 2 .* not the same"):
        _renew("--trained-by", str(tmp_path))
    assert [_summary(folder)["code"] for folder in _folders(committed)] == [code, code]


def test_what_differs_elsewhere_by_more_stays_stale_where_both_codes_do_the_same(
    committed: RunRecord, older_here: str, capsys: pytest.CaptureFixture
) -> None:
    """As a run that diverges, or one that was altered: nothing is known of it, nor of the code."""
    prefix, run = _folders(committed)
    _make_of_another_machine(committed, older_here)
    _alter_loss(run, lambda loss: repr(float(loss) * 2))
    seals.seal(run, seals.TRAINED)
    _renew("--trained-by", "older")
    printed = capsys.readouterr().out
    assert "DIFFERS: " in printed
    assert "1 results are today's, too; 1 are still stale" in printed
    assert [_summary(folder)["code"] == older_here for folder in (prefix, run)] == [False, True]


def test_another_checkout_than_the_code_that_trained_them_is_refused(
    committed: RunRecord, older: tuple[Path, str]
) -> None:
    checkout, _ = older
    _make_of_another_machine(committed, OLDER)
    with pytest.raises(SystemExit, match=r"made nothing of what is stale: take the commit that"):
        _renew("--trained-by", str(checkout))
    with pytest.raises(SystemExit, match="no checkout of sharpflat: it has no src/sharpflat"):
        _renew("--trained-by", str(checkout / "src"))
    assert [_summary(folder)["code"] for folder in _folders(committed)] == [OLDER, OLDER]


def test_a_renewal_goes_on_where_it_ended(
    committed: RunRecord, older_here: str, capsys: pytest.CaptureFixture
) -> None:
    """The prefix is today's by now; for its run's sake the older code trains it too."""
    prefix, run = _folders(committed)
    before = _summary(prefix)
    _make_of_another_machine(committed, older_here)
    (prefix / "summary.json").write_text(json.dumps(before))
    seals.seal(prefix, seals.TRAINED)
    _renew("--trained-by", "older")
    assert "1 results are today's, too; put them" in capsys.readouterr().out
    assert _summary(run)["code"] == before["code"]


def test_the_older_code_does_not_outweigh_the_result_on_its_own_kind_of_machine(
    committed: RunRecord, older_here: str
) -> None:
    """There the older code would make its digits again; one that differs was altered."""
    folders = _folders(committed)
    _alter_loss(folders[1], lambda loss: repr(float(loss) * (1 + 1e-6)))
    for folder in folders:
        _make_stale(folder, code=older_here)
    with pytest.raises(SystemExit, match=r"nothing is renewed: 1 of 2 stretches"):
        _renew("--trained-by", "older")


def test_a_gpus_results_are_not_todays_by_what_a_cpu_showed(
    committed: RunRecord, older_here: str, capsys: pytest.CaptureFixture
) -> None:
    if torch.cuda.is_available():
        pytest.skip("they are trained again on a GPU here")
    for folder in _folders(committed):
        hardware = _summary(folder)["hardware"] | {"accelerator": "another"}
        _make_stale(folder, code=older_here, hardware=hardware, device="cuda")
    _renew("--trained-by", "older")
    assert "0 results are today's, too; 2 are still stale" in capsys.readouterr().out


def test_a_run_is_not_todays_where_other_code_made_its_prefix(
    committed: RunRecord, older_here: str
) -> None:
    prefix, run = _folders(committed)
    _make_of_another_machine(committed, older_here)
    _make_stale(prefix, code="of last year")
    with pytest.raises(SystemExit, match="made nothing of what is stale: take the commit that"):
        _renew("--trained-by", "older")
    assert _summary(run)["code"] == older_here
