"""Figures ``ablation_*``. Oracle: runs whose final losses and classes can be read off."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from sharpflat.figures.ablation import plot_ablation
from sharpflat.figures.style import METHOD_COLOURS, line_style, method_colour
from sharpflat.figures.value_axis import ValueAxis

Make = Callable[..., pd.DataFrame]
#: Two seeds each; at the large learning rate Bulk-SGD diverges with the second.
LOSSES: dict[tuple[str, float], list[list[float]]] = {
    ("sgd", 0.01): [[1.0, 0.8, 0.6, 0.4], [2.0, 1.6, 1.2, 0.8]],
    ("bulk_sgd", 0.01): [[1.0, 0.4, 0.3, 0.1], [2.0, 0.8, 0.6, 0.4]],
    ("sgd", 0.1): [[1.0, 0.5, 0.2, 0.1], [1.0, 0.5, 0.2, 0.1]],
    ("bulk_sgd", 0.1): [[1.0, 0.4, 0.3, 0.2], [1.0, 50.0, math.nan]],
}


@pytest.fixture
def make_table(trajectory: Make, as_read: Make) -> Make:
    """Makes a table from losses by method and value."""

    def make(losses: dict[tuple[str, float], list[list[float]]]) -> pd.DataFrame:
        runs = [trajectory("before_switch", [2.0, 1.0], varied="learning_rate", value=math.nan)]
        for (method, value), seeds in losses.items():
            for seed, run in enumerate(seeds):
                changes: dict[str, Any] = {"varied": "learning_rate", "value": value, "seed": seed}
                changes["status"] = "diverged" if math.isnan(run[-1]) else "finished"
                runs.append(trajectory(method, run, **changes))
        return as_read(runs)

    return make


@pytest.fixture
def table(make_table: Make) -> pd.DataFrame:
    return make_table(LOSSES)


def _panels(table: pd.DataFrame) -> list[Axes]:
    """Curves, final ratio, steps, spikes and classes; the colour bar comes last."""
    return plot_ablation(table).axes[:5]


def _medians(axes: Axes, method: str) -> Line2D:
    """The line that joins the medians of a method."""
    (line,) = [
        line
        for line in axes.get_lines()
        if line.get_color() == METHOD_COLOURS[method]
        and line.get_linestyle() != "None"
        and line.get_marker() != "None"
    ]
    return line


def _seeds(axes: Axes, method: str) -> list[float]:
    (points,) = [
        line
        for line in axes.get_lines()
        if line.get_color() == METHOD_COLOURS[method]
        and line.get_linestyle() == "None"
        and line.get_alpha() is not None
    ]
    return list(points.get_ydata())


def _above(axes: Axes) -> dict[tuple[str, str], list[str]]:
    """Colours and kinds of the marks at the top, with their numbers from left to right."""
    found: dict[tuple[str, str], list[str]] = {}
    marks = [
        line for line in axes.get_lines() if line.get_transform() == axes.get_xaxis_transform()
    ]
    marks = [line for line in marks if line.get_linestyle() == "None"]
    numbers = [text for text in axes.texts if text.get_text().isdigit()]
    for mark, text in zip(marks, numbers, strict=True):
        kind = "diverged" if mark.get_marker() == "x" else "never"
        found.setdefault((str(mark.get_color()), kind), []).append(text.get_text())
    return found


def test_curves_are_coloured_by_value_and_dashed_by_method(table: pd.DataFrame) -> None:
    curves = _panels(table)[0]
    colour = ValueAxis.of([0.01, 0.1]).colours()[0.01]
    lines = [line for line in curves.get_lines() if line.get_color() == colour]
    sgd, bulk = [1, 0.8, 0.6, 0.4], [1, 0.4, 0.3, math.sqrt(0.1 * 0.2)]
    assert [line.get_ydata().tolist() for line in lines] == [pytest.approx(y) for y in (sgd, bulk)]
    assert [line.is_dashed() for line in lines] == [True, False]
    assert curves.get_xlim() == (0, 30)


def test_final_losses_are_compared_with_sgd_seed_by_seed(table: pd.DataFrame) -> None:
    final = _panels(table)[1]
    assert (final.get_xscale(), final.get_yscale()) == ("log", "log")
    bulk = _medians(final, "bulk_sgd")
    assert np.log10(bulk.get_xdata().astype(float)) == pytest.approx([-2, -1], abs=0.05)
    # Relative to the switch 0.1 / 0.4 and 0.2 / 0.4; then 0.2 / 0.1 and a run that diverged.
    assert _seeds(final, "bulk_sgd") == pytest.approx([0.25, 0.5, 2.0])
    assert bulk.get_ydata()[0] == pytest.approx(0.375)
    assert math.isnan(bulk.get_ydata()[1])


def test_the_least_ratio_has_room_for_its_marker(table: pd.DataFrame) -> None:
    """Oracle: half of a marker's height in points, of the panel's."""
    final = _panels(table)[1]
    least = min(_seeds(final, "bulk_sgd"))
    height = final.get_window_extent().height * 72 / final.figure.dpi
    place = final.transAxes.inverted().transform(final.transData.transform((1, least)))[1]
    assert place * height > 3.6 / 2


def test_a_diverged_run_is_a_cross_with_its_number_and_no_value(table: pd.DataFrame) -> None:
    _, final, steps, spikes, _ = _panels(table)
    bulk = METHOD_COLOURS["bulk_sgd"]
    assert _above(final) == {(bulk, "diverged"): ["1"]}
    assert _above(spikes) == {(bulk, "diverged"): ["1"]}
    # The other seed ended above SGD, so neither of the two reached its loss.
    assert _above(steps) == {(bulk, "diverged"): ["1"], (bulk, "never"): ["1"]}


def test_steps_are_those_to_the_loss_of_sgd_over_its_own(table: pd.DataFrame) -> None:
    steps = _panels(table)[2]
    assert len(_seeds(steps, "bulk_sgd")) == 2  # at 0.01; at 0.1 neither seed reached it
    assert max(_seeds(steps, "bulk_sgd")) <= 1
    labels = [text.get_text() for text in plot_ablation(table).legends[0].get_texts()]
    assert "runs that never reached it" in labels


def test_where_all_of_sgd_diverged_it_has_crosses_and_neither_ratios_nor_spikes(
    make_table: Make,
) -> None:
    lost = [1.0, 90.0, math.nan]
    table = make_table({("sgd", 0.1): [lost, lost], ("bulk_sgd", 0.1): [[1.0, 0.5, 0.4]] * 2})
    _, final, steps, spikes, classes = _panels(table)
    sgd = METHOD_COLOURS["sgd"]
    for panel in (final, steps, spikes):
        assert _above(panel)[sgd, "diverged"] == ["2"]
    for panel in (final, steps):
        assert _seeds(panel, "bulk_sgd") == []
    assert _seeds(spikes, "sgd") == []
    assert np.isnan(_medians(spikes, "sgd").get_ydata()).all()
    assert _seeds(spikes, "bulk_sgd") == [0, 0]
    assert [bar.get_height() for bar in _bars(classes)] == [1.0]


def _bars(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_bars_are_the_shares_of_runs_that_were_unstable_or_diverged(make_table: Make) -> None:
    """A run that ends at three times its loss at the switch is unstable, by any definition."""
    table = make_table(
        {
            ("sgd", 0.1): [[1.0, 0.5, 0.4]] * 4,
            ("bulk_sgd", 0.1): [[1.0, 3.0, 3.0], *[[1.0, 90.0, math.nan]] * 2, [1.0, 0.5, 0.4]],
        }
    )
    bars = _bars(_panels(table)[4])
    assert [(bar.get_y(), bar.get_height()) for bar in bars] == [(0, 0.5), (0.5, 0.25)]
    assert [bool(bar.get_hatch()) for bar in bars] == [False, True]
    assert {bar.get_facecolor()[:3] for bar in bars} == {
        tuple(int(METHOD_COLOURS["bulk_sgd"][i : i + 2], 16) / 255 for i in (1, 3, 5))
    }


def test_a_setting_at_which_all_is_stable_says_so(make_table: Make) -> None:
    table = make_table({(name, 0.1): [[1.0, 0.5, 0.4]] for name in ("sgd", "bulk_sgd")})
    classes = _panels(table)[4]
    assert not _bars(classes)
    assert [text.get_text() for text in classes.texts] == ["all stable"]


def test_every_point_of_a_path_has_a_colour_and_an_entry_of_its_own(make_table: Make) -> None:
    methods = ["sgd", "bulk_sgd", "sgd_to_bulk(0.9)", "sgd_to_bulk(0.5)", "convex(1)"]
    table = make_table({(name, 0.1): [[1.0, 0.5, 0.4], [1.0, 0.6, 0.3]] for name in methods})
    figure = plot_ablation(table)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[2:5] == ["SGD to Bulk, α = 0.9", "SGD to Bulk, α = 0.5", "Dom to Bulk, α = 1"]
    drawn = {line.get_color() for line in figure.axes[1].get_lines()}
    assert {method_colour(name) for name in methods} <= drawn
    assert len({method_colour(name) for name in methods}) == len(methods)


def test_without_sgd_the_panels_of_ratios_say_why_they_are_empty(make_table: Make) -> None:
    _, final, steps, *_ = _panels(make_table({("bulk_sgd", 0.1): [[1.0, 0.5, 0.4]]}))
    for panel in (final, steps):
        assert [text.get_text() for text in panel.texts] == [
            "SGD diverged, or is not\namong the methods"
        ]


def test_every_value_has_its_number_also_where_they_are_close(make_table: Make) -> None:
    rates = [0.003, 0.01, 0.03, 0.06, 0.066, 0.073, 0.08, 0.088, 0.097, 0.107, 0.12]
    table = make_table(
        {(name, rate): [[1.0, 0.5, 0.4]] for name in ("sgd", "bulk_sgd") for rate in rates}
    )
    _, final, steps, spikes, classes = _panels(table)
    for panel in (final, steps, classes):
        assert [text.get_text() for text in panel.get_xticklabels()] == [f"{r:g}" for r in rates]
        assert len(panel.get_xticks(minor=True)) == 0
    assert {text.get_text() for text in spikes.get_xticklabels()} == {""}


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
