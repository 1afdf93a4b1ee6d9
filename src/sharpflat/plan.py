"""From a configuration to the list of runs, their prefixes and the jobs that train them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sharpflat.config import Config, Figure
from sharpflat.methods import Method
from sharpflat.records import PrefixRecord, RunRecord, flat
from sharpflat.settings import AFTER_SWITCH, RHYTHM, Cell, Value

Record = TypeVar("Record", PrefixRecord, RunRecord)


@dataclass(frozen=True, kw_only=True)
class FigureRun:
    """A run as a figure shows it.

    Attributes:
        method: Under whose name.
        record: What is trained.
        varied: Name of the setting that the figure varies, if it varies one.
        value: Its value.
    """

    method: Method
    record: RunRecord
    varied: str | None
    value: Value | None


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Record]):
    """Records of one data set, model and loss that are trained in one process."""

    records: tuple[Record, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the records."""
        return tuple(record.id for record in self.records)

    @property
    def dataset(self) -> str:
        """Name of their data set."""
        first = self.records[0]
        return first.dataset if isinstance(first, PrefixRecord) else first.prefix.dataset


def figure_runs(config: Config, figure: Figure) -> tuple[FigureRun, ...]:
    """Every run that a figure shows."""
    return tuple(
        FigureRun(
            method=method,
            record=_record(cell, method, seed),
            varied=cell.varied,
            value=cell.value,
        )
        for cell in figure.cells
        for method in figure.methods
        for seed in config.seeds
    )


def all_runs(config: Config) -> tuple[RunRecord, ...]:
    """The runs of all figures, each once, in the order in which figures first ask for them."""
    runs = (run.record for figure in config.figures.values() for run in figure_runs(config, figure))
    return tuple(dict.fromkeys(runs))


def all_prefixes(config: Config) -> tuple[PrefixRecord, ...]:
    """The prefixes of all runs, each once."""
    return tuple(dict.fromkeys(run.prefix for run in all_runs(config)))


def run_jobs(config: Config) -> tuple[Job[RunRecord], ...]:
    """The jobs that train all runs."""
    kinds: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in all_runs(config):
        kinds.setdefault(_kind(run.prefix), []).append(run)
    return tuple(
        Job(records=chunk)
        for runs in kinds.values()
        for chunk in _chunks(runs, lambda run: run.steps, config.steps_per_job)
    )


def prefix_jobs(config: Config) -> tuple[Job[PrefixRecord], ...]:
    """The jobs that train all prefixes."""
    kinds: dict[tuple[str, ...], list[PrefixRecord]] = {}
    for prefix in all_prefixes(config):
        kinds.setdefault(_kind(prefix), []).append(prefix)
    return tuple(
        Job(records=chunk)
        for prefixes in kinds.values()
        for chunk in _chunks(prefixes, lambda prefix: prefix.switch_max_steps, config.steps_per_job)
    )


def snapshots(config: Config) -> dict[str, int]:
    """Names of the runs and prefixes that keep parameters, and at how many points."""
    kept: dict[str, int] = {}
    for figure in config.figures.values():
        for run in figure_runs(config, figure) if figure.snapshots else ():
            for name in (run.record.prefix.id, run.record.id):
                kept[name] = max(figure.snapshots, kept.get(name, 0))
    return kept


def runs_csv(config: Config) -> str:
    """The list of runs as CSV, one row a run, with the figures that show it."""
    shown: dict[str, list[str]] = {}
    for figure in config.figures.values():
        for run in figure_runs(config, figure):
            shown.setdefault(run.record.id, []).append(figure.name)
    rows = [{**flat(run), "figures": " ".join(shown[run.id])} for run in all_runs(config)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _record(cell: Cell, method: Method, seed: int) -> RunRecord:
    before, after = cell.before, cell.after
    prefix = PrefixRecord(
        seed=seed,
        **{name: getattr(before, name) for name in PrefixRecord.__annotations__ if name != "seed"},
    )
    return RunRecord(
        prefix=prefix,
        dom_weight=method.dom_weight,
        bulk_weight=method.bulk_weight,
        steps=after.steps,
        **{name: getattr(after, name) for name in (*AFTER_SWITCH, *RHYTHM)},
    )


def _kind(prefix: PrefixRecord) -> tuple[str, ...]:
    return prefix.task, prefix.dataset, prefix.model, prefix.loss


def _chunks(
    records: Sequence[Record], steps: Callable[[Record], int], limit: int
) -> Iterator[tuple[Record, ...]]:
    """Records in their order, each chunk's steps within the limit or of one record alone."""
    chunk: list[Record] = []
    total = 0
    for record in records:
        total += steps(record)
        if chunk and total > limit:
            yield tuple(chunk)
            chunk, total = [], steps(record)
        chunk.append(record)
    if chunk:
        yield tuple(chunk)
