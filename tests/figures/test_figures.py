"""Figures from made-up tables: what is drawn is what the table says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from sharpflat.analysis.intervals import geometric_mean
from sharpflat.figures import FIGURES
from sharpflat.figures.style import METHOD_COLOURS, METHOD_DASHES, method_label, save
from sharpflat.methods import PATHS, POINTS

SOURCE = Path(__file__).parents[2] / "src"
STEPS = np.arange(0, 50, 10)


@pytest.fixture
def table() -> pd.DataFrame:
    """Two seeds, three methods, losses that are powers of two."""
    rows = []
    for seed in (0, 1):
        for method, rate in (("before_switch", 1), ("sgd", 1), ("dom_sgd", 0), ("bulk_sgd", 2)):
            for step in STEPS:
                after = int(step - STEPS.max() if method == "before_switch" else step)
                rows.append(
                    {
                        "task": "mnist_mlp",
                        "loss": "mse",
                        "method": method,
                        "seed": seed,
                        "k": 2,
                        "step": after + int(STEPS.max()),
                        "steps_after_switch": after,
                        "train_loss": 2.0 ** (seed - rate * after / 10),
                        "test_accuracy": 0.5 + 0.01 * seed,
                        "alignment": 0.9,
                        "batch_alignment": 0.5 + 0.1 * seed,
                        "eigenvalue_1": 4.0,
                        "eigenvalue_2": 3.0,
                        "eigenvalue_3": 1.0,
                    }
                )
    return pd.DataFrame(rows)


def _line(axes: Axes, colour: str, length: int) -> np.ndarray:
    (line,) = [
        line
        for line in axes.get_lines()
        if line.get_color() == colour and len(line.get_xdata()) == length
    ]
    return np.asarray(line.get_ydata())


def test_dom_bulk_draws_geometric_means_over_seeds(table: pd.DataFrame) -> None:
    figure = FIGURES["dom_bulk"](table)
    loss_axes = figure.axes[0]
    assert loss_axes.get_yscale() == "log"
    for method in ("sgd", "dom_sgd", "bulk_sgd"):
        losses = table[table["method"] == method].groupby("steps_after_switch")["train_loss"]
        drawn = _line(loss_axes, METHOD_COLOURS[method], len(STEPS))
        assert drawn == pytest.approx(losses.agg(geometric_mean).to_numpy())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["SGD before the switch", "SGD", "Dom-SGD", "Bulk-SGD"]
    plt.close(figure)


def test_alignment_draws_both_gradients_and_the_eigenvalues_around_the_gap(
    table: pd.DataFrame,
) -> None:
    sgd = table[table["method"].isin(["before_switch", "sgd"])]
    figure = FIGURES["alignment"](sgd)
    alignment_axes, eigenvalue_axes = figure.axes
    assert _line(alignment_axes, "#e69f00", 9) == pytest.approx(np.full(9, 0.55))
    labels = [text.get_text() for text in eigenvalue_axes.get_legend().get_texts()]
    assert labels == [r"$\lambda_{1}$", r"$\lambda_{2}$", r"$\lambda_{3}$, from below"]
    plt.close(figure)


def test_diverged_rows_without_a_measurement_leave_the_rest_drawn(table: pd.DataFrame) -> None:
    table.loc[table["method"].eq("bulk_sgd") & table["steps_after_switch"].eq(40), "train_loss"] = (
        np.nan
    )
    figure = FIGURES["dom_bulk"](table)
    assert len(_line(figure.axes[0], METHOD_COLOURS["bulk_sgd"], len(STEPS) - 1)) == 4
    plt.close(figure)


def test_eigensolver_cost_draws_a_bar_and_a_floor_for_every_measured_method() -> None:
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
        "learning_rate": 0.01,
    }
    figure = FIGURES["eigensolver_cost"](pd.DataFrame([row | common for row in rows]))
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [1.0, 4.0, 0.1]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "sharpflat",
        "peer, less accurate",
        "sharpflat, a step at lr 0.01",
    ]
    (floors,) = [line for line in axes.get_lines() if line.get_marker() == "|"]
    assert list(floors.get_xdata()) == [0.5] * 3
    plt.close(figure)


def test_every_method_has_a_label_and_a_colour_and_dashes_of_its_own() -> None:
    stems = ["before_switch", *POINTS, *PATHS]
    assert len({METHOD_COLOURS[stem] for stem in stems}) == len(stems)
    assert len({METHOD_DASHES[stem] for stem in stems}) == len(stems) - 1  # both solid: SGD
    labels = {method_label(name) for name in [*POINTS, *(f"{path}(0.5)" for path in PATHS)]}
    assert len(labels) == len(POINTS) + len(PATHS)


def test_a_figure_saved_twice_is_the_same_file(table: pd.DataFrame, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        figure = FIGURES["dom_bulk"](table)
        save(figure, tmp_path / folder / "f.pdf", tmp_path / folder / "f.png")
        plt.close(figure)
    for name in ("f.pdf", "f.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_drawing_and_planning_import_no_torch() -> None:
    """A figure job must not pay for torch, nor the workflow when it is parsed."""
    code = (
        "import sys, sharpflat.figures, sharpflat.analysis.tables, sharpflat.plan, sharpflat.cli;"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, check=True)
