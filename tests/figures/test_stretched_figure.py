"""Figure of the stretched optimizers. Oracle: means of the table's own numbers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.benchmarks.stretched_setting import LOSS_FLOOR
from sharpflat.figures.stretched import COLOURS, LABELS, main, plot_stretched

CELL = {"task": "mnist_mlp", "loss": "mse", "batch_size": 50}


def _curve(optimizer: str, seed: int, losses: list[float], seconds: float) -> pd.DataFrame:
    steps = 10 * np.arange(len(losses))
    columns = {"step": steps, "train_loss": losses, "seconds": seconds * steps}
    return pd.DataFrame(columns).assign(**CELL, optimizer=optimizer, seed=seed)


TABLE = pd.concat(
    [
        _curve("sgd", 0, [1.0, 0.4, 0.2], 0.1),
        _curve("sgd", 1, [1.0, 0.1, 0.05], 0.3),
        _curve("stretched_sgd", 0, [1.0, 0.2, 0.1], 1.0),
        _curve("stretched_sgd", 1, [1.0, 0.2], 1.0),  # it diverged
    ]
)


def _line(axes: Axes, *, stretched: bool) -> Line2D:
    lines = [line for line in axes.get_lines() if line.is_dashed() == stretched]
    assert all(line.get_color() == COLOURS["sgd"] for line in lines)
    (line,) = lines
    return line


def test_geometric_means_over_steps_and_over_mean_seconds() -> None:
    over_steps, over_seconds = plot_stretched(TABLE).axes
    plain = _line(over_steps, stretched=False)
    assert plain.get_xdata() == pytest.approx([0, 10, 20])
    assert plain.get_ydata() == pytest.approx([1, 0.2, 0.1])
    plain = _line(over_seconds, stretched=False)
    assert plain.get_xdata() == pytest.approx([2, 4])  # the start has no place on a log axis
    assert plain.get_ydata() == pytest.approx([0.2, 0.1])


def test_no_mean_where_a_seed_is_missing() -> None:
    over_steps, _ = plot_stretched(TABLE).axes
    assert _line(over_steps, stretched=True).get_xdata() == pytest.approx([0, 10])


def test_losses_that_are_not_resolved_lie_on_the_floor() -> None:
    table = TABLE.assign(train_loss=TABLE["train_loss"].where(TABLE["step"] < 20, 0.0))
    over_steps, _ = plot_stretched(table).axes
    assert _line(over_steps, stretched=False).get_ydata() == pytest.approx([1, 0.2, LOSS_FLOOR])


def test_a_row_a_comparison_and_an_entry_an_optimizer() -> None:
    other = TABLE.assign(task="cancer_mlp")
    figure = plot_stretched(pd.concat([TABLE, other]))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[::2] == [
        "MLP, MNIST-5k, MSE, batches of 50",
        "MLP, breast cancer, MSE, batches of 50",
    ]
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [LABELS["sgd"], LABELS["stretched_sgd"]]


def test_it_is_written(tmp_path) -> None:
    TABLE.to_csv(tmp_path / "stretched_curves.csv", index=False)
    main(tmp_path, tmp_path)
    assert (tmp_path / "stretched.png").stat().st_size > 10_000
    assert (tmp_path / "stretched.pdf").read_bytes()[:5] == b"%PDF-"
