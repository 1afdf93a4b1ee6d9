"""Numerical alarms, each set off by a fault that is planted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import run_record

from sharpflat.curvature import DominantSubspace
from sharpflat.records import PrefixRecord
from sharpflat.training import measure
from sharpflat.training.alarms import ALARMS, Alarms, NumericalAlarm, chunked_loss_difference
from sharpflat.training.state import TrainingState, initial_state
from sharpflat.training.train import Keeping, train_prefix, train_run

CPU = torch.device("cpu")


def _limit_products(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MATVECS_SEARCHING", "MATVECS_NEARBY"):
        monkeypatch.setattr(f"sharpflat.curvature.check.{name}", 1)


def _skew_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    basis = DominantSubspace.basis.fget
    assert basis is not None
    skewed = property(lambda self: basis(self) * 1.01)
    monkeypatch.setattr(DominantSubspace, "basis", skewed)


def _couple_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    loss_of = TrainingState.loss_of
    monkeypatch.setattr(
        TrainingState, "loss_of", lambda self, part: loss_of(self, part) * (1 + part.start)
    )


FAULTS = {
    "not_converged": _limit_products,
    "orthogonality": _skew_bases,
    "chunked_loss": _couple_samples,
}


def _train(record: PrefixRecord, digits: Path, folder: Path, **actions: Any) -> dict[str, Any]:
    keeping = Keeping(alarms=dict.fromkeys(ALARMS, "record") | actions)
    train_prefix(record, data=digits, folder=folder, device=CPU, keeping=keeping)
    return json.loads((folder / "summary.json").read_text())["alarms"]


@pytest.fixture
def short(prefix_record: PrefixRecord) -> PrefixRecord:
    return replace(prefix_record, switch_alignment=None, switch_max_steps=10)


def test_a_sound_run_sounds_no_alarm(short: PrefixRecord, digits: Path, tmp_path: Path) -> None:
    assert _train(short, digits, tmp_path, **dict.fromkeys(ALARMS, "raise")) == {}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_recorded_or_ends_the_run(
    short: PrefixRecord,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    FAULTS[name](monkeypatch)
    found = _train(short, digits, tmp_path / "recorded")
    assert found[name]["steps"] == 3  # records at 0, 5 and 10
    assert found[name]["first"] == 0
    with pytest.raises(NumericalAlarm, match=rf"{name} at step 0: .* set alarms\.{name} to 'rec"):
        _train(short, digits, tmp_path / "refused", **{name: "raise"})
    assert not (tmp_path / "refused" / "summary.json").exists()


def test_steps_on_a_subspace_beyond_its_tolerance_are_counted(
    short: PrefixRecord, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too few products a step, the tolerance cannot be met. SGD steps on no subspace."""
    prefix = tmp_path / "prefix"
    train_prefix(short, data=digits, folder=prefix, device=CPU)
    _limit_products(monkeypatch)
    found = {}
    for name, weights in {
        "bulk": {"dom_weight": 0.0},
        "interval": {"dom_weight": 0.0, "refresh": 5},
        "sgd": {},
    }.items():
        record = run_record(short, steps=10, **weights)
        folder = tmp_path / name
        train_run(record, data=digits, prefix_folder=prefix, folder=folder, device=CPU)
        alarms = json.loads((folder / "summary.json").read_text())["alarms"]
        found[name] = alarms.get("subspace_error", {"steps": 0})["steps"]
    assert found == {"bulk": 10, "interval": 0, "sgd": 0}


@pytest.mark.parametrize(("tolerance", "steps"), [(0.2, 10), (0.4, 0)])
def test_the_records_tolerance_decides_which_steps_are_counted(
    short: PrefixRecord,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tolerance: float,
    steps: int,
) -> None:
    """Oracle: an estimated error of 0.3 in every step."""
    monkeypatch.setattr(DominantSubspace, "error_estimate", property(lambda self: 0.3))
    prefix = replace(short, tolerance=tolerance)
    train_prefix(prefix, data=digits, folder=tmp_path / "prefix", device=CPU)
    train_run(
        run_record(prefix, steps=10, dom_weight=0.0),
        data=digits,
        prefix_folder=tmp_path / "prefix",
        folder=tmp_path / "run",
        device=CPU,
    )
    alarms = json.loads((tmp_path / "run" / "summary.json").read_text())["alarms"]
    assert alarms.get("subspace_error", {"steps": 0})["steps"] == steps


def test_divergence_is_a_result_and_no_alarm(
    short: PrefixRecord, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the step at which the run diverged: recorded, and the only one not checked."""
    record = replace(short, learning_rate=0.5, divergence_factor=1.5, record_every=1)
    checked: list[float] = []
    monkeypatch.setattr(
        Alarms, "check_record", lambda self, state, row: checked.append(row["step"])
    )
    train_prefix(record, data=digits, folder=tmp_path, device=CPU)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "diverged"
    assert (tmp_path / "trajectory.csv").read_text().count("\n") == 1 + len(checked) + 1
    assert checked == list(range(summary["last_step"]))


def test_alarms_go_on_counting_after_a_kill(
    short: PrefixRecord, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the run that nobody killed."""
    _limit_products(monkeypatch)
    keeping = Keeping(checkpoint_every=3)
    whole = _train(short, digits, tmp_path / "whole")
    batch_loss = TrainingState.batch_loss

    def killed(state: TrainingState, step: int) -> torch.Tensor:
        if step == 8:
            raise KeyboardInterrupt
        return batch_loss(state, step)

    monkeypatch.setattr(TrainingState, "batch_loss", killed)
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        train_prefix(short, data=digits, folder=folder, device=CPU, keeping=keeping)
    monkeypatch.setattr(TrainingState, "batch_loss", batch_loss)
    assert (folder / "resume.pt").exists()
    assert _train(short, digits, folder) == whole
    assert whole["not_converged"]["steps"] == 3


def test_an_alarm_counts_its_steps_and_keeps_the_worst() -> None:
    alarms = Alarms(actions=dict.fromkeys(ALARMS, "record"), tolerance=0.1, found={})
    for step, error in ((3, 0.2), (4, 0.05), (5, 0.4), (6, 0.3)):
        alarms.check_step(step, error)
    assert alarms.found == {"subspace_error": {"steps": 3, "first": 3, "worst": 0.4}}
    strict = Alarms(actions={"subspace_error": "raise"}, tolerance=0.1, found={})
    strict.check_step(3, 0.1)
    with pytest.raises(NumericalAlarm, match=r"subspace_error at step 4: 0\.2 is above 0\.1"):
        strict.check_step(4, 0.2)


def test_a_loss_is_the_mean_over_its_parts(short: PrefixRecord, digits: Path) -> None:
    assert chunked_loss_difference(initial_state(short, digits, device=CPU)) < 1e-6


def test_orthogonality_is_the_largest_deviation_from_the_identity() -> None:
    basis = torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    assert measure.orthogonality(basis) == pytest.approx(0.5)
    assert measure.orthogonality(torch.eye(3)[:, :2]) == 0
