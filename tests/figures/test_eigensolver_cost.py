"""Figure ``eigensolver_cost``: oracle is the table's own numbers."""

import pandas as pd

from sharpflat.figures.eigensolver_cost import plot_eigensolver_cost


def test_a_bar_and_a_floor_are_drawn_for_every_measured_method() -> None:
    rows = [
        {"method": "sharpflat", "mode": "cold", "seconds": 1.0, "reached": True},
        {"method": "peer", "mode": "cold", "seconds": 4.0, "reached": False},
        {"method": "absent peer", "mode": "cold", "seconds": None, "reached": False},
        {"method": "sharpflat", "mode": "tracked", "seconds": 0.1, "reached": True},
    ]
    common = {
        "task": "mnist_mlp",
        "products": 20,
        "sine_largest_angle": 0.004,
        "floor_seconds": 0.5,
        "training": "dom_sgd",
        "learning_rate": 0.01,
    }
    figure = plot_eigensolver_cost(pd.DataFrame([row | common for row in rows]))
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [1.0, 4.0, 0.1]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "sharpflat",
        "peer, less accurate",
        "sharpflat, Dom-SGD step, lr 0.01",
    ]
    (floors,) = [line for line in axes.get_lines() if line.get_marker() == "|"]
    assert list(floors.get_xdata()) == [0.5] * 3
