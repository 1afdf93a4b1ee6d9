"""The look of all figures: methods are told apart, and files are what a journal takes."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from sharpflat.figures.dom_bulk import plot_dom_bulk
from sharpflat.figures.style import (
    METHOD_COLOURS,
    METHOD_DASHES,
    METHOD_MARKERS,
    PAGE_WIDTH,
    label_log_axis,
    legend_below,
    line_style,
    method_colour,
    method_handles,
    method_label,
    method_marker,
    save,
)
from sharpflat.methods import FREE, PATHS, POINTS

Make = Callable[..., pd.DataFrame]
STEMS = ["before_switch", *POINTS, *PATHS]


def test_every_method_has_a_colour_and_a_marker_and_dashes_of_its_own() -> None:
    for looks in (METHOD_COLOURS, METHOD_MARKERS):
        assert len({looks[stem] for stem in STEMS}) == len(STEMS)
    # Two are solid: Bulk-SGD, and the grey SGD before the switch, which stands on its other side.
    assert len({METHOD_DASHES[stem] for stem in STEMS}) == len(STEMS) - 1
    labels = {method_label(name) for name in [*POINTS, *(f"{path}(0.5)" for path in PATHS)]}
    assert len(labels) == len(POINTS) + len(PATHS)


def test_points_of_a_path_share_dashes_and_marker_and_go_from_dark_to_pale() -> None:
    points = [f"convex({alpha})" for alpha in (0, 0.25, 0.5, 0.9, 1)]
    lightness = [np.dot(to_rgb(method_colour(name)), (0.299, 0.587, 0.114)) for name in points]
    assert (np.diff(lightness) > 0.03).all()
    assert method_colour("convex(0.5)") == method_colour("convex") == METHOD_COLOURS["convex"]
    assert {method_marker(name) for name in points} == {METHOD_MARKERS["convex"]}
    dashes = [line_style(name)["linestyle"] for name in points]
    assert dashes == [line_style("convex")["linestyle"]] * len(points)
    assert [method_label(name) for name in points][3:] == [
        "Dom to Bulk, α = 0.9",
        "Dom to Bulk, α = 1",
    ]


def test_free_weights_have_looks_by_their_numbers_alone() -> None:
    names = [f"weights({a}, {b})" for a in (0, 0.25, 0.5, 1) for b in (0.5, 1, 2, 3, 4)]
    colours = {method_colour(name) for name in names}
    assert len(colours) == len(names)
    assert not colours & set(METHOD_COLOURS.values())
    assert {method_marker(name) for name in names} == {METHOD_MARKERS[FREE]}
    assert list(METHOD_MARKERS.values()).count(METHOD_MARKERS[FREE]) == 1
    assert list(METHOD_DASHES.values()).count(METHOD_DASHES[FREE]) == 1
    assert method_label("weights(0.5, 2)") == "a = 0.5, b = 2"
    assert line_style("weights(0.5, 2)")["color"] == method_colour("weights(0.5, 2)")


def test_no_two_methods_have_the_same_colour() -> None:
    points = [f"{path}({alpha})" for path in PATHS for alpha in (0.1, 0.5, 0.9)]
    colours = [method_colour(name) for name in [*STEMS, *points] if not name.endswith("(0.5)")]
    assert len(set(colours)) == len(colours)


def test_crosses_are_explained_only_where_a_run_diverged(trajectory: Make) -> None:
    finished = trajectory("sgd", [1.0, 0.5])
    assert [handle.get_label() for handle in method_handles(finished)] == ["SGD"]
    diverged = pd.concat([finished, trajectory("bulk_sgd", [1.0, 9.0], status="diverged")])
    labels = [handle.get_label() for handle in method_handles(diverged)]
    assert labels == ["SGD", "Bulk-SGD", "a run that diverged"]


@pytest.mark.parametrize(
    ("limits", "labels"),
    [
        ((0.1, 0.5), ["0.1", "0.2", "0.3", "0.4", "0.5"]),
        ((0.09, 2.2), ["0.1", "0.2", "0.5", "1", "2"]),
        ((0.009, 1.1), ["0.01", "0.03", "0.1", "0.3", "1"]),
        ((0.9, 1.1e4), ["1", "10", "100", "1000", "10000"]),
    ],
)
def test_log_axes_have_plain_numbers_on_any_range(
    limits: tuple[float, float], labels: list[str]
) -> None:
    axes = plt.figure().add_subplot()
    axes.set(yscale="log", ylim=limits)
    label_log_axis(axes, "y")
    axes.figure.draw_without_rendering()
    low, high = limits
    shown = [
        text.get_text()
        for place, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if low * 0.999 <= place <= high * 1.001
    ]
    assert shown == labels


def test_every_tick_of_a_log_axis_has_a_number() -> None:
    axes = plt.figure().add_subplot()
    axes.set(yscale="log", ylim=(0.75, 0.86))
    label_log_axis(axes, "y")
    axes.figure.draw_without_rendering()
    assert len(axes.get_yticks(minor=True)) == 0
    assert all(text.get_text() for text in axes.get_yticklabels())


def test_a_narrow_figure_has_a_narrow_legend(trajectory: Make) -> None:
    handles = method_handles(trajectory("sgd", [1.0])) * 4
    for width, columns in ((PAGE_WIDTH, 4), (PAGE_WIDTH / 2, 2)):
        figure = plt.figure(figsize=(width, 1))
        legend_below(figure, handles, columns=4)
        assert figure.legends[0]._ncols == columns


def test_a_saved_figure_is_the_same_file_again_at_page_width_with_fonts_inside(
    trajectory: Make, tmp_path: Path
) -> None:
    table = pd.concat([trajectory("sgd", [1.0, 0.5]), trajectory("bulk_sgd", [1.0, 0.4])])
    for folder in ("a", "b"):
        figure = plot_dom_bulk(table)
        save(figure, tmp_path / folder / "f.pdf", tmp_path / folder / "f.png")
    for name in ("f.pdf", "f.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    pdf = (tmp_path / "a" / "f.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType
    assert b"/Subtype /Type3" not in pdf
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * PAGE_WIDTH)
    assert plt.imread(tmp_path / "a" / "f.png").shape[1] == round(200 * PAGE_WIDTH)


def test_no_text_is_cut_off_at_the_edge_of_the_page(trajectory: Make, tmp_path: Path) -> None:
    figure = plot_dom_bulk(trajectory("sgd", [1.0, 0.5]))
    save(figure, tmp_path / "f.png")
    page = figure.bbox
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1
