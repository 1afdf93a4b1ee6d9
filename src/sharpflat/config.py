"""A tier's configuration: read, checked, and held as frozen records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import jsonschema
import yaml

from sharpflat.methods import Method, parse_method
from sharpflat.tasks.registry import DATASETS, LOSSES, count_parameters, look_up

TIERS = ("smoke", "laptop", "paper")
SCHEMA_PATH = Path("workflow/schemas/config.schema.yaml")


class ConfigError(ValueError):
    """A configuration that is refused; the message names the key, the value and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a task trains with one loss; the fields are those of the config's ``tasks``."""

    task: str
    dataset: str
    model: str
    sizes: tuple[tuple[str, int], ...]
    loss: str
    batch_size: int
    learning_rate: float
    k: int
    hessian_samples: int
    refresh: Literal["adaptive", "every_step"] | int
    tolerance: float
    steps: int
    record_every: int
    switch_alignment: float | None
    switch_ema_decay: float
    switch_max_steps: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The runs that a figure shows: every setting with every method and seed."""

    name: str
    settings: tuple[Setting, ...]
    methods: tuple[Method, ...]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Which settings the eigensolvers are measured on, and how.

    Attributes:
        settings: One a task.
        learning_rates: Of each task's tracked runs.
        options: Everything else, the fields of
            :class:`sharpflat.benchmarks.run.BenchmarkSettings`.
    """

    settings: tuple[Setting, ...]
    learning_rates: Mapping[str, tuple[float, ...]]
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Config:
    """A checked configuration.

    Attributes:
        tier: ``smoke``, ``laptop`` or ``paper``.
        seeds: Seeds of the repetitions.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: Threads of one training process.
        steps_per_job: Runs share a process up to this many training steps.
        data_mirror: Folder with the canonical data files, instead of a download.
        figures: By name.
        benchmark: Where the tier measures eigensolvers, else ``None``.
        raw: The resolved values as they were checked.
    """

    tier: str
    seeds: tuple[int, ...]
    device: Literal["auto", "cpu", "cuda"]
    threads: int
    steps_per_job: int
    data_mirror: Path | None
    figures: Mapping[str, Figure]
    benchmark: Benchmark | None
    raw: Mapping[str, Any]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets that any figure needs."""
        names = {s.dataset for figure in self.figures.values() for s in figure.settings}
        return tuple(sorted(names))


def read_tier(tier: str, root: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read ``workflow/config/<tier>.yaml`` under a root and check it.

    Args:
        tier: ``smoke``, ``laptop`` or ``paper``.
        root: Root of the repository.
        overrides: Top-level keys that replace or extend the file's.

    Raises:
        ConfigError: An unknown tier or a value that is not allowed.
    """
    if tier not in TIERS:
        raise ConfigError(f"tier = {tier!r} is unknown; allowed are {', '.join(TIERS)}")
    values = yaml.safe_load((root / f"workflow/config/{tier}.yaml").read_text())
    return parse_config(_merge(values, {"tier": tier, **(overrides or {})}), root)


def read_resolved(path: Path, root: Path) -> Config:
    """Read the resolved configuration that a workflow wrote."""
    return parse_config(json.loads(path.read_text()), root)


def parse_config(values: Mapping[str, Any], root: Path) -> Config:
    """Check the values of a configuration.

    Raises:
        ConfigError: Names the first key that is not allowed, its value and what is.
    """
    schema = yaml.safe_load((root / SCHEMA_PATH).read_text())
    errors = jsonschema.Draft202012Validator(schema).iter_errors(dict(values))
    first = jsonschema.exceptions.best_match(errors)
    if first is not None:
        raise ConfigError(_explain(first))
    figures = {
        name: Figure(
            name=name,
            settings=tuple(_settings(values, f"figures.{name}", request)),
            methods=tuple(_method(name, method) for method in request["methods"]),
        )
        for name, request in values["figures"].items()
    }
    mirror = values.get("data_mirror")
    return Config(
        tier=values["tier"],
        seeds=tuple(values["seeds"]),
        device=values["device"],
        threads=values["threads"],
        steps_per_job=values["steps_per_job"],
        data_mirror=None if mirror is None else Path(mirror),
        figures=figures,
        benchmark=_benchmark(values) if "benchmark" in values else None,
        raw=dict(values),
    )


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def _explain(error: jsonschema.ValidationError) -> str:
    key = ".".join(str(part) for part in error.absolute_path) or "the configuration"
    remedy = ""
    if isinstance(error.instance, str) and error.validator == "type" and _is_number(error.instance):
        remedy = (
            " (YAML reads 1e-3 as text: write 1.0e-3; nested values given to --config are text "
            "too: put them in a file for --configfile)"
        )
    if error.validator == "additionalProperties":
        properties = cast(Mapping[str, Any], error.schema)["properties"]
        remedy = f"; allowed are {', '.join(properties)}"
        where = "config" if not error.absolute_path else f"config: {key}"
        return f"{where}: {error.message}{remedy}"
    return f"config: {key} = {error.instance!r}: {error.message}{remedy}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _method(figure: str, name: str) -> Method:
    try:
        return parse_method(name)
    except ValueError as error:
        raise ConfigError(f"config: figures.{figure}.methods: {error}") from None


def _benchmark(values: Mapping[str, Any]) -> Benchmark:
    options = dict(values["benchmark"])
    learning_rates = {task: tuple(rates) for task, rates in options.pop("learning_rates").items()}
    loss = options.pop("loss")
    request = {"tasks": list(learning_rates), "losses": [loss]}
    if options["memory_task"] not in learning_rates:
        raise ConfigError(
            f"config: benchmark.memory_task = {options['memory_task']!r} is not measured; "
            f"allowed are {', '.join(learning_rates)}"
        )
    return Benchmark(
        settings=tuple(_settings(values, "benchmark", request)),
        learning_rates=learning_rates,
        options=options | {"memory_samples": tuple(options["memory_samples"])},
    )


def _settings(
    values: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> Iterator[Setting]:
    for task in request["tasks"]:
        if task not in values["tasks"]:
            raise ConfigError(
                f"config: {where}.tasks = {task!r} is unknown; "
                f"allowed are {', '.join(values['tasks'])}"
            )
        for loss in request["losses"]:
            yield _setting(values, task, loss)


def _setting(values: Mapping[str, Any], task: str, loss: str) -> Setting:
    chosen = _merge(values["defaults"], values["tasks"][task])
    losses = chosen.pop("losses")
    if loss not in losses:
        raise ConfigError(
            f"config: loss {loss!r} is not among tasks.{task}.losses; "
            f"allowed are {', '.join(losses)}"
        )
    chosen = _merge(chosen, losses[loss])
    where = f"config: tasks.{task}"
    required = ("learning_rate", "batch_size", "steps", "record_every", "hessian_samples", "switch")
    for key in (*required, "refresh", "tolerance"):
        if key not in chosen:
            raise ConfigError(f"{where}.{key} is missing; give it there or under defaults")
    try:
        dataset = look_up(DATASETS, chosen["dataset"], what="data set")
        look_up(LOSSES, loss, what="loss")
        num_parameters = count_parameters(chosen["model"], dataset, chosen["sizes"])
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    everything = chosen["hessian_samples"] == "all"
    samples = dataset.num_train if everything else chosen["hessian_samples"]
    for key, value, largest, what in (
        ("k", chosen["k"], num_parameters, "parameters"),
        ("hessian_samples", samples, dataset.num_train, "training samples"),
        ("batch_size", chosen["batch_size"], dataset.num_train, "training samples"),
    ):
        if value > largest:
            raise ConfigError(f"{where}.{key} = {value} exceeds its {largest} {what}")
    switch = chosen["switch"]
    return Setting(
        task=task,
        dataset=chosen["dataset"],
        model=chosen["model"],
        sizes=tuple(sorted(chosen["sizes"].items())),
        loss=loss,
        batch_size=chosen["batch_size"],
        learning_rate=float(chosen["learning_rate"]),
        k=chosen["k"],
        hessian_samples=samples,
        refresh=chosen["refresh"],
        tolerance=float(chosen["tolerance"]),
        steps=chosen["steps"],
        record_every=chosen["record_every"],
        switch_alignment=switch["alignment"],
        switch_ema_decay=float(switch["ema_decay"]),
        switch_max_steps=switch["max_steps"],
    )
