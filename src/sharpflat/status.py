"""Which results of a tier are there, stale, missing or damaged, and what the others will take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from sharpflat import energy_record, layout, seals
from sharpflat.config import Config
from sharpflat.plan import (
    all_edges,
    all_prefixes,
    all_runs,
    probes,
    resolved_json,
    snapshots,
)
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.snapshots import kept_steps
from sharpflat.sources import edge_code_hash, training_code_hash

Record = PrefixRecord | RunRecord | EdgeRecord
State = Literal["there", "stale", "missing", "damaged"]
STATES: tuple[State, ...] = ("there", "stale", "missing", "damaged")
KINDS = ("prefixes", "runs", "edges", "energies")
#: Of a prefix, what runs branch from; of it and of a run, what the energy is measured at.
CHECKPOINT, SNAPSHOTS = "checkpoint.pt", "snapshots.pt"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known of a prefix, a run, a search for the edge, or the curvature energy along one.

    Attributes:
        kind: ``prefixes``, ``runs``, ``edges`` or ``energies``.
        path: The folder where it lies or will lie; of an energy, its table.
        state: ``stale`` is a whole result that other code than today's made, or another torch. An
            energy is also stale if it was measured along another trajectory than lies there, or
            with another number of probes.
        seconds: What it will take, from finished ones of its kind; 0 where it is there, ``None``
            where there is none to learn from.
        lacks: The file for which alone it is missing.
    """

    kind: str
    path: Path
    state: State
    seconds: float | None
    lacks: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A result as it lies there.

    Attributes:
        like: What others have in common with it that take as long for the same work.
        work: Foreseen, in steps; of an energy, in points that are measured.
        rate: Seconds for one of them, where it is whole.
    """

    kind: str
    path: Path
    state: State
    like: tuple[object, ...]
    work: int
    rate: float | None


def tier_status(config: Config) -> tuple[Result, ...]:
    """The state of everything that a configuration trains, in the order in which it is made.

    A result is there if its seal holds and its summary names today's record and code. A prefix
    whose checkpoint is gone, as from a clone, is missing where something is still to branch from
    it; so is what did not keep the parameters at which the energy is still to be measured. What is
    to be made takes as many seconds a step as the whole results of its kind did: of the same task,
    loss, sizes, Hessian samples and method. That a prefix may end earlier, at its alignment, is not
    foreseen.
    """
    trained = [(record, _trained(record, folder)) for record, folder in records(config)]
    energies = _energies(config)
    lost = _without_what_is_needed(config, trained, energies)
    everything = [*(found for _, found in trained), *energies]
    rates: dict[tuple[object, ...], list[float]] = {}
    for found in everything:
        if found.rate is not None:
            rates.setdefault(found.like, []).append(found.rate)
    results = []
    for found in everything:
        state: State = found.state
        lacks = lost.get(found.path) if state == "there" else None
        if lacks is not None:
            state = "missing"
        known = rates.get(found.like)
        left = None if known is None else median(known) * found.work
        seconds = 0.0 if state == "there" else left
        results.append(
            Result(kind=found.kind, path=found.path, state=state, seconds=seconds, lacks=lacks)
        )
    return tuple(results)


def describe(config: Config, results: tuple[Result, ...]) -> Iterator[str]:
    """The status in lines: a count of each state by kind, hours left, and what is not there."""
    own = f"{config.name}, " if config.name != config.tier else ""
    yield f"{own}{config.tier} tier:"
    for kind in KINDS:
        chosen = [result for result in results if result.kind == kind]
        if chosen:
            counts = {state: sum(found.state == state for found in chosen) for state in STATES}
            numbers = ", ".join(f"{count} {state}" for state, count in counts.items())
            yield f"  {kind:9} {numbers}; {_left(chosen)}"
    yield f"  all       {_left(list(results))}, one process after the other"
    for result in results:
        if result.state != "there":
            lacks = f" (its {result.lacks} alone)" if result.lacks else ""
            yield f"{result.state:8} {_duration(result.seconds):>9}  {result.path}{lacks}"


def records(config: Config) -> Iterator[tuple[Record, Path]]:
    """Everything that a configuration trains, in that order, with where it lies or will lie."""
    tier = config.name
    yield from ((record, layout.prefix(tier, record.id)) for record in all_prefixes(config))
    yield from ((record, layout.run(tier, record.id)) for record in all_runs(config))
    yield from ((record, layout.edge(tier, record.id)) for record in all_edges(config))


def refuse_other(config: Config) -> None:
    """Refuse a tier's folder whose results other settings or other code made.

    For a workflow that has no records of its own to tell by, as where the folder was copied here.

    Raises:
        ValueError: A result is stale, or the resolved configuration is another; says what to do.
    """
    resolved = layout.resolved_config(config.name)
    unrecorded = "and Snakemake has no record of making it here: delete"
    stale = [result.path for result in tier_status(config) if result.state == "stale"]
    if stale:
        raise ValueError(
            f"{stale[0]} is stale, one of {len(stale)} results, {unrecorded} {resolved} and what "
            f"`python -m sharpflat status --tier {config.tier}` calls stale, and it is made again"
        )
    if resolved.exists() and resolved.read_text() != f"{resolved_json(config)}\n":
        raise ValueError(
            f"{resolved} is of other settings than asked for, {unrecorded} it, and all that these "
            "settings decide is made again"
        )


def stale_energies(config: Config) -> list[Path]:
    """Tables of the energies that other code measured, or along other trajectories."""
    return [found.path for found in _energies(config) if found.state == "stale"]


def state_of(record: Record, folder: Path) -> tuple[State, Mapping[str, Any]]:
    """The state of one result, and its summary where it is whole."""
    seal = seals.EDGE if isinstance(record, EdgeRecord) else seals.TRAINED
    if not any((folder / name).exists() for name in (*seals.SEALED[seal], seal)):
        return "missing", {}
    try:
        seals.check_seal(folder, seal)
    except seals.DamagedResultError:
        return "damaged", {}
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    hashed = edge_code_hash if isinstance(record, EdgeRecord) else training_code_hash
    task = record if isinstance(record, PrefixRecord) else record.prefix
    fresh = (summary.get("id"), summary.get("code")) == (record.id, hashed(task))
    return ("there" if fresh else "stale"), summary


def _trained(record: Record, folder: Path) -> _Found:
    state, summary = state_of(record, folder)
    steps = _steps_taken(record, summary) if summary else 0
    return _Found(
        kind=folder.parent.name,
        path=folder,
        state=state,
        like=_like(record),
        work=_steps_foreseen(record),
        rate=summary["seconds"] / steps if steps > 0 else None,
    )


def _energies(config: Config) -> list[_Found]:
    """The curvature energies that a configuration plans."""
    kept, asked = snapshots(config), probes(config)
    found = []
    for record, folder in records(config):
        if isinstance(record, EdgeRecord) or record.id not in kept:
            continue
        points = kept[record.id]
        state, measured = _energy_state(record, folder, points=points, probes=asked)
        found.append(
            _Found(
                kind="energies",
                path=folder / energy_record.TABLE,
                state=state,
                like=("energy", *_like(record)),
                work=points + 1,
                rate=measured["seconds"] / len(measured["steps"]) if measured else None,
            )
        )
    return found


def _energy_state(
    record: PrefixRecord | RunRecord, folder: Path, *, points: int, probes: int
) -> tuple[State, Mapping[str, Any]]:
    """The state of the energy along one result, and its record where it is whole."""
    if not any((folder / name).exists() for name in (*energy_record.SEALED, seals.ENERGY)):
        return "missing", {}
    try:
        energy_record.check_energy(folder)
        trajectory = (folder / "trajectory.csv").read_bytes()
        summary = json.loads((folder / "summary.json").read_text())
    except (seals.DamagedResultError, FileNotFoundError):
        return "damaged", {}
    found: dict[str, Any] = json.loads((folder / energy_record.RECORD).read_text())
    task = record if isinstance(record, PrefixRecord) else record.prefix
    expected = {
        "steps": kept_steps(record, summary, points),
        **energy_record.identity(trajectory, task, probes=probes),
    }
    fresh = {**found, **expected} == found
    return ("there" if fresh else "stale"), found


def _without_what_is_needed(
    config: Config, trained: list[tuple[Record, _Found]], energies: list[_Found]
) -> dict[Path, str]:
    """Folders without their snapshots or their checkpoint where something needs them, and which."""
    lost = {
        found.path.parent: SNAPSHOTS
        for found in energies
        if found.state != "there" and not (found.path.parent / SNAPSHOTS).exists()
    }
    for record, found in trained:
        if isinstance(record, PrefixRecord) or (found.state == "there" and found.path not in lost):
            continue
        prefix = layout.prefix(config.name, record.prefix.id)
        if not (prefix / CHECKPOINT).exists():
            lost.setdefault(prefix, CHECKPOINT)
    return lost


def _like(record: Record) -> tuple[object, ...]:
    run = record.start if isinstance(record, EdgeRecord) else record
    settings = run.after_switch if isinstance(run, RunRecord) else run
    weights = (run.dom_weight, run.bulk_weight) if isinstance(run, RunRecord) else ()
    setting = (settings.task, settings.loss, settings.sizes, settings.hessian_samples)
    return (type(record), *setting, *weights)


def _steps_taken(record: Record, summary: Mapping[str, Any]) -> int:
    """What a result's seconds are counted by; a search counts by the steps of one of its trials."""
    if isinstance(record, EdgeRecord):
        return record.start.steps
    start = 0 if isinstance(record, PrefixRecord) else summary["switch_step"]
    return int(summary["last_step"]) - int(start)


def _steps_foreseen(record: Record) -> int:
    if isinstance(record, PrefixRecord):
        return record.switch_max_steps
    return record.start.steps if isinstance(record, EdgeRecord) else record.steps


def _left(results: list[Result]) -> str:
    known = sum(result.seconds for result in results if result.seconds is not None)
    unknown = sum(result.seconds is None for result in results)
    return f"{_duration(known)} left" + (f" and {unknown} of unknown length" if unknown else "")


def _duration(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds / 3600:.2f} h"
