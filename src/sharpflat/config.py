"""A tier's configuration: read, checked, and held as frozen records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml

from sharpflat.methods import Method, parse_method, weights
from sharpflat.schema import check
from sharpflat.settings import Cell, ConfigError, Setting, cells, merge

TIERS = ("smoke", "laptop", "paper")
#: Folder of the data sets, beside those of the results.
SHARED = "data"
SCHEMA_PATH = Path("workflow/schemas/config.schema.yaml")


@dataclass(frozen=True, kw_only=True)
class Bisection:
    """How a figure finds the edge of stability of each method.

    Attributes:
        start: First learning rate, or ``None`` for the task's own.
        factor, resolution, most_trials: Of :class:`sharpflat.records.EdgeRecord`.
    """

    start: float | None
    factor: float
    resolution: float
    most_trials: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The runs that a figure shows: every cell with every method and seed.

    Attributes:
        name: Of the figure.
        kind: What it shows and how, one of the schema's ``$defs``.
        cells: What is trained.
        methods: How it goes on from the switch.
        seeds: Of the repetitions, or ``None`` for the task's own.
        snapshots: Points of every run whose parameters are kept, to measure the energy there.
        probes: Random probes of a measurement of the energy.
        bisection: Where the learning rates are those of a search, else ``None``.
    """

    name: str
    kind: str
    cells: tuple[Cell, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...] | None = None
    snapshots: int = 0
    probes: int = 0
    bisection: Bisection | None = None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Which settings the eigensolvers are measured on, and how.

    Attributes:
        settings: One a task and loss.
        learning_rates: Of the tracked runs, by loss and task.
        options: Everything else, the fields of
            :class:`sharpflat.benchmarks.run.BenchmarkSettings`.
    """

    settings: tuple[Setting, ...]
    learning_rates: Mapping[str, Mapping[str, tuple[float, ...]]]
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Config:
    """A checked configuration.

    Attributes:
        tier: ``smoke``, ``laptop`` or ``paper``.
        name: Of the folders that hold its results and figures, the tier's unless given.
        seeds: Seeds of the repetitions, where a task has none of its own.
        task_seeds: Those of the tasks that have.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: Threads of one training process.
        tf32: Whether float32 products on a GPU may round to TF32.
        deterministic: Whether to take deterministic kernels where there are any.
        steps_per_job: Runs share a process up to this many training steps.
        checkpoint_every: Steps from one checkpoint, which a killed run goes on from, to the next.
        alarms: For each numerical alarm, whether it is recorded or ends the run.
        data_mirror: Folder with the canonical data files, instead of a download.
        figures: By name.
        claims: Thresholds of the claims by name, and ``verdicts``: how their rows combine.
        benchmark: Where the tier measures eigensolvers, else ``None``.
        raw: The resolved values as they were checked.
    """

    tier: str
    name: str
    seeds: tuple[int, ...]
    task_seeds: Mapping[str, tuple[int, ...]]
    device: Literal["auto", "cpu", "cuda"]
    threads: int
    tf32: bool
    deterministic: bool
    steps_per_job: int
    checkpoint_every: int
    alarms: Mapping[str, Literal["record", "raise"]]
    data_mirror: Path | None
    figures: Mapping[str, Figure]
    claims: Mapping[str, Any]
    benchmark: Benchmark | None
    raw: Mapping[str, Any]

    def seeds_of(self, task: str, figure: Figure | None = None) -> tuple[int, ...]:
        """Seeds of a task's repetitions, in a figure its own if it has any."""
        if figure is not None and figure.seeds is not None:
            return figure.seeds
        return self.task_seeds.get(task, self.seeds)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets that any figure needs."""
        shown = (cell for figure in self.figures.values() for cell in figure.cells)
        return tuple(sorted({cell.before.dataset for cell in shown}))


def read_tier(tier: str, root: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read ``workflow/config/claims.yaml`` and ``<tier>.yaml`` under a root and check them.

    Args:
        tier: ``smoke``, ``laptop`` or ``paper``.
        root: Root of the repository.
        overrides: Top-level keys that replace or extend the file's.

    Raises:
        ConfigError: An unknown tier or a value that is not allowed.
    """
    if tier not in TIERS:
        raise ConfigError(f"tier = {tier!r} is unknown; allowed are {', '.join(TIERS)}")
    values: dict[str, Any] = {}
    for name in ("claims", tier):
        file = root / f"workflow/config/{name}.yaml"
        values = merge(values, _read_mapping(file, yaml.safe_load))
    return parse_config(merge(values, {"tier": tier, **(overrides or {})}), root)


def read_resolved(path: Path, root: Path) -> Config:
    """Read the resolved configuration that a workflow wrote.

    Raises:
        ConfigError: The file is no configuration.
    """
    return parse_config(_read_mapping(path, json.loads), root)


def parse_config(values: Mapping[str, Any], root: Path) -> Config:
    """Check the values of a configuration.

    Raises:
        ConfigError: Names the first key that is not allowed, its value and what is.
    """
    schema = yaml.safe_load((root / SCHEMA_PATH).read_text())
    kinds = check(values, schema)
    figures = {
        name: Figure(
            name=name,
            kind=kinds[name],
            cells=tuple(cells(values, f"figures.{name}", request)),
            methods=_figure_methods(name, request),
            seeds=tuple(request["seeds"]) if "seeds" in request else None,
            snapshots=request.get("snapshots", 0),
            probes=request.get("probes", 0),
            bisection=_bisection(name, request["bisection"]) if "bisection" in request else None,
        )
        for name, request in values["figures"].items()
    }
    mirror = values.get("data_mirror")
    return Config(
        tier=values["tier"],
        name=_output_name(values),
        seeds=tuple(values["seeds"]),
        task_seeds={
            name: tuple(task["seeds"]) for name, task in values["tasks"].items() if "seeds" in task
        },
        device=values["device"],
        threads=values["threads"],
        tf32=values["tf32"],
        deterministic=values["deterministic"],
        steps_per_job=values["steps_per_job"],
        checkpoint_every=values["checkpoint_every"],
        alarms=values["alarms"],
        data_mirror=None if mirror is None else Path(mirror),
        figures=figures,
        claims=values["claims"],
        benchmark=_benchmark(values) if "benchmark" in values else None,
        raw=dict(values),
    )


def _read_mapping(path: Path, parse: Callable[[str], Any]) -> Mapping[str, Any]:
    try:
        values = parse(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"config: {path} cannot be read ({reason}): write it again") from None
    if not isinstance(values, Mapping):
        raise ConfigError(f"config: {path} holds {values!r:.40}, not settings by name")
    return values


def _output_name(values: Mapping[str, Any]) -> str:
    name: str = values.get("name", values["tier"])
    if name in (*TIERS, SHARED) and name != values["tier"]:
        raise ConfigError(
            f"config: name = {name!r} is the folder of others, and tier = {values['tier']!r}: "
            "give a name of your own"
        )
    return name


def _methods(key: str, names: Sequence[str]) -> tuple[Method, ...]:
    try:
        methods = [parse_method(name) for name in names]
    except ValueError as error:
        raise ConfigError(f"config: {key}: {error}") from None
    return _each_once(key, methods)


def _figure_methods(figure: str, request: Mapping[str, Any]) -> tuple[Method, ...]:
    if "grid" not in request:
        return _methods(f"figures.{figure}.methods", request["methods"])
    key, grid = f"figures.{figure}.grid", request["grid"]
    pairs = product(grid["dom_weight"], grid["bulk_weight"])
    try:
        methods = [weights(a, b) for a, b in pairs if a > 0 or b > 0]
    except ValueError as error:
        raise ConfigError(f"config: {key}: {error}") from None
    if not methods:
        raise ConfigError(f"config: {key} has no pair but (0, 0): give a weight above 0")
    return _each_once(key, methods)


def _each_once(key: str, methods: Sequence[Method]) -> tuple[Method, ...]:
    """The methods; a second spelling of a name would be a second run of every seed in a table."""
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"config: {key} names {name} twice: leave one out")
    return tuple(methods)


def _bisection(figure: str, options: Mapping[str, Any]) -> Bisection:
    if options["resolution"] > options["factor"]:
        raise ConfigError(
            f"config: figures.{figure}.bisection.resolution = {options['resolution']} exceeds "
            f"factor = {options['factor']}: the search would end before it halves anything"
        )
    return Bisection(**options)


def _benchmark(values: Mapping[str, Any]) -> Benchmark:
    options = dict(values["benchmark"])
    rates = {options["loss"]: options.pop("learning_rates"), **options.pop("other_losses", {})}
    samples = options.pop("hessian_samples", {})
    for name in ("tracking_methods", "error_methods"):
        _methods(f"benchmark.{name}", options[name])
    settings = [
        cell.after
        for loss, by_task in rates.items()
        for cell in cells(values, "benchmark", {"tasks": list(by_task), "losses": [loss]})
    ]
    tasks = list(rates[options["loss"]])
    for name in ("scaling_task", "memory_task"):
        if options[name] not in tasks:
            raise ConfigError(
                f"config: benchmark.{name} = {options[name]!r} is not measured; "
                f"allowed are {', '.join(tasks)}"
            )
    return Benchmark(
        settings=tuple(
            replace(setting, hessian_samples=samples.get(setting.task, setting.hessian_samples))
            for setting in settings
        ),
        learning_rates={
            loss: {task: tuple(of_task) for task, of_task in by_task.items()}
            for loss, by_task in rates.items()
        },
        options={
            name: tuple(value) if isinstance(value, list) else value
            for name, value in options.items()
        },
    )
