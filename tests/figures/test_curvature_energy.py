"""Figure ``curvature_energy``. Oracle: shares and quotients that are set by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.analysis.intervals import mean_interval
from sharpflat.figures.curvature_energy import MATRICES, MATRIX_LOOKS, plot_curvature_energy
from sharpflat.figures.style import METHOD_COLOURS, METHOD_MARKERS

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
    ]
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


def test_bars_are_the_probes_errors_and_bands_the_seeds_intervals(table: pd.DataFrame) -> None:
    frobenius = plot_curvature_energy(table[table["method"] == "sgd"]).axes[0]
    heights = [
        np.ptp(path.vertices[:, 1])
        for collection in frobenius.collections
        for path in collection.get_paths()
    ]
    low, high = mean_interval([0.8, 0.82])
    bar = 2 * 0.03 * np.sqrt(2) / 2  # of the mean of two independent estimates
    assert sorted(set(np.round(heights, 9))) == pytest.approx(sorted([bar, high - low]))


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
    own = [line for line in overlap.get_lines() if line.get_color() == METHOD_COLOURS["bulk_sgd"]]
    curves = [line for line in own if len(line.get_xdata()) > 1]
    assert [line.get_xdata().tolist() for line in curves] == [[0, 50, 100], [0, 50]]
    (cross,) = [line for line in own if line.get_marker() == "x"]
    assert list(cross.get_xdata()) == [50]
