"""Figure ``curvature_energy``. Oracle: shares and quotients that are set by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.figures.curvature_energy import MATRICES, MATRIX_LOOKS, plot_curvature_energy
from sharpflat.figures.style import METHOD_COLOURS, METHOD_MARKERS, SEED_LINE, method_marker

SHARES = {"hessian": 0.8, "ggn": 0.9, "functional_hessian": 0.1}
SWITCH = {0: 100, 1: 150}


def _row(method: str, seed: int, after: int, matrix: str, **changes: Any) -> dict[str, Any]:
    late = {"sgd": 0.0, "before_switch": 0.0, "bulk_sgd": -0.001}[method] * after
    share = SHARES[matrix] + late + 0.02 * seed
    return {
        "task": "mnist_mlp",
        "loss": "mse",
        "method": method,
        "k": 2,
        "seed": seed,
        "status": "finished",
        "step": SWITCH[seed] + after,
        "steps_after_switch": after,
        "matrix": matrix,
        "overlap": 0.7 + late,
        "frobenius_share": share,
        "frobenius_share_se": 0.03,
        "trace_share": share - 0.2,
        "trace_share_se": 0.04,
        "rayleigh_quotient_1": 10 * SHARES[matrix] + after,
        "rayleigh_quotient_2": 5 * SHARES[matrix] + after,
        **changes,
    }


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [
        _row(method, seed, after, matrix)
        for method, steps in (
            ("before_switch", (-1, 0)),
            ("sgd", (0, 50, 100)),
            ("bulk_sgd", (0, 50, 100)),
        )
        for seed in (0, 1)
        for after in steps
        for matrix in MATRICES
    ]
    frame = pd.DataFrame(rows)
    start = frame["steps_after_switch"].eq(-1)  # initialisation, before a switch of each seed's own
    frame.loc[start, "steps_after_switch"] = -frame.loc[start, "seed"].map(SWITCH)
    return frame


def _line(axes: Axes, colour: str, method: str) -> Line2D:
    (line,) = [
        line
        for line in axes.get_lines()
        if line.get_color() == colour and line.get_marker() == METHOD_MARKERS[method]
    ]  # the mean: seeds have no markers
    return line


def test_shares_are_means_over_seeds(table: pd.DataFrame) -> None:
    frobenius, trace, *_ = plot_curvature_energy(table).axes
    for matrix in MATRICES:
        line = _line(frobenius, MATRIX_LOOKS[matrix]["color"], "bulk_sgd")
        assert line.get_xdata().tolist() == [0, 50, 100]
        expected = SHARES[matrix] + 0.01 - 0.001 * np.array([0, 50, 100])
        assert line.get_ydata() == pytest.approx(expected)
    line = _line(trace, MATRIX_LOOKS["ggn"]["color"], "sgd")
    assert line.get_ydata() == pytest.approx(np.full(3, 0.71))
    functional = MATRIX_LOOKS["functional_hessian"]["color"]
    assert all(line.get_color() != functional for line in trace.get_lines())


def test_bars_are_the_probes_errors_and_seeds_are_thin_lines(table: pd.DataFrame) -> None:
    frobenius = plot_curvature_energy(table[table["method"] == "sgd"]).axes[0]
    heights = [
        np.ptp(path.vertices[:, 1])
        for collection in frobenius.collections
        for path in collection.get_paths()
    ]
    bar = 2 * 0.03 * np.sqrt(2) / 2  # of the mean of two independent estimates
    assert set(np.round(heights, 9)) == {round(bar, 9)}
    colour = MATRIX_LOOKS["hessian"]["color"]
    thin = [line for line in frobenius.get_lines() if line.get_color() == colour]
    thin = [line for line in thin if line.get_linewidth() == SEED_LINE["linewidth"]]
    assert [line.get_ydata().tolist() for line in thin] == [
        pytest.approx([share] * 3) for share in (0.8, 0.82)
    ]


def test_shares_and_overlaps_stay_within_zero_and_one_however_far_seeds_are_apart(
    table: pd.DataFrame,
) -> None:
    apart = table.assign(frobenius_share=table["seed"], overlap=table["seed"])
    apart = apart.assign(frobenius_share_se=0.0)
    frobenius, _, overlap, _ = plot_curvature_energy(apart).axes
    for axes in (frobenius, overlap):
        curves = [line for line in axes.get_lines() if len(line.get_xdata()) > 1]
        paths = [path for bars in axes.collections for path in bars.get_paths()]
        drawn = np.concatenate(
            [np.asarray(line.get_ydata(), float) for line in curves]
            + [path.vertices[:, 1] for path in paths]
        )
        assert drawn.min() >= 0
        assert drawn.max() <= 1


def test_a_trace_share_before_the_switch_does_not_stretch_the_panel(table: pd.DataFrame) -> None:
    table.loc[table["method"].eq("before_switch"), "trace_share"] = 40.0
    assert plot_curvature_energy(table).axes[1].get_ylim()[1] < 1.2


def test_the_overlap_is_drawn_once_a_method_in_its_colour(table: pd.DataFrame) -> None:
    overlap = plot_curvature_energy(table).axes[2]
    for method, end in (("sgd", 0.7), ("bulk_sgd", 0.6)):
        line = _line(overlap, METHOD_COLOURS[method], method)
        assert line.get_ydata()[-1] == pytest.approx(end)
    assert overlap.get_ylim()[0] == 0


def test_quotients_are_those_of_the_last_step_by_direction(table: pd.DataFrame) -> None:
    quotients = plot_curvature_energy(table).axes[3]
    for matrix in MATRICES:
        line = _line(quotients, MATRIX_LOOKS[matrix]["color"], "sgd")
        assert line.get_xdata().tolist() == [1, 2]
        assert line.get_ydata() == pytest.approx(
            [10 * SHARES[matrix] + 100, 5 * SHARES[matrix] + 100]
        )


def test_before_the_switch_every_seed_is_a_line_from_its_own_start(table: pd.DataFrame) -> None:
    overlap = plot_curvature_energy(table).axes[2]
    colour = METHOD_COLOURS["before_switch"]
    lines = [line for line in overlap.get_lines() if line.get_color() == colour]
    assert [list(line.get_xdata()) for line in lines] == [[-100, 0], [-150, 0]]
    assert overlap.get_xlim()[0] < -150


def test_a_trace_share_beyond_one_stays_in_the_panel(table: pd.DataFrame) -> None:
    table["trace_share"] = 1.4
    low, high = plot_curvature_energy(table).axes[1].get_ylim()
    assert low <= 0
    assert high > 1.4


def test_a_run_that_diverged_leaves_its_seeds_as_single_lines(table: pd.DataFrame) -> None:
    lost = table["method"].eq("bulk_sgd") & table["seed"].eq(1)
    table.loc[lost, "status"] = "diverged"
    table = table[~(lost & table["steps_after_switch"].eq(100))]
    overlap = plot_curvature_energy(table).axes[2]
    colour = METHOD_COLOURS["bulk_sgd"]
    own = [line for line in overlap.get_lines() if line.get_color() == colour]
    curves = [line for line in own if len(line.get_xdata()) > 1]
    assert [line.get_xdata().tolist() for line in curves] == [[0, 50, 100], [0, 50]]
    (cross,) = [line for line in own if line.get_marker() == "x"]
    assert list(cross.get_xdata()) == [50]


def test_a_point_of_a_path_is_drawn_and_named(table: pd.DataFrame) -> None:
    path = table[table["method"] == "bulk_sgd"].assign(method="sgd_to_bulk(0.9)")
    figure = plot_curvature_energy(pd.concat([table, path]))
    colour = MATRIX_LOOKS["hessian"]["color"]
    markers = {line.get_marker() for line in figure.axes[0].get_lines()}
    assert method_marker("sgd_to_bulk(0.9)") in markers
    assert _line(figure.axes[0], colour, "bulk_sgd")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "SGD to Bulk, α = 0.9" in labels
