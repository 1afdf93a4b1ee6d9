"""Training committed runs again. Oracle: runs that the test trained by the workflow's commands, and
what it then altered in them."""

import csv
import json
import lzma
import shutil
from pathlib import Path

import pytest
from archives import forge

from sharpflat import layout, seals
from sharpflat.archive import SEAL
from sharpflat.cli import main
from sharpflat.config import read_tier
from sharpflat.plan import all_prefixes
from sharpflat.records import RunRecord
from sharpflat.tasks.errors import DataError
from sharpflat.verification.committed import Committed, committed_results
from sharpflat.verification.comparison import compare
from sharpflat.verification.verify import verify

ROOT = Path(__file__).parents[2]
TASK, LOSS = "cancer_mlp", "mse"


def _verify(*options: str) -> None:
    main(["verify", "--tier", "smoke", "--configfile", "figure.yaml", "--seed", "1", *options])


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
    assert "seed 1: 2 results, 0 stale" in head
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


@pytest.mark.parametrize(
    ("column", "row", "step"),
    [("train_loss", 2, 60), ("eigenvalue_2", 4, 70), ("num_matvecs", 4, 70)],
)
def test_an_altered_digit_of_a_run_is_caught(
    committed: RunRecord, capsys: pytest.CaptureFixture, column: str, row: int, step: int
) -> None:
    place = 0 if column == "num_matvecs" else 4
    _alter(layout.run("smoke", committed.id), row=row, column=column, place=place)
    printed, message = _refusal(capsys)
    assert "1 of 2 stretches differ" in message
    assert f"DIFFERS: {committed.id}, steps 50 to 70: 1 of " in printed
    assert f"first {column} at step {step} is " in printed


def _keep_the_archive_alone(committed: RunRecord) -> None:
    """As in a clone."""
    main(["pack", "--tier", "smoke", "--configfile", "figure.yaml"])
    shutil.rmtree(layout.prefix("smoke", committed.prefix.id))
    shutil.rmtree(layout.run("smoke", committed.id))


def test_a_clone_is_verified_from_its_archive(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    _keep_the_archive_alone(committed)
    _verify("--minutes", "1")
    printed = capsys.readouterr().out
    assert "2 of 2 results restored from the archive in results/smoke" in printed
    assert f"same: {committed.prefix.id}" in printed and f"same: {committed.id}" in printed
    assert "0 of them differ" in printed


def test_two_results_with_one_altered_digit_each_are_caught_in_an_archive(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    """Sealed anew, they and the archive, as a forger would."""
    _alter(layout.prefix("smoke", committed.prefix.id), row=4, column="batch_loss")
    _alter(layout.run("smoke", committed.id), row=2, column="train_loss")
    _keep_the_archive_alone(committed)
    printed, message = _refusal(capsys)
    assert "2 of 2 stretches differ" in message
    assert "2 of 2 results restored" in printed
    assert f"DIFFERS: {committed.prefix.id}, steps 0 to 50: 1 of " in printed
    assert "first batch_loss at step 20 is " in printed
    assert f"DIFFERS: {committed.id}, steps 50 to 70: 1 of " in printed
    assert "first train_loss at step 60 is " in printed


def test_a_digit_that_is_altered_in_the_archive_alone_breaks_a_seal(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    _keep_the_archive_alone(committed)
    results = layout.results("smoke")
    table = lzma.decompress((results / "trajectories.csv.xz").read_bytes()).decode()
    number = table.splitlines()[-1].split(",")[3]
    forge(results, "trajectories.csv.xz", f",{number},", f",{number}1,")
    assert "trajectory.sha256 is not of what stands there as " in _refusal(capsys)[1]
    (results / SEAL).write_text("")
    assert "the archive in results/smoke is not what was packed" in _refusal(capsys)[1]


def test_what_was_trained_on_other_data_is_left_out(
    committed: RunRecord, capsys: pytest.CaptureFixture
) -> None:
    """As on a mirror's variant of a data set; with nothing else committed that is no success."""
    folder = layout.run("smoke", committed.id)
    origin = {"source": "mirror", "origin": "x", "variant": "the last image upside down"}
    summary = json.loads((folder / "summary.json").read_text())
    altered = summary | {"data": "0" * 64, "data_origin": origin}
    (folder / "summary.json").write_text(json.dumps(altered))
    seals.seal(folder, seals.TRAINED)
    printed, message = _refusal(capsys)
    assert "trained on other data than is here" in message
    name, data = committed.prefix.dataset, layout.dataset(committed.prefix.dataset)
    assert (
        f"left out: what was trained on {name} of other bytes than {data} holds "
        "(the last image upside down)\n"
    ) in printed


def test_what_is_left_out_spends_nothing_and_the_next_is_drawn(committed: RunRecord) -> None:
    """Oracle: the same call without what is left out. The time is for one record of a prefix."""
    config = read_tier("smoke", ROOT)
    mine = {"figures": {"dom_bulk": {"tasks": [TASK], "losses": [LOSS]}}}
    own = committed_results(read_tier("smoke", ROOT, mine))
    other = next(found for found in all_prefixes(config) if found.task == "digits_cnn")
    path = layout.dataset(other.dataset)
    main(["data", other.dataset, str(path)])
    summary = own[committed.prefix].summary | {"data": "0" * 64}
    foreign = Committed(folder=Path("nowhere"), summary=summary, code=summary["code"])

    def texts(found: dict, seed: int) -> list[str]:
        verdicts = verify(config, found, seed=seed, minutes=1e-9, data_of=layout.dataset)
        return [verdict.text.partition(", when")[0] for verdict in verdicts]

    expected = texts(own, 0)
    assert expected == [f"same: {committed.prefix.id}, steps 0 to 5 of 50"]
    drawn = [texts({other: foreign} | own, seed) for seed in range(6)]
    left_out = f"left out: what was trained on {other.dataset} of other bytes than {path} holds"
    assert all(found in (expected, [left_out, *expected]) for found in drawn)
    assert [left_out, *expected] in drawn


def test_data_that_cannot_be_had_are_named_and_others_are_drawn(committed: RunRecord) -> None:
    """As without a network; where nothing else is committed, the remedy is said."""
    config = read_tier("smoke", ROOT)
    mine = {"figures": {"dom_bulk": {"tasks": [TASK], "losses": [LOSS]}}}
    own = committed_results(read_tier("smoke", ROOT, mine))
    first, second = [found for found in all_prefixes(config) if found.task == "digits_cnn"][:2]
    summary = own[committed.prefix].summary
    lacking = Committed(folder=Path("nowhere"), summary=summary, code=summary["code"])

    def data_of(name: str) -> Path:
        if name == first.dataset:
            raise DataError("cannot download it: give --mirror")
        return layout.dataset(name)

    def texts(found: dict, seed: int) -> list[str]:
        verdicts = verify(config, found, seed=seed, minutes=1e-9, data_of=data_of)
        return [verdict.text.partition(", when")[0] for verdict in verdicts]

    said = f"left out: what was trained on {first.dataset}: cannot download it: give --mirror"
    again = f"same: {committed.prefix.id}, steps 0 to 5 of 50"
    drawn = [texts({first: lacking, second: lacking} | own, seed) for seed in range(6)]
    assert all(found in ([again], [said, again]) for found in drawn) and [said, again] in drawn
    with pytest.raises(ValueError, match="--data-mirror"):
        texts({first: lacking}, 0)


def test_the_alignments_average_goes_on_from_a_rounded_number() -> None:
    """Oracle: the eighth digit of its start, which the committed run had unrounded."""
    there = {5: {"step": "5", "alignment_ema": "0.25804207", "train_loss": "0.5"}}
    here = {5: there[5] | {"alignment_ema": "0.25804208"}}
    assert not compare(there, here, continued=True).differences
    assert compare(there, here).differences  # of two codes that set out from the same number
    for changed in ({"alignment_ema": "0.25804307"}, {"train_loss": "0.50000001"}):
        assert compare(there, {5: here[5] | changed}, continued=True).differences


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
