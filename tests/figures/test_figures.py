"""All figures together: their names, their layout, and what drawing them may import."""

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.figures import FIGURES
from sharpflat.figures.style import method_label, save
from sharpflat.schema import kind_of

Make = Callable[..., pd.DataFrame]
SOURCE = Path(__file__).parents[2] / "src"
TASKS, LOSSES = ("mnist_mlp", "cifar10_cnn", "sst2_transformer"), ("mse", "cross_entropy")
#: Of the figures that train; ``eigensolver_cost`` and ``curvature_energy`` have tests of their own.
NAMED, POINTS = (
    ["sgd", "dom_sgd", "bulk_sgd"],
    ["sgd_to_bulk(0.9)", "sgd_to_bulk(0.5)", "convex(1)", "weights(0.5, 2)"],
)
METHODS = {
    "dom_bulk": NAMED,
    "alignment": ["sgd"],
    "generalization": NAMED,
    "stability_edge": ["sgd", "bulk_sgd", "sgd_to_bulk(0.9)"],
    "interpolation": ["sgd", "dom_sgd", "bulk_sgd", "sgd_to_bulk(0.5)", "convex(0)", "convex(1)"],
    "stability_map": ["sgd_to_bulk(0)", "sgd_to_bulk(0.5)", "sgd_to_bulk(1)"],
    "stability_plane": [f"weights({a}, {b})" for a in (0, 0.1, 0.5, 1) for b in (0.5, 1, 2, 4)],
    "transfer": ["sgd", "bulk_sgd"],
}
#: Figures whose table lists the trials of searches.
SEARCHED = ("stability_edge", "transfer")
VARIED: dict[str, tuple[str, list[Any]]] = {
    "optimizers": ("optimizer", ["sgd", "adam", "muon"]),
    "ablation_lr": ("learning_rate", [0.003, 0.01, 0.03, 0.06, 0.066, 0.073, 0.08, 0.12]),
    "ablation_batch_size": ("batch_size", [10, 50, 200, 1000]),
    "ablation_k": ("k", [1, 5, 10, 20, 40]),
    "ablation_refresh": ("refresh", [1, 10, 50, 200, "adaptive"]),
    "ablation_hessian_samples": ("hessian_samples", [50, 500, 5000]),
    "ablation_switch": ("switch_step", [500, 2000, 8000]),
    "ablation_width": ("width", [50, 100, 200, 400]),
    "stability_map": ("learning_rate", [0.003, 0.01, 0.03, 0.06, 0.12, 0.25]),
    **dict.fromkeys(("stability_edge", "transfer"), ("learning_rate", [0.01, 0.03, 0.06, 0.25])),
}
#: Figures whose legend has an entry a method; that of the interpolation has one a path.
WITH_METHODS = ["dom_bulk", "generalization", "stability_edge", "ablation_lr", "ablation_refresh"]


@pytest.fixture
def table(trajectory: Make, as_read: Make) -> Make:
    """Makes the table of a figure over some tasks and losses; one run in seven diverges."""

    def make(
        name: str, tasks: tuple[str, ...], losses: tuple[str, ...], more: Sequence[str] = ()
    ) -> pd.DataFrame:
        methods = [*METHODS.get(name, ["sgd", "bulk_sgd"]), *more]
        setting, values = VARIED.get(name, (None, [None]))
        cells = product(tasks, losses, values, methods, (0, 1, 2))
        runs = [
            trajectory("before_switch", [4.0, 2.0, 1.0], task=task, loss=loss, varied=setting)
            for task, loss in product(tasks, losses)
        ]
        for number, (task, loss, value, method, seed) in enumerate(cells):
            diverged = number % 7 == 6
            changes = {"task": task, "loss": loss, "seed": seed, "varied": setting, "value": value}
            changes["learning_rate"] = value if setting == "learning_rate" else 0.01
            changes["status"] = "diverged" if diverged else "finished"
            final = math.nan if diverged else 0.3 + 0.01 * number / (1 + number)
            runs.append(trajectory(method, [1.0, 0.6 + 0.1 * seed, final], **changes))
        read = as_read(runs).assign(dataset="mnist5k", num_parameters=199210)
        return _trials(read) if name in SEARCHED else read

    return make


def _trials(table: pd.DataFrame) -> pd.DataFrame:
    """The runs as a search for the edge lists them, a row each."""
    runs = table[(table["method"] != "before_switch") & (table["steps_after_switch"] == 0)]
    unstable = runs["learning_rate"].where(runs["learning_rate"] < 0.1).isna()
    stability = unstable.map({True: "unstable", False: "stable"})
    return runs.assign(
        stability=stability.mask(runs["status"] == "diverged", "diverged"),
        eigenvalue_dominant=50.0 - runs["seed"],
        eigenvalue_bulk=10.0 + runs["seed"],
    )


def test_the_figures_are_those_of_the_study() -> None:
    names = {*METHODS, *VARIED, "curvature_energy", "eigensolver_cost"}
    names |= {"optimizers", "architectures"}  # beyond it
    assert set(FIGURES) == {kind_of(name, FIGURES) for name in names}


@pytest.mark.parametrize("name", [*METHODS, "ablation_k", "ablation_hessian_samples"])
def test_nothing_overlaps_or_leaves_the_page(name: str, table: Make, tmp_path: Path) -> None:
    _check_layout(_plot(name)(table(name, TASKS[:1], LOSSES[:1])), tmp_path)


def test_nor_where_a_row_is_an_optimizer(table: Make, tmp_path: Path) -> None:
    made = table("optimizers", TASKS[:1], LOSSES[:1])
    more = {"switch_reason": "max_steps", "update_alignment": 0.3}
    _check_layout(_plot("optimizers")(made.assign(**more)), tmp_path)
    _check_layout(_plot("architectures")(made.assign(**more)), tmp_path)


@pytest.mark.parametrize("name", WITH_METHODS)
def test_points_of_paths_have_looks_and_entries_of_their_own(
    name: str, table: Make, tmp_path: Path
) -> None:
    figure = _plot(name)(table(name, TASKS[:1], LOSSES[:1], more=POINTS))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    methods = dict.fromkeys([*METHODS.get(name, ["sgd", "bulk_sgd"]), *POINTS])
    assert {method_label(method) for method in methods} <= set(labels)
    handles = [h for h in figure.legends[0].legend_handles if h.get_label() in labels]
    looks = {h.get_label(): h.get_color() for h in handles if isinstance(h, Line2D)}
    colours = [looks[method_label(method)] for method in methods]
    assert len(set(colours)) == len(colours)
    _check_layout(figure, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*METHODS, "ablation_refresh"])
def test_nor_on_a_page_of_all_tasks_and_losses(name: str, table: Make, tmp_path: Path) -> None:
    _check_layout(_plot(name)(table(name, TASKS, LOSSES)), tmp_path)


def _plot(name: str) -> Callable[[pd.DataFrame], Figure]:
    kind = kind_of(name, FIGURES)
    assert kind is not None
    return FIGURES[kind]


def _check_layout(figure: Figure, folder: Path) -> None:
    """Measured in the saved file's own pixels."""
    save(figure, folder / "figure.png")
    page = figure.bbox
    legends = [legend.get_window_extent() for legend in figure.legends]
    for box in [*(axes.get_tightbbox() for axes in figure.axes), *legends]:
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1
    panels = [axes.get_window_extent() for axes in figure.axes]
    names = [label for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label)]
    name_boxes = [label.get_window_extent() for label in names if label.get_text()]
    titles = [_title(axes) for axes in figure.axes if axes.get_title(loc="left")]
    assert not _overlaps([*panels, *name_boxes, *titles, *legends])
    for axes in figure.axes:
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            shown = [label for label in labels if label.get_text() and _within(label, axes)]
            assert not _overlaps([label.get_window_extent() for label in shown])


def _title(axes: Axes) -> Any:
    return axes._left_title.get_window_extent()


def _within(label: Any, axes: Axes) -> bool:
    x, y = label.get_position()
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    horizontal = label in axes.get_xticklabels()
    return left <= x <= right if horizontal else low <= y <= high


def _overlaps(boxes: list[Any]) -> list[tuple[Any, Any]]:
    return [
        (first, second)
        for i, first in enumerate(boxes)
        for second in boxes[i + 1 :]
        if first.overlaps(second)
    ]


def test_drawing_and_planning_import_no_torch() -> None:
    """A figure job must not pay for torch, nor the workflow when it is parsed."""
    code = (
        "import sys, sharpflat.figures, sharpflat.analysis.tables, sharpflat.plan, sharpflat.cli;"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, check=True)
