"""What trains with what: a task's settings from the values of a configuration, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sharpflat.optimizers import Options, label, parse_optimizer
from sharpflat.tasks.registry import DATASETS, LOSSES, check_model, look_up

#: Settings that may change at the switch, so that a run branches from an unchanged prefix.
AFTER_SWITCH = ("learning_rate", "batch_size", "k", "refresh", "hessian_samples")
#: Rhythm of the records, which a figure may set for its runs from the switch on.
RHYTHM = ("record_every", "eigen_every")
#: What else a figure may set so.
FROM_SWITCH = ("steps", "learning_rate")
#: What a task needs besides its data, model, k and losses; defaults may give it.
NEEDED = (
    "optimizer",
    "learning_rate",
    "batch_size",
    "hessian_samples",
    "refresh",
    "tolerance",
    "tracking_samples",
    "steps",
    *RHYTHM,
    "divergence_factor",
    "switch.alignment",
    "switch.ema_decay",
    "switch.max_steps",
)
#: Step of a switch that waits for no alignment.
SWITCH_STEP = "switch_step"

Value = int | float | str


class ConfigError(ValueError):
    """A configuration that is refused; the message names the key, the value and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a task trains with one loss; the fields are those of the config's ``tasks``."""

    task: str
    dataset: str
    model: str
    sizes: tuple[tuple[str, int | str], ...]
    loss: str
    optimizer: str
    optimizer_options: Options
    batch_size: int
    learning_rate: float
    k: int
    hessian_samples: int
    refresh: Literal["adaptive", "every_step"] | int
    tolerance: float
    tracking_samples: int | Literal["auto"] | None
    steps: int
    record_every: int
    eigen_every: int
    switch_alignment: float | None
    switch_ema_decay: float
    switch_max_steps: int
    divergence_factor: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a figure: a setting before the switch, and the same or another after it.

    Attributes:
        before: Up to the switch.
        after: From the switch on.
        varied: Name of the setting that the figure varies, if it varies one.
        value: Its value here.
    """

    before: Setting
    after: Setting
    varied: str | None = None
    value: Value | None = None


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the changes, mappings merged key by key."""
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def cells(values: Mapping[str, Any], where: str, request: Mapping[str, Any]) -> Iterator[Cell]:
    """Every cell that a figure or a benchmark asks for.

    Args:
        values: The whole configuration.
        where: Key of the request, for messages.
        request: ``tasks`` and ``losses``, and perhaps ``vary``, and from the switch on ``steps``,
            ``learning_rate`` and the rhythm of the records, ``record_every`` and ``eigen_every``.

    Raises:
        ConfigError: Something that it names is not there or not allowed.
    """
    common = {name: request[name] for name in (*FROM_SWITCH, *RHYTHM) if name in request}
    varied = list(request.get("vary", {}).items())
    for task in request["tasks"]:
        if task not in values["tasks"]:
            raise ConfigError(
                f"config: {where}.tasks = {task!r} is unknown; "
                f"allowed are {', '.join(values['tasks'])}"
            )
        for loss in request["losses"]:
            default = _setting(values, task, loss, {})
            if not varied:
                yield Cell(before=default, after=_setting(values, task, loss, common))
            for name, candidates in varied:
                for candidate in candidates:
                    chosen = together(name, candidate)
                    change: dict[str, Any] = {}
                    for key, value in chosen.items():
                        changed = _change(values["tasks"][task], key, value, where=where)
                        change = merge(change, changed)
                    after = _setting(values, task, loss, merge(common, change))
                    changed_before = any(key not in AFTER_SWITCH for key in chosen)
                    before = _setting(values, task, loss, change) if changed_before else default
                    shown = _optimizer_label(after) if name == "optimizer" else chosen[name]
                    yield Cell(before=before, after=after, varied=name, value=shown)


def together(name: str, candidate: Any) -> Mapping[str, Any]:
    """The settings that a varied one takes along: those of a mapping that names it, or none.

    Example:
        >>> together("optimizer", {"optimizer": "adam", "learning_rate": 0.001})
        {'optimizer': 'adam', 'learning_rate': 0.001}
        >>> together("k", 5)
        {'k': 5}
    """
    if isinstance(candidate, Mapping) and name in candidate:
        return candidate
    return {name: candidate}


def _change(task: Mapping[str, Any], name: str, value: Any, *, where: str) -> dict[str, Any]:
    if name in task["sizes"]:
        return {"sizes": {name: value}}
    if name == "optimizer":
        return {name: value}
    if name == SWITCH_STEP:
        return {"switch": {"alignment": None, "max_steps": value}}
    if name in AFTER_SWITCH:
        return {name: value}
    allowed = ", ".join([*AFTER_SWITCH, "optimizer", SWITCH_STEP, *task["sizes"]])
    raise ConfigError(f"config: {where}.vary.{name} is unknown; allowed are {allowed}")


def _without_optimizer(base: Mapping[str, Any], replacing: Mapping[str, Any]) -> dict[str, Any]:
    """The base, without its optimizer where another follows: their options do not mix."""
    return {key: value for key, value in base.items() if key != "optimizer" or key not in replacing}


def _optimizer_label(setting: Setting) -> str:
    return label(setting.optimizer, setting.optimizer_options)


def _setting(
    values: Mapping[str, Any], task: str, loss: str, changes: Mapping[str, Any]
) -> Setting:
    of_task = values["tasks"][task]
    chosen = merge(_without_optimizer(values["defaults"], of_task), of_task)
    losses = chosen.pop("losses")
    if loss not in losses:
        raise ConfigError(
            f"config: loss {loss!r} is not among tasks.{task}.losses; "
            f"allowed are {', '.join(losses)}"
        )
    for replacing in (losses[loss], changes):
        chosen = merge(_without_optimizer(chosen, replacing), replacing)
    where = f"config: tasks.{task}"
    _refuse_missing(chosen, where)
    try:
        dataset = look_up(DATASETS, chosen["dataset"], what="data set")
        look_up(LOSSES, loss, what="loss")
        check_model(chosen["model"], dataset, chosen["sizes"])
        optimizer, optimizer_options = parse_optimizer(chosen["optimizer"])
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    samples, batch_size = (
        dataset.num_train if chosen[key] == "all" else chosen[key]
        for key in ("hessian_samples", "batch_size")
    )
    for key, value, largest, what in (
        ("hessian_samples", samples, dataset.num_train, "training samples"),
        ("batch_size", batch_size, dataset.num_train, "training samples"),
        ("tracking_samples", chosen["tracking_samples"], samples, "Hessian samples"),
    ):
        if isinstance(value, int) and value > largest:
            raise ConfigError(f"{where}.{key} = {value} exceeds its {largest} {what}")
    if chosen["eigen_every"] % chosen["record_every"] != 0:
        raise ConfigError(
            f"{where}.eigen_every = {chosen['eigen_every']} is not a multiple of record_every = "
            f"{chosen['record_every']}: give both, in the task or in the figure"
        )
    switch = chosen["switch"]
    return Setting(
        task=task,
        dataset=chosen["dataset"],
        model=chosen["model"],
        sizes=tuple(sorted(chosen["sizes"].items())),
        loss=loss,
        optimizer=optimizer,
        optimizer_options=optimizer_options,
        batch_size=batch_size,
        learning_rate=float(chosen["learning_rate"]),
        k=chosen["k"],
        hessian_samples=samples,
        refresh=chosen["refresh"],
        tolerance=float(chosen["tolerance"]),
        tracking_samples=chosen["tracking_samples"],
        steps=chosen["steps"],
        record_every=chosen["record_every"],
        eigen_every=chosen["eigen_every"],
        switch_alignment=switch["alignment"],
        switch_ema_decay=float(switch["ema_decay"]),
        switch_max_steps=switch["max_steps"],
        divergence_factor=float(chosen["divergence_factor"]),
    )


def _refuse_missing(chosen: Mapping[str, Any], where: str) -> None:
    for key in NEEDED:
        found: Any = chosen
        for part in key.split("."):
            if part not in found:
                raise ConfigError(f"{where}.{key} is missing; give it there or under defaults")
            found = found[part]
