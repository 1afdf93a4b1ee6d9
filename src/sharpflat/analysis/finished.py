"""What of a figure is there while its runs are still being trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from sharpflat import seals
from sharpflat.config import Config
from sharpflat.methods import PATHS
from sharpflat.plan import FigureEdge, FigureRun, figure_edges, figure_runs

Planned = TypeVar("Planned", FigureRun, FigureEdge)
#: Task, loss and seed: methods and varied values are compared within one.
Seed = tuple[str, str, int]
#: Task, loss and path: points of a path are compared along it. ``""`` is no path.
Along = tuple[str, str, str]


def seed_of(planned: FigureRun | FigureEdge) -> Seed:
    """What a run or search is compared within."""
    prefix = planned.record.prefix
    return prefix.task, prefix.loss, prefix.seed


def path_of(planned: FigureRun | FigureEdge) -> Along:
    """Along what a run or search is compared."""
    prefix, path = planned.record.prefix, planned.method.name.partition("(")[0]
    return prefix.task, prefix.loss, path if path in PATHS else ""


def of_finished_seeds(
    planned: Sequence[Planned], results: Path, *, energy: bool = False
) -> tuple[Planned, ...]:
    """Runs or searches of a figure, without the seeds of a task and loss of which one is missing.

    So every method and every varied value has the same seeds, whatever has been trained so far. A
    path between methods is left out whole where no seed has all of its points.

    Args:
        planned: Of a whole figure.
        results: Folder of the tier's results.
        energy: Whether runs and prefixes need their curvature energy too.

    Raises:
        ValueError: Of no task and loss is any seed finished.
    """
    missing = [
        one
        for one in planned
        if not all(path.exists() for path in _needed(one, results, energy=energy))
    ]
    whole = {(path_of(one), seed_of(one)) for one in planned}
    whole -= {(path_of(one), seed_of(one)) for one in missing}
    kept = {along for along, _ in whole}
    shown = [one for one in planned if path_of(one) in kept or not path_of(one)[2]]
    unfinished = {seed_of(one) for one in missing if one in shown}
    finished = tuple(one for one in shown if seed_of(one) not in unfinished)
    if not finished:
        raise ValueError(
            f"no seed of any task and loss has all of its runs under {results}: train them, or "
            "restore them with `python -m sharpflat unpack`"
        )
    return finished


def seeds_left_out(config: Config, figure: str, table: pd.DataFrame) -> list[Seed]:
    """Seeds of a figure that its table lacks, in the figure's order."""
    there = set(table[["task", "loss", "seed"]].itertuples(index=False, name=None))
    seeds = dict.fromkeys(map(seed_of, _planned(config, figure)))
    return [seed for seed in seeds if seed not in there]


def paths_left_out(config: Config, figure: str, table: pd.DataFrame) -> list[Along]:
    """Paths that a figure's table lacks of the tasks and losses that it has, in its order."""
    there = set(table[["task", "loss", "method"]].itertuples(index=False, name=None))
    shown = {(task, loss) for task, loss, _ in there}
    paths = {(task, loss, method.partition("(")[0]) for task, loss, method in there}
    planned = dict.fromkeys(map(path_of, _planned(config, figure)))
    return [along for along in planned if along[2] and along[:2] in shown and along not in paths]


def _planned(config: Config, figure: str) -> list[FigureRun | FigureEdge]:
    planned = config.figures[figure]
    return [*figure_runs(config, planned), *figure_edges(config, planned)]


def _needed(planned: FigureRun | FigureEdge, results: Path, *, energy: bool) -> list[Path]:
    if isinstance(planned, FigureEdge):
        return [results / "edges" / planned.record.id / seals.EDGE]
    folders = [
        results / "runs" / planned.record.id,
        results / "prefixes" / planned.record.prefix.id,
    ]
    names = [seals.TRAINED, seals.ENERGY] if energy else [seals.TRAINED]
    return [folder / name for folder in folders for name in names]
