"""Train a prefix to its switch, and the runs that branch from it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sharpflat.curvature import DominantSubspace
from sharpflat.optim import ProjectedOptimizer
from sharpflat.records import PrefixRecord, RunRecord
from sharpflat.snapshots import kept_steps, planned_steps
from sharpflat.tasks.data import Dataset
from sharpflat.training.alarms import ALARMS, Action
from sharpflat.training.checkpoints import CheckpointError, read_checkpoint, write_checkpoint
from sharpflat.training.loop import Progress, Stretch
from sharpflat.training.optimizers import base_optimizers, load_states
from sharpflat.training.provenance import data_origin, provenance
from sharpflat.training.randomness import STREAMS, stream_seed
from sharpflat.training.recorder import write_json
from sharpflat.training.state import TrainingState, initial_state, subspace_of

logger = logging.getLogger(__name__)

TRAJECTORY, SUMMARY = "trajectory.csv", "summary.json"
CHECKPOINT, SNAPSHOTS, RESUME = "checkpoint.pt", "snapshots.pt", "resume.pt"
#: What a run takes over from its prefix besides the model.
CARRIED_OVER = ("step", "alignment_ema", "initial_loss")


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What a run leaves besides its trajectory; none of it changes a number.

    Attributes:
        snapshots: Points of the stretch whose parameters are kept; 0 keeps none.
        checkpoint_every: Steps from one checkpoint, which a killed run goes on from, to the next.
        alarms: For each numerical alarm, whether it is recorded or ends the run.
    """

    snapshots: int = 0
    checkpoint_every: int = 1000
    alarms: Mapping[str, Action] = field(default_factory=lambda: dict.fromkeys(ALARMS, "record"))


def train_prefix(
    record: PrefixRecord,
    *,
    data: Path,
    folder: Path,
    device: torch.device,
    keeping: Keeping | None = None,
) -> None:
    """Train with the base optimizer from initialisation to the switch.

    The switch comes at the first record of the eigenspace at which the moving average of the full
    gradient's alignment passes the threshold [Song et al.], and at ``switch_max_steps`` at the
    latest.

    Writes the trajectory, the summary and the checkpoint of the switch to ``folder``, unless a
    complete result of the same record, code and data lies there.

    Raises:
        NumericalAlarm: A number that ``keeping.alarms`` does not accept.
    """
    keeping = keeping or Keeping()
    state = initial_state(record, data, device=device)
    if _is_there(folder, record, state, keeping, CHECKPOINT):
        return
    measuring = subspace_of(state, record, refresh="adaptive")
    stretch = Stretch(
        state=state,
        optimizer=_optimizer(state, record, measuring, dom_weight=1.0, bulk_weight=1.0),
        measuring=measuring,
        record=record,
        start=Progress(step=0),
        stop=record.switch_max_steps,
        ends=lambda ema: record.switch_alignment is not None and ema > record.switch_alignment,
        snapshot_steps=planned_steps(record, 0, keeping.snapshots),
        key=_key(record.id, state, device, keeping),
        resume=folder / RESUME,
        checkpoint_every=keeping.checkpoint_every,
        alarms=keeping.alarms,
        label=record.id,
    )
    progress = stretch.train()
    aligned = progress.step < record.switch_max_steps and progress.status == "finished"
    checkpoint = {
        "prefix": record.id,
        "model": state.model.state_dict(),
        "optimizers": [base.state_dict() for base in stretch.optimizer.base_optimizers],
        **{name: getattr(progress, name) for name in CARRIED_OVER},
    }
    write_checkpoint(folder / CHECKPOINT, checkpoint)
    summary = {
        "id": record.id,
        "record": asdict(record),
        "switch_step": progress.step,
        "switch_reason": "alignment" if aligned else "max_steps",
        **_products(stretch, progress),
        **_summary(progress, state, data, record.seed, device),
    }
    _write(folder, progress, summary, keeping)


def train_run(
    record: RunRecord,
    *,
    data: Path,
    prefix_folder: Path,
    folder: Path,
    device: torch.device,
    keeping: Keeping | None = None,
) -> None:
    """Go on from the prefix's switch with a projected method, on the same later mini-batches.

    Writes the trajectory and the summary to ``folder``, unless a complete result of the same
    record, code and data lies there.

    Raises:
        CheckpointError: The prefix folder holds another prefix, or a damaged one.
        NumericalAlarm: A number that ``keeping.alarms`` does not accept.
    """
    keeping = keeping or Keeping()
    prefix, settings = record.prefix, record.after_switch
    state = initial_state(settings, data, device=device)
    if _is_there(folder, record, state, keeping):
        return
    checkpoint = read_checkpoint(prefix_folder / CHECKPOINT, map_location="cpu")
    if checkpoint["prefix"] != prefix.id:
        raise CheckpointError(
            f"{prefix_folder / CHECKPOINT} holds {checkpoint['prefix']}, not {prefix.id}: "
            "delete the folder and train the prefix again"
        )
    state.model.load_state_dict(checkpoint["model"])
    subspace = subspace_of(state, settings, refresh=record.refresh)
    # Measuring converges the subspace. Under a fixed interval that would refresh what the steps
    # are projected on, so the measurement then has a subspace of its own.
    fixed_interval = isinstance(record.refresh, int)
    measuring = subspace_of(state, settings, refresh="adaptive") if fixed_interval else subspace
    optimizer = _optimizer(
        state, settings, subspace, dom_weight=record.dom_weight, bulk_weight=record.bulk_weight
    )
    load_states(optimizer.base_optimizers, checkpoint["optimizers"])
    start: int = checkpoint["step"]
    stretch = Stretch(
        state=state,
        optimizer=optimizer,
        measuring=measuring,
        record=settings,
        start=Progress(**{name: checkpoint[name] for name in CARRIED_OVER}),
        stop=start + record.steps,
        ends=lambda ema: False,
        snapshot_steps=planned_steps(record, start, keeping.snapshots),
        key=_key(record.id, state, device, keeping),
        resume=folder / RESUME,
        checkpoint_every=keeping.checkpoint_every,
        alarms=keeping.alarms,
        label=record.id,
    )
    progress = stretch.train()
    summary = {
        "id": record.id,
        "prefix": prefix.id,
        "record": asdict(record),
        "switch_step": start,
        **_products(stretch, progress),
        **_summary(progress, state, data, prefix.seed, device),
    }
    _write(folder, progress, summary, keeping)


def _optimizer(
    state: TrainingState,
    settings: PrefixRecord,
    subspace: DominantSubspace,
    *,
    dom_weight: float,
    bulk_weight: float,
) -> ProjectedOptimizer:
    bases = base_optimizers(
        settings.optimizer,
        settings.optimizer_options,
        state.hessian.parameters,
        learning_rate=settings.learning_rate,
    )
    return ProjectedOptimizer(bases, subspace, dom_weight=dom_weight, bulk_weight=bulk_weight)


def _is_there(
    folder: Path,
    record: PrefixRecord | RunRecord,
    state: TrainingState,
    keeping: Keeping,
    *needed: str,
) -> bool:
    """Whether a complete result lies there, with its parameters kept where they are asked for."""
    if keeping.snapshots:
        needed = (*needed, SNAPSHOTS)
        if not _kept_as_asked(folder, record, keeping.snapshots):
            return False
    return is_complete(folder, record.id, state.code, state.dataset, needed)


def _kept_as_asked(folder: Path, record: PrefixRecord | RunRecord, count: int) -> bool:
    """Whether the parameters that are there are of as many points; how many is in no record."""
    path, summary = folder / SNAPSHOTS, folder / SUMMARY
    if not (path.exists() and summary.exists()):
        return False
    try:
        kept = list(read_checkpoint(path, map_location="cpu")["parameters"])
    except CheckpointError as error:
        logger.warning("%s; training again", error)
        return False
    same = kept == kept_steps(record, json.loads(summary.read_text()), count)
    if not same:
        logger.warning(
            "%s keeps the parameters of other steps than asked for; training again", path
        )
    return same


def _key(name: str, state: TrainingState, device: torch.device, keeping: Keeping) -> str:
    kept = f"{keeping.snapshots} snapshots"
    return f"{name} {state.code} {state.dataset.fingerprint} {device.type} {kept}"


def _products(stretch: Stretch, progress: Progress) -> dict[str, float]:
    """Products over all of the Hessian's samples, and with them those over fewer by their share."""
    subspaces, more = stretch.subspaces(), progress.update_matvecs
    return {
        "num_matvecs": sum(found.num_matvecs for found in subspaces) + more,
        "equivalent_matvecs": sum(found.equivalent_matvecs for found in subspaces) + more,
    }


def _summary(
    progress: Progress, state: TrainingState, data: Path, seed: int, device: torch.device
) -> dict[str, Any]:
    return {
        "status": progress.status,
        "last_step": progress.step,
        "seconds": round(progress.seconds, 3),
        "alarms": progress.alarms,
        "num_parameters": state.hessian.shape[0],
        "data": state.dataset.fingerprint,
        "data_origin": data_origin(data),
        "code": state.code,
        "seeds": {stream: stream_seed(seed, stream) for stream in STREAMS},
        **provenance(device),
    }


def is_complete(
    folder: Path, name: str, code: str, dataset: Dataset, needed: tuple[str, ...]
) -> bool:
    """Whether a folder holds a result of the same record, code and data; marks it as new if so."""
    if not all((folder / file).exists() for file in (SUMMARY, *needed)):
        return False
    found = json.loads((folder / SUMMARY).read_text())
    same = (name, code, dataset.fingerprint)
    if (found.get("id"), found.get("code"), found.get("data")) != same:
        return False
    logger.info("%s: complete already", name)
    for path in folder.iterdir():
        path.touch()  # a workflow compares times
    return True


def _write(folder: Path, progress: Progress, summary: dict[str, Any], keeping: Keeping) -> None:
    """Write the results, the summary last: it says that they are complete."""
    if keeping.snapshots:
        snapshots = {"id": summary["id"], "parameters": progress.snapshots}
        write_checkpoint(folder / SNAPSHOTS, snapshots)
    progress.trajectory.write(folder / TRAJECTORY)
    write_json(folder / SUMMARY, summary)
    (folder / RESUME).unlink(missing_ok=True)
