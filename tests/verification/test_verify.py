"""Training committed runs again. Oracle: runs that the test trained by the workflow's commands, and
what it then altered in them."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sharpflat import layout, seals
from sharpflat.cli import main
from sharpflat.config import read_tier
from sharpflat.plan import all_runs
from sharpflat.records import RunRecord

ROOT = Path(__file__).parents[2]
TASK, LOSS = "cancer_mlp", "mse"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    """A checkout in which a prefix and a Bulk-SGD run are committed, without a checkpoint."""
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "workflow").symlink_to(ROOT / "workflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout)
        figure = {"figures": {"dom_bulk": {"tasks": [TASK], "losses": [LOSS]}}}
        config = read_tier("smoke", ROOT, figure)
        resolved = layout.resolved_config("smoke")
        resolved.parent.mkdir(parents=True)
        resolved.write_text(json.dumps(config.raw))
        (run,) = (
            record
            for record in all_runs(config)
            if record.prefix.task == TASK
            and record.prefix.seed == 0
            and (record.dom_weight, record.bulk_weight) == (0, 1)
        )
        main(["data", run.prefix.dataset, str(layout.dataset(run.prefix.dataset))])
        main(["prefix", str(resolved), run.prefix.id])
        main(["train", str(resolved), run.id])
        (layout.prefix("smoke", run.prefix.id) / "checkpoint.pt").unlink()
    return checkout, run


@pytest.fixture
def committed(
    trained: tuple[Path, RunRecord], monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunRecord]:
    """The run; what a test alters is put back."""
    checkout, run = trained
    monkeypatch.chdir(checkout)
    before = {path: path.read_bytes() for path in checkout.glob("results/smoke/*/*/*")}
    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)
    for path, content in before.items():
        path.write_bytes(content)


def _verify(*options: str) -> None:
    main(["verify", "--tier", "smoke", "--configfile", "figure.yaml", "--seed", "1", *options])


@pytest.fixture(autouse=True)
def figure(committed: RunRecord) -> None:
    """The configuration that the runs are of."""
    Path("figure.yaml").write_text(
        json.dumps({"figures": {"dom_bulk": {"tasks": [TASK], "losses": [LOSS]}}})
    )


def _refusal(capsys: pytest.CaptureFixture) -> tuple[str, str]:
    with pytest.raises(SystemExit) as end:
        _verify("--minutes", "1")
    assert isinstance(end.value.code, str)  # which exits with status 1
    return capsys.readouterr().out, end.value.code


def _alter(folder: Path, row: int, column: str, place: int = 4) -> None:
    """Change one digit of a number, and seal the folder anew, as a forger would."""
    path = folder / "trajectory.csv"
    rows = list(csv.DictReader(path.open()))
    digits = list(rows[row][column])
    place += digits.index(".") - 1 if "." in digits else 0
    digits[place] = str((int(digits[place]) + 5) % 10)
    rows[row][column] = "".join(digits)
    with path.open("w") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    seals.seal(folder, seals.TRAINED)


def test_what_was_trained_here_agrees_in_every_digit(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    _verify("--minutes", "1")
    head, prefix, run, count = capsys.readouterr().out.splitlines()
    assert "seed 1: 2 prefixes and runs, 0 stale" in head
    assert prefix.startswith(f"same: {committed.prefix.id}, steps 0 to 50: ")
    assert run.startswith(f"same: {committed.id}, steps 50 to 70: ")
    assert "agree in every digit" in prefix
    assert prefix.endswith(", as here)")
    assert "0 of them differ" in count


def test_an_altered_digit_of_a_prefix_is_caught(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    _alter(layout.prefix("smoke", committed.prefix.id), row=4, column="batch_loss")
    printed, message = _refusal(capsys)
    assert "1 of 2 stretches differ" in message
    assert f"DIFFERS: {committed.prefix.id}, steps 0 to 50: 1 of " in printed
    assert "first batch_loss at step 20 is " in printed


@pytest.mark.parametrize("column", ["train_loss", "eigenvalue_2", "num_matvecs"])
def test_an_altered_digit_of_a_run_is_caught(
    committed: RunRecord, capsys: pytest.CaptureFixture, column: str
) -> None:
    place = 0 if column == "num_matvecs" else 4
    _alter(layout.run("smoke", committed.id), row=2, column=column, place=place)
    printed, message = _refusal(capsys)
    assert "1 of 2 stretches differ" in message
    assert f"DIFFERS: {committed.id}, steps 50 to 70: 1 of " in printed
    assert f"first {column} at step 60 is " in printed


def test_elsewhere_a_band_is_kept_and_an_alteration_beyond_it_caught(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    """As on another processor: the fifth digit may differ there, the second may not."""
    folder = layout.run("smoke", committed.id)
    summary = json.loads((folder / "summary.json").read_text())
    summary["hardware"]["processor"] = "an abacus"
    (folder / "summary.json").write_text(json.dumps(summary))
    _alter(folder, row=1, column="train_loss", place=6)
    _verify("--minutes", "1")
    printed = capsys.readouterr().out
    assert f"close: {committed.id}" in printed
    assert "an abacus" in printed and "farthest train_loss at step 55" in printed
    _alter(folder, row=1, column="train_loss", place=2)
    printed, _ = _refusal(capsys)
    assert f"DIFFERS: {committed.id}" in printed


def test_results_of_other_code_are_compared_and_called_stale(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    folder = layout.run("smoke", committed.id)
    summary = json.loads((folder / "summary.json").read_text()) | {"code": "of last week"}
    (folder / "summary.json").write_text(json.dumps(summary))
    seals.seal(folder, seals.TRAINED)
    _verify("--minutes", "1")
    printed = capsys.readouterr().out
    assert "[STALE: made by other code" in printed
    assert "1 of 2 committed results are stale" in printed


def test_a_broken_seal_and_an_empty_tier_are_refused(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    path = layout.prefix("smoke", committed.prefix.id) / "trajectory.csv"
    path.write_text(path.read_text().replace("1", "2", 1))
    assert "is not what was written" in _refusal(capsys)[1]
    with pytest.raises(SystemExit, match="nothing of the laptop tier's configuration is committed"):
        main(["verify", "--tier", "laptop", "--minutes", "1"])
    with pytest.raises(SystemExit):
        _verify("--minutes", "0")
    assert "'0' is no number of minutes above 0" in capsys.readouterr().err


def test_a_spent_budget_leaves_one_prefix_begun(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    _verify("--minutes", "1e-9")
    printed = capsys.readouterr().out
    assert "steps 0 to 5 of 50, when the time was spent: " in printed
    assert "1 stretches in" in printed
