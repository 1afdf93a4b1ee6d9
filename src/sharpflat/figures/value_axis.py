"""The values of a varied setting: where they stand on an axis, and in which colour."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
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
#: Shares of the axis that a character of a tick's label and a whole line of it take, in a panel of
#: half the page's width.
CHARACTER, LINE = 0.028, 0.055


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
        scale: ``"linear"``; ``"log"`` from a decade on; ``"even"``, evenly spaced, where there are
            words, or numbers so close that their labels would lie upon each other.
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
            return cls((*numbers, *words), "even")
        wide = numbers[0] > 0 and numbers[-1] >= DECADE * numbers[0]
        axis = cls(tuple(numbers), "log" if wide else "linear")
        return axis if axis.least_distance() >= LINE else cls(axis.values, "even")

    def position(self, value: Value, shift: float = 0.0) -> float:
        """Where a value stands, moved by a share of the axis."""
        low, high = self._even(self.values[0]), self._even(self.values[-1])
        even = self._even(value) + shift * ((high - low) or 1.0)
        return math.exp(even) if self.scale == "log" else even

    def least_distance(self) -> float:
        """From one value to the next, the least, as a share of the axis between first and last."""
        places = self._places()
        return min((b - a for a, b in pairwise(places)), default=1.0)

    def colours(self) -> dict[Value, Any]:
        """One colour a value, from dark to pale."""
        return dict(zip(self.values, sequential(len(self.values)), strict=True))

    def finish(self, axes: Axes, label: str | None) -> None:
        """Scale, ticks at the values and limits of an x axis; labels only with a name for it."""
        axes.set_xscale("log" if self.scale == "log" else "linear")
        positions = [self.position(value) for value in self.values]
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        texts = [value_text(value) for value in self.values]
        axes.set_xticks(positions, texts if label else [""] * len(positions))
        if label and not self._fit(texts):
            axes.tick_params(axis="x", labelrotation=90)
        first, last = self.values[0], self.values[-1]
        axes.set_xlim(self.position(first, -MARGIN), self.position(last, MARGIN))
        if label:
            axes.set_xlabel(label)

    def _even(self, value: Value) -> float:
        """A coordinate in which equal steps are equally long on paper."""
        if self.scale == "even":
            return float(self.values.index(value))
        return math.log(float(value)) if self.scale == "log" else float(value)

    def _places(self) -> list[float]:
        """Of all values, from 0 for the first to 1 for the last."""
        coordinates = [self._even(value) for value in self.values]
        length = (coordinates[-1] - coordinates[0]) or 1.0
        return [(coordinate - coordinates[0]) / length for coordinate in coordinates]

    def _fit(self, texts: list[str]) -> bool:
        """Whether labels that lie flat leave a character's room between each other."""
        halves = [CHARACTER * (len(text) + 1) / 2 for text in texts]
        return all(
            left + half <= right - next_half
            for (left, right), (half, next_half) in zip(
                pairwise(self._places()), pairwise(halves), strict=True
            )
        )


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
