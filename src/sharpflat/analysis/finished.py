"""What of a figure is there while its runs are still being trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from sharpflat import seals
from sharpflat.config import Config
from sharpflat.plan import FigureEdge, FigureRun, figure_edges, figure_runs

Planned = TypeVar("Planned", FigureRun, FigureEdge)
#: Task, loss and seed: methods and varied values are compared within one.
Seed = tuple[str, str, int]


def seed_of(planned: FigureRun | FigureEdge) -> Seed:
    """What a run or search is compared within."""
    prefix = planned.record.prefix
    return prefix.task, prefix.loss, prefix.seed


def of_finished_seeds(
    planned: Sequence[Planned], results: Path, *, energy: bool = False
) -> tuple[Planned, ...]:
    """Runs or searches of a figure, without the seeds of a task and loss of which one is missing.

    So every method and every varied value has the same seeds, whatever has been trained so far.

    Args:
        planned: Of a whole figure.
        results: Folder of the tier's results.
        energy: Whether runs and prefixes need their curvature energy too.

    Raises:
        ValueError: Of no task and loss is any seed finished.
    """
    unfinished = {
        seed_of(one)
        for one in planned
        if not all(path.exists() for path in _needed(one, results, energy=energy))
    }
    finished = tuple(one for one in planned if seed_of(one) not in unfinished)
    if not finished:
        raise ValueError(
            f"no seed of any task and loss has all of its runs under {results}: train them, or "
            "restore them with `python -m sharpflat unpack`"
        )
    return finished


def seeds_left_out(config: Config, figure: str, table: pd.DataFrame) -> list[Seed]:
    """Seeds of a figure that its table lacks, in the figure's order."""
    planned = config.figures[figure]
    every: list[FigureRun | FigureEdge] = []
    every += [*figure_runs(config, planned), *figure_edges(config, planned)]
    there = set(table[["task", "loss", "seed"]].itertuples(index=False, name=None))
    return [seed for seed in dict.fromkeys(map(seed_of, every)) if seed not in there]


def _needed(planned: FigureRun | FigureEdge, results: Path, *, energy: bool) -> list[Path]:
    if isinstance(planned, FigureEdge):
        return [results / "edges" / planned.record.id / seals.EDGE]
    folders = [
        results / "runs" / planned.record.id,
        results / "prefixes" / planned.record.prefix.id,
    ]
    names = [seals.TRAINED, seals.ENERGY] if energy else [seals.TRAINED]
    return [folder / name for folder in folders for name in names]
