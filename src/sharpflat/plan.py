"""From a configuration to the list of runs, their prefixes and the jobs that train them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sharpflat.config import Config, Figure
from sharpflat.methods import Method
from sharpflat.records import PrefixRecord, RunRecord, flat
from sharpflat.settings import AFTER_SWITCH, Cell, Value

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
    """Records of one data set, model and loss that are trained in one process.

    The same figures show them all, so that no figure trains what it does not show.
    """

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
    return tuple(_shown(config, lambda run: run))


def all_prefixes(config: Config) -> tuple[PrefixRecord, ...]:
    """The prefixes of all runs, each once."""
    return tuple(dict.fromkeys(run.prefix for run in all_runs(config)))


def run_jobs(config: Config) -> tuple[Job[RunRecord], ...]:
    """The jobs that train all runs."""
    shown = _shown(config, lambda run: run)
    return _jobs(shown.items(), lambda run: run.steps, config.steps_per_job)


def prefix_jobs(config: Config) -> tuple[Job[PrefixRecord], ...]:
    """The jobs that train all prefixes."""
    shown = _shown(config, lambda run: run.prefix)
    return _jobs(shown.items(), lambda prefix: prefix.switch_max_steps, config.steps_per_job)


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
    shown = _shown(config, lambda run: run)
    rows = [{**flat(run), "figures": " ".join(figures)} for run, figures in shown.items()]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _shown(config: Config, part: Callable[[RunRecord], Record]) -> dict[Record, tuple[str, ...]]:
    """Names of the figures that show a record, in the order in which figures first ask for it."""
    shown: dict[Record, dict[str, None]] = {}
    for figure in config.figures.values():
        for run in figure_runs(config, figure):
            shown.setdefault(part(run.record), {})[figure.name] = None
    return {record: tuple(figures) for record, figures in shown.items()}


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
        **{name: getattr(after, name) for name in AFTER_SWITCH},
    )


def _jobs(
    shown: Iterable[tuple[Record, tuple[str, ...]]], steps: Callable[[Record], int], limit: int
) -> tuple[Job[Record], ...]:
    kinds: dict[tuple[str, ...], list[Record]] = {}
    for record, figures in shown:
        kinds.setdefault(_kind(record) + figures, []).append(record)
    return tuple(
        Job(records=chunk) for kind in kinds.values() for chunk in _chunks(kind, steps, limit)
    )


def _kind(record: PrefixRecord | RunRecord) -> tuple[str, ...]:
    prefix = record if isinstance(record, PrefixRecord) else record.prefix
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
