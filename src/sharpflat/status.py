"""Which results of a tier are there, stale, missing or damaged, and what the others will take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from sharpflat import layout, seals
from sharpflat.config import Config
from sharpflat.plan import all_edges, all_prefixes, all_runs
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.sources import edge_code_hash, training_code_hash

Record = PrefixRecord | RunRecord | EdgeRecord
State = Literal["there", "stale", "missing", "damaged"]
STATES: tuple[State, ...] = ("there", "stale", "missing", "damaged")
#: Of a prefix, what runs branch from.
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known of a prefix, a run or a search for the edge.

    Attributes:
        folder: Where it lies or will lie.
        state: ``stale`` is a whole result that other code than today's made, or another torch.
        seconds: What it will take, from finished ones of its kind; 0 where it is there, ``None``
            where there is none to learn from.
    """

    folder: Path
    state: State
    seconds: float | None


def tier_status(config: Config) -> tuple[Result, ...]:
    """The state of everything that a configuration trains, in the order in which it is trained.

    A result is there if its seal holds and its summary names today's record and code. A prefix
    whose checkpoint is gone, as from a clone, is missing where something is still to branch from
    it. What is to be trained takes as many seconds a step as the whole results of its kind did: of
    the same task, loss, sizes, Hessian samples and method. That a prefix may end earlier, at its
    alignment, is not foreseen.
    """
    found = [(record, folder, *state_of(record, folder)) for record, folder in records(config)]
    rates: dict[tuple[object, ...], list[float]] = {}
    for record, _, _, summary in found:
        if summary and (steps := _steps_taken(record, summary)) > 0:
            rates.setdefault(_kind(record), []).append(summary["seconds"] / steps)
    needed = {
        record.prefix.id
        for record, _, state, _ in found
        if not isinstance(record, PrefixRecord) and state != "there"
    }
    results = []
    for record, folder, state, _ in found:
        if folder.name in needed and not (folder / CHECKPOINT).exists():
            state = "missing" if state == "there" else state
        known = rates.get(_kind(record))
        left = None if known is None else median(known) * _steps_foreseen(record)
        seconds = 0.0 if state == "there" else left
        results.append(Result(folder=folder, state=state, seconds=seconds))
    return tuple(results)


def describe(config: Config, results: tuple[Result, ...]) -> Iterator[str]:
    """The status in lines: a count of each state by kind, hours left, and what is not there."""
    own = f"{config.name}, " if config.name != config.tier else ""
    yield f"{own}{config.tier} tier:"
    for kind in ("prefixes", "runs", "edges"):
        chosen = [result for result in results if result.folder.parent.name == kind]
        if chosen:
            counts = {state: sum(found.state == state for found in chosen) for state in STATES}
            numbers = ", ".join(f"{count} {state}" for state, count in counts.items())
            yield f"  {kind:9} {numbers}; {_left(chosen)}"
    yield f"  all       {_left(list(results))}, one process after the other"
    for result in results:
        if result.state != "there":
            yield f"{result.state:8} {_duration(result.seconds):>9}  {result.folder}"


def records(config: Config) -> Iterator[tuple[Record, Path]]:
    """Everything that a configuration trains, in that order, with where it lies or will lie."""
    tier = config.name
    yield from ((record, layout.prefix(tier, record.id)) for record in all_prefixes(config))
    yield from ((record, layout.run(tier, record.id)) for record in all_runs(config))
    yield from ((record, layout.edge(tier, record.id)) for record in all_edges(config))


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


def _kind(record: Record) -> tuple[object, ...]:
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
