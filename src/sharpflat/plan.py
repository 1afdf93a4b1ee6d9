"""From a configuration to the list of runs, their prefixes and the jobs that train them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

from sharpflat.config import Bisection, Config, Figure
from sharpflat.methods import Method
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord, flat
from sharpflat.settings import AFTER_SWITCH, RHYTHM, Cell, ConfigError, Value
from sharpflat.tasks.registry import DATASETS, look_up

Record = TypeVar("Record", PrefixRecord, RunRecord, EdgeRecord)
#: What follows the name of an optimizer that takes all samples at every step.
FULL_BATCH = ", full batch"


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
class FigureEdge:
    """A search for the edge of stability as a figure shows it.

    Attributes:
        method: Under whose name.
        record: What is searched.
    """

    method: Method
    record: EdgeRecord


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Record]):
    """Records of one task that are trained in one process.

    The same figures show them all, so that no figure trains what it does not show.
    """

    records: tuple[Record, ...]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Names of the records."""
        return tuple(record.id for record in self.records)

    @property
    def dataset(self) -> str:
        """Name of their data set."""
        first = self.records[0]
        return first.dataset if isinstance(first, PrefixRecord) else first.prefix.dataset


def figure_runs(config: Config, figure: Figure) -> tuple[FigureRun, ...]:
    """Every run that a figure shows; none where it searches for the edge of stability.

    Raises:
        ConfigError: Two of its cells would be shown under one name.
    """
    if figure.bisection is not None:
        return ()
    return tuple(
        FigureRun(
            method=method,
            record=_record(cell, method, seed),
            varied=cell.varied,
            value=value,
        )
        for cell, value in _named_cells(figure)
        for method in figure.methods
        for seed in config.seeds_of(cell.before.task, figure)
    )


def figure_edges(config: Config, figure: Figure) -> tuple[FigureEdge, ...]:
    """Every search that a figure shows."""
    if figure.bisection is None:
        return ()
    return tuple(
        FigureEdge(method=method, record=_edge(cell, method, seed, figure.bisection))
        for cell in figure.cells
        for method in figure.methods
        for seed in config.seeds_of(cell.before.task, figure)
    )


def all_runs(config: Config) -> tuple[RunRecord, ...]:
    """The runs of all figures, each once, in the order in which figures first ask for them."""
    return tuple(_shown(_runs(config)))


def all_prefixes(config: Config) -> tuple[PrefixRecord, ...]:
    """The prefixes of all runs and searches, each once."""
    return tuple(_shown(_prefixes(config)))


def all_edges(config: Config) -> tuple[EdgeRecord, ...]:
    """The searches of all figures, each once."""
    return tuple(_shown(_edges(config)))


def run_jobs(config: Config) -> tuple[Job[RunRecord], ...]:
    """The jobs that train all runs."""
    return _jobs(_shown(_runs(config)), lambda run: run.steps, config.steps_per_job)


def prefix_jobs(config: Config) -> tuple[Job[PrefixRecord], ...]:
    """The jobs that train all prefixes."""
    shown = _shown(_prefixes(config))
    return _jobs(shown, lambda prefix: prefix.switch_max_steps, config.steps_per_job)


def edge_jobs(config: Config) -> tuple[Job[EdgeRecord], ...]:
    """The jobs that search for the edges, as if each took all the trials that it may."""
    shown = _shown(_edges(config))
    return _jobs(shown, lambda edge: edge.start.steps * edge.most_trials, config.steps_per_job)


def snapshots(config: Config) -> dict[str, int]:
    """Names of the runs and prefixes that keep parameters, and at how many points."""
    kept: dict[str, int] = {}
    for figure in config.figures.values():
        for run in figure_runs(config, figure) if figure.snapshots else ():
            for name in (run.record.prefix.id, run.record.id):
                kept[name] = max(figure.snapshots, kept.get(name, 0))
    return kept


def probes(config: Config) -> int:
    """Random probes of a measurement of the curvature energy; 0 where none is measured."""
    return max((figure.probes for figure in config.figures.values()), default=0)


def resolved_json(config: Config) -> str:
    """What ``config.json`` beside the results holds, without the newline at its end."""
    return json.dumps(config.raw, indent=2, sort_keys=True)


def runs_csv(config: Config) -> str:
    """The list of runs as CSV, one row a run, with the figures that show it."""
    shown = _shown(_runs(config))
    rows = [{**flat(run), "figures": " ".join(figures)} for run, figures in shown.items()]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _runs(config: Config) -> Iterator[tuple[RunRecord, str]]:
    """Every run with the name of every figure that shows it."""
    for figure in config.figures.values():
        yield from ((run.record, figure.name) for run in figure_runs(config, figure))


def _edges(config: Config) -> Iterator[tuple[EdgeRecord, str]]:
    for figure in config.figures.values():
        yield from ((edge.record, figure.name) for edge in figure_edges(config, figure))


def _prefixes(config: Config) -> Iterator[tuple[PrefixRecord, str]]:
    yield from ((run.prefix, figure) for run, figure in _runs(config))
    yield from ((edge.prefix, figure) for edge, figure in _edges(config))


def _shown(named: Iterable[tuple[Record, str]]) -> dict[Record, tuple[str, ...]]:
    """Names of the figures that show a record, in the order in which figures first ask for it."""
    shown: dict[Record, dict[str, None]] = {}
    for record, figure in named:
        shown.setdefault(record, {})[figure] = None
    return {record: tuple(figures) for record, figures in shown.items()}


def _named_cells(figure: Figure) -> Iterator[tuple[Cell, Value | None]]:
    """The cells, each with the value that it is shown under, which tells it from the others."""
    seen: set[tuple[str, str, Value | None]] = set()
    for cell in figure.cells:
        value = cell.value
        samples = look_up(DATASETS, cell.before.dataset, what="data set").num_train
        if cell.varied == "optimizer" and cell.before.batch_size == samples:
            value = f"{value}{FULL_BATCH}"
        name = (cell.before.task, cell.before.loss, value)
        if name in seen:
            raise ConfigError(
                f"config: figures.{figure.name}.vary.{cell.varied} names {value!r} twice, which no "
                "table could tell apart: put one of them into a figure of its own"
            )
        seen.add(name)
        yield cell, value


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


def _edge(cell: Cell, method: Method, seed: int, bisection: Bisection) -> EdgeRecord:
    run = _record(cell, method, seed)
    start = run.learning_rate if bisection.start is None else bisection.start
    return EdgeRecord(
        start=replace(run, learning_rate=float(start)),
        factor=float(bisection.factor),
        resolution=float(bisection.resolution),
        most_trials=bisection.most_trials,
    )


def _jobs(
    shown: Mapping[Record, tuple[str, ...]], steps: Callable[[Record], int], limit: int
) -> tuple[Job[Record], ...]:
    kinds: dict[tuple[str, ...], list[Record]] = {}
    for record, figures in shown.items():
        kinds.setdefault(_kind(record) + figures, []).append(record)
    return tuple(
        Job(records=chunk) for kind in kinds.values() for chunk in _chunks(kind, steps, limit)
    )


def _kind(record: PrefixRecord | RunRecord | EdgeRecord) -> tuple[str, ...]:
    prefix = record if isinstance(record, PrefixRecord) else record.prefix
    return prefix.task, prefix.dataset, prefix.model


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
