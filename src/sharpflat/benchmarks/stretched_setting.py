"""What the comparison of stretched optimizers trains, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpflat.config import read_tier
from sharpflat.settings import Setting, cells
from sharpflat.tasks.registry import DATASETS

if TYPE_CHECKING:  # it imports torch, and the figure reads the floor here
    from sharpflat.stretched import BulkRate

TIER = "laptop"
JUDGED_SEEDS = (0, 1, 2, 3, 4, 5)
#: Values that each optimizer may try, and the factor from one to the next before the last tries.
TRIES, FACTOR = 7, 3.0
#: Full checks at this interval, to this tolerance. On the cancer task, with ρ = 0.3 from
#: initialisation on, a subspace held to 0.1 took eight times the products for no lower loss.
REFRESH, TOLERANCE = 20, 0.3
RECORD_EVERY = 10
#: A run whose loss over all samples is so many times that at initialisation has diverged.
DIVERGENCE_FACTOR = 100.0
#: Losses below it count as it: all samples are learned. In float32 a sample's cross-entropy is a
#: multiple of 1.2e-7 where it is small, so that ratios of losses near that compare rounding.
LOSS_FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What all optimizers train.

    Attributes:
        task: In the tier's configuration, which gives data, model and k.
        loss: Name of the loss.
        batch_size: Samples a batch; ``None`` for all.
        hessian_samples: Samples of the Hessian; ``None`` for all. Few, as products are the cost.
        steps: Of every run.
        tuning_seeds: Seeds whose geometric mean loss decides on a value; none of them is judged.
        without: Optimizers that it leaves out.
    """

    task: str
    loss: str
    batch_size: int | None = 50
    hessian_samples: int | None = None
    steps: int
    tuning_seeds: tuple[int, ...] = (100,)
    without: tuple[str, ...] = ()


COMPARISONS = (
    # A run at a high rate blows up with some seeds and not with others: values that one seed alone
    # chose did so with others, with and without the noise of batches.
    Comparison(task="cancer_mlp", loss="cross_entropy", steps=200, tuning_seeds=(100, 101, 102)),
    # Without that noise, which asks for a smaller ρ.
    Comparison(
        task="cancer_mlp",
        loss="cross_entropy",
        batch_size=None,
        steps=200,
        tuning_seeds=(100, 101, 102),
    ),
    # These cost the most: of the two weightings of AdamW they have one, the better one above where
    # it can be had. Words that no batch has brought yet have no second moments: see AdamHessian.
    Comparison(
        task="mnist_mlp",
        loss="mse",
        hessian_samples=500,
        steps=100,
        without=("stretched_adamw",),
    ),
    Comparison(
        task="sst2_transformer",
        loss="mse",
        hessian_samples=125,
        steps=80,
        without=("stretched_adamw_metric",),
    ),
    Comparison(
        task="mnist_mlp",
        loss="cross_entropy",
        hessian_samples=500,
        steps=60,
        without=("stretched_adamw",),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An optimizer that is compared.

    Attributes:
        optimizer: As :func:`sharpflat.optimizers.parse_optimizer` takes it.
        start: First value that its knob tries.
        base: Name of the candidate that it stretches, if it does.
        bulk_rate: Of :class:`sharpflat.stretched.StretchedOptimizer`.
        metric: Whether directions are those of the Hessian that Adam sees.
    """

    optimizer: str | Mapping[str, Any]
    start: float
    base: str = ""
    bulk_rate: BulkRate = "curvature"
    metric: bool = False

    @property
    def knob(self) -> str:
        """What is tuned."""
        return "rho" if self.base and self.bulk_rate == "curvature" else "learning_rate"


# Decoupled weight decay at torch's default for AdamW.
_MOMENTUM = {"name": "sgd", "momentum": 0.9}
_ADAMW = {"name": "adamw", "weight_decay": 0.01}
_MUON = {"name": "muon", "weight_decay": 0.01}
#: By name. First values are from a look at the cancer task with the tuning seed.
CANDIDATES: Mapping[str, Candidate] = {
    "sgd": Candidate(optimizer="sgd", start=0.1),
    "momentum": Candidate(optimizer=_MOMENTUM, start=0.03),
    "adamw": Candidate(optimizer=_ADAMW, start=0.01),
    "muon": Candidate(optimizer=_MUON, start=0.03),
    "stretched_sgd": Candidate(optimizer="sgd", start=0.5, base="sgd"),
    "stretched_momentum": Candidate(optimizer=_MOMENTUM, start=0.1, base="momentum"),
    "stretched_adamw": Candidate(optimizer=_ADAMW, start=0.01, base="adamw", bulk_rate="base"),
    "stretched_adamw_metric": Candidate(optimizer=_ADAMW, start=1.0, base="adamw", metric=True),
}


def setting_of(comparison: Comparison, root: Path) -> Setting:
    """The tier's setting with a comparison's batches and samples of the Hessian."""
    request = {"tasks": [comparison.task], "losses": [comparison.loss]}
    (cell,) = cells(read_tier(TIER, root).raw, "stretched", request)
    samples = DATASETS[cell.after.dataset].num_train
    return replace(
        cell.after,
        batch_size=comparison.batch_size or samples,
        hessian_samples=comparison.hessian_samples or samples,
    )
