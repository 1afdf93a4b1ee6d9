"""Figure ``generalization``. Oracle: the last record of every run."""

import math
from collections.abc import Callable

import pandas as pd
import pytest

from sharpflat.figures.generalization import plot_generalization
from sharpflat.figures.style import METHOD_COLOURS, METHOD_MARKERS

Make = Callable[..., pd.DataFrame]


@pytest.fixture
def table(trajectory: Make, as_read: Make) -> pd.DataFrame:
    lost = {"status": "diverged", "test_accuracy": [0.5, math.nan]}
    return as_read(
        [
            trajectory("before_switch", [2.0, 1.0]),
            trajectory("sgd", [1.0, 0.1], seed=0, test_accuracy=[0.5, 0.8]),
            trajectory("sgd", [1.0, 0.4], seed=1, test_accuracy=[0.5, 0.7]),
            trajectory("bulk_sgd", [1.0, 0.1], seed=0, test_accuracy=[0.5, 0.9]),
            trajectory("bulk_sgd", [1.0, math.nan], seed=1, **lost),
        ]
    )


def test_small_marks_are_seeds_and_large_ones_their_means(table: pd.DataFrame) -> None:
    axes = plot_generalization(table).axes[0]
    seeds, mean = [line for line in axes.get_lines() if line.get_marker() == METHOD_MARKERS["sgd"]]
    assert (list(seeds.get_xdata()), list(seeds.get_ydata())) == ([0.1, 0.4], [0.8, 0.7])
    assert list(mean.get_xdata()) == pytest.approx([0.2])
    assert list(mean.get_ydata()) == pytest.approx([0.75])
    assert mean.get_markersize() > seeds.get_markersize()
    assert seeds.get_color() == mean.get_color() == METHOD_COLOURS["sgd"]


def test_a_method_with_a_diverged_run_has_a_cross_and_no_mean(table: pd.DataFrame) -> None:
    axes = plot_generalization(table).axes[0]
    own = [line for line in axes.get_lines() if line.get_color() == METHOD_COLOURS["bulk_sgd"]]
    assert sorted(line.get_marker() for line in own) == ["s", "x"]
    (cross,) = [line for line in own if line.get_marker() == "x"]
    assert cross.get_xdata() == [1.0]
    assert cross.get_transform() == axes.transAxes


def test_the_steps_before_the_switch_are_no_method_of_their_own(table: pd.DataFrame) -> None:
    figure = plot_generalization(table)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["SGD", "Bulk-SGD", "a seed", "end of a run that diverged"]
