"""Figure ``optimizers``. Oracle: planted losses, alignments and eigenvalues that are drawn."""

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.figures.optimizers import (
    momentum_edge,
    optimizer_label,
    plot_optimizers,
    sharpness_column,
)
from sharpflat.figures.style import METHOD_COLOURS, SERIES_COLOURS
from sharpflat.optimizers import label, parse_optimizer

Make = Callable[..., pd.DataFrame]
METHODS = ("before_switch", "sgd", "dom_sgd", "bulk_sgd")
LOSSES = {
    "before_switch": [1.2, 1.0],
    "sgd": [1.0, 0.5, 0.25],
    "dom_sgd": [1.0, 0.9, 0.8],
    "bulk_sgd": [1.0, 0.25, 0.0625],
}


@pytest.fixture
def table(trajectory: Make, as_read: Make) -> pd.DataFrame:
    """Adam's second seed, and both of momentum's, switched by step."""
    runs = []
    for value, preconditioned in (("adam", 8000.0), ("sgd(momentum=0.9)", math.nan)):
        for seed in (0, 1):
            for method in METHODS:
                changes: dict[str, Any] = {"varied": "optimizer", "value": value, "seed": seed}
                changes["update_alignment"] = 0.25
                changes["preconditioned_eigenvalue_1"] = preconditioned
                by_step = value != "adam" or seed == 1
                changes["switch_reason"] = "max_steps" if by_step else "alignment"
                runs.append(trajectory(method, LOSSES[method], **changes))
    return as_read(runs)


def _lines(axes: Axes, colour: str) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_color() == colour]


def test_a_row_an_optimizer_with_what_brought_its_switch(table: pd.DataFrame) -> None:
    figure = plot_optimizers(table)
    titles = [axes.texts[0].get_text() for axes in figure.axes[::4]]
    assert titles == [
        "MLP, MNIST-5k, MSE: Adam, η = 0.01; fixed switch at step 40 in 1 of 2 seeds",
        "MLP, MNIST-5k, MSE: SGD, momentum 0.9, η = 0.01; fixed switch at step 40",
    ]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:4] == ["base before the switch", "Base", "Dom", "Bulk"]


def test_losses_are_compared_with_the_base_optimizer(table: pd.DataFrame) -> None:
    ratios = plot_optimizers(table).axes[1]
    assert ratios.get_ylabel() == "training loss\nover Base's"
    for line in _lines(ratios, METHOD_COLOURS["bulk_sgd"]):
        assert line.get_ydata() == pytest.approx([1, 0.5, 0.25])


def test_the_updates_alignment_stands_beside_the_gradients(table: pd.DataFrame) -> None:
    alignments = plot_optimizers(table).axes[2]
    gradient, update = (_lines(alignments, SERIES_COLOURS[i])[-1] for i in (0, 2))
    assert gradient.get_ydata() == pytest.approx([0.9] * 4)
    assert update.get_ydata() == pytest.approx([0.25] * 4)
    assert gradient.get_xdata().tolist() == [-10, 0, 10, 20]


def test_sharpness_is_in_units_of_the_edge(table: pd.DataFrame) -> None:
    """η = 0.01: 8000 η / 2 = 40 for Adam, and λ_1 = 4 of the Hessian for SGD."""
    axes = plot_optimizers(table).axes
    for panel, expected, edge in ((axes[3], 40, 19), (axes[7], 0.02, 1.9)):
        assert _lines(panel, METHOD_COLOURS["bulk_sgd"])[-1].get_ydata() == pytest.approx(
            [expected] * 3
        )
        edges = [line.get_ydata()[0] for line in _lines(panel, "0.35")]
        assert edges == pytest.approx([1, edge])


def test_an_optimizer_without_a_known_edge_says_so(table: pd.DataFrame) -> None:
    muon = table[table["value"] != "adam"].assign(value="muon")
    sharpness = plot_optimizers(muon).axes[3]
    assert "its edge is\nnot $2/\\eta$" in [text.get_text() for text in sharpness.texts]


@pytest.mark.parametrize(
    ("value", "shown", "column", "edge"),
    [
        ("sgd", "SGD", "eigenvalue_1", 1.0),
        ({"name": "sgd", "momentum": 0.5}, "SGD, momentum 0.5", "eigenvalue_1", 1.5),
        ({"name": "adamw", "betas": [0.5, 0.99]}, "AdamW, betas 0.5,0.99", "adaptive", 3.0),
        ("rmsprop", "RMSProp", "adaptive", 1.0),
        ("muon", "Muon", None, math.nan),
        ("sam", "SAM", None, math.nan),
        (
            {"name": "sgd", "momentum": 0.9, "nesterov": True},
            "SGD, momentum 0.9, nesterov",
            "eigenvalue_1",
            math.nan,
        ),
    ],
)
def test_names_are_read_as_the_configuration_writes_them(
    value: Any, shown: str, column: str | None, edge: float
) -> None:
    name = label(*parse_optimizer(value))
    assert optimizer_label(name) == shown
    expected = "preconditioned_eigenvalue_1" if column == "adaptive" else column
    assert sharpness_column(name) == expected
    assert momentum_edge(name) == pytest.approx(edge, nan_ok=True)
