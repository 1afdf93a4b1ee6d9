"""Figures ``ablation_*``. Oracle: runs whose final losses and steps can be read off."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.figures.ablation import plot_ablation
from sharpflat.figures.style import METHOD_COLOURS, line_style
from sharpflat.figures.value_axis import ValueAxis

Make = Callable[..., pd.DataFrame]
#: Two seeds each; at the large learning rate Bulk-SGD diverges with the second.
LOSSES: dict[tuple[str, float], list[list[float]]] = {
    ("sgd", 0.01): [[1.0, 0.8, 0.6, 0.4], [1.0, 0.8, 0.6, 0.4]],
    ("bulk_sgd", 0.01): [[1.0, 0.4, 0.3, 0.1], [1.0, 0.4, 0.3, 0.1]],
    ("sgd", 0.1): [[1.0, 0.5, 0.2, 0.1], [1.0, 0.5, 0.2, 0.1]],
    ("bulk_sgd", 0.1): [[1.0, 0.2, 0.9, 0.3], [1.0, 50.0, math.nan]],
}


@pytest.fixture
def table(trajectory: Make, as_read: Make) -> pd.DataFrame:
    runs = [trajectory("before_switch", [2.0, 1.0], varied="learning_rate", value=math.nan)]
    for (method, value), seeds in LOSSES.items():
        for seed, losses in enumerate(seeds):
            changes: dict[str, Any] = {"varied": "learning_rate", "value": value, "seed": seed}
            changes["status"] = "diverged" if math.isnan(losses[-1]) else "finished"
            runs.append(trajectory(method, losses, **changes))
    return as_read(runs)


def _panels(table: pd.DataFrame) -> list[Axes]:
    """Curves, final loss, steps, spikes and diverged share; the colour bar comes last."""
    return plot_ablation(table).axes[:5]


def _means(axes: Axes, method: str) -> Line2D:
    """The line that joins the means of a method."""
    (line,) = [
        line
        for line in axes.get_lines()
        if line.get_color() == METHOD_COLOURS[method] and line.get_linestyle() != "None"
    ]
    return line


def test_curves_are_coloured_by_value_and_dashed_by_method(table: pd.DataFrame) -> None:
    curves = _panels(table)[0]
    colour = ValueAxis.of([0.01, 0.1]).colours()[0.01]
    lines = [line for line in curves.get_lines() if line.get_color() == colour]
    expected = [LOSSES[method, 0.01][0] for method in ("sgd", "bulk_sgd")]
    assert [line.get_ydata().tolist() for line in lines] == [pytest.approx(y) for y in expected]
    assert [line.is_dashed() for line in lines] == [True, False]
    assert curves.get_xlim() == (0, 30)


def test_final_losses_stand_at_their_values(table: pd.DataFrame) -> None:
    final = _panels(table)[1]
    assert (final.get_xscale(), final.get_yscale()) == ("log", "log")
    sgd = _means(final, "sgd")
    assert sgd.get_ydata() == pytest.approx([0.4, 0.1])
    assert np.log10(sgd.get_xdata().astype(float)) == pytest.approx([-2, -1], abs=0.05)
    bulk = _means(final, "bulk_sgd").get_ydata()
    assert bulk[0] == pytest.approx(0.1)
    assert math.isnan(bulk[1])  # a seed diverged: no mean


def test_a_diverged_run_is_a_cross_above_all_final_losses(table: pd.DataFrame) -> None:
    final = _panels(table)[1]
    (cross,) = [line for line in final.get_lines() if line.get_marker() == "x"]
    assert cross.get_color() == METHOD_COLOURS["bulk_sgd"]
    place = final.transAxes.inverted().transform(
        cross.get_transform().transform(np.column_stack(cross.get_data()))
    )
    top = final.transAxes.inverted().transform(final.transData.transform((0.1, 0.4)))
    assert place[0, 1] > top[1]
    hollow = [line for line in final.get_lines() if line.get_markerfacecolor() == "white"]
    survivors = [list(line.get_ydata()) for line in hollow if line is not cross]
    assert survivors == [[0.3]]


def test_steps_are_shares_of_the_run_and_never_reached_stands_on_top(table: pd.DataFrame) -> None:
    steps = _panels(table)[2]
    assert _means(steps, "sgd").get_ydata() == pytest.approx([1, 1])
    assert _means(steps, "bulk_sgd").get_ydata()[0] == pytest.approx(1 / 3)
    labels = {
        text.get_text(): place
        for place, text in zip(steps.get_yticks(), steps.get_yticklabels(), strict=True)
    }
    assert labels["never"] > labels["1"] == 1
    (never,) = [
        line for line in steps.get_lines() if line.get_transform() == steps.get_xaxis_transform()
    ]
    assert len(never.get_xdata()) == 2  # one diverged, the other ended above SGD


def test_steps_to_a_target_that_diverged_are_not_drawn(trajectory: Make, as_read: Make) -> None:
    common = {"varied": "learning_rate", "value": 0.1}
    table = as_read(
        [
            trajectory("sgd", [1.0, 90.0, math.nan], status="diverged", **common),
            trajectory("bulk_sgd", [1.0, 0.5, 0.4], **common),
        ]
    )
    steps = _panels(table)[2]
    assert all(len(line.get_xdata()) == 0 for line in steps.get_lines())


def test_spikes_and_diverged_runs_are_counted(table: pd.DataFrame) -> None:
    _, _, _, spikes, diverged = _panels(table)
    assert _means(spikes, "sgd").get_ydata() == pytest.approx([0, 0])
    assert _means(spikes, "bulk_sgd").get_ydata() == pytest.approx([0, 1])
    assert _means(diverged, "bulk_sgd").get_ydata() == pytest.approx([0, 0.5])


def test_words_are_values_too(trajectory: Make, as_read: Make) -> None:
    table = as_read(
        [
            trajectory(method, [1.0, 0.5], varied="refresh", value=value)
            for value in ("adaptive", 10, 1)
            for method in ("sgd", "bulk_sgd")
        ]
    )
    final = _panels(table)[1]
    assert [text.get_text() for text in final.get_xticklabels()] == ["1", "10", "adaptive"]
    assert final.get_xlabel() == "refresh interval"


def test_a_table_that_varies_nothing_is_refused(trajectory: Make) -> None:
    with pytest.raises(ValueError, match="varies one setting, this one none"):
        plot_ablation(trajectory("sgd", [1.0]))


def test_the_dashes_are_those_of_the_methods_everywhere() -> None:
    assert line_style("sgd")["linestyle"] != "solid"
    assert line_style("bulk_sgd")["linestyle"] == "solid"
