"""The curvature energy along a run, measured afterwards at the parameters that it kept."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import vector_to_parameters

from sharpflat import seals
from sharpflat.curvature import (
    CurvatureOperator,
    FunctionalHessianOperator,
    GGNOperator,
    curvature_energy,
    subspace_overlap,
    top_eigenpairs,
)
from sharpflat.energy_record import RECORD, SEALED, TABLE, check_energy, identity, seal_energy
from sharpflat.records import PrefixRecord
from sharpflat.training.checkpoints import read_checkpoint
from sharpflat.training.provenance import provenance
from sharpflat.training.randomness import stream_seed
from sharpflat.training.recorder import Trajectory, write_json
from sharpflat.training.state import TrainingState, initial_state

logger = logging.getLogger(__name__)


def measure_energy(
    record: PrefixRecord, *, data: Path, folder: Path, device: torch.device, probes: int
) -> None:
    """Write ``energy.csv``, a row a kept step and matrix, beside the trajectory in a folder.

    Its record ``energy.json`` says of what, how and where it was measured; a seal vouches for both.
    Measures nothing where a whole energy of the same code, trajectory, data, steps and probes lies.

    Args:
        record: What trained there; for a run, its settings after the switch.
        data: The data set's canonical file.
        folder: Of the run or the prefix; holds its ``snapshots.pt``.
        device: Where to measure.
        probes: Random probes of a measurement.

    Raises:
        CheckpointError: The snapshots are missing or damaged.
    """
    state = initial_state(record, data, device=device)
    snapshots = read_checkpoint(folder / "snapshots.pt", map_location="cpu")
    summary = json.loads((folder / "summary.json").read_text())
    measured = {
        "id": snapshots["id"],
        "steps": list(snapshots["parameters"]),
        "data": state.dataset.fingerprint,
        **identity((folder / "trajectory.csv").read_bytes(), record, probes=probes),
    }
    if _is_measured(folder, measured):
        return
    began, rows = time.perf_counter(), Trajectory()
    for step, theta in snapshots["parameters"].items():
        logger.info("%s: energy at step %d", snapshots["id"], step)
        vector_to_parameters(theta.to(device), state.model.parameters())
        for row in energy_at(state, record, probes=probes):
            since = step - summary["switch_step"]
            rows.add({"step": step, "steps_after_switch": since, **row})
    rows.write(folder / TABLE)
    seconds = round(time.perf_counter() - began, 3)
    write_json(folder / RECORD, {**measured, "seconds": seconds, **provenance(device)})
    seal_energy(folder)


def energy_at(state: TrainingState, record: PrefixRecord, *, probes: int) -> list[dict[str, Any]]:
    """One row a matrix, ``hessian``, ``ggn`` and ``functional_hessian``, at the state's parameters.

    Every share is that of the Hessian's Dominant subspace; ``overlap`` compares that with the top
    eigenspace of the GGN. Columns that end in ``_se`` are standard errors.
    """
    hessian = state.hessian
    data = (state.model, state.loss_fn, hessian.inputs, hessian.targets)
    operators: dict[str, CurvatureOperator] = {
        "hessian": hessian,
        "ggn": GGNOperator(*data),
        "functional_hessian": FunctionalHessianOperator(*data),
    }
    seed = stream_seed(record.seed, "energy")
    dominant = top_eigenpairs(hessian, record.k, tol=record.tolerance, seed=seed)
    ggn = top_eigenpairs(
        operators["ggn"],
        record.k,
        tol=record.tolerance,
        initial=dominant.eigenvectors,
        seed=seed,
    )
    overlap = subspace_overlap(dominant.eigenvectors, ggn.eigenvectors)
    rows = []
    for name, operator in operators.items():
        energy = curvature_energy(operator, dominant.eigenvectors, num_probes=probes, seed=seed)
        row: dict[str, Any] = {"matrix": name, "overlap": overlap}
        for quantity in ("frobenius_share", "trace_share", "frobenius_norm", "trace"):
            estimate = getattr(energy, quantity)
            row |= {quantity: estimate.value, f"{quantity}_se": estimate.standard_error}
        quotients = enumerate(energy.rayleigh_quotients.tolist(), start=1)
        rows.append(row | {f"rayleigh_quotient_{i}": value for i, value in quotients})
    return rows


def _is_measured(folder: Path, measured: Mapping[str, Any]) -> bool:
    """Whether a whole energy lies in a folder whose record names this; marks it as new if so."""
    try:
        check_energy(folder)
    except seals.DamagedResultError:
        return False
    record = json.loads((folder / RECORD).read_text())
    if {**record, **measured} != record:
        return False
    logger.info("%s: energy measured already", measured["id"])
    for name in (*SEALED, seals.ENERGY):
        (folder / name).touch()  # a workflow compares times
    return True
