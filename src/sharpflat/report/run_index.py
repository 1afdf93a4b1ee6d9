"""The runs of a tier: their settings, what they were made with, and which curve is whose."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import pandas as pd

from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.value_axis import as_value
from sharpflat.report.runs import MADE_WITH, Summary, method_name, text

#: What the table of runs has columns of its own for, or tells by another setting.
TOLD_OTHERWISE = {"task", "dataset", "loss", "seed", "dom_weight", "bulk_weight", "status"}
TOLD_OTHERWISE |= {"last_step", "num_parameters", "switch_alignment", "switch_max_steps"}


class RunIndex:
    """Looks the run of a curve up by the settings that its table tells.

    Tables name no runs: a curve is matched with the one run that has its task, loss, seed, settings
    and last step.

    Args:
        summaries: Contents of ``summary.json``.
    """

    def __init__(self, summaries: Sequence[Summary]) -> None:
        self._summaries = {str(summary["id"]): summary for summary in summaries}
        self._by_seed: dict[tuple[str, ...], list[tuple[str, dict[str, str]]]] = defaultdict(list)
        for name, summary in self._summaries.items():
            settings = {key: _plain(value) for key, value in flat_settings(summary).items()}
            kind = "run" if "prefix" in summary else "prefix"
            key = (kind, *(settings.get(part, "") for part in ("task", "loss", "seed")))
            self._by_seed[key].append((name, settings))

    def find(self, rows: pd.DataFrame, *, longest: float = math.nan) -> str | None:
        """Name of the run that the rows of a curve were recorded on.

        Args:
            rows: All rows of one curve.
            longest: Steps after the switch of the longest run beside it: a run that diverged was to
                have as many.

        Returns:
            ``None`` where no run has their settings, or the table does not tell several apart.
        """
        first = rows.iloc[0]
        if not {"task", "loss", "seed", "method"} <= set(rows):
            return None
        kind = "prefix" if first["method"] == BEFORE_SWITCH else "run"
        key = (kind, *(_plain(first[part]) for part in ("task", "loss", "seed")))
        told = {str(name): _plain(value) for name, value in first.items() if not pd.isna(value)}
        if "varied" in told and "value" in told:
            told[told["varied"]] = told["value"]
        if {"step", "steps_after_switch"} <= set(rows):
            told["switch_step"] = _plain(first["step"] - first["steps_after_switch"])
        fitting = [
            (name, settings)
            for name, settings in self._by_seed[key]
            if all(told.get(column, value) == value for column, value in settings.items())
        ]
        if len(fitting) > 1 and "step" in rows:
            last = _plain(rows["step"].max())
            fitting = [found for found in fitting if found[1]["last_step"] == last]
        if len(fitting) > 1:
            fitting = [found for found in fitting if found[1].get("steps") == _plain(longest)]
        return fitting[0][0] if len(fitting) == 1 else None

    def details(self) -> dict[str, Any]:
        """What the page shows of each run: ``runs`` by name, and ``made`` once for many.

        A run has its ``settings``, and the place in ``made`` of what it was made with.
        """
        made: dict[tuple[str, ...], int] = {}
        runs = {}
        for name, summary in self._summaries.items():
            texts = tuple(text(summary.get(part, "not recorded")) for part in MADE_WITH)
            settings = {key: text(value) for key, value in flat_settings(summary).items()}
            settings["seeds"] = text(summary.get("seeds", "not recorded"))
            runs[name] = {"settings": settings, "made": made.setdefault(texts, len(made))}
        return {"runs": runs, "made": [dict(zip(MADE_WITH, texts, strict=True)) for texts in made]}

    def rows(self, endings: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[Any]]:
        """The table of runs.

        Args:
            endings: For the runs whose curves are in a figure, ``ending`` in words and the final
                ``train_loss``.

        Returns:
            The settings that differ between runs of one task and loss, and a row a run.
        """
        settings = {name: flat_settings(run) for name, run in self._summaries.items()}
        frame = pd.DataFrame([{k: _plain(v) for k, v in own.items()} for own in settings.values()])
        counts = frame.groupby(SETTING).nunique(dropna=False)
        varied = [
            str(name) for name in counts if name not in TOLD_OTHERWISE and counts[name].max() > 1
        ]
        rows = []
        for name, summary in self._summaries.items():
            known = endings.get(name, {})
            rows.append(
                {
                    "id": name,
                    "short": short(name),
                    "method": _method_with_weights(summary),
                    "ending": known.get("ending", summary.get("status", "not recorded")),
                    "train_loss": known.get("train_loss", "not in a figure"),
                    "seconds": summary.get("seconds"),
                    "settings": [_shown(settings[name].get(column)) for column in varied],
                    **{key: settings[name].get(key, "") for key in ("task", "loss", "seed")},
                    "last_step": summary["last_step"],
                }
            )
        return varied, rows


def flat_settings(summary: Summary) -> dict[str, Any]:
    """All settings of a run, those of its prefix where it has none of its own."""
    record = dict(summary["record"])
    settings = {**record.pop("prefix", {}), **record}
    settings |= dict(settings.pop("sizes", ()))
    for key in ("num_parameters", "status", "switch_step", "last_step"):
        if key in summary:
            settings[key] = summary[key]
    return settings


def short(name: str) -> str:
    """The end of a run's name, which alone tells it from all others."""
    return name.rsplit("-", 1)[-1]


def _method_with_weights(summary: Summary) -> str:
    name, record = method_name(summary), summary["record"]
    if name != "interpolated":
        return name
    return f"{name}, a = {record['dom_weight']:g}, b = {record['bulk_weight']:g}"


def _plain(value: Any) -> str:
    """A value as it can be compared, whether it comes from JSON or from CSV."""
    value = as_value(value) if isinstance(value, str | Real) else value
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def _shown(value: Any) -> str:
    return "" if value is None else text(value)
