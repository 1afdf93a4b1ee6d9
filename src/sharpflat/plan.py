"""From a configuration to the list of runs, their prefixes and the jobs that train them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from sharpflat.config import Config, Figure, Setting
from sharpflat.methods import Method
from sharpflat.records import PrefixRecord, RunRecord, flat

Record = TypeVar("Record", PrefixRecord, RunRecord)


@dataclass(frozen=True, kw_only=True)
class FigureRun:
    """A run as a figure shows it: under the name of a method."""

    method: Method
    record: RunRecord


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Record]):
    """Records that differ in the seed only and are trained in one process."""

    records: tuple[Record, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the records."""
        return tuple(record.id for record in self.records)


def figure_runs(config: Config, figure: Figure) -> tuple[FigureRun, ...]:
    """Every run that a figure shows."""
    return tuple(
        FigureRun(method=method, record=_record(setting, method, seed))
        for setting in figure.settings
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
    cells: dict[RunRecord, list[RunRecord]] = {}
    for run in all_runs(config):
        cell = replace(run, prefix=replace(run.prefix, seed=0))
        cells.setdefault(cell, []).append(run)
    return tuple(
        Job(records=chunk)
        for cell, runs in cells.items()
        for chunk in _chunks(runs, config.steps_per_job // cell.steps)
    )


def prefix_jobs(config: Config) -> tuple[Job[PrefixRecord], ...]:
    """The jobs that train all prefixes."""
    cells: dict[PrefixRecord, list[PrefixRecord]] = {}
    for prefix in all_prefixes(config):
        cells.setdefault(replace(prefix, seed=0), []).append(prefix)
    return tuple(
        Job(records=chunk)
        for cell, prefixes in cells.items()
        for chunk in _chunks(prefixes, config.steps_per_job // cell.switch_max_steps)
    )


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


def _record(setting: Setting, method: Method, seed: int) -> RunRecord:
    prefix = PrefixRecord(
        seed=seed,
        **{name: getattr(setting, name) for name in PrefixRecord.__annotations__ if name != "seed"},
    )
    return RunRecord(
        prefix=prefix,
        dom_weight=method.dom_weight,
        bulk_weight=method.bulk_weight,
        steps=setting.steps,
        refresh=setting.refresh,
    )


def _chunks(records: Sequence[Record], size: int) -> Iterator[tuple[Record, ...]]:
    size = max(size, 1)
    for start in range(0, len(records), size):
        yield tuple(records[start : start + size])
