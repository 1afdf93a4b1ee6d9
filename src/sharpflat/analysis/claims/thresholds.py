"""What counts as the claimed effect, statistic by statistic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The value that a statistic must pass for its claim to hold.

    Attributes:
        name: Key in the configuration's ``claims``.
        claim: Identifier of the claim.
        side: Where the claim puts the statistic.
        meaning: What is compared with it.
    """

    name: str
    claim: str
    side: Literal["above", "below"]
    meaning: str

    @property
    def sign(self) -> str:
        """``>`` or ``<``."""
        return ">" if self.side == "above" else "<"


THRESHOLDS = (
    Threshold(
        name="alignment",
        claim="C1",
        side="above",
        meaning="χ_k of the full gradient over the last tenth of SGD",
    ),
    Threshold(
        name="dom_progress",
        claim="C2",
        side="below",
        meaning="slope of log training loss after the switch, Dom-SGD's over SGD's",
    ),
    Threshold(
        name="acceleration",
        claim="C3",
        side="below",
        meaning="steps to SGD's final training loss, Bulk-SGD's over SGD's",
    ),
    Threshold(
        name="instability",
        claim="C4",
        side="above",
        meaning="share of cells where SGD is stable and Bulk-SGD is not",
    ),
    Threshold(
        name="excess_spikes",
        claim="C4",
        side="above",
        meaning="loss spikes a run of Bulk-SGD beyond those of SGD",
    ),
    Threshold(
        name="sharpness_growth",
        claim="C4",
        side="above",
        meaning="growth of λ_1 from the switch to the last record, Bulk-SGD's over SGD's",
    ),
    Threshold(
        name="loss_explained",
        claim="C5",
        side="above",
        meaning="share (η²) of the variance in the rank of Bulk-SGD's final training loss that one "
        "hyperparameter explains",
    ),
    Threshold(
        name="stability_explained",
        claim="C5",
        side="above",
        meaning="share (η²) of the variance in whether Bulk-SGD is stable that one hyperparameter "
        "explains",
    ),
    Threshold(
        name="endpoint_difference",
        claim="C6",
        side="below",
        meaning="largest difference in log final training loss between a path's point and the "
        "method that it equals",
    ),
    Threshold(
        name="interpolated_loss",
        claim="C6",
        side="below",
        meaning="final training loss of the best interior point of a path, over SGD's or "
        "Bulk-SGD's",
    ),
    Threshold(
        name="hessian_energy",
        claim="C7",
        side="above",
        meaning="Frobenius share of the Hessian in its Dominant subspace",
    ),
    Threshold(
        name="ggn_energy",
        claim="C7",
        side="above",
        meaning="Frobenius share of the Generalized Gauss-Newton there",
    ),
    Threshold(
        name="functional_energy",
        claim="C7",
        side="below",
        meaning="Frobenius share of the functional Hessian there",
    ),
    Threshold(
        name="eigenspace_overlap",
        claim="C7",
        side="above",
        meaning="overlap of the top-k eigenspaces of the Hessian and the Generalized Gauss-Newton",
    ),
)


def check_thresholds(thresholds: Mapping[str, float]) -> None:
    """Refuse values that are missing or that belong to no statistic.

    Raises:
        ValueError: Names the key and what is allowed.
    """
    known = [threshold.name for threshold in THRESHOLDS]
    for name in known:
        if name not in thresholds:
            raise ValueError(f"claims.{name} is missing; give it a number")
    for name in thresholds:
        if name not in known:
            raise ValueError(f"claims.{name} is unknown; allowed are {', '.join(known)}")
