"""Training with every base optimizer.

Oracles: torch's own optimizers, formulas written out, dense float64 eigenpairs, and the same run
without a kill.
"""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import run_record
from training.dense import descending_eigenpairs

from sharpflat.optimizers import OPTIMIZERS, parse_optimizer
from sharpflat.records import PrefixRecord
from sharpflat.training.checkpoints import read_checkpoint
from sharpflat.training.loop import Stretch
from sharpflat.training.optimizers import base_optimizers, next_update, reevaluates
from sharpflat.training.sam import SAM
from sharpflat.training.state import initial_state
from sharpflat.training.train import Keeping, train_prefix, train_run

CPU = torch.device("cpu")
CHOSEN: list[Any] = [
    {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    *OPTIMIZERS,
]
RATES = {"adam": 0.002, "adamw": 0.002, "rmsprop": 0.001, "muon": 0.005}


def _record(prefix_record: PrefixRecord, value: Any) -> PrefixRecord:
    name, options = parse_optimizer(value)
    return replace(
        prefix_record,
        optimizer=name,
        optimizer_options=options,
        learning_rate=RATES.get(name, 0.02),
        switch_alignment=None,
        switch_max_steps=10,
    )


def _rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "trajectory.csv").open() as file:
        return [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("value", CHOSEN, ids=str)
def test_a_run_that_keeps_all_goes_on_as_if_there_were_no_switch(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path, value: Any
) -> None:
    """Momentum and moments cross the switch. Oracle: the optimizer in a loop of its own."""
    prefix = _record(prefix_record, value)
    run = run_record(prefix, steps=10)
    train_prefix(prefix, data=digits, folder=tmp_path / "prefix", device=CPU)
    train_run(
        run, data=digits, prefix_folder=tmp_path / "prefix", folder=tmp_path / "run", device=CPU
    )
    state = initial_state(prefix, digits, device=CPU)
    optimizers = base_optimizers(
        prefix.optimizer,
        prefix.optimizer_options,
        state.hessian.parameters,
        learning_rate=prefix.learning_rate,
    )
    losses = {}
    for step in range(21):

        def closure(step: int = step) -> float:
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss = state.batch_loss(step)
            loss.backward()
            return loss.item()

        losses[step] = closure()
        for optimizer in optimizers:
            optimizer.step(closure if reevaluates(optimizers) else None)
    rows = _rows(tmp_path / "prefix") + _rows(tmp_path / "run")
    assert [int(row["step"]) for row in rows] == [0, 5, 10, 10, 15, 20]
    for row in rows:
        assert row["batch_loss"] == pytest.approx(losses[int(row["step"])], rel=1e-6)


@pytest.mark.parametrize(
    "value", [{"name": "sgd", "momentum": 0.9}, "adam", "rmsprop", "muon", "sam"], ids=str
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    prefix_record: PrefixRecord,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: Any,
) -> None:
    prefix = _record(prefix_record, value)
    run = run_record(prefix, dom_weight=0.0, steps=10)
    train_prefix(prefix, data=digits, folder=tmp_path / "prefix", device=CPU)
    places = {"data": digits, "prefix_folder": tmp_path / "prefix", "device": CPU}
    train_run(run, folder=tmp_path / "whole", **places)
    step_once = Stretch._step

    def killed(self: Stretch, progress: Any) -> bool:
        if progress.step == prefix.switch_max_steps + 8:
            raise KeyboardInterrupt
        return step_once(self, progress)

    keeping = Keeping(checkpoint_every=6)
    monkeypatch.setattr(Stretch, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_run(run, folder=tmp_path / "killed", keeping=keeping, **places)
    monkeypatch.setattr(Stretch, "_step", step_once)
    train_run(run, folder=tmp_path / "killed", keeping=keeping, **places)
    whole, resumed = (tmp_path / name / "trajectory.csv" for name in ("whole", "killed"))
    assert resumed.read_bytes() == whole.read_bytes()
    counted = [json.loads((path.parent / "summary.json").read_text()) for path in (whole, resumed)]
    assert counted[0]["num_matvecs"] == counted[1]["num_matvecs"]


def test_sam_steps_along_the_gradient_uphill() -> None:
    """Oracle: the quadratic ½ θᵀ A θ, whose gradient at θ + ρ g/‖g‖ is written out."""
    A = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    theta = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer = SAM([theta], 0.1, rho=0.5, momentum=0.9)
    expected, velocity = theta.detach().clone(), torch.zeros(2, dtype=torch.float64)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = 0.5 * theta @ A @ theta
        loss.backward()
        return loss

    for _ in range(5):
        loss = optimizer.step(closure)
        assert loss.item() == pytest.approx((0.5 * expected @ A @ expected).item(), rel=1e-12)
        g = A @ expected
        velocity = 0.9 * velocity + A @ (expected + 0.5 * g / g.norm())
        expected = expected - 0.1 * velocity
        assert torch.allclose(theta.detach(), expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"give step\(\) a closure"):
        optimizer.step()
    with torch.no_grad():
        theta.zero_()
    optimizer = SAM([theta], 0.1, rho=0.5)
    optimizer.step(closure)  # at a stationary point there is no uphill
    assert theta.tolist() == [0, 0]


@pytest.mark.parametrize("value", CHOSEN, ids=str)
def test_the_next_update_is_that_of_a_step_and_changes_nothing(
    prefix_record: PrefixRecord, digits: Path, value: Any
) -> None:
    """Oracle: the step itself, and for the moments the formula over the gradients so far."""
    record = _record(prefix_record, value)
    state = initial_state(record, digits, device=CPU)
    parameters = state.hessian.parameters
    optimizers = base_optimizers(
        record.optimizer, record.optimizer_options, parameters, learning_rate=record.learning_rate
    )
    gradients = []
    for step in range(4):

        def closure(step: int = step) -> None:
            for optimizer in optimizers:
                optimizer.zero_grad()
            state.batch_loss(step).backward()

        closure()
        gradients.append(torch.cat([p.grad.reshape(-1) for p in parameters]))
        before = state.hessian.theta()
        needed = closure if reevaluates(optimizers) else None
        update, diagonal = next_update(optimizers, parameters, needed)
        again, _ = next_update(optimizers, parameters, needed)
        assert torch.equal(update, again)
        assert torch.equal(state.hessian.theta(), before)
        assert torch.equal(torch.cat([p.grad.reshape(-1) for p in parameters]), gradients[-1])
        for optimizer in optimizers:
            optimizer.step(needed)
        assert torch.equal(state.hessian.theta() - before, update)
    if record.optimizer not in RATES or record.optimizer == "muon":
        assert diagonal is None
        return
    options = dict(record.optimizer_options)
    decay = options["alpha"] if record.optimizer == "rmsprop" else options["betas"][1]
    moments = torch.zeros_like(before)
    for gradient in gradients:
        moments = decay * moments + (1 - decay) * gradient**2
    if record.optimizer != "rmsprop":
        moments = moments / (1 - decay ** len(gradients))
    assert torch.allclose(diagonal, moments.sqrt() + options["eps"], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("value", ["adam", {"name": "sgd", "momentum": 0.9}, "sam"], ids=str)
def test_what_is_recorded_of_the_update(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path, value: Any
) -> None:
    """Oracle: dense eigenpairs in float64 at the parameters that were kept."""
    record = _record(prefix_record, value)
    train_prefix(record, data=digits, folder=tmp_path, device=CPU, keeping=Keeping(snapshots=1))
    rows = _rows(tmp_path)
    state = initial_state(record, digits, device=CPU)
    optimizers = base_optimizers(
        record.optimizer,
        record.optimizer_options,
        state.hessian.parameters,
        learning_rate=record.learning_rate,
    )
    for step in range(11):

        def closure(step: int = step) -> None:
            for optimizer in optimizers:
                optimizer.zero_grad()
            state.batch_loss(step).backward()

        closure()
        if step in (0, 5, 10):
            row = rows[step // 5]
            needed = closure if reevaluates(optimizers) else None
            update, diagonal = next_update(optimizers, state.hessian.parameters, needed)
            update = update.double()
            dense = (state.hessian @ torch.eye(len(update))).double()
            dominant = descending_eigenpairs((dense + dense.T) / 2)[1][:, : record.k]
            alignment = ((dominant.T @ update).norm() / update.norm()).item()
            assert row["update_alignment"] == pytest.approx(alignment, abs=2 * record.tolerance)
            if diagonal is None:
                assert "preconditioned_eigenvalue_1" not in row
            else:
                scale = diagonal.double().rsqrt()
                scaled = scale[:, None] * dense * scale
                largest = torch.linalg.eigvalsh((scaled + scaled.T) / 2)[-1].item()
                assert row["preconditioned_converged"] == 1
                assert row["preconditioned_eigenvalue_1"] == pytest.approx(largest, rel=1e-2)
        for optimizer in optimizers:
            optimizer.step(closure)


def test_plain_sgd_measures_its_update_at_no_cost(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its update is the mini-batch gradient times the learning rate."""
    monkeypatch.setattr("sharpflat.training.loop.measure_update", None)
    train_prefix(_record(prefix_record, "sgd"), data=digits, folder=tmp_path, device=CPU)
    for row in _rows(tmp_path):
        assert row["update_alignment"] == row["batch_alignment"]


def test_a_full_batch_is_the_training_loss(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Oracle: the training loss recorded beside it, over all samples at once."""
    state = initial_state(prefix_record, digits, device=CPU)
    record = replace(
        _record(prefix_record, "sgd"), batch_size=state.dataset.num_train, switch_max_steps=10
    )
    train_prefix(record, data=digits, folder=tmp_path, device=CPU)
    rows = _rows(tmp_path)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    for row in rows:
        assert row["batch_loss"] == pytest.approx(row["train_loss"], rel=1e-6)
        assert row["batch_alignment"] == pytest.approx(row["alignment"], rel=1e-5)


def test_another_learning_rate_after_the_switch_is_the_runs_own(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """The optimizer's state holds the prefix's. Oracle: Adam's step is near η in every entry."""
    prefix = _record(prefix_record, {"name": "adam", "betas": [0.0, 0.0]})
    train_prefix(prefix, data=digits, folder=tmp_path / "prefix", device=CPU)
    lengths = []
    for rate in (1e-4, 1e-3):
        run = run_record(prefix, learning_rate=rate, steps=1)
        keeping = Keeping(snapshots=1)
        folder = tmp_path / str(rate)
        train_run(
            run,
            data=digits,
            prefix_folder=tmp_path / "prefix",
            folder=folder,
            device=CPU,
            keeping=keeping,
        )
        kept = read_checkpoint(folder / "snapshots.pt")["parameters"]
        first, last = kept.values()
        lengths.append((last - first).abs().max().item())
    assert math.isclose(lengths[0], 1e-4, rel_tol=1e-2)
    assert math.isclose(lengths[1], 1e-3, rel_tol=1e-2)


def test_muon_needs_a_matrix() -> None:
    name, options = parse_optimizer("muon")
    with pytest.raises(ValueError, match="steps matrices, and the model has none"):
        base_optimizers(name, options, [torch.zeros(3, requires_grad=True)], learning_rate=0.1)


def test_an_update_that_is_not_finite_is_divergence(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Second moments overflow before the loss does."""
    record = replace(
        _record(prefix_record, "rmsprop"), learning_rate=1e20, divergence_factor=math.inf
    )
    train_prefix(record, data=digits, folder=tmp_path, device=CPU)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "diverged"
