"""Test accuracies. Oracle: the binomial distribution of SciPy, and the registry's data sets."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from sharpflat.figures.accuracy import (
    accuracy_handles,
    chance_words,
    dataset_of,
    draw_chance,
    near_chance,
    standard_error,
)
from sharpflat.tasks.registry import DATASETS

#: Test samples of the study's data sets.
NUM_TEST = {"mnist5k": 3000, "cifar10_5k": 1000, "sst2_1k": 872}


@pytest.mark.parametrize(("name", "num_test"), NUM_TEST.items())
def test_the_error_is_that_of_the_binomial_share(name: str, num_test: int) -> None:
    dataset = dataset_of(pd.DataFrame({"dataset": [name]}))
    assert dataset is not None
    assert dataset.num_test == num_test
    expected = stats.binom(num_test, 0.3).std() / num_test
    assert standard_error(0.3, dataset.num_test) == pytest.approx(expected)


def test_accuracies_near_chance_are_counted_and_said_in_words() -> None:
    sst2 = DATASETS["sst2_1k"]
    accuracies = pd.Series([0.5, 0.53, 0.47, 0.6])  # two standard errors are 0.034
    assert near_chance(accuracies, sst2) == 3
    assert chance_words(accuracies, sst2) == "3 of 4 runs end within 2 s.e. of chance, 0.5"
    assert chance_words(pd.Series([0.9, 0.5, 0.9]), sst2) == ""
    assert chance_words(accuracies, DATASETS["mnist5k"]) == ""


def test_the_line_of_chance_never_widens_a_panel() -> None:
    axes = plt.figure().add_subplot()
    axes.set_ylim(0.45, 0.6)
    draw_chance(axes, DATASETS["sst2_1k"])
    draw_chance(axes, DATASETS["mnist5k"])  # 0.1, outside
    assert [list(line.get_ydata()) for line in axes.get_lines()] == [[0.5, 0.5]]
    assert axes.get_ylim() == (0.45, 0.6)


@pytest.mark.parametrize(("name", "labels"), [("sst2_1k", ["chance"]), ("mnist5k", [])])
def test_a_legend_has_the_line_of_chance_where_a_panel_has_it(name: str, labels: list[str]) -> None:
    figure = plt.figure()
    axes = figure.add_subplot()
    axes.set_ylim(0.45, 0.6)
    draw_chance(axes, DATASETS[name])
    _, *others = accuracy_handles(pd.DataFrame({"dataset": [name]}), figure)
    assert [handle.get_label() for handle in others] == labels


def test_a_table_that_names_no_data_set_has_neither() -> None:
    table = pd.DataFrame({"task": ["mnist_mlp"]})
    assert dataset_of(table) is None
    assert chance_words(pd.Series([0.5]), None) == ""
    assert accuracy_handles(table, plt.figure()) == []


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="no data set 'mine'"):
        dataset_of(pd.DataFrame({"dataset": ["mine"]}))
