"""The table of a search for the edge of stability: one row a (task, loss, method, seed, trial)."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from sharpflat import seals
from sharpflat.analysis.finished import of_finished_seeds
from sharpflat.config import Config
from sharpflat.plan import FigureEdge, figure_edges

#: Columns of the table, in order.
COLUMNS = (
    "task",
    "dataset",
    "model",
    "loss",
    "method",
    "dom_weight",
    "bulk_weight",
    "seed",
    "learning_rate",
    "stability",
    "start_train_loss",
    "final_train_loss",
    "highest_train_loss",
    "eigenvalue_dominant",
    "eigenvalue_bulk",
    "k",
)


def edge_table(
    config: Config, figure: str, results: Path, *, finished: bool = False
) -> pd.DataFrame:
    """Collect the trials of a figure's searches, in the order in which they were made.

    Args:
        config: The tier's configuration.
        figure: Name of a figure with a bisection.
        results: Folder of the tier's results.
        finished: Leave out the seeds of a task and loss of which a search is not there. Default:
            a missing search is an error.

    Returns:
        :data:`COLUMNS`. ``stability`` is the class of :func:`sharpflat.stability.classify` at
        ``learning_rate``; the losses are of all training samples at the switch, at the end
        (infinite after divergence) and at their highest; ``eigenvalue_dominant`` is λ_1 and
        ``eigenvalue_bulk`` λ_{k+1} at the switch, an estimate from below. The edge of a method and
        seed lies between its largest stable learning rate and its smallest that is not.

    Raises:
        KeyError: The configuration has no such figure.
        DamagedResultError: A result is missing, or is not what was written.
        ValueError: Nothing is finished.
    """
    edges = figure_edges(config, config.figures[figure])
    if finished:
        edges = of_finished_seeds(edges, results)
    parts = [_trials(results / "edges" / edge.record.id, edge) for edge in edges]
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _trials(folder: Path, edge: FigureEdge) -> pd.DataFrame:
    seals.check_seal(folder, seals.EDGE)
    summary = json.loads((folder / "summary.json").read_text())
    run, prefix = edge.record.start, edge.record.prefix
    return pd.read_csv(folder / "edge.csv").assign(
        task=prefix.task,
        dataset=prefix.dataset,
        model=prefix.model,
        loss=prefix.loss,
        method=edge.method.name,
        dom_weight=run.dom_weight,
        bulk_weight=run.bulk_weight,
        seed=prefix.seed,
        eigenvalue_dominant=float(summary["eigenvalue_dominant"] or "nan"),
        eigenvalue_bulk=float(summary["eigenvalue_bulk"] or "nan"),
        k=run.k,
    )
