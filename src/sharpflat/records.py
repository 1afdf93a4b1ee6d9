"""The identity of a run: everything that decides its numbers, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sharpflat.optimizers import Options, label, slug

HASH_DIGITS = 10


@dataclass(frozen=True, kw_only=True)
class PrefixRecord:
    """Training from initialisation to the switch, shared by every run that branches there.

    Attributes:
        task: Name of the task in the config; part of the readable name only.
        dataset: Name in :data:`sharpflat.tasks.registry.DATASETS`.
        model: Name in :data:`sharpflat.tasks.registry.MODELS`.
        sizes: Size options of the model, sorted by name.
        loss: Name in :data:`sharpflat.tasks.registry.LOSSES`.
        seed: Seed of every random stream of the run.
        optimizer: Name in :data:`sharpflat.optimizers.OPTIMIZERS`; its state crosses the switch.
        optimizer_options: All of its options, sorted by name.
        batch_size: Samples of a mini-batch.
        learning_rate: η, constant.
        k: Dimension of the Dominant subspace.
        hessian_samples: Samples of the Hessian, the first so many of the training subset.
        tolerance: Accepted ``‖sin Θ‖_F`` of the tracked subspace.
        tracking_samples: Samples of the products that track it between two full checks, ``"auto"``
            for as many as pay, ``None`` for all of the Hessian's.
        record_every: Steps from one recorded row to the next.
        eigen_every: Steps from one row with alignment and eigenvalues to the next, a multiple of
            ``record_every``; the rows between hold losses and the norm of the gradient.
        switch_alignment: The switch comes when the moving average of the full gradient's
            alignment passes this; ``None``: at ``switch_max_steps``.
        switch_ema_decay: Decay of that average per step.
        switch_max_steps: Step at which the switch comes at the latest.
        divergence_factor: A run has diverged, and ends, when its mini-batch loss exceeds so many
            times the training loss at initialisation, or is not finite [assumption].
    """

    task: str
    dataset: str
    model: str
    sizes: tuple[tuple[str, int | str], ...]
    loss: str
    seed: int
    optimizer: str
    optimizer_options: Options
    batch_size: int
    learning_rate: float
    k: int
    hessian_samples: int
    tolerance: float
    tracking_samples: int | Literal["auto"] | None
    record_every: int
    eigen_every: int
    switch_alignment: float | None
    switch_ema_decay: float
    switch_max_steps: int
    divergence_factor: float

    @property
    def slug(self) -> str:
        """The readable part of the name."""
        setting = f"lr{self.learning_rate:g}-b{self.batch_size}-k{self.k}"
        return f"{self.named}-{setting}"

    @property
    def named(self) -> str:
        """Task, loss, and the optimizer where it is not SGD as it comes."""
        optimizer = slug(self.optimizer, self.optimizer_options)
        return f"{self.task}-{self.loss}" + ("" if optimizer == "sgd" else f"-{optimizer}")

    @property
    def id(self) -> str:
        """Name of the record: readable part, seed and hash."""
        return f"{self.slug}-seed{self.seed}-{record_hash(self)}"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run: a prefix, and the method that goes on from its switch.

    What may differ from the prefix stands here again, so that an ablation branches from the same
    checkpoint as the runs that it is compared with.

    Attributes:
        prefix: What came before the switch.
        dom_weight: Weight ``a`` of the update's Dominant part.
        bulk_weight: Weight ``b`` of its Bulk part.
        steps: Steps after the switch.
        refresh: Refresh policy of the subspace that the steps are projected on.
        learning_rate: η after the switch.
        batch_size: Samples of a mini-batch after the switch.
        k: Dimension of the Dominant subspace after the switch.
        hessian_samples: Samples of the Hessian after the switch.
        record_every: Rhythm of the records after the switch.
        eigen_every: Rhythm of those with alignment and eigenvalues.
    """

    prefix: PrefixRecord
    dom_weight: float
    bulk_weight: float
    steps: int
    refresh: Literal["adaptive", "every_step"] | int
    learning_rate: float
    batch_size: int
    k: int
    hessian_samples: int
    record_every: int
    eigen_every: int

    @property
    def after_switch(self) -> PrefixRecord:
        """The prefix's settings with those that hold after the switch."""
        return replace(
            self.prefix,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            k=self.k,
            hessian_samples=self.hessian_samples,
            record_every=self.record_every,
            eigen_every=self.eigen_every,
        )

    @property
    def id(self) -> str:
        """Name of the run: readable part, seed and hash."""
        weights = f"dom{self.dom_weight:g}-bulk{self.bulk_weight:g}"
        return f"{self.after_switch.slug}-{weights}-seed{self.prefix.seed}-{record_hash(self)}"


@dataclass(frozen=True, kw_only=True)
class EdgeRecord:
    """A search for the largest learning rate at which a method is stable from a switch on.

    Attributes:
        start: The first run that is tried. The others differ from it in their learning rate.
        factor: From one learning rate to the next, until one is stable and one is not.
        resolution: The search ends once the smallest that is not stable is at most so many times
            the largest that is.
        most_trials: Runs after which it ends even so.
    """

    start: RunRecord
    factor: float
    resolution: float
    most_trials: int

    @property
    def prefix(self) -> PrefixRecord:
        """What came before the switch."""
        return self.start.prefix

    def trial(self, learning_rate: float) -> RunRecord:
        """The run that tries a learning rate."""
        return replace(self.start, learning_rate=learning_rate)

    @property
    def id(self) -> str:
        """Name of the search: readable part, seed and hash."""
        run, prefix = self.start, self.prefix
        weights = f"dom{run.dom_weight:g}-bulk{run.bulk_weight:g}"
        setting = f"b{run.batch_size}-k{run.k}"
        return f"{prefix.named}-{setting}-{weights}-seed{prefix.seed}-{record_hash(self)}"


def record_hash(record: PrefixRecord | RunRecord | EdgeRecord) -> str:
    """Leading digits of the sha256 of the record as canonical JSON."""
    canonical = json.dumps(asdict(record), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:HASH_DIGITS]


def flat(record: RunRecord) -> dict[str, Any]:
    """The record as one row of a table, model sizes and prefix spread out, the optimizer in words.

    Settings that the run has a value of its own for are the run's.
    """
    row = {"run": record.id, "prefix": record.prefix.id, **asdict(record.prefix)}
    row.update({f"model_{name}": size for name, size in row.pop("sizes")})
    row["optimizer"] = label(record.prefix.optimizer, row.pop("optimizer_options"))
    row.update({name: value for name, value in asdict(record).items() if name != "prefix"})
    return row
