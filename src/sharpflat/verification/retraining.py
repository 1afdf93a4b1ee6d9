"""Trains a stretch again: a prefix without measuring, and a run's or a search's first steps."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from sharpflat.optim import ProjectedOptimizer
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.training.checkpoints import write_checkpoint
from sharpflat.training.edge import find_edge
from sharpflat.training.measure import measure_losses
from sharpflat.training.optimizers import base_optimizers, reevaluates
from sharpflat.training.recorder import Trajectory, write_json
from sharpflat.training.state import initial_state, subspace_of
from sharpflat.training.train import CHECKPOINT, SUMMARY, TRAJECTORY, train_run


def retrain_prefix(
    record: PrefixRecord,
    *,
    data: Path,
    folder: Path,
    device: torch.device,
    switch_step: int,
    alignment_ema: float,
    losses_at: Collection[int],
    seconds: float,
) -> bool:
    """Train from initialisation to the switch with no product: the base optimizer needs none.

    Writes ``trajectory.csv`` with the mini-batch losses at the steps of the record's rhythm, and,
    where the switch is reached, the checkpoint that runs branch from, and of a summary what a
    search for the edge asks of it.

    Args:
        record: What to train.
        data: The data set's canonical file.
        folder: Where to write.
        device: Where to train.
        switch_step: Step of the switch, which the alignment decided.
        alignment_ema: The alignment's moving average there, which runs go on with.
        losses_at: Steps, among those of the rhythm, at which the losses over all samples and the
            gradient's norm are measured too.
        seconds: Time after which training ends at the next record, the second at the earliest.

    Returns:
        Whether the switch is reached.
    """
    began = time.perf_counter()
    state = initial_state(record, data, device=device)
    bases = base_optimizers(
        record.optimizer,
        record.optimizer_options,
        state.hessian.parameters,
        learning_rate=record.learning_rate,
    )
    subspace = subspace_of(state, record, refresh="adaptive")
    optimizer = ProjectedOptimizer(bases, subspace, dom_weight=1.0, bulk_weight=1.0)

    def differentiate() -> float:
        optimizer.zero_grad()
        loss = state.batch_loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    closure = differentiate if reevaluates(bases) else None
    trajectory, step = Trajectory(), 0
    for step in range(switch_step + 1):
        batch_loss = differentiate()
        if step % record.record_every == 0 or step == switch_step:
            row = {"step": step, "batch_loss": batch_loss}
            if step in losses_at or step in (0, switch_step):
                row |= measure_losses(state)[0]
            trajectory.add(row)
            if step > 0 and time.perf_counter() - began > seconds:
                break
        if step < switch_step:
            optimizer.step(closure)
    trajectory.write(folder / TRAJECTORY)
    if step == switch_step:
        checkpoint = {
            "prefix": record.id,
            "model": state.model.state_dict(),
            "optimizers": [base.state_dict() for base in bases],
            "step": switch_step,
            "alignment_ema": alignment_ema,
            "initial_loss": trajectory.rows[0]["train_loss"],
        }
        write_checkpoint(folder / CHECKPOINT, checkpoint)
        write_json(folder / SUMMARY, {"status": "finished", "switch_step": switch_step})
    return step == switch_step


def retrain_run(
    record: RunRecord,
    *,
    data: Path,
    prefix_folder: Path,
    folder: Path,
    device: torch.device,
    steps: int,
) -> None:
    """Train the first steps of a run, the solve at its switch among them, as the whole run was."""
    train_run(
        replace(record, steps=steps),
        data=data,
        prefix_folder=prefix_folder,
        folder=folder,
        device=device,
    )


def retrain_edge(
    record: EdgeRecord, *, data: Path, prefix_folder: Path, folder: Path, device: torch.device
) -> None:
    """Take the first trial of a search, as the whole search did."""
    find_edge(
        replace(record, most_trials=1),
        data=data,
        prefix_folder=prefix_folder,
        folder=folder,
        device=device,
    )
