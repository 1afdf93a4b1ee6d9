"""The base optimizers that a configuration may name, with their options (free of torch)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

OptionValue = float | bool | tuple[float, ...]
Options = tuple[tuple[str, OptionValue], ...]

_SGD: Mapping[str, OptionValue] = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
_ADAM: Mapping[str, OptionValue] = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
#: Options by optimizer, with their defaults: torch's, but no weight decay anywhere. Muon steps the
#: matrices and AdamW the rest, with Adam's options and the same learning rate, since Muon's
#: updates are scaled to the size of AdamW's [Liu et al. 2025]. SAM's ρ is that of its authors.
OPTIMIZERS: Mapping[str, Mapping[str, OptionValue]] = {
    "sgd": _SGD,
    "adam": _ADAM,
    "adamw": _ADAM,
    "rmsprop": {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0},
    "muon": {**_ADAM, "momentum": 0.95, "nesterov": True, "ns_steps": 5},
    "sam": {"rho": 0.05, **_SGD},
}
#: Options that count something, and the least that each may be.
_COUNTS = {"ns_steps": 1}
#: Options that must stay below 1: how much of the past an average keeps.
_DECAYS = ("momentum", "betas", "alpha")


def parse_optimizer(value: str | Mapping[str, Any]) -> tuple[str, Options]:
    """Name and all options of an optimizer, defaults filled in and sorted by name.

    Args:
        value: A name, or a mapping with ``name`` and options.

    Raises:
        ValueError: An unknown name or option, or a value that is not allowed; says what is.

    Example:
        >>> parse_optimizer({"name": "sgd", "momentum": 0.9})
        ('sgd', (('momentum', 0.9), ('nesterov', False), ('weight_decay', 0.0)))
    """
    given = {"name": value} if isinstance(value, str) else dict(value)
    name = given.pop("name", None)
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; allowed are {', '.join(OPTIMIZERS)}")
    options = dict(OPTIMIZERS[name])
    for option, chosen in given.items():
        if option not in options:
            raise ValueError(
                f"optimizer {name} has no option {option!r}; allowed are {', '.join(options)}"
            )
        options[option] = _checked(name, option, chosen, default=options[option])
    if options.get("nesterov") and not options["momentum"]:
        raise ValueError(f"optimizer {name}: nesterov needs a momentum above 0")
    return name, tuple(sorted(options.items()))


def label(name: str, options: Options) -> str:
    """An optimizer in a figure: its name and the options that are not the defaults.

    Example:
        >>> label(*parse_optimizer({"name": "sgd", "momentum": 0.9, "nesterov": True}))
        'sgd(momentum=0.9, nesterov)'
    """
    defaults = OPTIMIZERS[name]
    changed = [
        option if value is True else f"{option}={_text(value)}"
        for option, value in options
        if value != defaults[option]
    ]
    return f"{name}({', '.join(changed)})" if changed else name


def slug(name: str, options: Options) -> str:
    """The same as part of a file's name.

    Example:
        >>> slug(*parse_optimizer({"name": "sgd", "momentum": 0.9}))
        'sgd_momentum0.9'
    """
    return re.sub(r"[^a-z0-9.]+", "_", label(name, options).replace("=", "")).strip("_")


def is_plain_sgd(name: str, options: Options) -> bool:
    """Whether every update is the mini-batch gradient times the learning rate."""
    values = dict(options)
    return name == "sgd" and not values["momentum"] and not values["weight_decay"]


def _checked(name: str, option: str, value: Any, *, default: OptionValue) -> OptionValue:
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise ValueError(f"optimizer {name}: {option} = {value!r}; allowed are true and false")
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and len(value) == len(default):
            return tuple(float(_number(name, option, part)) for part in value)
        raise ValueError(f"optimizer {name}: {option} = {value!r}; it takes {len(default)} numbers")
    number = _number(name, option, value)
    return number if option in _COUNTS else float(number)


def _number(name: str, option: str, value: Any) -> int | float:
    least, what = _COUNTS.get(option, 0), "a number"
    wanted: tuple[type, ...] = (int, float)
    if option in _COUNTS:
        wanted, what = (int,), "a whole number"
    allowed = f"{what}, at least {least}" + (", below 1" if option in _DECAYS else "")
    number = isinstance(value, wanted) and not isinstance(value, bool)
    if not number or not least <= value < (1 if option in _DECAYS else float("inf")):
        raise ValueError(f"optimizer {name}: {option} = {value!r}; it must be {allowed}")
    found: int | float = value
    return found


def _text(value: OptionValue) -> str:
    return ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else f"{value:g}"
