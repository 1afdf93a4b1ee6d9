"""What the table behind a figure must hold: a wrong table is refused before anything is drawn."""

from __future__ import annotations

import pandas as pd

#: A setting, of which figures have a row or panel and claims a row.
SETTING = ["task", "loss"]
_RUN = (
    *("task", "loss", "method", "dom_weight", "bulk_weight", "varied", "value", "learning_rate"),
    *("batch_size", "k", "hessian_samples", "seed", "status", "step", "steps_after_switch"),
)
_TRAJECTORY = (
    *_RUN,
    *("train_loss", "test_loss", "test_accuracy", "alignment", "batch_alignment", "eigenvalue_1"),
)
_BEYOND = (*_TRAJECTORY, "switch_reason")
_ENERGY = (*_RUN, "matrix", "overlap", "frobenius_share", "trace_share", "rayleigh_quotient_1")
_EDGE = (
    *("task", "loss", "method", "dom_weight", "bulk_weight", "seed", "learning_rate", "stability"),
    *("eigenvalue_dominant", "eigenvalue_bulk"),
)
_COST = ("task", "method", "mode", "products", "seconds", "sine_largest_angle", "reached")
#: By the figure's kind.
_COLUMNS = {
    **dict.fromkeys(("alignment", "dom_bulk", "generalization"), _TRAJECTORY),
    **dict.fromkeys(("interpolation", "ablation"), _TRAJECTORY),
    "architectures": _BEYOND,
    "optimizers": (*_BEYOND, "update_alignment"),
    **dict.fromkeys(("stability_map", "stability_plane"), _TRAJECTORY),
    "curvature_energy": _ENERGY,
    **dict.fromkeys(("stability_edge", "transfer"), _EDGE),
    "eigensolver_cost": _COST,
}


def refuse_wrong_table(table: pd.DataFrame, kind: str, name: object) -> None:
    """Refuse a table that is not one of a kind of figure.

    Args:
        table: As it was read.
        kind: Of the figure.
        name: Of the table, for the message.

    Raises:
        ValueError: Names the first column that is not there.
    """
    for column in _COLUMNS[kind]:
        if column not in table:
            raise ValueError(
                f"{name} is not the table of {kind}: it lacks the column {column!r}; make it again"
            )
