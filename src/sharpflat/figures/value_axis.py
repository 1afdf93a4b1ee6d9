"""The values of a varied setting: where they stand on an axis, and in which colour."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.ticker import NullFormatter, NullLocator

Value = float | str

#: Names of the settings that figures vary.
SETTING_LABELS = {
    "learning_rate": "learning rate",
    "batch_size": "batch size",
    "k": "$k$",
    "refresh": "refresh interval",
    "hessian_samples": "Hessian samples",
    "switch_step": "switch step",
    "width": "width",
}
#: The sequential map of the values, its palest part left out: lines must show on white.
COLOUR_MAP, DARKEST, PALEST = "viridis", 0.0, 0.85
#: From this ratio of the largest to the smallest number on, the axis is logarithmic.
DECADE = 10.0
#: Room at either end, as a share of the axis.
MARGIN = 0.12
#: Share of the axis that one character of a tick's label takes in a small panel.
CHARACTER = 0.09


def as_value(cell: Any) -> Value:
    """A value as a number where it is one: a column that holds words is read as text."""
    try:
        return float(cell)
    except ValueError:
        return str(cell)


def value_text(value: Value) -> str:
    """A value as it is printed."""
    return f"{value:g}" if isinstance(value, float) else value.replace("_", " ")


@dataclass(frozen=True)
class ValueAxis:
    """An axis for the values of a setting.

    Attributes:
        values: Numbers in ascending order, then words.
        scale: ``"linear"``; ``"log"`` from a decade on; ``"words"``, evenly spaced, where there are
            any.
    """

    values: tuple[Value, ...]
    scale: str

    @classmethod
    def of(cls, cells: Iterable[Any]) -> ValueAxis:
        """The axis of the values in a column, which may hold some more than once."""
        found = {as_value(cell) for cell in cells}
        numbers = sorted(value for value in found if isinstance(value, float))
        words = sorted(value for value in found if isinstance(value, str))
        if words:
            return cls((*numbers, *words), "words")
        wide = numbers[0] > 0 and numbers[-1] >= DECADE * numbers[0]
        return cls(tuple(numbers), "log" if wide else "linear")

    def position(self, value: Value, shift: float = 0.0) -> float:
        """Where a value stands, moved by a share of the axis."""
        low, high = self._even(self.values[0]), self._even(self.values[-1])
        even = self._even(value) + shift * ((high - low) or 1.0)
        return math.exp(even) if self.scale == "log" else even

    def colours(self) -> dict[Value, Any]:
        """One colour a value, from dark to pale."""
        return dict(zip(self.values, sequential(len(self.values)), strict=True))

    def finish(self, axes: Axes, label: str | None) -> None:
        """Scale, ticks at the values and limits of an x axis; labels only with a name for it."""
        axes.set_xscale("log" if self.scale == "log" else "linear")
        positions = [self.position(value) for value in self.values]
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(positions, self._labels() if label else [""] * len(positions))
        if self.scale == "words":
            axes.tick_params(axis="x", labelrotation=90)
        first, last = self.values[0], self.values[-1]
        axes.set_xlim(self.position(first, -MARGIN), self.position(last, MARGIN))
        if label:
            axes.set_xlabel(label)

    def _even(self, value: Value) -> float:
        """A coordinate in which equal steps are equally long on paper."""
        if self.scale == "words":
            return float(self.values.index(value))
        return math.log(float(value)) if self.scale == "log" else float(value)

    def _labels(self) -> list[str]:
        """Texts of the values, from both ends; one that would touch another is left out."""
        texts = [value_text(value) for value in self.values]
        if self.scale == "words":
            return texts  # they stand upright
        low, high = self._even(self.values[0]), self._even(self.values[-1])
        taken: dict[int, tuple[float, float]] = {}
        for index in sorted(range(len(texts)), key=lambda i: 0 < i < len(texts) - 1):
            centre = (self._even(self.values[index]) - low) / ((high - low) or 1.0)
            half = CHARACTER * (len(texts[index]) + 1) / 2
            if all(
                centre + half <= left or right <= centre - half for left, right in taken.values()
            ):
                taken[index] = (centre - half, centre + half)
        return [text if index in taken else "" for index, text in enumerate(texts)]


def sequential(count: int) -> list[Any]:
    """Colours from dark to pale, told apart by their lightness alone."""
    chosen = mpl.colormaps[COLOUR_MAP]
    step = (PALEST - DARKEST) / max(count - 1, 1)
    return [chosen(DARKEST + step * index) for index in range(count)]


def value_colour_bar(beside: Axes, axis: ValueAxis, label: str) -> None:
    """A bar at a panel's right edge that says which colour is which value."""
    count = len(axis.values)
    boundaries = [index - 0.5 for index in range(count + 1)]
    mappable = ScalarMappable(
        BoundaryNorm(boundaries, count), ListedColormap(list(axis.colours().values()))
    )
    figure = beside.get_figure(root=True)
    assert figure is not None  # a panel that is drawn on has one
    bar = figure.colorbar(mappable, ax=beside, ticks=range(count), pad=0.02, aspect=22)
    bar.ax.set_yticklabels([value_text(value) for value in axis.values])
    bar.ax.tick_params(which="both", length=0, pad=2)
    bar.outline.set_visible(False)
    bar.set_label(label)
