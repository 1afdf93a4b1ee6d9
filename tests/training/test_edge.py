"""The search for the edge of stability. Oracle: a quadratic, whose edge is 2 / λ."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import run_record

from sharpflat.records import EdgeRecord, PrefixRecord
from sharpflat.training.checkpoints import CheckpointError
from sharpflat.training.edge import bracket, find_edge, next_trial
from sharpflat.training.state import TrainingState, initial_state
from sharpflat.training.train import Keeping, train_prefix

CPU = torch.device("cpu")
RESOLUTION = 1.1
#: What the classes of runs of 60 steps can tell apart: 1.02 times the edge grows 10 times over.
CLOSE = 1.02


@pytest.fixture
def linear(prefix_record: PrefixRecord) -> PrefixRecord:
    """A linear model with squared error and full batches: the Hessian is constant.

    It is a multiple of the inputs' second moments for each of the 10 classes, so that every
    eigenvalue is there ten times over, and k is 10.
    """
    return replace(
        prefix_record,
        sizes=(("depth", 1), ("width", 8)),
        batch_size=1437,
        hessian_samples=1437,
        learning_rate=0.001,
        k=10,
        tolerance=0.01,
        switch_alignment=None,
        switch_max_steps=5,
    )


@pytest.fixture
def trained(linear: PrefixRecord, digits: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "prefix"
    train_prefix(linear, data=digits, folder=folder, device=CPU)
    return folder


def _edge(prefix: PrefixRecord, **changes: Any) -> EdgeRecord:
    rhythm = {"steps": 60, "record_every": 2, "eigen_every": 60}
    start = run_record(prefix, **{**rhythm, "learning_rate": 0.1, **changes})
    return EdgeRecord(start=start, factor=2.0, resolution=RESOLUTION, most_trials=20)


def _find(record: EdgeRecord, digits: Path, prefix: Path, folder: Path) -> dict[str, Any]:
    find_edge(
        record,
        data=digits,
        prefix_folder=prefix,
        folder=folder,
        device=CPU,
        keeping=Keeping(checkpoint_every=7),
    )
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize(
    ("weights", "following", "start"), [({}, 1, 0.01), ({"dom_weight": 0.0}, 11, 0.4)]
)
def test_the_edge_of_a_quadratic_is_two_over_the_largest_eigenvalue_that_steps_meet(
    linear: PrefixRecord,
    digits: Path,
    trained: Path,
    tmp_path: Path,
    weights: dict[str, float],
    following: int,
    start: float,
) -> None:
    """λ_1 for SGD, from below, λ_{k+1} for Bulk-SGD, from above; of the dense Hessian."""
    state = initial_state(linear, digits, device=CPU)
    dense = (state.hessian @ torch.eye(state.hessian.shape[0])).double()
    eigenvalues = torch.linalg.eigvalsh(dense).flip(0)
    summary = _find(_edge(linear, learning_rate=start, **weights), digits, trained, tmp_path / "e")
    edge = 2 / eigenvalues[following - 1].item()
    assert summary["status"] == "resolved"
    assert summary["largest_stable"] < CLOSE * edge
    assert summary["smallest_not_stable"] > edge / CLOSE
    assert summary["smallest_not_stable"] <= RESOLUTION * summary["largest_stable"]
    assert summary["eigenvalue_dominant"] == pytest.approx(eigenvalues[0].item(), rel=1e-3)
    assert summary["eigenvalue_bulk"] == pytest.approx(eigenvalues[10].item(), rel=1e-2)


def test_a_killed_search_goes_on_to_the_same_bytes(
    linear: PrefixRecord,
    digits: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Oracle: the search that nobody killed. Killed within trials and on their border."""
    record = _edge(linear, dom_weight=0.0, learning_rate=0.2)
    whole = _find(record, digits, trained, tmp_path / "whole")
    batch_loss, left = TrainingState.batch_loss, 0

    def killed(state: TrainingState, step: int) -> torch.Tensor:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return batch_loss(state, step)

    monkeypatch.setattr(TrainingState, "batch_loss", killed)
    folder = tmp_path / "killed"
    for steps in (30, 61, 100, 10_000):
        left = steps
        try:
            found = _find(record, digits, trained, folder)
        except KeyboardInterrupt:
            assert not (folder / "summary.json").exists()
    assert (folder / "edge.csv").read_bytes() == (tmp_path / "whole/edge.csv").read_bytes()
    assert {**found, "seconds": 0} == {**whole, "seconds": 0}
    left = 0  # complete: nothing is trained again
    assert _find(record, digits, trained, folder) == found


def test_a_trial_is_the_ordinary_run_with_its_learning_rate(
    linear: PrefixRecord, digits: Path, trained: Path, tmp_path: Path
) -> None:
    """What a row says of a trial is what its trajectory says, and the summary adds them up."""
    record = _edge(linear, learning_rate=0.2)
    summary = _find(record, digits, trained, tmp_path / "edge")
    with (tmp_path / "edge/edge.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert summary["trials"] == len(rows)
    products = 0
    for row in rows:
        run = record.trial(float(row["learning_rate"]))
        folder = tmp_path / "edge/trials" / run.id
        trial = json.loads((folder / "summary.json").read_text())
        assert trial["record"]["learning_rate"] == float(row["learning_rate"])
        assert (trial["status"] == "diverged") == (row["stability"] == "diverged")
        with (folder / "trajectory.csv").open() as file:
            losses = [float(r["train_loss"]) for r in csv.DictReader(file) if r["train_loss"]]
        assert float(row["start_train_loss"]) == losses[0]
        assert float(row["highest_train_loss"]) == max(losses)
        final = math.inf if row["stability"] == "diverged" else losses[-1]
        assert float(row["final_train_loss"]) == final
        products += trial["num_matvecs"]
    assert summary["num_matvecs"] == products
    assert {row["stability"] for row in rows} > {"stable"}


def test_a_damaged_trial_is_trained_again_and_the_others_are_kept(
    linear: PrefixRecord, digits: Path, trained: Path, tmp_path: Path
) -> None:
    """Oracle: the search before the damage. Left half written by a kill, and cut afterwards."""
    record = _edge(linear, learning_rate=0.05, steps=20)
    summary = _find(record, digits, trained, tmp_path / "edge")
    before = (tmp_path / "edge/edge.csv").read_bytes()
    cut, half, kept = sorted((tmp_path / "edge/trials").iterdir())[:3]
    (cut / "trajectory.csv").write_bytes((cut / "trajectory.csv").read_bytes()[:-9])
    (half / "summary.json").rename(half / ".summary.json.123")
    written = (kept / "trajectory.csv").stat().st_ino
    (tmp_path / "edge/summary.json").unlink()
    found = _find(record, digits, trained, tmp_path / "edge")
    assert {**found, "seconds": 0} == {**summary, "seconds": 0}
    assert (tmp_path / "edge/edge.csv").read_bytes() == before
    assert not (half / ".summary.json.123").exists()
    assert (kept / "trajectory.csv").stat().st_ino == written


def test_a_search_from_a_diverged_prefix_is_refused(
    linear: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Every trial would diverge, and the edge would lie below them all."""
    prefix = replace(linear, learning_rate=1e6)
    train_prefix(prefix, data=digits, folder=tmp_path / "prefix", device=CPU)
    with pytest.raises(ValueError, match=r"diverged at step .* lower its learning_rate"):
        _find(_edge(prefix), digits, tmp_path / "prefix", tmp_path / "edge")
    with pytest.raises(CheckpointError, match=r"holds no summary.json of"):
        _find(_edge(linear), digits, tmp_path / "none", tmp_path / "edge")
    assert not (tmp_path / "edge").exists()


@pytest.mark.parametrize("edge", [1e-5, 0.013, 0.01, 0.7, 40.0])
@pytest.mark.parametrize(("factor", "resolution"), [(1.5, 1.1), (4.0, 1.02), (1.1, 1.1)])
def test_the_search_brackets_any_edge(
    linear: PrefixRecord, edge: float, factor: float, resolution: float
) -> None:
    """Oracle: an edge that is known; and no learning rate is tried twice."""
    record = replace(_edge(linear), factor=factor, resolution=resolution, most_trials=200)
    trials: list[dict[str, Any]] = []
    while (learning_rate := next_trial(record, trials)) is not None:
        stability = "stable" if learning_rate < edge else "diverged"
        trials.append({"learning_rate": learning_rate, "stability": stability})
    stable, beyond = bracket(trials)
    assert stable is not None
    assert beyond is not None
    assert stable < edge <= beyond <= resolution * stable * (1 + 1e-5)
    assert len({trial["learning_rate"] for trial in trials}) == len(trials)
