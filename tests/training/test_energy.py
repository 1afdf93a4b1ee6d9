"""The energy along a run. Oracle: dense curvature of the same model at the recorded parameters."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sharpflat import seals
from sharpflat.curvature import GGNOperator
from sharpflat.energy_record import check_energy
from sharpflat.records import PrefixRecord
from sharpflat.sources import energy_code_hash
from sharpflat.training import energy
from sharpflat.training.checkpoints import CheckpointError, read_checkpoint
from sharpflat.training.energy import measure_energy
from sharpflat.training.state import initial_state
from sharpflat.training.train import Keeping, train_prefix

CPU = torch.device("cpu")


@pytest.fixture
def rows(prefix_record: PrefixRecord, digits: Path, tmp_path: Path) -> list[dict[str, str]]:
    keeping = Keeping(snapshots=3)
    train_prefix(prefix_record, data=digits, folder=tmp_path, device=CPU, keeping=keeping)
    measure_energy(prefix_record, data=digits, folder=tmp_path, device=CPU, probes=200)
    with (tmp_path / "energy.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_kept_step_has_a_row_a_matrix(rows: list[dict[str, str]], tmp_path: Path) -> None:
    kept = read_checkpoint(tmp_path / "snapshots.pt")["parameters"]
    matrices = ("hessian", "ggn", "functional_hessian")
    expected = [(str(step), name) for step in kept for name in matrices]
    assert [(row["step"], row["matrix"]) for row in rows] == expected
    assert rows[-1]["steps_after_switch"] == "0"  # a prefix ends at its switch


def test_shares_and_overlap_are_those_of_dense_matrices(
    rows: list[dict[str, str]], prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    step, theta = read_checkpoint(tmp_path / "snapshots.pt")["parameters"].popitem()
    state = initial_state(prefix_record, digits, device=CPU)
    torch.nn.utils.vector_to_parameters(theta, state.model.parameters())
    hessian = state.hessian
    eye = torch.eye(hessian.shape[0])
    ggn = GGNOperator(state.model, state.loss_fn, hessian.inputs, hessian.targets) @ eye
    dense = {"hessian": (hessian @ eye).double(), "ggn": ggn.double()}
    dense["functional_hessian"] = dense["hessian"] - dense["ggn"]
    basis = torch.linalg.eigh(dense["hessian"])[1][:, -prefix_record.k :]
    ggn_basis = torch.linalg.eigh(dense["ggn"])[1][:, -prefix_record.k :]
    last = {row["matrix"]: row for row in rows if row["step"] == str(step)}
    for name, matrix in dense.items():
        share = float((matrix @ basis).norm() ** 2 / matrix.norm() ** 2)
        error = float(last[name]["frobenius_share_se"])
        assert abs(float(last[name]["frobenius_share"]) - share) < 4 * error + 0.01
        quotient = float(last[name]["rayleigh_quotient_1"])
        assert quotient == pytest.approx(float(basis[:, -1] @ matrix @ basis[:, -1]), rel=0.02)
    overlap = float((basis.T @ ggn_basis).square().sum()) / prefix_record.k
    assert float(last["hessian"]["overlap"]) == pytest.approx(overlap, abs=0.02)


def test_a_run_that_kept_nothing_cannot_be_measured(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    train_prefix(prefix_record, data=digits, folder=tmp_path, device=CPU)
    with pytest.raises(CheckpointError, match=r"snapshots.pt is missing: train its run again"):
        measure_energy(prefix_record, data=digits, folder=tmp_path, device=CPU, probes=9)


def test_the_record_says_of_what_and_how_an_energy_was_measured(
    rows: list[dict[str, str]], prefix_record: PrefixRecord, tmp_path: Path
) -> None:
    """Oracle: today's code, the table's own steps, and the summary of the same process."""
    check_energy(tmp_path)
    record = json.loads((tmp_path / "energy.json").read_text())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert record["code"] == energy_code_hash(prefix_record)
    assert record["steps"] == sorted({int(row["step"]) for row in rows})
    assert record["probes"] == 200
    for name in ("id", "data", "versions", "hardware", "threads"):
        assert record[name] == summary[name]


def test_an_energy_is_measured_again_where_anything_it_depends_on_is_another(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where it is not whole. Oracle: the points that are measured, counted."""
    measured: list[int] = []
    monkeypatch.setattr(energy, "energy_at", lambda *_, probes: measured.append(probes) or [{}])

    def train(record: PrefixRecord, snapshots: int) -> None:
        for file in ("summary.json", "checkpoint.pt"):
            (tmp_path / file).unlink(missing_ok=True)
        keeping = Keeping(snapshots=snapshots)
        train_prefix(record, data=digits, folder=tmp_path, device=CPU, keeping=keeping)

    def points(record: PrefixRecord, probes: int) -> int:
        measured.clear()
        measure_energy(record, data=digits, folder=tmp_path, device=CPU, probes=probes)
        check_energy(tmp_path)
        return len(measured)

    train(prefix_record, 1)
    assert [points(prefix_record, 2), points(prefix_record, 2)] == [2, 0]
    assert [points(prefix_record, 3), points(prefix_record, 3)] == [2, 0]
    train(prefix_record, 2)
    assert [points(prefix_record, 3), points(prefix_record, 3)] == [3, 0]
    faster = replace(prefix_record, learning_rate=2 * prefix_record.learning_rate)
    train(faster, 2)
    kept = points(faster, 3)  # its switch comes earlier
    assert (kept, points(faster, 3)) == (2, 0)
    (tmp_path / seals.ENERGY).unlink()
    assert points(faster, 3) == kept
    (tmp_path / "energy.csv").write_text("step\n1\n")
    assert points(faster, 3) == kept
    monkeypatch.setattr("sharpflat.energy_record.energy_code_hash", lambda task: "of tomorrow")
    assert [points(faster, 3), points(faster, 3)] == [kept, 0]
