"""What the page's interactive figures draw: tables as series, each trajectory stored once."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.pairs import sgd_name
from sharpflat.figures.value_axis import as_value
from sharpflat.report.labels import (
    STABILITY_COLOURS,
    method_colours,
    method_dashes,
    panel_label,
    quantity_label,
    setting_label,
    stability_colours,
    value_label,
)
from sharpflat.report.run_index import RunIndex
from sharpflat.stability import classify

#: Records of a curve on the page, of a longer one every n-th with the last, and as many more of
#: those that have a value in every column: quantities may be recorded at rhythms of their own.
MAX_RECORDS = 101
#: Digits of the numbers on the page.
DIGITS = 6
#: From this ratio of the largest to the smallest number on, an axis starts logarithmic.
LOG_RATIO = 8.0
#: Quantities between 0 and 1, whose axis starts linear.
SHARES = ("share", "accuracy", "alignment", "overlap")
#: Kinds of figures that start with the steps before the switch; others leave them to be chosen.
FROM_THE_START = {"alignment", "curvature_energy"}
#: Columns that tell no series apart: they follow from others, or say how a run ended.
FOLLOWING = {*SETTING, "dataset", "dom_weight", "bulk_weight", "num_parameters", "status", "varied"}
#: What a figure opens with, where its table has it.
FIRST_SHOWN = {
    "alignment": "alignment",
    "generalization": "test_accuracy",
    "curvature_energy": "frobenius_share",
    "eigensolver_cost": "seconds",
    "stability_edge": "highest_train_loss",
    "transfer": "highest_train_loss",
}

_NUMBERED = re.compile(r"_(\d+)$")


class Explorer:
    """Collects the series of all figures; equal trajectories are stored once.

    Args:
        runs: In which the run of a curve is looked up.
    """

    def __init__(self, runs: RunIndex) -> None:
        self._runs = runs
        self._trajectories: dict[str, int] = {}
        self._labels: dict[str, str] = {}
        #: By run: how it ended, in words, and its final training loss as text.
        self.endings: dict[str, dict[str, Any]] = {}

    def add(self, kind: str, table: pd.DataFrame) -> dict[str, Any] | None:
        """The interactive form of a figure.

        A table with a column ``step`` holds curves: the columns before it, and words after it, tell
        them apart. In any other table each row is a point, told from others by words.

        Args:
            kind: Of the figure, which decides what it opens with.
            table: The table behind it.

        Returns:
            ``None`` where there is nothing to draw. Otherwise ``panels``; ``dimensions``, by which
            series are chosen; ``series``, each a panel, a value of each dimension, a trajectory, a
            run or ``None``, and how it ended; ``x`` and ``y``, the quantities; what it starts with;
            ``thinned``, how many curves were; ``sgd``, the method that others are compared with.
        """
        columns = _columns(table)
        if not columns.y or table.empty:
            return None
        curves = "step" in table
        panel = [name for name in SETTING if name in table]
        chosen = _dimensions(table, columns, panel)
        dimensions = [_dimension(name, table) for name in chosen]
        for dimension in dimensions:
            if BEFORE_SWITCH in dimension["values"] and kind not in FROM_THE_START:
                dimension["left_out"] = [dimension["values"].index(BEFORE_SWITCH)]
        keys = table[[*panel, *chosen]].astype(object).where(lambda part: part.notna(), "")
        panels: list[tuple[Any, ...]] = []
        longest: dict[tuple[Any, ...], float] = {}
        for own, rows in _groups(table, keys[panel]):
            panels.append(own)
            longest[own] = rows["steps_after_switch"].max() if "steps_after_switch" in rows else 0.0
        series, thinned = [], 0
        for key, rows in _groups(table, keys):
            own, values = key[: len(panel)], key[len(panel) :]
            if curves:
                rows = rows.sort_values("step")
                thinned += len(rows) > MAX_RECORDS
            places = [
                dimension["values"].index(_cell(value))
                for dimension, value in zip(dimensions, values, strict=True)
            ]
            trajectory = self._store(rows[columns.measured], thin=curves)
            ending = self._ending(rows, longest[own]) if curves else (None, "")
            series.append([panels.index(own), places, trajectory, *ending])
        self._labels |= {name: quantity_label(name) for name in columns.measured}
        others = [name for name in columns.y if name != columns.x[0]]
        first = FIRST_SHOWN.get(kind, "train_loss")
        return {
            "kind": "curves" if curves else "points",
            "panels": [panel_label(dict(zip(panel, map(str, key), strict=True))) for key in panels],
            "panel_keys": [", ".join(map(str, key)) for key in panels],
            "dimensions": dimensions,
            "series": series,
            "x": columns.x,
            "y": columns.y,
            "first": first if first in columns.y else [*others, *columns.y][0],
            "logarithmic": [name for name in columns.measured if _is_wide(table[name])],
            "sgd": _sgd_index(table, dimensions) if curves else None,
            "thinned": int(thinned),
        }

    def data(self) -> dict[str, Any]:
        """What all figures share: trajectories, labels, and the details of runs."""
        trajectories = [json.loads(stored) for stored in self._trajectories]
        return {"trajectories": trajectories, "labels": self._labels, **self._runs.details()}

    def _store(self, rows: pd.DataFrame, *, thin: bool) -> int:
        kept = _kept(rows) if thin else np.arange(len(rows))
        columns = {
            name: [_number(value) for value in rows[name].to_numpy(dtype=float)[kept]]
            for name in rows
            if rows[name].notna().any()
        }
        stored = json.dumps(columns, separators=(",", ":"))
        return self._trajectories.setdefault(stored, len(self._trajectories))

    def _ending(self, rows: pd.DataFrame, longest: float) -> tuple[str | None, str]:
        run = self._runs.find(rows, longest=longest)
        ending = str(rows["status"].iloc[0]) if "status" in rows else "not recorded"
        after = "method" in rows and rows["method"].iloc[0] != BEFORE_SWITCH
        if after and "train_loss" in rows:
            losses = rows["train_loss"]
            try:
                ending = classify(losses, diverged=ending == "diverged")
            except ValueError:
                ending += ", too few records to class"
            if run is not None:
                recorded = losses.dropna()
                known = ending != "diverged" and not recorded.empty
                last = f"{recorded.iloc[-1]:.{DIGITS}g}" if known else ending
                self.endings[run] = {"ending": ending, "train_loss": last}
        return run, ending


@dataclass(frozen=True)
class _Columns:
    """The columns of a table: what tells series apart, what was measured, and the axes."""

    identity: list[str]
    after_step: list[str]
    measured: list[str]
    x: list[str]
    y: list[str]


def _columns(table: pd.DataFrame) -> _Columns:
    names = [str(name) for name in table]
    before = names[: names.index("step")] if "step" in names else []
    words = [name for name in names if not _is_numeric(table[name]) and name not in before]
    settings = [name for name in ("value", "seed") if name in names and name not in before]
    identity = list(dict.fromkeys([*before, *words, *settings]))
    measured = []
    for name in names:
        numbered = _NUMBERED.search(name)
        first = numbered is None or int(numbered[1]) == 1  # of a family such as the eigenvalues
        own = name not in identity and name not in FOLLOWING
        if own and first and _is_numeric(table[name]) and table[name].notna().any():
            measured.append(name)
    if "step" not in names:
        return _Columns(identity, words, measured, x=measured, y=measured)
    x = sorted({"steps_after_switch", "step"} & set(measured), reverse=True)
    y = [name for name in measured if name not in x]
    return _Columns(identity, words, measured, x=x, y=y)


def _is_numeric(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _kept(rows: pd.DataFrame) -> NDArray[np.intp]:
    """Places of the records that the page draws; methods of a seed keep the same steps."""
    every = np.arange(len(rows))
    complete = every[rows.loc[:, rows.notna().any()].notna().all(axis="columns")]
    thinned = [places[:: -(-len(places) // MAX_RECORDS) or 1] for places in (every, complete)]
    return np.unique([*np.concatenate(thinned), len(rows) - 1])


def _groups(table: pd.DataFrame, keys: pd.DataFrame) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The rows of each key, in the order of the table; all of them where there is no key."""
    if keys.columns.empty:
        return [((), table)]
    return list(table.groupby([keys[name] for name in keys], sort=False))


def _dimensions(table: pd.DataFrame, columns: _Columns, panel: list[str]) -> list[str]:
    """Columns by which series are chosen: few, but enough to tell all series apart."""
    first = ["method", "value", "seed", *columns.after_step]
    identity = [name for name in columns.identity if name not in FOLLOWING]
    chosen = [name for name in dict.fromkeys(first) if name in identity]
    for name in identity:
        if name in chosen:
            continue
        groups = (
            table.groupby([*panel, *chosen], dropna=False) if panel or chosen else [((), table)]
        )
        if max(rows[name].nunique(dropna=False) for _, rows in groups) > 1:
            chosen.append(name)
    always = {"method", "seed"}
    return [name for name in chosen if name in always or table[name].nunique(dropna=False) > 1]


def _dimension(name: str, table: pd.DataFrame) -> dict[str, Any]:
    values = list(dict.fromkeys(_cell(value) for value in table[name]))
    if name == "method":
        methods = [str(value) for value in values]
        look = {
            "colours": [method_colours(method, place) for place, method in enumerate(methods)],
            "dashes": [method_dashes(method) for method in methods],
        }
    elif name == "stability":
        values = [ending for ending in STABILITY_COLOURS if ending in values]
        look = {"colours": [stability_colours(str(ending)) for ending in values]}
    else:
        values.sort(key=lambda value: (isinstance(value, str), value))
        look = {}
    label = name.replace("_", " ")
    if name == "value" and "varied" in table and table["varied"].notna().any():
        label = setting_label(str(table["varied"].dropna().iloc[0]))
    labels = [value_label(name, value) for value in values]
    return {"name": name, "label": label, "values": values, "labels": labels, **look}


def _sgd_index(table: pd.DataFrame, dimensions: list[dict[str, Any]]) -> int | None:
    """Which value of the method is SGD, if the table has it and says the weights."""
    if not {"method", "dom_weight", "bulk_weight"} <= set(table):
        return None
    name = sgd_name(table[table["method"] != BEFORE_SWITCH])
    methods = next(one["values"] for one in dimensions if one["name"] == "method")
    return None if name is None else int(methods.index(name))


def _cell(value: Any) -> str | float:
    """A value of a dimension as JSON can hold it; an empty text where there is none."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if pd.isna(value):
        return ""
    return as_value(value)


def _is_wide(values: pd.Series) -> bool:
    if any(share in str(values.name) for share in SHARES):
        return False
    known = values[np.isfinite(values.astype(float))]
    return bool(len(known) and known.min() > 0 and known.max() > LOG_RATIO * known.min())


def _number(value: float) -> float | int | None:
    """A number with the page's digits; ``None`` for what JSON cannot hold."""
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 1e9 else float(f"{value:.{DIGITS}g}")
