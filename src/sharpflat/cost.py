"""What a tier will take on this machine: steps and products timed here, counts from runs made."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from sharpflat.config import Config
from sharpflat.curvature import DominantSubspace, HessianOperator
from sharpflat.optim import ProjectedOptimizer
from sharpflat.plan import figure_edges, figure_runs
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.losses import load_loss
from sharpflat.tasks.models import build_model
from sharpflat.tasks.registry import DATASETS

log = logging.getLogger(__name__)

#: Learning rates that a search for the edge tries where none is finished: four or five to bracket
#: it, three to narrow a factor of 1.5 or 2 down to 1.1.
TRIALS = 8
#: Timed repeats of a step and of a product, after one that is not timed.
REPEATS = 3
#: Weights of the methods whose steps follow an eigenspace, as :func:`_method` names them.
FOLLOWING = {"bulk": (0.0, 1.0), "dominant": (1.0, 0.0)}
#: Steps that are timed where they take no product: so small, at so wide a tolerance, that only the
#: first two do, which learn how the subspace turns with a step.
FOLLOWED_STEPS, FOLLOWED_RATE, FOLLOWED_TOLERANCE = 8, 1e-6, 0.5
#: Samples of their Hessian, few since the rest of a step does not depend on them.
FOLLOWED_SAMPLES = 50

#: Model, loss and what the steps follow.
Kind = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of the parts that a run is made of.

    Attributes:
        step: A step of SGD.
        full_gradient: The gradient over all training samples.
        product: A product with the Hessian.
        following: What projecting a step adds beside products, by method.
    """

    step: float
    full_gradient: float
    product: float
    following: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Products:
    """Full products that runs of one model, loss, method and learning rate spend.

    Attributes:
        record: For a record of the eigenspace.
        step: For tracking it through a step, beyond the records.
        last_step: Step at which they diverge, where most of them do; infinite elsewhere.
    """

    record: float
    step: float
    last_step: float


@dataclass(frozen=True, kw_only=True)
class FigureCost:
    """What a figure adds to the figures before it, which it may share runs with.

    Attributes:
        figure: Its name.
        runs: Runs that it adds, those of searches among them, prefixes not counted.
        hours: Of one process after the other; of those that are like a finished run.
        unknown: What else it adds, of which there is no finished run to learn from.
    """

    figure: str
    runs: int
    hours: float
    unknown: tuple[Kind, ...]


def estimate(config: Config, rates: Path, *, device: torch.device) -> Iterator[FigureCost]:
    """Estimate the hours of each figure's runs, one process after the other.

    A run takes ``steps · (step + following + products a step · product) + records · full gradient +
    records of the eigenspace · products a record · product``. Steps, what following an eigenspace
    adds to them, products and gradients are timed here at the tier's own sizes, on random inputs.
    The products are those of the finished runs of the same kind of model, loss and method under
    ``rates`` at the nearest learning rate, with those over fewer samples counted by their share;
    where those diverged, a run ends as they did. Products a step are taken in proportion to the
    learning rate, as the turn of the eigenspace is: on MNIST with squared error 0.07, 0.23 and 1.06
    were spent at 0.003, 0.01 and 0.03. A search for the edge of stability is taken to try as many
    learning rates as those that are finished did, else :data:`TRIALS`.

    Args:
        config: The tier.
        rates: Folder of a tier's results with finished runs.
        device: Where to time.
    """
    known, trials = _known_products(rates), _known_trials(rates)
    times: dict[tuple[object, ...], Times] = {}
    done: set[str] = set()
    for figure in config.figures.values():
        runs = {run.record.id: run.record for run in figure_runs(config, figure)}
        edges = {edge.record.id: edge.record for edge in figure_edges(config, figure)}
        branches: list[RunRecord | EdgeRecord] = [*runs.values(), *edges.values()]
        prefixes = {branch.prefix.id: branch.prefix for branch in branches}
        records: dict[str, PrefixRecord | RunRecord | EdgeRecord] = {**prefixes, **runs, **edges}
        hours, added, unknown = 0.0, 0, dict[Kind, None]()
        for name, record in records.items():
            if name in done:
                continue
            done.add(name)
            run = record.start if isinstance(record, EdgeRecord) else record
            repeats = min(trials, record.most_trials) if isinstance(record, EdgeRecord) else 1
            added += 0 if isinstance(record, PrefixRecord) else repeats
            settings = run.after_switch if isinstance(run, RunRecord) else run
            kind = (settings.model, settings.loss, _method_of(run))
            if kind not in known:
                unknown[kind] = None
                continue
            sizes = (settings.dataset, settings.model, settings.sizes, settings.loss)
            key = (*sizes, settings.batch_size, settings.hessian_samples)
            if key not in times:
                log.info("timing %s, %s", settings.model, settings.loss)
                times[key] = _time(settings, device)
            hours += repeats * _seconds(run, settings, times[key], known[kind], kind[2]) / 3600
        yield FigureCost(figure=figure.name, runs=added, hours=hours, unknown=tuple(unknown))


def _known_products(rates: Path) -> dict[Kind, dict[float, Products]]:
    """Products that the finished runs under a folder spent, medians by kind and learning rate.

    SGD spends all of its at records of the eigenspace; what other methods spend beyond as many at
    theirs, they spend on steps.
    """
    runs: dict[Kind, dict[float, list[tuple[float, float, float, bool]]]] = {}
    for path in sorted(rates.glob("runs/*/summary.json")):
        summary = json.loads(path.read_text())
        steps, record = summary["last_step"] - summary["switch_step"], summary["record"]
        # A run that diverged at once says nothing, and an older one not how often it recorded.
        if steps == 0 or "eigen_every" not in record:
            continue
        prefix, method = record["prefix"], _method(record["dom_weight"], record["bulk_weight"])
        kind = (prefix["model"], prefix["loss"], method)
        products = summary.get("equivalent_matvecs", summary["num_matvecs"])
        records, diverged = 1 + steps // record["eigen_every"], summary["status"] == "diverged"
        spent = runs.setdefault(kind, {}).setdefault(record["learning_rate"], [])
        spent.append((products, steps, records, diverged))
    found: dict[Kind, dict[float, Products]] = {}
    for (model, loss, method), by_rate in runs.items():
        sgd = [run for spent in runs.get((model, loss, "sgd"), {}).values() for run in spent]
        a_record = median(products / records for products, _, records, _ in sgd) if sgd else 0.0
        for learning_rate, spent in by_rate.items():
            beyond = [max(products - a_record * n, 0.0) / steps for products, steps, n, _ in spent]
            ends = [steps if diverged else math.inf for _, steps, _, diverged in spent]
            found.setdefault((model, loss, method), {})[learning_rate] = Products(
                record=a_record,
                step=0.0 if method == "sgd" else median(beyond),
                last_step=median(ends),
            )
    return found


def _known_trials(rates: Path) -> int:
    """Trials of a finished search for the edge under a folder, their median."""
    paths = sorted(rates.glob("edges/*/summary.json"))
    trials = [json.loads(path.read_text())["trials"] for path in paths]
    return round(median(trials)) if trials else TRIALS


def _seconds(
    record: PrefixRecord | RunRecord,
    settings: PrefixRecord,
    times: Times,
    known: dict[float, Products],
    method: str,
) -> float:
    nearest = min(known, key=lambda rate: abs(math.log(rate / settings.learning_rate)))
    products = known[nearest]
    # A prefix that waits for alignment may end earlier.
    planned = record.steps if isinstance(record, RunRecord) else record.switch_max_steps
    steps = min(float(planned), products.last_step)
    a_step = products.step * settings.learning_rate / nearest
    matvecs = steps * a_step + steps / settings.eigen_every * products.record
    gradients = steps / settings.record_every
    a_step_here = times.step + times.following.get(method, 0.0)
    return steps * a_step_here + matvecs * times.product + gradients * times.full_gradient


def _method_of(record: PrefixRecord | RunRecord) -> str:
    if isinstance(record, PrefixRecord):
        return "sgd"
    return _method(record.dom_weight, record.bulk_weight)


def _method(dom_weight: float, bulk_weight: float) -> str:
    """By what a run's steps follow, which decides what tracking costs."""
    if dom_weight == bulk_weight == 1:
        return "sgd"
    return "bulk" if dom_weight == 0 else "dominant"


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
        following={
            method: _following_seconds(settings, entry, weights, device)
            for method, weights in FOLLOWING.items()
        },
    )


def _following_seconds(
    settings: PrefixRecord, entry: DatasetEntry, weights: tuple[float, float], device: torch.device
) -> float:
    """Seconds that projecting a step takes where it takes no product, as most steps do."""
    model = build_model(settings.model, entry, dict(settings.sizes), seed=0).to(device)
    loss_fn = load_loss(settings.loss)
    inputs, targets = _random_samples(entry, FOLLOWED_SAMPLES, device)
    operator = HessianOperator(model, loss_fn, inputs, targets)
    subspace = DominantSubspace(operator, k=settings.k, tol=FOLLOWED_TOLERANCE)
    base = torch.optim.SGD(model.parameters(), lr=FOLLOWED_RATE)
    optimizer = ProjectedOptimizer(base, subspace, dom_weight=weights[0], bulk_weight=weights[1])
    seconds = []
    for _ in range(FOLLOWED_STEPS):
        optimizer.zero_grad()
        loss_fn(model(*inputs), targets).backward()  # type: ignore[no-untyped-call]
        products, began = subspace.num_matvecs, time.perf_counter()
        optimizer.step()
        _wait_for(device)
        if subspace.num_matvecs == products:
            seconds.append(time.perf_counter() - began)
    return median(seconds)


def _random_samples(
    entry: DatasetEntry, count: int, device: torch.device
) -> tuple[tuple[Tensor, ...], Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (count, *entry.target_shape)
    targets = torch.randint(entry.num_classes, shape, generator=generator).to(device)
    if entry.vocabulary_size is None:
        values = torch.randn(count, *entry.input_shape, generator=generator).to(device)
        if entry.kind in ("image", "tabular"):
            return (values,), targets
        return (values, torch.ones(values.shape[:2], dtype=torch.bool, device=device)), targets
    (longest,) = entry.input_shape
    tokens = torch.randint(entry.vocabulary_size, (count, longest), generator=generator)
    if entry.kind == "language":
        return (tokens.to(device),), targets
    # Of all lengths, a fifth of the longest on average as in SST-2.
    shares = 0.6 * torch.rand(count, 1, generator=generator).square()
    mask = torch.arange(longest) < (shares * longest).clamp_min(1)
    return (tokens.to(device), mask.to(device)), targets


def _median_seconds(work: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        work()
        _wait_for(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
