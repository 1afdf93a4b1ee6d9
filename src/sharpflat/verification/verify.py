"""Draws stretches of a tier's committed runs, trains them again, and judges what came."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sharpflat import layout, seals
from sharpflat.config import Config
from sharpflat.plan import all_prefixes, all_runs
from sharpflat.records import PrefixRecord, RunRecord
from sharpflat.sources import training_code_hash
from sharpflat.tasks.data import load
from sharpflat.training.numerics import set_up
from sharpflat.training.provenance import provenance
from sharpflat.training.train import SUMMARY, TRAJECTORY
from sharpflat.verification.comparison import (
    CURVATURE_BAND,
    LOSS_BAND,
    Comparison,
    Rows,
    compare,
    read_rows,
)
from sharpflat.verification.retraining import retrain_prefix, retrain_run

#: Records of a run that are trained again after the one at its switch, where time allows.
RECORDS_AFTER_SWITCH = 4
#: Records of a prefix, besides the first and the last, whose losses over all samples are compared.
LOSSES_BETWEEN = 3


@dataclass(frozen=True, kw_only=True)
class Committed:
    """A prefix or a run that is committed.

    Attributes:
        folder: Where it lies.
        summary: Its summary.
        fresh: Whether today's code and torch made it.
    """

    folder: Path
    summary: Mapping[str, Any]
    fresh: bool

    def rows(self) -> dict[int, dict[str, str]]:
        """Its trajectory.

        Raises:
            DamagedResultError: It is not what was sealed.
        """
        seals.check_seal(self.folder, seals.TRAINED)
        return read_rows(self.folder / TRAJECTORY)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a stretch: whether it differs beyond rounding, and how far apart, in words."""

    differs: bool
    text: str


def committed_results(config: Config) -> dict[PrefixRecord | RunRecord, Committed]:
    """What of a configuration's prefixes and runs lies in the tier's folders, finished."""
    tier = config.name
    records: list[PrefixRecord | RunRecord] = [*all_prefixes(config), *all_runs(config)]
    found = {}
    for record in records:
        prefix = record if isinstance(record, PrefixRecord) else record.prefix
        place = layout.prefix if record is prefix else layout.run
        folder = place(tier, record.id)
        if (folder / SUMMARY).exists():
            summary = json.loads((folder / SUMMARY).read_text())
            made = (summary.get("id"), summary.get("code"))
            fresh = made == (record.id, training_code_hash(prefix))
            found[record] = Committed(folder=folder, summary=summary, fresh=fresh)
    return found


def verify(
    config: Config,
    committed: Mapping[PrefixRecord | RunRecord, Committed],
    *,
    seed: int,
    minutes: float,
    data_of: Callable[[str], Path],
) -> Iterator[Verdict]:
    """Train stretches again, drawn at random, until the time is spent; one at least.

    A stretch is a prefix without its measurements, which cost nearly all of its time and decide
    no step, and then a run's first records. On the kind of machine that the summary names the
    numbers must agree within rounding, elsewhere within a band. Threads and precision are those
    that the summary names. What was trained on other data than is here, as on a mirror's variant
    of it, tells nothing: it is left out, and another drawn.

    Args:
        config: The tier's configuration.
        committed: Its results, of :func:`committed_results`.
        seed: Decides which stretches are drawn.
        minutes: Time for training; what is begun is finished, as long as it was foreseen to fit.
        data_of: Gives the canonical file of a data set, which may be fetched: its time is not
            counted.

    Raises:
        ValueError: Nothing that can be trained again is committed, or nothing on the data here.
        DamagedResultError: A drawn result is not what was sealed.
    """
    draw, left = random.Random(seed), 60 * minutes
    stretches = _stretches(committed)
    if not stretches:
        raise ValueError(
            f"nothing of the {config.name} tier's configuration is committed: train it first, "
            f"`snakemake --cores 2 --config tier={config.tier}`"
        )
    draw.shuffle(stretches)
    begun: dict[PrefixRecord, bool] = {}  # whether the switch is reached
    fingerprints: dict[str, str] = {}
    left_out: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch:
        for prefix, run in stretches:
            if begun and left <= 0:
                return
            name, data, began = prefix.dataset, data_of(prefix.dataset), time.perf_counter()
            if name not in fingerprints:
                fingerprints[name] = load(name, data).fingerprint
            drawn = [committed[record].summary for record in (prefix, run) if record is not None]
            foreign = [summary for summary in drawn if summary["data"] != fingerprints[name]]
            if foreign:
                if name not in left_out:
                    left_out.add(name)
                    yield Verdict(differs=False, text=_other_data(name, data, foreign[0]))
                continue
            place = Path(scratch) / prefix.id
            if prefix not in begun:
                begun[prefix], verdict = _prefix(
                    prefix, committed[prefix], data=data, folder=place, seconds=left, draw=draw
                )
                yield verdict
            if run is not None and begun[prefix]:
                rest = left - (time.perf_counter() - began)
                yield _run(run, committed[run], data=data, prefix_folder=place, seconds=rest)
            left -= time.perf_counter() - began
    if not begun:
        raise ValueError(
            f"all that is committed of the {config.name} tier was trained on other data than is "
            "here: give the folder with its data by --mirror, and delete results/data"
        )


def _other_data(name: str, data: Path, summary: Mapping[str, Any]) -> str:
    variant = summary.get("data_origin", {}).get("variant")
    return f"left out: what was trained on {name} of other bytes than {data} holds" + (
        f" ({variant})" if variant else ""
    )


def _stretches(
    committed: Mapping[PrefixRecord | RunRecord, Committed],
) -> list[tuple[PrefixRecord, RunRecord | None]]:
    """Runs with their prefixes, and the prefixes that no run is committed of."""
    finished = {
        record
        for record, found in committed.items()
        if isinstance(record, PrefixRecord) and found.summary["status"] == "finished"
    }
    runs = [record for record in committed if isinstance(record, RunRecord)]
    stretches: list[tuple[PrefixRecord, RunRecord | None]] = [
        (run.prefix, run) for run in runs if run.prefix in finished
    ]
    alone = finished - {run.prefix for run in runs}
    return stretches + [(prefix, None) for prefix in sorted(alone, key=lambda found: found.id)]


def _prefix(
    record: PrefixRecord,
    committed: Committed,
    *,
    data: Path,
    folder: Path,
    seconds: float,
    draw: random.Random,
) -> tuple[bool, Verdict]:
    """Whether the switch is reached, and the verdict."""
    rows, switch = committed.rows(), int(committed.summary["switch_step"])
    between = sorted(rows)[1:-1]
    reached = retrain_prefix(
        record,
        data=data,
        folder=folder,
        device=_numerics(committed),
        switch_step=switch,
        alignment_ema=float(rows[max(rows)]["alignment_ema"]),
        losses_at=draw.sample(between, min(LOSSES_BETWEEN, len(between))),
        seconds=seconds,
    )
    retrained = read_rows(folder / TRAJECTORY)
    what = f"{record.id}, steps 0 to {max(retrained)}"
    if not reached:
        what += f" of {switch}, when the time was spent"
    return reached, _verdict(what, committed, compare(rows, retrained))


def _run(
    record: RunRecord, committed: Committed, *, data: Path, prefix_folder: Path, seconds: float
) -> Verdict:
    rows, switch = committed.rows(), int(committed.summary["switch_step"])
    steps = _steps_in(seconds, rows, committed.summary)
    if steps is None:
        text = f"left out: {record.id}, whose solve at the switch was to exceed the time"
        return Verdict(differs=False, text=text)
    with tempfile.TemporaryDirectory() as folder:
        retrain_run(
            record,
            data=data,
            prefix_folder=prefix_folder,
            folder=Path(folder),
            device=_numerics(committed),
            steps=steps,
        )
        comparison = compare(rows, read_rows(Path(folder) / TRAJECTORY))
    return _verdict(f"{record.id}, steps {switch} to {switch + steps}", committed, comparison)


def _steps_in(seconds: float, rows: Rows, summary: Mapping[str, Any]) -> int | None:
    """Steps of a run's first records that are foreseen to fit, by the products up to each."""
    switch = int(summary["switch_step"])
    rate = summary["seconds"] / max(summary["num_matvecs"], 1)
    fit = [
        step - switch
        for step in sorted(rows)[: RECORDS_AFTER_SWITCH + 1]
        if "num_matvecs" in rows[step] and float(rows[step]["num_matvecs"]) * rate <= seconds
    ]
    return max(fit, default=None)


def _numerics(committed: Committed) -> torch.device:
    """Torch set up as it was for a result, as far as this machine can."""
    summary = committed.summary
    return set_up(
        device="cpu" if summary["device"] == "cpu" else "auto",
        threads=summary["threads"],
        tf32=summary["tf32"],
        deterministic=summary["deterministic_algorithms"],
    )


def _verdict(what: str, committed: Committed, comparison: Comparison) -> Verdict:
    there, here = _kind(committed.summary), _kind(provenance(_numerics(committed)))
    altered = comparison.altered(same_kind=there == here)
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
    return Verdict(differs=bool(altered), text=text)


def _kind(found: Mapping[str, Any]) -> str:
    """The kind of machine that a summary names, and what else decides how numbers are rounded."""
    hardware = found["hardware"]
    processor = hardware["accelerator"] or hardware["processor"]
    threads = f"{found['threads']} thread{'s' if found['threads'] != 1 else ''}"
    precision = ", TF32" if found["tf32"] else ""
    torch_version = f"torch {found['versions']['torch']}"
    return f"{hardware['platform']}, {processor}, {threads}, {torch_version}{precision}"
