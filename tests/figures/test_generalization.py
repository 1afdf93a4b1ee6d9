"""Figure ``generalization``. Oracle: the last record of every run."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sharpflat.figures.generalization import PAIR, plot_generalization
from sharpflat.figures.style import METHOD_COLOURS, METHOD_MARKERS, method_colour

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
    colour = METHOD_COLOURS["bulk_sgd"]
    own = [line for line in axes.get_lines() if line.get_color() == colour]
    assert sorted(line.get_marker() for line in own) == ["s", "x"]
    (cross,) = [line for line in own if line.get_marker() == "x"]
    assert cross.get_xdata() == [1.0]
    assert cross.get_transform() == axes.transAxes


def test_the_steps_before_the_switch_are_no_method_of_their_own(table: pd.DataFrame) -> None:
    figure = plot_generalization(table)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["SGD", "Bulk-SGD", "a seed", "same seed", "a run that diverged"]


def test_a_line_joins_every_run_to_sgd_of_its_seed(table: pd.DataFrame) -> None:
    axes = plot_generalization(table).axes[0]
    (pair,) = [line for line in axes.get_lines() if line.get_color() == PAIR["color"]]
    assert (list(pair.get_xdata()), list(pair.get_ydata())) == ([0.1, 0.1], [0.8, 0.9])


def test_every_seed_has_the_binomial_error_of_its_accuracy(table: pd.DataFrame) -> None:
    axes = plot_generalization(table.assign(dataset="mnist5k")).axes[0]
    heights = [np.ptp(s[:, 1]) for bar in axes.collections for s in bar.get_segments()]
    expected = [2 * math.sqrt(p * (1 - p) / 3000) for p in (0.8, 0.7, 0.9)]
    assert heights == pytest.approx(expected)
    assert not plot_generalization(table).axes[0].collections  # without a data set, no error


def test_accuracies_near_chance_are_said_to_be(trajectory: Make) -> None:
    runs = [
        trajectory("sgd", [1.0, 0.5], seed=seed, test_accuracy=[0.5, 0.51]) for seed in range(3)
    ]
    axes = plot_generalization(pd.concat(runs).assign(dataset="sst2_1k")).axes[0]
    words = [text.get_text() for text in axes.texts]
    assert words == ["3 of 3 runs end within 2 s.e. of chance, 0.5"]


def test_no_axis_of_accuracies_goes_beyond_zero_and_one(trajectory: Make) -> None:
    ends = [
        trajectory("sgd", [1.0, 0.5], seed=s, test_accuracy=[0.5, a]) for s, a in ((0, 0), (1, 1))
    ]
    low, high = plot_generalization(pd.concat(ends)).axes[0].get_ylim()
    assert low >= 0
    assert high <= 1


def test_points_of_a_path_have_colours_and_entries_of_their_own(trajectory: Make) -> None:
    methods = ["sgd", "sgd_to_bulk(0.5)", "sgd_to_bulk(0.9)", "convex(1)"]
    figure = plot_generalization(pd.concat([trajectory(name, [1.0, 0.5]) for name in methods]))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[1:4] == ["SGD to Bulk, α = 0.5", "SGD to Bulk, α = 0.9", "Dom to Bulk, α = 1"]
    colours = {line.get_color() for line in figure.axes[0].get_lines()}
    assert {method_colour(name) for name in methods} <= colours
