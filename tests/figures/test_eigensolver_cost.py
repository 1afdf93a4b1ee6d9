"""Figure ``eigensolver_cost``: oracle is the table's own numbers."""

from typing import Any

import pandas as pd

from sharpflat.figures.eigensolver_cost import plot_eigensolver_cost

COMMON = {
    "task": "mnist_mlp",
    "equivalent_products": 20,
    "sine_largest_angle": 0.004,
    "accuracy": 0.05,
    "floor_seconds": 0.5,
    "training": "dom_sgd",
    "learning_rate": 0.01,
    "samples": "all",
    "num_samples": 5000,
    "interval": 1,
    "mode": "tracked",
    "reached": True,
}
BARS: list[dict[str, Any]] = [
    {"method": "sharpflat", "mode": "cold", "seconds": 1.0},
    {"method": "peer", "mode": "cold", "seconds": 4.0, "reached": False},
    {"method": "absent peer", "mode": "cold", "seconds": None, "reached": False},
    {"method": "sharpflat", "seconds": 0.1},
    {"method": "sharpflat", "seconds": 0.05, "samples": "auto"},
    {"method": "slow warm peer", "seconds": 0.4},
    {"method": "warm peer", "seconds": 0.3},
    {"method": "inaccurate warm peer", "seconds": 0.2, "reached": False},
    {"method": "warm peer", "seconds": 0.7, "accuracy": 0.01},
    {"method": "warm peer at intervals", "seconds": 0.6, "interval": 20},
    {"method": "peer, cold", "seconds": 3.0},
]


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([COMMON | row for row in rows])


def test_a_bar_and_a_floor_are_drawn_for_what_is_measured_and_not_beaten() -> None:
    (axes,) = plot_eigensolver_cost(table(BARS)).axes
    widths = [1.0, 4.0, 0.1, 0.05, 0.3, 0.7, 0.6, 3.0]
    assert [bar.get_width() for bar in axes.patches] == widths  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "sharpflat",
        "peer, less accurate",
        "sharpflat, Dom-SGD step, lr 0.01",
        "sharpflat, sampled, Dom-SGD step, lr 0.01",
        "warm peer, Dom-SGD step, lr 0.01, error ≤ 0.05",
        "warm peer, Dom-SGD step, lr 0.01, error ≤ 0.01",
        "warm peer at intervals, Dom-SGD step, lr 0.01, error ≤ 0.05",
        "peer, cold, Dom-SGD step, lr 0.01, error ≤ 0.05",
    ]
    (floors,) = [line for line in axes.get_lines() if line.get_marker() == "|"]
    assert list(floors.get_xdata()) == [0.5] * len(widths)


def test_a_table_without_peers_has_a_bar_for_every_row() -> None:
    (axes,) = plot_eigensolver_cost(table(BARS[:1])).axes
    assert len(axes.patches) == 1


def test_growth_with_the_samples_is_drawn_beside_proportion() -> None:
    growth = [
        {"mode": "scaling", "method": "sharpflat", "num_samples": n, "samples": samples, **cost}
        for samples, costs in (
            ("all", [{"seconds": 0.2, "equivalent_products": 2}] * 2),
            ("auto", [{"seconds": 0.1, "equivalent_products": 0.5}] * 2),
        )
        for n, cost in zip((4000, 1000), costs, strict=True)
    ]
    figure = plot_eigensolver_cost(table(BARS + growth))
    _, seconds, work = figure.axes
    drawn = {line.get_label(): list(map(list, line.get_data())) for line in seconds.get_lines()}
    assert drawn == {
        "products over all samples": [[1000, 4000], [0.2, 0.2]],
        "sampled products": [[1000, 4000], [0.1, 0.1]],
        "in proportion to n": [[1000, 4000], [0.2, 0.8]],
    }
    multiplied = [list(line.get_ydata()) for line in work.get_lines()]
    assert multiplied == [[2000, 8000], [500, 2000], [2000, 8000]]
