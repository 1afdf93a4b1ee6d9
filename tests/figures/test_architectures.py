"""Figure ``architectures``. Oracle: planted losses and alignments."""

from collections.abc import Callable

import pandas as pd
import pytest

from sharpflat.figures.architectures import plot_architectures
from sharpflat.figures.style import METHOD_COLOURS, SERIES_COLOURS

Make = Callable[..., pd.DataFrame]
LOSSES = {"before_switch": [1.2, 1.0], "sgd": [1.0, 0.5, 0.25], "bulk_sgd": [1.0, 0.25, 0.0625]}


def test_a_row_a_task_with_losses_ratios_and_alignments(trajectory: Make, as_read: Make) -> None:
    table = as_read(
        [
            trajectory(
                method, losses, task=task, loss="cross_entropy", seed=seed, switch_reason=reason
            )
            for task, reason in (("cifar10_vgg", "alignment"), ("cancer_mlp", "max_steps"))
            for seed in (0, 1)
            for method, losses in LOSSES.items()
        ]
    )
    figure = plot_architectures(table)
    assert [axes.texts[0].get_text() for axes in figure.axes[::3]] == [
        "VGG, CIFAR10-5k, cross-entropy, k = 2",
        "MLP, breast cancer, cross-entropy, k = 2; fixed switch at step 40",
    ]
    _, ratios, alignments = figure.axes[:3]
    bulk = [a for a in ratios.get_lines() if a.get_color() == METHOD_COLOURS["bulk_sgd"]]
    assert bulk[-1].get_ydata() == pytest.approx([1, 0.5, 0.25])
    for colour, expected in ((SERIES_COLOURS[0], 0.9), (SERIES_COLOURS[1], 0.5)):
        lines = [line for line in alignments.get_lines() if line.get_color() == colour]
        assert lines[-1].get_ydata() == pytest.approx([expected] * 4)
