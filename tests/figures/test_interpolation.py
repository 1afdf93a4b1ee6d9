"""Figure ``interpolation``. Oracle: final losses that are set by hand for every (a, b)."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.figures.interpolation import NAMED, NO_POINTS, NO_SGD, on_path, plot_interpolation
from sharpflat.figures.style import METHOD_COLOURS, METHOD_MARKERS
from sharpflat.figures.value_axis import ValueAxis
from sharpflat.methods import PATHS, POINTS, parse_method

Make = Callable[..., pd.DataFrame]
ALPHAS = (0, 0.5, 1)
METHODS = [*POINTS, *(f"{path}({alpha})" for path in PATHS for alpha in ALPHAS)]


def _final(method: str) -> float:
    """A final loss that tells every pair of weights apart."""
    point = parse_method(method)
    return 0.1 + 0.2 * point.dom_weight + 0.05 * point.bulk_weight


def _ratio(method: str) -> float:
    """Of every seed: seeds differ by a factor that their ratios to SGD do not have."""
    return _final(method) / _final("sgd")


@pytest.fixture
def table(trajectory: Make, as_read: Make) -> pd.DataFrame:
    runs = [trajectory("before_switch", [2.0, 1.0])]
    runs += [
        trajectory(method, [factor, _final(method) * factor], seed=seed)
        for method in METHODS
        for seed, factor in ((0, 0.5), (1, 2.0))
    ]
    return as_read(runs)


def _panels(table: pd.DataFrame) -> list[Axes]:
    """A panel a path, then the final losses; the colour bar comes last."""
    return plot_interpolation(table).axes[:4]


def _named(axes: Axes, name: str) -> list[Line2D]:
    return [
        line
        for line in axes.get_lines()
        if line.get_color() == METHOD_COLOURS[name] and line.get_marker() == METHOD_MARKERS[name]
    ]


def test_named_methods_lie_where_their_weights_say() -> None:
    assert NAMED == {
        "sgd_to_bulk": {0.0: "sgd", 1.0: "bulk_sgd"},
        "sgd_to_dom": {0.0: "sgd", 1.0: "dom_sgd"},
        "convex": {0.5: "sgd"},
    }


def test_points_that_stand_under_two_names_count_once(table: pd.DataFrame) -> None:
    points = on_path(table, "sgd_to_bulk")
    runs = points.drop_duplicates(["method", "seed"])
    assert sorted(runs["alpha"]) == [0, 0, 0.5, 0.5, 1, 1]
    assert not points.duplicated(["alpha", "seed", "step"]).any()


def test_named_methods_stand_in_for_points_that_a_table_lacks(table: pd.DataFrame) -> None:
    without = table[~table["method"].isin(["sgd_to_dom(0)", "sgd_to_dom(1)"])]
    points = on_path(without, "sgd_to_dom").drop_duplicates(["method"])
    alphas = dict(zip(points["method"], points["alpha"], strict=True))
    assert alphas == {"sgd": 0, "dom_sgd": 1, "sgd_to_dom(0.5)": 0.5}


def test_curves_are_ratios_to_sgd_coloured_by_alpha_on_one_axis(table: pd.DataFrame) -> None:
    *panels, _ = _panels(table)
    colours = ValueAxis.of(ALPHAS).colours()
    for path, panel in zip(PATHS, panels, strict=True):
        assert panel.get_yscale() == "log"
        assert panel.get_ylim() == panels[0].get_ylim()
        for alpha in ALPHAS:
            (line,) = [line for line in panel.get_lines() if line.get_color() == colours[alpha]]
            assert line.get_ydata() == pytest.approx([1, _ratio(f"{path}({alpha})")])


def test_medians_of_final_ratios_are_joined_along_each_path(table: pd.DataFrame) -> None:
    final = _panels(table)[3]
    for path in PATHS:
        (line,) = [
            line
            for line in final.get_lines()
            if line.get_color() == METHOD_COLOURS[path] and line.get_linestyle() != "None"
        ]
        assert line.get_xdata().astype(float) == pytest.approx(np.array(ALPHAS), abs=0.04)
        assert line.get_ydata() == pytest.approx([_ratio(f"{path}({a})") for a in ALPHAS])


def test_the_named_methods_are_marked_in_every_panel(table: pd.DataFrame) -> None:
    *panels, final = _panels(table)
    for path, panel in zip(PATHS, panels, strict=True):
        for name in POINTS:
            marks = _named(panel, name)
            assert len(marks) == (name in NAMED[path].values())
            for mark in marks:
                assert list(mark.get_ydata()) == pytest.approx([_ratio(name)])
    assert [len(_named(final, name)) for name in POINTS] == [3, 1, 1]


def test_a_path_with_a_diverged_run_has_a_cross_and_no_mean(
    table: pd.DataFrame, trajectory: Make, as_read: Make
) -> None:
    kept = table[~table["method"].isin(["convex(0)"])]
    diverged = trajectory("convex(0)", [1.0, math.nan], status="diverged")
    *panels, final = _panels(as_read([kept, diverged]))
    for axes in (panels[2], final):
        assert sum(line.get_marker() == "x" for line in axes.get_lines()) == 1
    (line,) = [
        line
        for line in final.get_lines()
        if line.get_color() == METHOD_COLOURS["convex"] and line.get_linestyle() != "None"
    ]
    assert math.isnan(line.get_ydata()[0])


def test_seeds_are_points_beside_their_median(trajectory: Make, as_read: Make) -> None:
    runs = []
    for seed, end in ((0, 0.2), (1, 0.4), (2, 0.9)):
        runs.append(trajectory("sgd", [1.0, 0.5], seed=seed))
        runs.append(trajectory("convex(1)", [1.0, end], seed=seed))
    final = _panels(as_read(runs))[3]
    colour = METHOD_COLOURS["convex"]
    points, line = [ln for ln in final.get_lines() if ln.get_color() == colour]
    assert sorted(points.get_ydata()) == pytest.approx([0.4, 0.8, 1, 1, 1, 1.8])  # α = ½ and 1
    assert line.get_ydata() == pytest.approx([1, 0.8])
    assert not final.collections


def test_paths_that_a_table_lacks_are_empty_but_for_their_named_methods(
    trajectory: Make, as_read: Make
) -> None:
    methods = ("sgd", "bulk_sgd", "sgd_to_bulk(0.9)")
    *panels, _ = _panels(as_read([trajectory(name, [1.0, 0.5]) for name in methods]))
    curves = [[ln for ln in panel.get_lines() if ln.get_linestyle() != "None"] for panel in panels]
    assert [len(lines) for lines in curves] == [3, 1, 1]
    said = [any(NO_POINTS in text.get_text() for text in panel.texts) for panel in panels]
    assert said == [False, True, True]


def test_without_sgd_every_panel_says_why_it_is_empty(trajectory: Make) -> None:
    for panel in _panels(trajectory("sgd_to_bulk(0.9)", [1.0, 0.5])):
        assert NO_SGD in [text.get_text() for text in panel.texts]
