"""One look for all figures: sizes, fonts, and one colour, dash and marker a method."""

from __future__ import annotations

import io
from colorsys import hls_to_rgb
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    LogFormatterMathtext,
    LogLocator,
    MaxNLocator,
    NullLocator,
)

from sharpflat.files import write_whole
from sharpflat.methods import FREE, LABELS, parse_method

#: Widths of a one-column and a two-column figure, inches.
COLUMN_WIDTH, PAGE_WIDTH = 3.35, 6.9
#: Heights of a row of two panels, of a row of more, of such a row on its own, and of each of two
#: rows that belong together, inches.
PANEL_HEIGHT, SMALL_PANEL_HEIGHT, LONE_ROW_HEIGHT, BLOCK_ROW_HEIGHT = 2.3, 1.55, 1.9, 1.8
#: Room for the legend below the panels, inches.
LEGEND_HEIGHT = 0.4
#: Resolution of a PNG, dots an inch.
DPI = 200

#: Okabe and Ito's palette, told apart by colour-blind readers and, by lightness, in grey.
METHOD_COLOURS = {
    "before_switch": "#8a8a8a",
    "sgd": "#000000",
    "dom_sgd": "#d55e00",
    "bulk_sgd": "#0072b2",
    "sgd_to_bulk": "#009e73",
    "sgd_to_dom": "#cc79a7",
    "convex": "#e69f00",
}
#: Free weights (a, b) have the hue of log2(b/a), within the span to either side of 0, and are the
#: lighter the larger a + b: no two pairs look the same but beyond the span. Hues run from red to
#: blue, as from Dom-SGD to Bulk-SGD.
RATIO_SPAN, HUES, LIGHTNESSES, SATURATION = 4.0, (0.02, 0.72), (0.25, 0.7), 0.85
#: Dashes of the methods, so that lines differ without colour too. SGD's gaps show what it covers.
METHOD_DASHES: dict[str, tuple[float, ...]] = {
    "before_switch": (),
    "sgd": (4, 1.5),
    "dom_sgd": (1, 1),
    "bulk_sgd": (),
    "sgd_to_bulk": (4, 1, 1, 1),
    "sgd_to_dom": (2, 2),
    "convex": (6, 1, 1, 1, 1, 1),
    FREE: (5, 1, 2, 1),
}
METHOD_MARKERS = {
    "before_switch": ".",
    "sgd": "o",
    "dom_sgd": "v",
    "bulk_sgd": "s",
    "sgd_to_bulk": "D",
    "sgd_to_dom": "^",
    "convex": "P",
    FREE: "X",
}
#: How far the ends of a path are from its colour: towards black (negative) and white.
DARKEST_SHADE, PALEST_SHADE = -0.55, 0.45
METHOD_LABELS = {"before_switch": "SGD before the switch", **LABELS}
PATH_LABELS = {
    "sgd_to_bulk": "SGD to Bulk",
    "sgd_to_dom": "SGD to Dom",
    "convex": "Dom to Bulk",
}
#: Colours of what is not a method, from Tol's muted palette.
SERIES_COLOURS = ("#332288", "#999933", "#882255")
TASK_LABELS = {
    "mnist_mlp": "MLP, MNIST-5k",
    "cifar10_cnn": "CNN, CIFAR10-5k",
    "sst2_transformer": "Transformer, SST2-1k",
    "mnist_mlp_relu": "ReLU MLP, MNIST-5k",
    "cancer_mlp": "MLP, breast cancer",
    "cifar10_vgg": "VGG, CIFAR10-5k",
    "shakespeare_gpt": "GPT, Shakespeare-5k",
    "digits_cnn": "CNN, digits",
    "digits_transformer": "Transformer, digits",
}
LOSS_LABELS = {"mse": "MSE", "cross_entropy": "cross-entropy"}

STEPS_AFTER_SWITCH = "steps after the switch"
#: How the last measurement of a run that diverged is marked.
DIVERGED: dict[str, Any] = {
    "marker": "x",
    "markersize": 4.5,
    "markeredgewidth": 1.3,
    "linestyle": "none",
}
#: A seed, thin or small beside what its method comes to over all seeds.
SEED_LINE: dict[str, Any] = {"linewidth": 0.5, "alpha": 0.55}
SEED_POINT: dict[str, Any] = {
    "markersize": 2.6,
    "markeredgewidth": 0.0,
    "alpha": 0.6,
    "linestyle": "none",
}


def apply_style() -> None:
    """Set fonts, line widths and embedding for every figure."""
    sns.set_theme(context="paper", style="ticks", font="DejaVu Sans", font_scale=0.8)
    mpl.rcParams.update(
        {
            "pdf.fonttype": 42,  # embedded TrueType, editable and accepted by journals
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "axes.linewidth": 0.7,
            "hatch.linewidth": 0.5,
            "legend.frameon": False,
            "legend.handlelength": 2.2,
            "lines.linewidth": 1.3,
            "figure.constrained_layout.use": True,
            "xtick.major.size": 3.0,
            "xtick.major.width": 0.7,
            "xtick.minor.size": 1.6,
            "xtick.minor.width": 0.5,
            "ytick.major.size": 3.0,
            "ytick.major.width": 0.7,
            "ytick.minor.size": 1.6,
            "ytick.minor.width": 0.5,
        }
    )


def method_label(method: str) -> str:
    """How a method, a point of a path or a whole path is called in a legend."""
    stem, alpha = _stem(method)
    if stem == FREE:
        weights = parse_method(method)
        return f"a = {weights.dom_weight:g}, b = {weights.bulk_weight:g}"
    if stem not in PATH_LABELS:
        return METHOD_LABELS[stem]
    return PATH_LABELS[stem] if alpha is None else f"{PATH_LABELS[stem]}, α = {alpha:g}"


def method_colour(method: str) -> str:
    """Colour of a method; along a path it goes from dark at α = 0 to pale at α = 1."""
    stem, alpha = _stem(method)
    if stem == FREE:
        return _weights_colour(method)
    colour = METHOD_COLOURS[stem]
    if alpha is None:
        return colour
    towards = DARKEST_SHADE if alpha < 0.5 else PALEST_SHADE
    share = abs(2 * alpha - 1) * abs(towards)
    red, green, blue = ((1 - share) * part + share * (towards > 0) for part in to_rgb(colour))
    return to_hex((red, green, blue))


def _weights_colour(method: str) -> str:
    """Colour of free weights: the hue tells their ratio, the lightness their size."""
    weights = parse_method(method)
    with np.errstate(divide="ignore"):
        ratio = np.log2(weights.bulk_weight) - np.log2(weights.dom_weight)
    size = weights.dom_weight + weights.bulk_weight
    hue = np.interp(ratio, (-RATIO_SPAN, RATIO_SPAN), HUES)
    lightness = np.interp(size / (1 + size), (0, 1), LIGHTNESSES)
    return to_hex(hls_to_rgb(float(hue), float(lightness), SATURATION))


def method_marker(method: str) -> str:
    """Marker of a method; the points of a path have one together."""
    return METHOD_MARKERS[_stem(method)[0]]


def line_style(method: str) -> dict[str, Any]:
    """Colour and dashes of a method's line, as keywords of ``Axes.plot``."""
    dashes = METHOD_DASHES[_stem(method)[0]]
    # Dashed lines are thin and lie above solid ones, so that of two equal curves both show.
    layer = {"linewidth": 1.0, "zorder": 2.5} if dashes else {"linewidth": 1.6, "zorder": 2.0}
    return {"color": method_colour(method), "linestyle": dashed(dashes), **layer}


def _stem(method: str) -> tuple[str, float | None]:
    """A method's name without its numbers, and its α if it is a point of a path."""
    stem, _, alpha = method.removesuffix(")").partition("(")
    return stem, float(alpha) if alpha and stem != FREE else None


def dashed(dashes: tuple[float, ...]) -> Any:
    """Matplotlib's line style of some dashes; none are a solid line."""
    return (0, dashes) if dashes else "solid"


def method_handles(table: pd.DataFrame) -> list[Line2D]:
    """Entries of a legend for the methods of a table, and for its crosses if it has any."""
    handles = [
        Line2D([], [], label=method_label(method), **line_style(method))
        for method in table["method"].unique()
    ]
    return handles + divergence_handles(table)


def divergence_handles(table: pd.DataFrame) -> list[Line2D]:
    """The entry that explains the crosses, where a run of the table diverged."""
    if not (table["status"] == "diverged").any():
        return []
    return [Line2D([], [], color="0.35", label="a run that diverged", **DIVERGED)]


def seed_handle(points: str | None = None) -> Line2D:
    """The entry that explains the thin lines, or with a marker the small points, of seeds."""
    if points is None:
        return Line2D([], [], label="a seed", **{**SEED_LINE, "color": "0.35", "alpha": 1.0})
    return Line2D([], [], label="a seed", marker=points, **{**SEED_POINT, "color": "0.35"})


def panel_title(rows: pd.DataFrame) -> str:
    """Title of the panel of one task and loss, from its rows."""
    task, loss = rows["task"].iloc[0], rows["loss"].iloc[0]
    return f"{TASK_LABELS.get(task, task)}, {LOSS_LABELS.get(loss, loss)}"


def legend_below(figure: Figure, handles: list[Any], columns: int) -> None:
    """One legend for the whole figure, below its panels; with fewer columns if it is narrow."""
    if figure.get_figwidth() < PAGE_WIDTH:
        columns = max(columns // 2, 1)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), columns))


def label_log_axis(axes: Axes, name: str) -> None:
    """Put plain numbers on the log axis ``"x"`` or ``"y"``, also where it spans no decade.

    Call it when the limits are final.
    """
    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    if high < 6 * low:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    elif high < 1000 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1, 3)))
    else:
        axis.set_major_locator(LogLocator(numticks=5))
    plain = high < 6 * low or (low >= 5e-4 and high <= 2e4)
    formatter = FuncFormatter(lambda value, _: f"{value:g}") if plain else LogFormatterMathtext()
    axis.set_major_formatter(formatter)
    axis.set_minor_locator(NullLocator())  # every tick has a number


def save(figure: Figure, *paths: Path) -> None:
    """Write a figure in the format of each path's ending, without a creation date."""
    layout = figure.get_layout_engine()
    if layout is not None:
        figure.set_dpi(DPI)  # the width of a text depends on it
        layout.execute(figure)
        figure.set_layout_engine("none")  # once for all formats
    for path in paths:
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
        content = io.BytesIO()
        figure.savefig(content, format=path.suffix[1:], dpi=DPI, metadata=metadata)
        write_whole(path, content.getvalue())
