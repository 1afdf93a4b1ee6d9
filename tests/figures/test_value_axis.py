"""Values of a setting on an axis. Oracle: distances on paper, and lightness of colours."""

import math

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from sharpflat.figures.value_axis import ValueAxis, sequential, value_colour_bar, value_text


def test_numbers_are_sorted_and_logarithmic_from_a_decade_on() -> None:
    assert ValueAxis.of([0.1, 0.01, 0.01]) == ValueAxis((0.01, 0.1), "log")
    assert ValueAxis.of([128, 32, 64]) == ValueAxis((32.0, 64.0, 128.0), "linear")
    assert ValueAxis.of([0.0, 0.5, 1.0]).scale == "linear"  # zero has no logarithm


def test_a_column_with_words_is_evenly_spaced_with_its_numbers_first() -> None:
    axis = ValueAxis.of(["adaptive", "200", "10", "1"])
    assert axis == ValueAxis((1.0, 10.0, 200.0, "adaptive"), "even")
    assert [axis.position(value) for value in axis.values] == [0, 1, 2, 3]


def test_numbers_whose_labels_would_lie_upon_each_other_are_evenly_spaced() -> None:
    close = [0.003, 0.06, 0.062, 0.12]
    assert ValueAxis.of(close) == ValueAxis(tuple(close), "even")
    assert ValueAxis.of([0.003, 0.06, 0.09, 0.12]).scale == "log"


def test_the_least_distance_is_a_share_of_the_axis() -> None:
    assert ValueAxis.of([1, 10, 100, 1000]).least_distance() == pytest.approx(1 / 3)
    assert ValueAxis.of([0, 1, 5]).least_distance() == pytest.approx(0.2)
    assert ValueAxis.of([7]).least_distance() == 1


def test_a_shift_is_the_same_share_of_any_axis() -> None:
    assert ValueAxis((1.0, 100.0), "log").position(1.0, 0.5) == pytest.approx(10)
    assert ValueAxis((0.0, 4.0), "linear").position(0.0, 0.5) == pytest.approx(2)
    assert ValueAxis(("a", "b", "c"), "even").position("a", 0.5) == pytest.approx(1)


def test_a_single_value_has_a_place_and_a_colour() -> None:
    axis = ValueAxis.of([5, 5])
    assert axis.position(5.0) == 5
    assert len(axis.colours()) == 1


def test_colours_get_lighter_from_value_to_value() -> None:
    lightness = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in sequential(6)]
    assert (np.diff(lightness) > 0.05).all()


def test_ticks_stand_at_the_values_and_every_one_has_its_label() -> None:
    axes = plt.figure(figsize=(3.3, 1)).add_subplot()
    axis = ValueAxis.of([0.01, 0.014, 0.1])
    assert axis.scale == "log"
    axis.finish(axes, "learning rate")
    assert axes.get_xticks() == pytest.approx([0.01, 0.014, 0.1])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.01", "0.014", "0.1"]
    assert {text.get_rotation() for text in axes.get_xticklabels()} == {90}  # flat they would touch
    assert axes.get_xlabel() == "learning rate"
    low, high = axes.get_xlim()
    assert low < 0.01
    assert high > 0.1
    assert math.log(0.01 / low) == pytest.approx(math.log(high / 0.1))


def test_an_axis_above_another_has_ticks_without_labels() -> None:
    axes = plt.figure().add_subplot()
    ValueAxis.of([1, 2, 4]).finish(axes, None)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["", "", ""]
    assert axes.get_xlabel() == ""


def test_the_colour_bar_names_every_value() -> None:
    figure = plt.figure()
    value_colour_bar(figure.add_subplot(), ValueAxis.of(["1", "every_step"]), "refresh interval")
    bar = figure.axes[1]
    assert [text.get_text() for text in bar.get_yticklabels()] == ["1", "every step"]
    assert bar.get_ylabel() == "refresh interval"
    assert value_text(0.003) == "0.003"
