"""Whether stretching an optimizer's steps pays, beside the tuned optimizers that people use.

Trains the laptop tier's tasks with SGD, SGD with momentum, AdamW and Muon, and with
:class:`sharpflat.stretched.StretchedOptimizer` over the first three. Every optimizer has one knob,
a learning rate or ρ, and as many tries to find its value: a climb by factors of three, then finer,
towards the least training loss at the last step, with seeds that are not judged. That loss is a
noisy judge, mostly where a single seed tunes: a value next to the best may win. All are chosen by
it alike. Then the judged seeds are run, all optimizers of one from the same parameters on the same
mini-batches.

Seconds are the processor's, on one thread, of gradients and steps: the first solve counts, the
losses of all samples, which are recorded beside, do not. Optimizers take turns within a seed, so
that what else a machine does falls on all alike.

    python -m sharpflat.benchmarks.stretched results/benchmarks
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from sharpflat import layout
from sharpflat.analysis.intervals import geometric_mean
from sharpflat.analysis.stretched import CELL, compare, with_targets
from sharpflat.benchmarks.setting import benchmark_task
from sharpflat.benchmarks.stretched_setting import (
    CANDIDATES,
    COMPARISONS,
    DIVERGENCE_FACTOR,
    FACTOR,
    JUDGED_SEEDS,
    LOSS_FLOOR,
    RECORD_EVERY,
    REFRESH,
    TOLERANCE,
    TRIES,
    Candidate,
    Comparison,
    setting_of,
)
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.curvature import DominantSubspace, HessianOperator, NonFiniteProductError
from sharpflat.files import write_whole
from sharpflat.optimizers import parse_optimizer
from sharpflat.settings import Setting
from sharpflat.stretched import AdamHessian, NoCurvatureError, StretchedOptimizer
from sharpflat.tasks.data import select
from sharpflat.tasks.registry import DATASETS
from sharpflat.training.batches import BatchOrder
from sharpflat.training.numerics import set_up
from sharpflat.training.optimizers import base_optimizers
from sharpflat.training.randomness import stream_seed

logger = logging.getLogger(__name__)

#: Tables in the folder: of runs, of their records, of the comparison.
RUNS, CURVES, SUMMARY = "stretched.csv", "stretched_curves.csv", "stretched_summary.csv"


@dataclass(kw_only=True)
class Run:
    """A run as it went: at the records, steps, losses of all samples and seconds until then."""

    status: Literal["finished", "diverged"] = "finished"
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    products: float = 0.0

    @property
    def final_loss(self) -> float:
        """At the last step; infinite of a run that did not come there."""
        return self.losses[-1] if self.status == "finished" else math.inf


def train(
    task: BenchmarkTask,
    setting: Setting,
    candidate: Candidate,
    value: float,
    *,
    steps: int,
    seed: int,
) -> Run:
    """Train a task from where it stands with a candidate whose knob has a value.

    Args:
        task: With all training samples; its model is moved.
        setting: Batch size, and of the subspace k, samples, refresh and tolerance.
        candidate: The optimizer.
        value: Of its knob.
        steps: Steps.
        seed: Seeds batches and solver.
    """
    optimizers, subspace = _optimizers(task, setting, candidate, value, seed=seed)
    order = BatchOrder(len(task.targets), setting.batch_size, seed=stream_seed(seed, "batches"))
    run, seconds = Run(), 0.0
    for step in range(steps + 1):
        if step % RECORD_EVERY == 0 or step == steps:
            with torch.no_grad():
                loss = task.loss(task.outputs(task.inputs), task.targets).item()
            if not loss <= DIVERGENCE_FACTOR * (run.losses or [loss])[0]:
                run.status = "diverged"
                break
            run.steps.append(step)
            run.losses.append(loss)
            run.seconds.append(seconds)
        if step == steps:
            break
        began = time.process_time()
        rows = order.indices(step)
        inputs, targets = select(task.inputs, rows), task.targets[rows]
        task.model.zero_grad()
        task.loss(task.outputs(inputs), targets).backward()  # type: ignore[no-untyped-call]
        try:
            for optimizer in optimizers:
                optimizer.step()
        except (NonFiniteProductError, NoCurvatureError) as error:
            logger.info("step %d: %s", step, error)
            run.status = "diverged"
            break
        seconds += time.process_time() - began
    run.products = 0.0 if subspace is None else subspace.equivalent_matvecs
    return run


def _optimizers(
    task: BenchmarkTask, setting: Setting, candidate: Candidate, value: float, *, seed: int
) -> tuple[Sequence[torch.optim.Optimizer], DominantSubspace | None]:
    name, options = parse_optimizer(candidate.optimizer)
    bases = base_optimizers(name, options, task.parameters, learning_rate=value)
    if not candidate.base:
        return bases, None
    samples = slice(setting.hessian_samples)
    hessian = HessianOperator(
        task.model, task.loss, select(task.inputs, samples), task.targets[samples]
    )
    subspace = DominantSubspace(
        AdamHessian(hessian, bases[0]) if candidate.metric else hessian,
        setting.k,
        refresh=REFRESH,
        tol=TOLERANCE,
        seed=stream_seed(seed, "eigensolver"),
    )
    return [StretchedOptimizer(bases, subspace, bulk_rate=candidate.bulk_rate)], subspace


def climb(loss_of: Callable[[float], float], start: float, tries: int) -> dict[float, float]:
    """Losses at as many values as may be tried, from a start towards lower ones.

    Down by :data:`FACTOR` until a loss is finite; up by it while the loss falls, else down; once
    the best has neighbours on both sides, into the middle, on a log scale, of the wider gap beside
    it. There always is a next value, so that everyone takes all tries.

    Example:
        >>> losses = climb(lambda value: (value - 30) ** 2, start=1.0, tries=5)
        >>> [round(value, 1) for value in losses]
        [1.0, 3.0, 9.0, 27.0, 81.0]
    """
    tried = {0.0: loss_of(start)}  # by the factor's exponent
    while len(tried) < tries:
        exponent = _next(tried)
        tried[exponent] = loss_of(start * FACTOR**exponent)
    return {start * FACTOR**exponent: loss for exponent, loss in tried.items()}


def _next(tried: Mapping[float, float]) -> float:
    best = min(tried, key=lambda exponent: tried[exponent])
    if not math.isfinite(tried[best]):
        return min(tried) - 1
    above = min((other for other in tried if other > best), default=math.inf)
    below = max((other for other in tried if other < best), default=-math.inf)
    if math.isinf(above):
        return best + 1
    if math.isinf(below):
        return best - 1
    return (best + (above if above - best >= best - below else below)) / 2


def measure(comparison: Comparison, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tune and judge every candidate.

    Returns:
        A row a run, and a row a record of the judged ones.
    """
    setting = setting_of(comparison, root)
    data = root / layout.dataset(setting.dataset)
    samples = DATASETS[setting.dataset].num_train
    rows: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []

    def run(name: str, value: float, seed: int) -> Run:
        candidate = CANDIDATES[name]
        task = benchmark_task(
            replace(setting, hessian_samples=samples),
            data=data,
            learning_rates=(),
            seed=stream_seed(seed, "initialisation"),
            device=torch.device("cpu"),
        )
        found = train(task, setting, candidate, value, steps=comparison.steps, seed=seed)
        identity = _identity(setting) | {"optimizer": name, "seed": seed}
        role = "judged" if seed in JUDGED_SEEDS else "tuning"
        rows.append(identity | {"role": role} | _row(setting, candidate, value, found))
        if role == "judged":
            columns = {"step": found.steps, "train_loss": found.losses, "seconds": found.seconds}
            curves.append(pd.DataFrame(columns).assign(**identity)[[*identity, *columns]])
        logger.info("%s", rows[-1])
        return found

    def tuned(name: str) -> float:
        def loss_of(value: float) -> float:
            losses = [run(name, value, seed).final_loss for seed in comparison.tuning_seeds]
            return geometric_mean(losses)

        losses = climb(loss_of, CANDIDATES[name].start, TRIES)
        return min(losses, key=lambda value: losses[value])

    names = [name for name in CANDIDATES if name not in comparison.without]
    best = {name: tuned(name) for name in names}
    for seed in JUDGED_SEEDS:
        for name in names:
            run(name, best[name], seed)
    return pd.DataFrame(rows), pd.concat(curves)


def _identity(setting: Setting) -> dict[str, Any]:
    return {name: getattr(setting, name) for name in CELL}


def _row(setting: Setting, candidate: Candidate, value: float, run: Run) -> dict[str, Any]:
    stretched = bool(candidate.base)
    taken = max(run.steps[-1], 1)
    return {
        "base": candidate.base,
        "knob": candidate.knob,
        "value": value,
        "k": setting.k if stretched else None,
        "hessian_samples": setting.hessian_samples if stretched else None,
        "steps": run.steps[-1],
        "status": run.status,
        "final_loss": run.final_loss,
        "seconds_per_step": run.seconds[-1] / taken,
        "products_per_step": run.products / taken,
    }


def main(folder: Path, tasks: Sequence[str] | None, root: Path = Path()) -> None:
    """Measure, and after each comparison put its rows in place of older ones and sum up."""
    set_up(device="cpu", threads=1, tf32=False, deterministic=True)
    for comparison in COMPARISONS:
        if tasks is None or comparison.task in tasks:
            runs, curves = measure(comparison, root)
            _replace(folder / RUNS, runs)
            _replace(folder / CURVES, curves)
            summarise(folder)


def summarise(folder: Path) -> None:
    """Bring the runs' steps and seconds to targets, and the summary, up to what was measured."""
    runs, curves = pd.read_csv(folder / RUNS), pd.read_csv(folder / CURVES)
    runs["base"] = runs["base"].fillna("")
    _write(folder / RUNS, with_targets(runs, curves, floor=LOSS_FLOOR))
    _write(folder / SUMMARY, compare(runs, curves, floor=LOSS_FLOOR))


def _replace(path: Path, table: pd.DataFrame) -> None:
    """Put a comparison's rows in place of its older ones."""
    if path.exists():
        old = pd.read_csv(path)
        same = (old[CELL] == table[CELL].iloc[0]).all(axis=1)
        table = pd.concat([old[~same], table])
    _write(path, table)


def _write(path: Path, table: pd.DataFrame) -> None:
    write_whole(path, table.to_csv(index=False, float_format="%.6g").encode())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", help="of these alone; default all")
    options = parser.parse_args()
    main(options.folder, options.tasks)
