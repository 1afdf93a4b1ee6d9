"""Train a prefix to its switch, and the runs that branch from it."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sharpflat.curvature import DominantSubspace, NonFiniteProductError
from sharpflat.optim import ProjectedOptimizer
from sharpflat.records import PrefixRecord, RunRecord
from sharpflat.sources import training_code_hash
from sharpflat.training.measure import measure
from sharpflat.training.provenance import provenance
from sharpflat.training.randomness import STREAMS, stream_seed
from sharpflat.training.recorder import Trajectory, write_json
from sharpflat.training.state import TrainingState, initial_state, subspace_of

logger = logging.getLogger(__name__)

TRAJECTORY, SUMMARY, CHECKPOINT = "trajectory.csv", "summary.json", "checkpoint.pt"


class CheckpointError(RuntimeError):
    """A checkpoint that does not belong to the run."""


@dataclass(kw_only=True)
class Outcome:
    """How a stretch of training ended."""

    status: str  # "finished" or "diverged"
    step: int
    alignment_ema: float | None
    num_matvecs: int
    seconds: float


def train_prefix(record: PrefixRecord, *, data: Path, folder: Path, device: torch.device) -> None:
    """Train with SGD from initialisation to the switch.

    The switch comes at the first recorded step at which the moving average of the full gradient's
    alignment passes the threshold [Song et al.], and at ``switch_max_steps`` at the latest.

    Writes the trajectory, the summary and the checkpoint of the switch to ``folder``, unless a
    complete result of the same record, code and data lies there.
    """
    state = initial_state(record, data, device=device)
    if (folder / CHECKPOINT).exists() and _is_complete(folder, record.id, state):
        return
    optimizer = torch.optim.SGD(state.hessian.parameters, lr=record.learning_rate)
    trajectory = Trajectory()
    outcome = _train(
        state,
        trajectory,
        optimizer=optimizer,
        measuring=subspace_of(state, record, refresh="adaptive"),
        record=record,
        start=0,
        stop=record.switch_max_steps,
        alignment_ema=None,
        ends=lambda ema: record.switch_alignment is not None and ema > record.switch_alignment,
        label=record.id,
    )
    aligned = outcome.step < record.switch_max_steps and outcome.status == "finished"
    checkpoint = {
        "prefix": record.id,
        "step": outcome.step,
        "alignment_ema": outcome.alignment_ema,
        "model": state.model.state_dict(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{CHECKPOINT}"
    torch.save(checkpoint, temporary)
    temporary.replace(folder / CHECKPOINT)
    _write(
        folder,
        trajectory,
        {
            "id": record.id,
            "record": asdict(record),
            "switch_step": outcome.step,
            "switch_reason": "alignment" if aligned else "max_steps",
            **_summary(outcome, state, record.seed, device),
        },
    )


def train_run(
    record: RunRecord, *, data: Path, prefix_folder: Path, folder: Path, device: torch.device
) -> None:
    """Go on from the prefix's switch with a projected method, on the same later mini-batches.

    Writes the trajectory and the summary to ``folder``, unless a complete result of the same
    record, code and data lies there.

    Raises:
        CheckpointError: The prefix folder holds another prefix.
    """
    prefix = record.prefix
    state = initial_state(prefix, data, device=device)
    if _is_complete(folder, record.id, state):
        return
    checkpoint = torch.load(prefix_folder / CHECKPOINT, map_location=device, weights_only=True)
    if checkpoint["prefix"] != prefix.id:
        raise CheckpointError(
            f"{prefix_folder / CHECKPOINT} holds {checkpoint['prefix']}, not {prefix.id}: "
            "delete the folder and train the prefix again"
        )
    state.model.load_state_dict(checkpoint["model"])
    subspace = subspace_of(state, prefix, refresh=record.refresh)
    optimizer = ProjectedOptimizer(
        torch.optim.SGD(state.hessian.parameters, lr=prefix.learning_rate),
        subspace,
        dom_weight=record.dom_weight,
        bulk_weight=record.bulk_weight,
    )
    # Measuring converges the subspace. Under a fixed interval that would refresh what the steps
    # are projected on, so the measurement then has a subspace of its own.
    fixed_interval = isinstance(record.refresh, int)
    measuring = subspace_of(state, prefix, refresh="adaptive") if fixed_interval else subspace
    trajectory = Trajectory()
    start = checkpoint["step"]
    outcome = _train(
        state,
        trajectory,
        optimizer=optimizer,
        measuring=measuring,
        record=prefix,
        start=start,
        stop=start + record.steps,
        alignment_ema=checkpoint["alignment_ema"],
        ends=lambda ema: False,
        label=record.id,
    )
    if fixed_interval:
        outcome.num_matvecs += subspace.num_matvecs
    _write(
        folder,
        trajectory,
        {
            "id": record.id,
            "prefix": prefix.id,
            "record": asdict(record),
            "switch_step": start,
            **_summary(outcome, state, prefix.seed, device),
        },
    )


def _train(
    state: TrainingState,
    trajectory: Trajectory,
    *,
    optimizer: torch.optim.Optimizer | ProjectedOptimizer,
    measuring: DominantSubspace,
    record: PrefixRecord,
    start: int,
    stop: int,
    alignment_ema: float | None,
    ends: Callable[[float], bool],
    label: str,
) -> Outcome:
    """Step from ``start`` to ``stop``, record, and end early at the switch or on divergence."""
    began = time.perf_counter()
    logger.info("%s: steps %d to %d", label, start, stop)
    outcome = Outcome(
        status="finished", step=stop, alignment_ema=alignment_ema, num_matvecs=0, seconds=0.0
    )
    # The average's memory is counted in steps, whatever the rhythm of the records.
    decay = record.switch_ema_decay**record.record_every
    for step in tqdm(range(start, stop + 1), desc=label, disable=None, leave=False):
        optimizer.zero_grad()
        loss = state.batch_loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        row: dict[str, float] = {"step": step, "batch_loss": loss.item()}
        recorded = (step - start) % record.record_every == 0 or step == stop
        try:
            if not math.isfinite(row["batch_loss"]):
                raise NonFiniteProductError(f"the loss is {row['batch_loss']}")
            if recorded:
                row = measure(
                    state,
                    measuring,
                    step=step,
                    batch_loss=row["batch_loss"],
                    batch_gradient=_gradient(state),
                )
                average = _average(outcome.alignment_ema, row["alignment"], decay, step > start)
                outcome.alignment_ema = row["alignment_ema"] = average
                row["num_matvecs"] = measuring.num_matvecs
                trajectory.add(row)
                if ends(average) or step == stop:
                    outcome.step = step
                    break
            optimizer.step()
        except NonFiniteProductError as error:
            logger.warning("%s: diverged at step %d: %s", label, step, error)
            trajectory.add(row)
            outcome.status, outcome.step = "diverged", step
            break
    outcome.num_matvecs = measuring.num_matvecs
    outcome.seconds = time.perf_counter() - began
    logger.info("%s: %s at step %d", label, outcome.status, outcome.step)
    return outcome


def _average(before: float | None, value: float, decay: float, moved: bool) -> float:
    if before is None:
        return value
    return decay * before + (1 - decay) * value if moved else before


def _gradient(state: TrainingState) -> torch.Tensor:
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in state.hessian.parameters]
    return torch.cat([part.reshape(-1) for part in parts])


def _summary(
    outcome: Outcome, state: TrainingState, seed: int, device: torch.device
) -> dict[str, Any]:
    return {
        "status": outcome.status,
        "last_step": outcome.step,
        "num_matvecs": outcome.num_matvecs,
        "seconds": round(outcome.seconds, 3),
        "num_parameters": state.hessian.shape[0],
        "data": state.dataset.fingerprint,
        "code": training_code_hash(),
        "seeds": {stream: stream_seed(seed, stream) for stream in STREAMS},
        **provenance(device),
    }


def _is_complete(folder: Path, name: str, state: TrainingState) -> bool:
    """Whether a folder holds a result of the same record, code and data; marks it as new if so."""
    summary = folder / SUMMARY
    if not summary.exists():
        return False
    found = json.loads(summary.read_text())
    same = (name, training_code_hash(), state.dataset.fingerprint)
    if (found.get("id"), found.get("code"), found.get("data")) != same:
        return False
    logger.info("%s: complete already", name)
    for path in folder.iterdir():
        path.touch()  # a workflow compares times
    return True


def _write(folder: Path, trajectory: Trajectory, summary: dict[str, Any]) -> None:
    """Write the results, the summary last: it says that they are complete."""
    trajectory.write(folder / TRAJECTORY)
    write_json(folder / SUMMARY, summary)
