"""How the page calls quantities, panels and values, and which colours methods have on it."""

from __future__ import annotations

from collections.abc import Mapping

from sharpflat.figures.style import (
    LOSS_LABELS,
    METHOD_COLOURS,
    METHOD_DASHES,
    SERIES_COLOURS,
    TASK_LABELS,
    method_colour,
    method_label,
)
from sharpflat.figures.value_axis import SETTING_LABELS, value_text
from sharpflat.methods import FREE

QUANTITY_LABELS = {
    "train_loss": "training loss",
    "alignment": "alignment χ_k of the full gradient",
    "batch_alignment": "alignment χ_k of the mini-batch gradient",
    "alignment_ema": "moving average of the alignment",
    "batch_loss": "loss of the mini-batch",
    "frobenius_share": "Frobenius share",
    "frobenius_norm": "Frobenius norm",
    "eigenvalue_1": "largest eigenvalue λ_1",
    "rayleigh_quotient_1": "first Rayleigh quotient",
    "num_matvecs": "Hessian-vector products",
}

#: How a run ended, from calm to warning.
STABILITY_COLOURS = {"stable": "#4477aa", "unstable": "#e69f00", "diverged": "#cc3311"}


def quantity_label(column: str) -> str:
    """How the page calls a column."""
    return QUANTITY_LABELS.get(column, column.replace("_", " "))


def setting_label(setting: str) -> str:
    """How the page calls a setting that a figure varies."""
    return SETTING_LABELS.get(setting, setting.replace("_", " ")).strip("$")


def panel_label(key: Mapping[str, str]) -> str:
    """A task and loss in words; ``"all rows"`` where a table has neither."""
    known: Mapping[str, Mapping[str, str]] = {"task": TASK_LABELS, "loss": LOSS_LABELS}
    return ", ".join(known[name].get(word, word) for name, word in key.items()) or "all rows"


def value_label(dimension: str, value: str | float) -> str:
    """A value of a dimension in words; a method by its name in the figures."""
    if value == "":
        return "none"
    if dimension == "method" and _is_known(str(value)):
        return method_label(str(value))
    return value_text(value)


def method_colours(method: str, place: int) -> tuple[str, str]:
    """Colours on light and on dark ground: the figures', or for a method unknown to them by place.

    Example:
        >>> method_colours("sgd", 0)
        ('#000000', '#d9d9d9')
    """
    others = SERIES_COLOURS[place % len(SERIES_COLOURS)]
    colour = method_colour(method) if _is_known(method) else others
    return colour, _on_dark_ground(colour)


def stability_colours(stability: str) -> tuple[str, str]:
    """Likewise for how a run ended."""
    colour = STABILITY_COLOURS[stability]
    return colour, _on_dark_ground(colour)


def method_dashes(method: str) -> str:
    """The figures' dashes, as Plotly takes them; empty for a solid line."""
    return ",".join(f"{2 * part}px" for part in METHOD_DASHES.get(_stem(method), ()))


def _is_known(method: str) -> bool:
    return _stem(method) in {*METHOD_COLOURS, FREE}


def _stem(method: str) -> str:
    """A method without its α."""
    return method.partition("(")[0]


def _on_dark_ground(colour: str) -> str:
    """As far towards white as it is dark."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    lightness = (0.299 * parts[0] + 0.587 * parts[1] + 0.114 * parts[2]) / 255
    towards_white = 0.85 * (1 - lightness) ** 1.25
    return "#" + "".join(f"{round(part + towards_white * (255 - part)):02x}" for part in parts)
