"""One look for all figures: sizes, fonts, and one colour and marker a method."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

#: Widths of a one-column and a two-column figure, inches.
COLUMN_WIDTH, PAGE_WIDTH = 3.35, 6.9
PANEL_HEIGHT = 2.3

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
#: Dashes of the methods, so that lines differ without colour too.
METHOD_DASHES: dict[str, tuple[float, ...]] = {
    "before_switch": (),
    "sgd": (),
    "dom_sgd": (1, 1),
    "bulk_sgd": (4, 1.5),
    "sgd_to_bulk": (4, 1, 1, 1),
    "sgd_to_dom": (2, 2),
    "convex": (6, 1, 1, 1, 1, 1),
}
METHOD_LABELS = {
    "before_switch": "SGD before the switch",
    "sgd": "SGD",
    "dom_sgd": "Dom-SGD",
    "bulk_sgd": "Bulk-SGD",
}
PATH_LABELS = {"sgd_to_bulk": "SGD to Bulk", "sgd_to_dom": "SGD to Dom", "convex": "Dom to Bulk"}
TASK_LABELS = {
    "mnist_mlp": "MLP, MNIST-5k",
    "cifar10_cnn": "CNN, CIFAR10-5k",
    "sst2_transformer": "Transformer, SST2-1k",
}
LOSS_LABELS = {"mse": "MSE", "cross_entropy": "cross-entropy"}


def apply_style() -> None:
    """Set fonts, line widths and embedding for every figure."""
    sns.set_theme(context="paper", style="ticks", font="DejaVu Sans", font_scale=0.8)
    mpl.rcParams.update(
        {
            "pdf.fonttype": 42,  # embedded TrueType, editable and accepted by journals
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "legend.frameon": False,
            "lines.linewidth": 1.3,
            "figure.constrained_layout.use": True,
        }
    )


def method_label(method: str) -> str:
    """How a method is called in a legend."""
    if method in METHOD_LABELS:
        return METHOD_LABELS[method]
    path, alpha = method.removesuffix(")").split("(")
    return f"{PATH_LABELS[path]}, α = {alpha}"


def method_style(methods: list[str]) -> tuple[dict[str, str], dict[str, tuple[float, ...]]]:
    """Colour and dashes of each method, by its label."""
    stems = {method_label(method): method.split("(")[0] for method in methods}
    colours = {label: METHOD_COLOURS[stem] for label, stem in stems.items()}
    dashes = {label: METHOD_DASHES[stem] for label, stem in stems.items()}
    return colours, dashes


def panel_title(rows: pd.DataFrame) -> str:
    """Title of the panel of one task and loss, from its rows."""
    task, loss = rows["task"].iloc[0], rows["loss"].iloc[0]
    return f"{TASK_LABELS.get(task, task)}, {LOSS_LABELS.get(loss, loss)}"


def save(figure: Figure, *paths: Path) -> None:
    """Write a figure in the format of each path's ending, without a creation date."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
        figure.savefig(path, dpi=200, metadata=metadata)
