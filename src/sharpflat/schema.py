"""A configuration's values against its schema; what is refused is refused in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import jsonschema

from sharpflat.settings import SWITCH_STEP, ConfigError, together


def check(values: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, str]:
    """Check values against the schema, and every figure against that of its kind.

    Args:
        values: The whole configuration.
        schema: That of a tier, with the kinds of figure under ``$defs``.

    Returns:
        The kind of every figure.

    Raises:
        ConfigError: Names the first key that is not allowed, its value and what is.
    """
    _refuse_not_finite(values, [])
    _refuse_first(values, schema, [])
    kinds = {name: _kind(name, of, schema["$defs"]) for name, of in values["figures"].items()}
    _check_varied(values, schema["properties"]["tasks"]["additionalProperties"]["properties"])
    return kinds


def kind_of(name: str, kinds: Iterable[str]) -> str | None:
    """The kind that a figure's name is or begins with, if it does.

    Example:
        >>> kind_of("ablation_lr", ["dom_bulk", "ablation"])
        'ablation'
    """
    return next((kind for kind in kinds if f"{name}_".startswith(f"{kind}_")), None)


def _kind(name: str, request: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    """A figure's kind, after a look whether it holds what figures of that kind do."""
    named = kind_of(name, kinds)
    kind = request.get("kind", named)
    where, allowed = f"config: figures.{name}", f"allowed are {', '.join(kinds)}"
    if kind is None:
        raise ConfigError(
            f"{where} has no kind, and its name {name!r} begins with none: give `kind`; {allowed}"
        )
    if kind not in kinds:
        raise ConfigError(f"{where}.kind = {kind!r} is unknown; {allowed}")
    if named not in (None, kind):
        raise ConfigError(
            f"{where}.kind = {kind!r}, but by its name it is of the kind {named!r}: "
            "give it another name"
        )
    _refuse_first(request, kinds[kind], ["figures", name])
    return cast(str, kind)


def _check_varied(values: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Hold the values that figures vary to what the schema allows of the settings themselves."""
    size = settings["sizes"]["additionalProperties"]
    allowed = {**settings, SWITCH_STEP: settings["switch"]["properties"]["max_steps"]}
    for figure, request in values["figures"].items():
        tasks = (values["tasks"].get(task, {}) for task in request["tasks"])
        sizes = {name for task in tasks for name in task.get("sizes", {})}
        for name, candidates in request.get("vary", {}).items():
            for position, candidate in enumerate(candidates):
                path = ["figures", figure, "vary", name, position]
                for key, value in together(name, candidate).items():
                    inner = [] if key == name else [key]
                    if key in allowed or key in sizes:  # else refused with what may be varied
                        _refuse_first(value, allowed.get(key, size), [*path, *inner])


def _refuse_not_finite(value: Any, path: list[str | int]) -> None:
    """YAML has ``.nan`` and ``.inf``, which no limit of a schema keeps out."""
    if isinstance(value, float) and not math.isfinite(value):
        name = ".".join(map(str, path))
        raise ConfigError(f"config: {name} = {value}; it must be a finite number")
    named = value if isinstance(value, Mapping) else {}
    listed = value if isinstance(value, list) else []
    for key, part in (*named.items(), *enumerate(listed)):
        _refuse_not_finite(part, [*path, key])


def _refuse_first(value: Any, schema: Mapping[str, Any], path: list[str | int]) -> None:
    instance = dict(value) if isinstance(value, Mapping) else value
    errors = jsonschema.Draft202012Validator(schema).iter_errors(instance)
    first = jsonschema.exceptions.best_match(errors)
    if first is not None:
        raise ConfigError(_explain(first, [*path, *first.absolute_path]))


def _explain(error: jsonschema.ValidationError, path: list[str | int]) -> str:
    key = ".".join(str(part) for part in path) or "the configuration"
    remedy = ""
    if isinstance(error.instance, str) and error.validator == "type" and _is_number(error.instance):
        remedy = (
            " (YAML reads 1e-3 as text: write 1.0e-3; nested values given to --config are text "
            "too: put them in a file for --configfile)"
        )
    if error.validator == "additionalProperties":
        properties = cast(Mapping[str, Any], error.schema)["properties"]
        remedy = f"; allowed are {', '.join(properties)}"
        where = "config" if not path else f"config: {key}"
        return f"{where}: {error.message}{remedy}"
    if error.validator in ("not", "pattern", "maxProperties"):
        reason = cast(Mapping[str, Any], error.schema).get("description")
        if reason:
            return f"config: {key} = {error.instance!r}: {reason}"
    return f"config: {key} = {error.instance!r}: {error.message}{remedy}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
