"""What a tier will take on this machine: steps and products timed here, counts from runs made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from sharpflat.config import Config
from sharpflat.curvature import HessianOperator
from sharpflat.plan import all_prefixes, all_runs, figure_runs
from sharpflat.records import PrefixRecord, RunRecord
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.losses import load_loss
from sharpflat.tasks.models import build_model
from sharpflat.tasks.registry import DATASETS

#: Timed repeats of a step and of a product, after one that is not timed.
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of the parts that a run is made of."""

    step: float
    full_gradient: float
    product: float


@dataclass(frozen=True, kw_only=True)
class FigureCost:
    """What a figure adds to the figures before it, which it may share runs with.

    Attributes:
        figure: Its name.
        runs: Runs that it adds, prefixes not counted.
        hours: Of one process after the other.
    """

    figure: str
    runs: int
    hours: float


class UnknownRateError(ValueError):
    """No run to take a number of products a step from."""


def estimate(config: Config, rates: Path, *, device: torch.device) -> Iterator[FigureCost]:
    """Estimate the hours of each figure's runs, one process after the other.

    A run takes ``steps · (step + products a step · product) + records · full gradient``. Steps,
    products and gradients are timed here at the tier's own sizes, on random inputs. The products a
    step are those of the finished runs of the same kind of model and method under ``rates``; they
    fall with the learning rate, and the measurements at records are among them.

    Args:
        config: The tier.
        rates: Folder of a tier's results with finished runs.
        device: Where to time.

    Raises:
        UnknownRateError: There is no finished run to learn from.
    """
    known = _products_a_step(rates)
    times: dict[tuple[object, ...], Times] = {}
    done: set[str] = set()
    for figure in config.figures.values():
        runs = {run.record.id: run.record for run in figure_runs(config, figure)}
        prefixes = {run.prefix.id: run.prefix for run in runs.values()}
        records: dict[str, PrefixRecord | RunRecord] = {**prefixes, **runs}
        hours, added = 0.0, 0
        for name, record in records.items():
            if name in done:
                continue
            done.add(name)
            added += isinstance(record, RunRecord)
            settings = record.after_switch if isinstance(record, RunRecord) else record
            kind = (settings.dataset, settings.model, settings.sizes, settings.loss)
            key = (*kind, settings.batch_size, settings.hessian_samples)
            if key not in times:
                times[key] = _time(settings, device)
            hours += _seconds(record, settings, times[key], known) / 3600
        yield FigureCost(figure=figure.name, runs=added, hours=hours)


def count_runs(config: Config) -> tuple[int, int]:
    """Runs and prefixes of a tier."""
    return len(all_runs(config)), len(all_prefixes(config))


def _seconds(
    record: PrefixRecord | RunRecord,
    settings: PrefixRecord,
    times: Times,
    known: dict[tuple[str, str], float],
) -> float:
    # A prefix that waits for alignment may end earlier.
    steps = record.steps if isinstance(record, RunRecord) else record.switch_max_steps
    products = known[settings.model, _method(record)]
    records = steps / settings.record_every
    return steps * (times.step + products * times.product) + records * times.full_gradient


def _method(record: PrefixRecord | RunRecord) -> str:
    if isinstance(record, PrefixRecord) or record.dom_weight == record.bulk_weight == 1:
        return "sgd"
    return "bulk" if record.dom_weight == 0 else "dominant"


def _products_a_step(rates: Path) -> dict[tuple[str, str], float]:
    """Median products a step, by model and by what the steps follow."""
    found: dict[tuple[str, str], list[float]] = {}
    for path in sorted(rates.glob("runs/*/summary.json")):
        summary = json.loads(path.read_text())
        steps = summary["last_step"] - summary["switch_step"]
        record = summary["record"]
        if steps == 0:
            continue
        weights = (record["dom_weight"], record["bulk_weight"])
        method = "sgd" if weights == (1, 1) else "bulk" if weights[0] == 0 else "dominant"
        kind = (record["prefix"]["model"], method)
        found.setdefault(kind, []).append(summary["num_matvecs"] / steps)
    if not found:
        raise UnknownRateError(f"no finished run under {rates}: name a folder of results")
    return {kind: median(values) for kind, values in found.items()}


def _time(settings: PrefixRecord, device: torch.device) -> Times:
    """Time a step, the full gradient and a product on random samples of the right shapes."""
    entry = DATASETS[settings.dataset]
    model = build_model(settings.model, entry, dict(settings.sizes), seed=0).to(device)
    loss_fn = load_loss(settings.loss)
    parameters = list(model.parameters())

    def gradient(count: int) -> Callable[[], object]:
        inputs, targets = _random_samples(entry, count, device)
        return lambda: torch.autograd.grad(loss_fn(model(*inputs), targets), parameters)

    operator = HessianOperator(
        model, loss_fn, *_random_samples(entry, settings.hessian_samples, device)
    )
    vector = torch.ones(operator.shape[0], device=device)
    return Times(
        step=_median_seconds(gradient(settings.batch_size), device),
        full_gradient=_median_seconds(gradient(entry.num_train), device),
        product=_median_seconds(lambda: operator.matvec(vector), device),
    )


def _random_samples(
    entry: DatasetEntry, count: int, device: torch.device
) -> tuple[tuple[Tensor, ...], Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count, device=device) % entry.num_classes
    if entry.vocabulary_size is None:
        values = torch.randn(count, *entry.input_shape, generator=generator).to(device)
        if entry.kind == "image":
            return (values,), targets
        return (values, torch.ones(values.shape[:2], dtype=torch.bool, device=device)), targets
    (longest,) = entry.input_shape
    tokens = torch.randint(entry.vocabulary_size, (count, longest), generator=generator)
    # Of all lengths, a fifth of the longest on average as in SST-2.
    shares = 0.6 * torch.rand(count, 1, generator=generator).square()
    mask = torch.arange(longest) < (shares * longest).clamp_min(1)
    return (tokens.to(device), mask.to(device)), targets


def _median_seconds(work: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])
