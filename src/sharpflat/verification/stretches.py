"""Stretches of a tier's committed results, each trained again and judged."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sharpflat.energy_record import TABLE
from sharpflat.records import EdgeRecord, PrefixRecord
from sharpflat.training.edge import EDGE
from sharpflat.training.numerics import set_up
from sharpflat.training.provenance import provenance
from sharpflat.training.train import TRAJECTORY
from sharpflat.verification.committed import Branch, Committed, Record
from sharpflat.verification.comparison import (
    CURVATURE_BAND,
    LOSS_BAND,
    Comparison,
    Rows,
    compare,
    read_rows,
)
from sharpflat.verification.older_code import OlderCode, numerics_of
from sharpflat.verification.retraining import (
    remeasure_energy,
    retrain_edge,
    retrain_prefix,
    retrain_run,
)

#: Records of a run that are trained again after the one at its switch, where time allows.
RECORDS_AFTER_SWITCH = 4
#: Records of a prefix, besides the first and the last, whose losses over all samples are compared.
LOSSES_BETWEEN = 3
#: An average that a run goes on with from the digits that are written of it, not from all of them.
#: After the switch it decides nothing.
RESTARTED = "alignment_ema"
#: Folder, in that of a stretch, with the same stretch by an older code.
OLDER = "older"
#: What each kind of training writes, and what numbers its rows.
TABLES: Mapping[Callable[..., Any], tuple[str, str | None]] = {
    retrain_prefix: (TRAJECTORY, "step"),
    retrain_run: (TRAJECTORY, "step"),
    retrain_edge: (EDGE, "trial"),
    remeasure_energy: (TABLE, None),
}
#: Seconds that it may take beyond twice those of today's code: its process has to start.
LONGER = 60.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a stretch.

    Attributes:
        text: In words, how far apart the numbers are.
        differs: Whether by more than rounding, or the band of another kind of machine.
        rounded: Whether in any digit, where the code did it: on the same kind of machine, or beside
            the code that trained the result.
        same: What was trained again over its whole stretch, to the same digits.
        same_energy: Along what the energy was measured again to the same digits.
    """

    text: str
    differs: bool = False
    rounded: bool = False
    same: Record | None = None
    same_energy: Record | None = None


def prefix_again(
    record: PrefixRecord,
    committed: Committed,
    *,
    data: Path,
    folder: Path,
    seconds: float,
    draw: random.Random,
    older: OlderCode | None = None,
) -> tuple[bool, Verdict]:
    """Train a prefix again without its measurements, into a folder, until the time is spent.

    Returns:
        Whether the switch is reached, and the verdict.
    """
    rows, switch = committed.rows(), int(committed.summary["switch_step"])
    between = sorted(rows)[1:-1]
    reached, retrained, beside = _train(
        retrain_prefix,
        record,
        committed,
        older,
        paths={"folder": folder, "data": data},
        switch_step=switch,
        alignment_ema=float(rows[max(rows)]["alignment_ema"]),
        losses_at=draw.sample(between, min(LOSSES_BETWEEN, len(between))),
        seconds=seconds,
    )
    what = f"{record.id}, steps 0 to {max(retrained)}"
    if not reached:
        what += f" of {switch}, when the time was spent"
    comparison = compare(rows, retrained)
    return reached, _verdict(record, what, committed, comparison, beside, whole=reached)


def branch_again(
    record: Branch,
    committed: Committed,
    *,
    data: Path,
    prefix_folder: Path,
    seconds: float,
    older: OlderCode | None = None,
) -> Verdict:
    """Train a run's first records again, or a search's first trial, as far as the time allows."""
    rows, switch = committed.rows(), int(committed.summary["switch_step"])
    is_edge = isinstance(record, EdgeRecord)
    if is_edge:
        rows = {trial: row for trial, row in rows.items() if trial == 1}
    last = _last_in(seconds, rows, committed.summary)
    if last is None:
        what = "first trial" if is_edge else "solve at the switch"
        return Verdict(text=f"left out: {record.id}: no time is left for its {what}")
    length = {} if is_edge else {"steps": last - switch}
    with tempfile.TemporaryDirectory() as name:
        _, retrained, beside = _train(
            retrain_edge if is_edge else retrain_run,
            record,
            committed,
            older,
            paths={"folder": Path(name), "data": data, "prefix_folder": prefix_folder},
            **length,
        )
    whole = last == sorted(rows)[: RECORDS_AFTER_SWITCH + 1][-1]
    what = f"{record.id}, {'trial 1' if is_edge else f'steps {switch} to {last}'}"
    comparison = compare(rows, retrained, continued=True)
    return _verdict(record, what, committed, comparison, beside, whole=whole)


def energy_again(
    record: PrefixRecord,
    committed: Committed,
    *,
    data: Path,
    prefix_folder: Path,
    seconds: float,
    older: OlderCode | None = None,
) -> Verdict:
    """Measure the curvature energy at a prefix's switch again, if the time allows."""
    energy = committed.energy
    assert energy is not None
    if energy["seconds"] / len(energy["steps"]) > seconds:
        return Verdict(text=f"left out: the energy of {record.id}: no time is left for it")
    # It may have been measured elsewhere than the prefix was trained, and by other code.
    of_energy = replace(committed, summary=energy, code=committed.energy_code)
    with tempfile.TemporaryDirectory() as name:
        _, measured, beside = _train(
            remeasure_energy,
            record,
            of_energy,
            older,
            paths={"folder": Path(name), "data": data, "prefix_folder": prefix_folder},
            probes=energy["probes"],
        )
    what = f"{record.id}, energy at the switch"
    found = compare(committed.energy_rows(), measured)
    verdict = _verdict(record, what, of_energy, found, beside, whole=True)
    return replace(verdict, same=None, same_energy=verdict.same)


def _train(
    train: Callable[..., Any],
    record: Record,
    committed: Committed,
    older: OlderCode | None,
    *,
    paths: Mapping[str, Path],
    **arguments: Any,
) -> tuple[Any, Rows, Comparison | None]:
    """Train a stretch by today's code, and at the same time by the older one where it is given.

    Returns:
        What the training returns, its records, and how they compare with the older code's.
    """
    name, by = TABLES[train]
    apart = {key: path if key == "data" else path / OLDER for key, path in paths.items()}
    theirs = {**arguments}
    if "seconds" in theirs:  # more, so that it gets as far: no record may be missing there
        theirs["seconds"] = 2 * theirs["seconds"] + LONGER
    beside: AbstractContextManager[None] = nullcontext()
    if older is not None:
        beside = older.training(train, record, committed.summary, paths=apart, arguments=theirs)
    with beside:
        outcome = train(record, device=_numerics(committed), **paths, **arguments)
    rows = read_rows(paths["folder"] / name, by=by)
    if older is None:
        return outcome, rows, None
    return outcome, rows, compare(read_rows(apart["folder"] / name, by=by), rows)


def _last_in(seconds: float, rows: Rows, summary: Mapping[str, Any]) -> int | None:
    """Last of the first records that are foreseen to fit, by the products up to each."""
    rate = summary["seconds"] / max(summary["num_matvecs"], 1)
    fit, products = [], 0.0
    for step in sorted(rows)[: RECORDS_AFTER_SWITCH + 1]:
        # The record at which a run diverged has none of its own.
        products = float(rows[step].get("num_matvecs", products))
        if products * rate <= seconds:
            fit.append(step)
    return max(fit, default=None)


def _numerics(committed: Committed) -> torch.device:
    """Torch set up as it was for a result, as far as this machine can."""
    return set_up(**numerics_of(committed.summary))


def _verdict(
    record: Record,
    what: str,
    committed: Committed,
    comparison: Comparison,
    beside: Comparison | None,
    *,
    whole: bool,
) -> Verdict:
    there, here = _kind(committed.summary), _kind(provenance(_numerics(committed)))
    # A trial is one record, in which processors of one name that round differently cannot be seen.
    one = isinstance(record, EdgeRecord)
    altered = comparison.altered(same_kind=there == here and not one)
    counted = f"{comparison.numbers} numbers in {len(comparison.steps)} records"
    differing = altered or comparison.differences
    farthest = max(differing, key=lambda found: found.size, default=None)
    if farthest is None:
        text = f"same: {what}: {counted} agree in every digit"
    elif altered:
        text = f"DIFFERS: {what}: {len(altered)} of {counted}; first {altered[0]}"
        text += "" if farthest is altered[0] else f"; farthest {farthest}"
    elif farthest.rounded:
        text = f"same: {what}: {counted} agree within rounding; farthest {farthest}"
    else:
        text = (
            f"close: {what}: {counted} agree within the band of another kind of machine, "
            f"{LOSS_BAND:.0%} of a loss, {CURVATURE_BAND:.0%} of gradients and eigenspace; "
            f"farthest {farthest}"
        )
    text += f" (made on {there}{', as here' if there == here else f'; here: {here}'})"
    if not committed.fresh:
        text += " [STALE: made by other code than today's, or with another torch]"
    digits = any(found.column != RESTARTED for found in comparison.differences)
    by_code = digits and there == here
    if beside is not None:  # both on this machine: whatever differs there, the code did
        by_code = digits = by_code or bool(beside.differences)
        found = "the same in every digit"
        if beside.differences:
            found = f"{len(beside.differences)} not the same, the first: {beside.differences[0]}"
        text += f"; by the code that trained it, here: {beside.numbers} numbers, {found}"
    same_device = _numerics(committed).type == committed.summary["device"]
    return Verdict(
        text=text,
        differs=bool(altered),
        rounded=by_code,
        same=record if whole and same_device and not digits and not altered else None,
    )


def _kind(found: Mapping[str, Any]) -> str:
    """The kind of machine that a summary names, and what else decides how numbers are rounded."""
    hardware = found["hardware"]
    processor = hardware["accelerator"] or hardware["processor"]
    threads = f"{found['threads']} thread{'s' if found['threads'] != 1 else ''}"
    precision = ", TF32" if found["tf32"] else ""
    torch_version = f"torch {found['versions']['torch']}"
    return f"{hardware['platform']}, {processor}, {threads}, {torch_version}{precision}"
