"""The edge of stability of a method: the learning rates from a switch on, searched by bisection."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sharpflat import seals
from sharpflat.records import EdgeRecord
from sharpflat.sources import edge_code_hash
from sharpflat.stability import Stability, classify
from sharpflat.tasks.data import load
from sharpflat.training.checkpoints import CheckpointError
from sharpflat.training.provenance import data_origin, provenance
from sharpflat.training.randomness import STREAMS, stream_seed
from sharpflat.training.recorder import Trajectory, write_json
from sharpflat.training.train import SUMMARY, TRAJECTORY, Keeping, is_complete, train_run

logger = logging.getLogger(__name__)

EDGE, TRIALS = "edge.csv", "trials"
#: Significant digits of a learning rate that is tried, so that a table holds it as it was.
RATE_DIGITS = 6
#: Of a trial's summary, what the search adds up over its trials.
ADDED_UP = ("num_matvecs", "equivalent_matvecs", "seconds")


def find_edge(
    record: EdgeRecord,
    *,
    data: Path,
    prefix_folder: Path,
    folder: Path,
    device: torch.device,
    keeping: Keeping | None = None,
) -> None:
    """Search for the largest stable learning rate of a method from its prefix's switch on.

    From the first learning rate the search goes up, or down, by the factor until the class of
    :func:`sharpflat.stability.classify` changes, and then halves the interval between the largest
    stable and the smallest that is not, on a log scale. Every trial is trained as any run is, in a
    folder of its own, so that a killed search goes on from there to the same bytes. What lies
    beyond the first learning rate that is not stable is not tried: it may be stable again.

    Writes ``edge.csv``, a row a trial, and the summary to ``folder``, unless a complete result of
    the same record, code and data lies there.

    Raises:
        ValueError: The prefix diverged: every trial would, and the edge would lie below them all.
        CheckpointError: The prefix folder holds another prefix, or a damaged one.
        NumericalAlarm: A number that ``keeping.alarms`` does not accept.
    """
    if not (prefix_folder / SUMMARY).exists():
        raise CheckpointError(f"{prefix_folder} holds no {SUMMARY} of {record.prefix.id}")
    before = _summary(prefix_folder)
    if before["status"] == "diverged":
        raise ValueError(
            f"{record.prefix.id} diverged at step {before['switch_step']}, before its switch: "
            "there is no edge of stability to find from there; lower its learning_rate"
        )
    dataset = load(record.prefix.dataset, data, device=device)
    code = edge_code_hash(record.prefix)
    if is_complete(folder, record.id, code, dataset, (EDGE,)):
        return
    trials: list[dict[str, Any]] = []
    while (learning_rate := next_trial(record, trials)) is not None:
        run = record.trial(learning_rate)
        place = folder / TRIALS / run.id
        seals.discard_damaged(place, seals.TRAINED)
        train_run(
            run,
            data=data,
            prefix_folder=prefix_folder,
            folder=place,
            device=device,
            keeping=keeping,
        )
        seals.finish(place, seals.TRAINED)
        trials.append({"trial": len(trials) + 1, "learning_rate": learning_rate, **_outcome(place)})
        logger.info("%s: %s at %g", record.id, trials[-1]["stability"], learning_rate)
    summaries = [_summary(folder / TRIALS / record.trial(t["learning_rate"]).id) for t in trials]
    switch = _rows(folder / TRIALS / record.trial(trials[0]["learning_rate"]).id)[0]
    stable, beyond = bracket(trials)
    resolved = stable is not None and beyond is not None and beyond / stable <= record.resolution
    Trajectory(trials).write(folder / EDGE)
    summary = {
        "id": record.id,
        "prefix": record.prefix.id,
        "record": asdict(record),
        "switch_step": summaries[0]["switch_step"],
        "status": "resolved" if resolved else "unresolved",
        "largest_stable": stable,
        "smallest_not_stable": beyond,
        "eigenvalue_dominant": switch.get("eigenvalue_1"),
        "eigenvalue_bulk": switch.get(f"eigenvalue_{record.start.k + 1}"),
        "trials": len(trials),
        "steps": sum(summary["last_step"] - summary["switch_step"] for summary in summaries),
        **{
            name: round(sum(summary[name] for summary in summaries), 3)
            for name in ADDED_UP
            if name in summaries[0]
        },
        "data": dataset.fingerprint,
        "data_origin": data_origin(data),
        "code": code,
        "seeds": {stream: stream_seed(record.prefix.seed, stream) for stream in STREAMS},
        **provenance(device),
    }
    write_json(folder / SUMMARY, summary)


def bracket(trials: Sequence[dict[str, Any]]) -> tuple[float | None, float | None]:
    """The largest stable learning rate that was tried, and the smallest that was not stable."""
    stable = [trial["learning_rate"] for trial in trials if trial["stability"] == "stable"]
    beyond = [trial["learning_rate"] for trial in trials if trial["stability"] != "stable"]
    return max(stable, default=None), min(beyond, default=None)


def next_trial(record: EdgeRecord, trials: Sequence[dict[str, Any]]) -> float | None:
    """The learning rate to try after those that were, or ``None`` at the end of the search."""
    stable, beyond = bracket(trials)
    first = record.start.learning_rate
    if len(trials) == record.most_trials:
        return None
    if stable is None or beyond is None:
        learning_rate = first * record.factor ** (len(trials) if beyond is None else -len(trials))
    elif beyond / stable <= record.resolution:
        return None
    else:
        learning_rate = math.sqrt(stable * beyond)
    return float(f"{learning_rate:.{RATE_DIGITS}g}")


def _outcome(folder: Path) -> dict[str, Any]:
    """Class and losses of a trained run; a diverged run's final loss is infinite."""
    summary, rows = _summary(folder), _rows(folder)
    losses = [row.get("train_loss", math.nan) for row in rows]
    diverged = summary["status"] == "diverged"
    stability: Stability = classify(losses, diverged=diverged)
    recorded = [loss for loss in losses if not math.isnan(loss)]
    return {
        "stability": stability,
        "steps": summary["last_step"] - summary["switch_step"],
        "start_train_loss": losses[0],
        "final_train_loss": math.inf if diverged else recorded[-1],
        "highest_train_loss": max(recorded, default=math.nan),
        "num_matvecs": summary["num_matvecs"],
    }


def _summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    return found


def _rows(folder: Path) -> list[dict[str, float]]:
    with (folder / TRAJECTORY).open() as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if value} for row in rows]
