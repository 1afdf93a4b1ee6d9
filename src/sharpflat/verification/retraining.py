"""Trains a stretch again: a prefix without measuring, and a run's or a search's first steps.

This file is a program too, by which :mod:`sharpflat.verification.older_code` trains a stretch with
an older package in place of today's; so it imports nothing that is not in older ones.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import torch

from sharpflat.config import Config, parse_config
from sharpflat.energy_record import TABLE
from sharpflat.optim import ProjectedOptimizer
from sharpflat.plan import all_edges, all_prefixes, all_runs
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.sources import edge_code_hash, energy_code_hash, training_code_hash
from sharpflat.training.checkpoints import read_checkpoint, write_checkpoint
from sharpflat.training.edge import find_edge
from sharpflat.training.energy import energy_at
from sharpflat.training.measure import measure_losses
from sharpflat.training.numerics import set_up
from sharpflat.training.optimizers import base_optimizers, reevaluates
from sharpflat.training.recorder import Trajectory, write_json
from sharpflat.training.state import initial_state, subspace_of
from sharpflat.training.train import CHECKPOINT, SUMMARY, TRAJECTORY, train_run

Trained = PrefixRecord | RunRecord | EdgeRecord


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


def remeasure_energy(
    record: PrefixRecord,
    *,
    data: Path,
    prefix_folder: Path,
    folder: Path,
    device: torch.device,
    probes: int,
) -> None:
    """Measure the curvature energy at the switch that a prefix reached when it was trained again.

    Writes ``energy.csv``, a row a matrix.
    """
    state = initial_state(record, data, device=device)
    checkpoint = read_checkpoint(prefix_folder / CHECKPOINT, map_location="cpu")
    state.model.load_state_dict(checkpoint["model"])
    table = Trajectory()
    for row in energy_at(state, record, probes=probes):
        table.add(row)
    table.write(folder / TABLE)


def code_of(record: Trained) -> str:
    """The hash of the code that a prefix, a run or a search depends on."""
    hashed = edge_code_hash if isinstance(record, EdgeRecord) else training_code_hash
    return hashed(record if isinstance(record, PrefixRecord) else record.prefix)


def energy_code_of(record: Trained) -> str:
    """The hash of the code that the curvature energy along it depends on."""
    return energy_code_hash(record if isinstance(record, PrefixRecord) else record.prefix)


TRAINING: tuple[Callable[..., object], ...] = (
    retrain_prefix,
    retrain_run,
    retrain_edge,
    remeasure_energy,
)


def _planned(config: Config) -> dict[str, Trained]:
    records: tuple[Trained, ...] = (
        *all_prefixes(config),
        *all_runs(config),
        *all_edges(config),
    )
    return {record.id: record for record in records}


def _do_as_asked() -> None:
    """Do what is asked for in JSON, or print the hashes of all that a configuration plans."""
    asked = json.load(sys.stdin)
    planned = _planned(parse_config(asked["config"], Path()))
    if "train" not in asked:
        codes = {name: (code_of(found), energy_code_of(found)) for name, found in planned.items()}
        print(json.dumps(codes))
        return
    train = next(function for function in TRAINING if function.__name__ == asked["train"])
    paths = {name: Path(path) for name, path in asked["paths"].items()}
    device = set_up(**asked["numerics"])
    train(planned[asked["id"]], device=device, **paths, **asked["arguments"])


if __name__ == "__main__":
    _do_as_asked()
