"""Whole runs on a small data set."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from planted import run_record

from sharpflat.records import PrefixRecord, RunRecord
from sharpflat.tasks.data import load
from sharpflat.training.checkpoints import CheckpointError, read_checkpoint, write_checkpoint
from sharpflat.training.state import TrainingState, initial_state
from sharpflat.training.train import Keeping, train_prefix, train_run

CPU = torch.device("cpu")


def _rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "trajectory.csv").open() as file:
        return [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]


def _summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture
def trained(prefix_record: PrefixRecord, digits: Path, tmp_path: Path) -> Path:
    """Folder of a trained prefix."""
    folder = tmp_path / "prefix"
    train_prefix(prefix_record, data=digits, folder=folder, device=CPU)
    return folder


def _train(record: RunRecord, digits: Path, prefix: Path, folder: Path) -> list[dict[str, float]]:
    train_run(record, data=digits, prefix_folder=prefix, folder=folder, device=CPU)
    return _rows(folder)


def test_the_switch_is_the_first_record_whose_average_passes(
    trained: Path, prefix_record: PrefixRecord
) -> None:
    """Oracle: the average recomputed from the recorded alignments, memory counted in steps.

    It starts at zero: these gradients align at initialisation, which must not bring the switch.
    """
    rows, summary = _rows(trained), _summary(trained)
    assert rows[0]["alignment"] > prefix_record.switch_alignment
    average = (1 - prefix_record.switch_ema_decay) * rows[0]["alignment"]
    assert rows[0]["alignment_ema"] == pytest.approx(average, rel=1e-6)
    decay = prefix_record.switch_ema_decay**prefix_record.eigen_every
    for row in rows[1:]:
        average = decay * average + (1 - decay) * row["alignment"]
        assert row["alignment_ema"] == pytest.approx(average, rel=1e-6)
    passed = [row["step"] for row in rows if row["alignment_ema"] > prefix_record.switch_alignment]
    assert summary["switch_reason"] == "alignment"
    assert passed == [summary["switch_step"]] == [rows[-1]["step"]]


def test_without_a_threshold_the_switch_comes_at_its_last_step(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    record = replace(prefix_record, switch_alignment=None, switch_max_steps=12)
    train_prefix(record, data=digits, folder=tmp_path, device=CPU)
    assert [row["step"] for row in _rows(tmp_path)] == [0, 5, 10, 12]
    assert (_summary(tmp_path)["switch_step"], _summary(tmp_path)["switch_reason"]) == (
        12,
        "max_steps",
    )


def test_losses_have_a_rhythm_of_their_own_and_cost_no_product(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Oracle: the same SGD with a record of everything, every tenth step and every step."""
    seldom = run_record(prefix_record, record_every=10, eigen_every=10)
    both = run_record(prefix_record, record_every=2, eigen_every=10)
    always = run_record(prefix_record, record_every=1, eigen_every=1)
    expected, rows, everything = (
        _train(record, digits, trained, tmp_path / name)
        for name, record in {"seldom": seldom, "both": both, "always": always}.items()
    )
    start = int(rows[0]["step"])
    assert [int(row["step"]) - start for row in rows] == list(range(0, 21, 2))
    assert rows[::5] == expected
    assert _summary(tmp_path / "both")["num_matvecs"] == expected[-1]["num_matvecs"]
    losses = {"step", "batch_loss", "train_loss", "test_loss", "test_accuracy", "gradient_norm"}
    for row, whole in zip(rows, everything[::2], strict=True):
        assert all(row[name] == whole[name] for name in losses)
        norms = (whole["dominant_gradient_norm"], whole["bulk_gradient_norm"])
        assert row["gradient_norm"] == pytest.approx(math.hypot(*norms), rel=1e-6)
        if row not in expected:
            assert {n for n, v in row.items() if not math.isnan(v)} == losses | {"num_matvecs"}


def test_a_record_of_the_eigenspace_is_the_trackers_full_check(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Steps so small that only the clock asks for a check, which is due 10 steps after the last."""
    still = {"dom_weight": 0.0, "learning_rate": 1e-5, "record_every": 1}
    multiplied = {}
    for rhythm in (7, 20):
        record = run_record(prefix_record, **still, eigen_every=rhythm)
        rows = _train(record, digits, trained, tmp_path / str(rhythm))
        products = [row["num_matvecs"] for row in rows]
        multiplied[rhythm] = [step for step in range(1, 21) if products[step] > products[step - 1]]
    assert [step for step in multiplied[7] if step > 2] == [7, 14, 20]  # before: learns rates
    assert [step for step in multiplied[20] if 2 < step < 20] != []


def test_the_switch_comes_at_a_record_of_the_eigenspace(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Whatever the rhythm of the losses. Oracle: the prefix whose losses have that rhythm too."""
    record = replace(prefix_record, eigen_every=15, record_every=15)
    often = replace(record, record_every=1)
    for name, chosen in (("seldom", record), ("often", often)):
        train_prefix(chosen, data=digits, folder=tmp_path / name, device=CPU)
    seldom, rows = _rows(tmp_path / "seldom"), _rows(tmp_path / "often")
    switch = _summary(tmp_path / "often")["switch_step"]
    assert switch == _summary(tmp_path / "seldom")["switch_step"] == rows[-1]["step"]
    assert 0 < switch < record.switch_max_steps
    assert rows[::15] == seldom


def test_the_average_counts_the_steps_to_a_stop_between_two_records(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    record = replace(prefix_record, switch_alignment=None, switch_max_steps=12)
    train_prefix(record, data=digits, folder=tmp_path, device=CPU)
    before, last = _rows(tmp_path)[-2:]
    decay = record.switch_ema_decay**2
    expected = decay * before["alignment_ema"] + (1 - decay) * last["alignment"]
    assert last["alignment_ema"] == pytest.approx(expected, rel=1e-6)


def test_sgd_from_the_switch_is_sgd_that_never_stopped(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Oracle: torch.optim.SGD in a plain loop over the same batches, bit by bit."""
    rows = _train(run_record(prefix_record), digits, trained, tmp_path / "sgd")
    state = initial_state(prefix_record, digits, device=CPU)
    optimizer = torch.optim.SGD(state.model.parameters(), lr=prefix_record.learning_rate)
    losses = []
    for step in range(int(rows[-1]["step"]) + 1):
        optimizer.zero_grad()
        loss = state.batch_loss(step)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    for row in [*_rows(trained), *rows]:
        assert row["batch_loss"] == pytest.approx(losses[int(row["step"])], rel=1e-7)


def test_methods_start_alike_and_meet_the_same_batches(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """At zero step size all methods stay put, so equal batch losses mean equal batches."""
    still = replace(prefix_record, learning_rate=1e-30)
    prefix = tmp_path / "still"
    train_prefix(still, data=digits, folder=prefix, device=CPU)
    losses = [
        [
            row["batch_loss"]
            for row in _train(run_record(still, **w), digits, prefix, tmp_path / name)
        ]
        for name, w in {
            "sgd": {},
            "dom": {"bulk_weight": 0.0},
            "bulk": {"dom_weight": 0.0, "refresh": 3},
            "between": {"dom_weight": 0.5, "refresh": "every_step"},
        }.items()
    ]
    assert losses[0] == losses[1] == losses[2] == losses[3]
    assert len(set(losses[0])) > 1


def test_the_recorded_numbers_are_those_of_the_parameters(
    trained: Path, prefix_record: PrefixRecord, digits: Path
) -> None:
    """Oracle: dense Hessian and gradient at the checkpoint, torch.autograd.functional."""
    state = initial_state(prefix_record, digits, device=CPU)
    checkpoint = read_checkpoint(trained / "checkpoint.pt")
    state.model.load_state_dict(checkpoint["model"])
    row = _rows(trained)[-1]
    dataset = load("digits", digits)
    with torch.no_grad():
        outputs = state.model(dataset.test_inputs)
    accuracy = (outputs.argmax(1) == dataset.test_targets).double().mean().item()
    loss, gradient = state.full_gradient()
    hessian = state.hessian @ torch.eye(state.hessian.shape[0])
    values, vectors = torch.linalg.eigh(hessian.double())
    basis = vectors[:, -prefix_record.k :]
    dominant = torch.linalg.vector_norm(basis.T @ gradient.double()).item()
    norm = torch.linalg.vector_norm(gradient).item()
    assert row["test_accuracy"] == pytest.approx(accuracy)
    assert row["train_loss"] == pytest.approx(loss, rel=1e-5)
    assert row["dominant_gradient_norm"] == pytest.approx(dominant, rel=2e-3)
    assert row["alignment"] == pytest.approx(dominant / norm, rel=2e-3)
    assert math.hypot(row["dominant_gradient_norm"], row["bulk_gradient_norm"]) == pytest.approx(
        norm, rel=1e-4
    )
    for i in range(1, prefix_record.k + 1):
        assert row[f"eigenvalue_{i}"] == pytest.approx(values[-i].item(), rel=1e-3)
    assert row[f"eigenvalue_{prefix_record.k + 1}"] <= values[-prefix_record.k - 1].item() * 1.001


def test_divergence_ends_the_run_and_keeps_its_trajectory(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    record = replace(prefix_record, learning_rate=1e4, switch_alignment=None)
    train_prefix(record, data=digits, folder=tmp_path, device=CPU)
    rows, summary = _rows(tmp_path), _summary(tmp_path)
    assert summary["status"] == "diverged"
    assert rows[0]["step"] == 0
    assert rows[-1]["step"] == summary["last_step"] < record.switch_max_steps


def test_a_loss_that_grows_past_its_limit_has_diverged(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """The step size is stable up to 2 / λ_1; ten times that is not."""
    record = replace(prefix_record, learning_rate=0.5, switch_alignment=None, divergence_factor=1.5)
    train_prefix(record, data=digits, folder=tmp_path, device=CPU)
    rows, summary = _rows(tmp_path), _summary(tmp_path)
    assert summary["status"] == "diverged"
    assert rows[-1]["batch_loss"] > 1.5 * rows[0]["train_loss"]


def test_what_changes_at_the_switch_changes_the_run_and_not_its_start(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Oracle: the run whose settings did not change."""
    default = _train(run_record(prefix_record), digits, trained, tmp_path / "default")
    changes = {"learning_rate": 0.001, "batch_size": 10, "k": 2, "hessian_samples": 200}
    for name, value in changes.items():
        changed = _train(
            run_record(prefix_record, **{name: value}), digits, trained, tmp_path / name
        )
        assert changed[0]["train_loss"] == default[0]["train_loss"]
        different = {column for column in changed[-1] if changed[-1][column] != default[-1][column]}
        expected = {
            "learning_rate": {"train_loss", "eigenvalue_1"},
            "batch_size": {"train_loss", "batch_loss"},
            "k": {"alignment"},
            "hessian_samples": {"eigenvalue_1"},
        }
        assert expected[name] <= different
    assert "eigenvalue_4" in default[0]
    assert "eigenvalue_4" not in _rows(tmp_path / "k")[0]


def test_a_run_from_a_diverged_prefix_diverges_at_once(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    record = replace(prefix_record, learning_rate=1e4, switch_alignment=None)
    train_prefix(record, data=digits, folder=tmp_path / "prefix", device=CPU)
    _train(run_record(record, dom_weight=0.0), digits, tmp_path / "prefix", tmp_path / "run")
    summary = _summary(tmp_path / "run")
    assert (summary["status"], summary["last_step"]) == ("diverged", summary["switch_step"])


def test_the_same_record_gives_the_same_bytes(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    record = run_record(prefix_record, dom_weight=0.0)
    for name in ("first", "second"):
        _train(record, digits, trained, tmp_path / name)
    first, second = (tmp_path / name / "trajectory.csv" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_a_complete_result_is_kept_and_a_foreign_one_is_replaced(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    _train(run_record(prefix_record), digits, trained, folder)
    marked = (folder / "trajectory.csv").read_text() + "\n"
    (folder / "trajectory.csv").write_text(marked)
    _train(run_record(prefix_record), digits, trained, folder)
    assert (folder / "trajectory.csv").read_text() == marked
    _train(run_record(prefix_record, steps=15), digits, trained, folder)
    assert _summary(folder)["id"] == run_record(prefix_record, steps=15).id
    summary = _summary(folder) | {"code": "of another version"}
    (folder / "summary.json").write_text(json.dumps(summary))
    _train(run_record(prefix_record, steps=15), digits, trained, folder)
    assert _summary(folder)["code"] != "of another version"


def test_results_without_their_checkpoint_are_trained_again(
    trained: Path, prefix_record: PrefixRecord, digits: Path
) -> None:
    """As in a clone, which holds results but no checkpoints."""
    before = (trained / "trajectory.csv").read_bytes()
    (trained / "checkpoint.pt").unlink()
    train_prefix(prefix_record, data=digits, folder=trained, device=CPU)
    assert (trained / "checkpoint.pt").exists()
    assert (trained / "trajectory.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("refresh", "weights"),
    [
        ("adaptive", {"dom_weight": 0.0}),
        ("adaptive", {"bulk_weight": 0.0}),
        ("every_step", {"dom_weight": 0.0}),
        (3, {"dom_weight": 0.0}),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    trained: Path,
    prefix_record: PrefixRecord,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refresh: str | int,
    weights: dict[str, float],
) -> None:
    """Oracle: the run that nobody killed. Killed before, between and after checkpoints."""
    record = run_record(prefix_record, **weights, refresh=refresh, record_every=2, eigen_every=6)
    _train(record, digits, trained, tmp_path / "whole")
    keeping = Keeping(snapshots=4, checkpoint_every=3)
    left = 0

    def killed(state: TrainingState, step: int) -> torch.Tensor:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return batch_loss(state, step)

    batch_loss = TrainingState.batch_loss
    monkeypatch.setattr(TrainingState, "batch_loss", killed)
    folder = tmp_path / "killed"
    for steps in (4, 9, 2, 1000):
        left = steps
        try:
            train_run(
                record,
                data=digits,
                prefix_folder=trained,
                folder=folder,
                device=CPU,
                keeping=keeping,
            )
        except KeyboardInterrupt:
            assert not (folder / "summary.json").exists()
    whole = tmp_path / "whole" / "trajectory.csv"
    assert (folder / "trajectory.csv").read_bytes() == whole.read_bytes()
    assert _summary(folder)["num_matvecs"] == _summary(tmp_path / "whole")["num_matvecs"]
    assert not (folder / "resume.pt").exists()


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "foreign"])
def test_a_checkpoint_that_cannot_be_resumed_is_set_aside(
    prefix_record: PrefixRecord,
    digits: Path,
    tmp_path: Path,
    trained: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    record = replace(prefix_record, switch_alignment=None, switch_max_steps=10)
    train_prefix(record, data=digits, folder=tmp_path / "whole", device=CPU)
    resume = tmp_path / "damaged" / "resume.pt"
    write_checkpoint(resume, {"key": "of another run"})
    content = bytearray(resume.read_bytes())
    content[-1] ^= 1
    damaged = {"flipped": bytes(content), "cut": bytes(content[:40]), "empty": b""}
    if damage != "foreign":
        resume.write_bytes(damaged[damage])
    train_prefix(record, data=digits, folder=resume.parent, device=CPU)
    assert (resume.parent / "resume.pt.rejected").exists()
    assert "starting over" in caplog.text
    paths = [folder / "trajectory.csv" for folder in (tmp_path / "whole", resume.parent)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_snapshots_are_the_parameters_at_their_steps(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Oracle: the losses that were recorded there."""
    record = run_record(prefix_record)
    arguments = {"data": digits, "prefix_folder": trained, "device": CPU}
    train_run(record, folder=tmp_path / "plain", **arguments)
    folder = tmp_path / "kept"
    train_run(record, folder=folder, keeping=Keeping(snapshots=2), **arguments)
    plain, kept = (path / "trajectory.csv" for path in (tmp_path / "plain", folder))
    assert plain.read_bytes() == kept.read_bytes()
    snapshots = read_checkpoint(folder / "snapshots.pt")
    rows = {int(row["step"]): row for row in _rows(folder)}
    start = _summary(folder)["switch_step"]
    assert list(snapshots["parameters"]) == [start, start + 10, start + 20]
    state = initial_state(prefix_record, digits, device=CPU)
    for step, theta in snapshots["parameters"].items():
        torch.nn.utils.vector_to_parameters(theta, state.model.parameters())
        assert state.full_gradient()[0] == pytest.approx(rows[step]["train_loss"], rel=1e-6)


def test_a_damaged_or_missing_checkpoint_is_refused(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    arguments = {"data": digits, "prefix_folder": trained, "device": CPU}
    checkpoint = trained / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is damaged: delete it"):
        train_run(run_record(prefix_record), folder=tmp_path / "run", **arguments)
    checkpoint.unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is missing: train"):
        train_run(run_record(prefix_record), folder=tmp_path / "run", **arguments)


def test_a_checkpoint_of_another_prefix_is_refused(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    other = run_record(replace(prefix_record, seed=1))
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    with pytest.raises(CheckpointError, match=r"holds .*seed0.*, not .*seed1.*train the prefix"):
        train_run(other, data=digits, prefix_folder=moved, folder=tmp_path / "run", device=CPU)


def test_a_summary_says_with_what_it_was_made(trained: Path, prefix_record: PrefixRecord) -> None:
    summary = _summary(trained)
    assert summary["id"] == prefix_record.id
    assert summary["versions"]["torch"] == torch.__version__.split("+")[0]
    assert set(summary["seeds"]) == {"initialisation", "batches", "eigensolver", "energy"}
    assert summary["device"] == "cpu"
    assert summary["num_matvecs"] > 0
    assert summary["hardware"]["processor"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_run_on_the_gpu_follows_the_run_on_the_cpu(
    trained: Path, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Oracle: the CPU, to float32 rounding over a few steps."""
    record = run_record(prefix_record, dom_weight=0.0, steps=5)
    cpu = _train(record, digits, trained, tmp_path / "cpu")
    train_run(
        record,
        data=digits,
        prefix_folder=trained,
        folder=tmp_path / "gpu",
        device=torch.device("cuda"),
    )
    gpu = _rows(tmp_path / "gpu")
    assert gpu[-1]["train_loss"] == pytest.approx(cpu[-1]["train_loss"], rel=1e-3)
