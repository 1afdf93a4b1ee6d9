"""What counts as the claimed effect, statistic by statistic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sharpflat.analysis.claims.verdicts import Combination

#: Key in the configuration's ``claims`` under which claims say how their rows combine.
VERDICTS_KEY = "verdicts"


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
        meaning="steps to the lowest training loss that both reach, Bulk-SGD's over SGD's",
    ),
    Threshold(
        name="edge_ratio",
        claim="C4",
        side="below",
        meaning="edge of stability η*, Bulk-SGD's over SGD's",
    ),
    Threshold(
        name="instability",
        claim="C4",
        side="above",
        meaning="share of seeds in which Bulk-SGD is unstable in more cells than SGD",
    ),
    Threshold(
        name="sharpness_growth",
        claim="C4",
        side="above",
        meaning="growth of λ_1 from the switch to the last record, Bulk-SGD's over SGD's",
    ),
    Threshold(
        name="hyperparameter_effect",
        claim="C5",
        side="above",
        meaning="factor that one hyperparameter makes in Bulk-SGD's final training loss over SGD's",
    ),
    Threshold(
        name="stability_governed",
        claim="C5",
        side="above",
        meaning="share of seeds in which a hyperparameter other than the learning rate decides "
        "whether Bulk-SGD is stable",
    ),
    Threshold(
        name="interpolated_loss",
        claim="C6",
        side="below",
        meaning="final training loss at the best point inside a path, over that at its better end",
    ),
    Threshold(
        name="interpolated_edge",
        claim="C6",
        side="above",
        meaning="edge of stability η* with a tenth of the Dominant part, over the larger of SGD's "
        "and Bulk-SGD's",
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
    Threshold(
        name="pace",
        claim="C8",
        side="below",
        meaning="steps to the lowest training loss that both reach, of the Bulk part of another "
        "optimizer's updates over those of the whole",
    ),
    Threshold(
        name="transfer_factor",
        claim="C9",
        side="below",
        meaning="factor by which 2/λ_(k+1) misses Bulk-SGD's edge of stability on other tasks",
    ),
    Threshold(
        name="transfer_error",
        claim="C9",
        side="below",
        meaning="error of 2/λ_(k+1) as Bulk-SGD's edge over that of the best single edge for all",
    ),
    Threshold(
        name="stretched_steps",
        claim="C10",
        side="below",
        meaning="steps to the lowest training loss that both reach, of the best pair a < 1 < b "
        "over SGD's at its best learning rate",
    ),
)


def check_thresholds(settings: Mapping[str, Any]) -> None:
    """Refuse values that are missing or that belong to no statistic.

    Args:
        settings: The configuration's ``claims``: a number for each threshold, and ``verdicts``.

    Raises:
        ValueError: Names the key and what is allowed.
    """
    known = [*(threshold.name for threshold in THRESHOLDS), VERDICTS_KEY]
    for name in known:
        if name not in settings:
            raise ValueError(f"claims.{name} is missing; give it a value")
    for name in settings:
        if name not in known:
            raise ValueError(f"claims.{name} is unknown; allowed are {', '.join(known)}")


def combinations(settings: Mapping[str, Any]) -> dict[str, Combination]:
    """How the rows of each claim combine.

    Raises:
        ValueError: A claim decides by a statistic that is not its own, or by none.
    """
    chosen = {
        claim: Combination(
            by=tuple(rule["by"]),
            reproduced=rule["reproduced"],
            partly=rule["partly"],
            against=rule["against"],
        )
        for claim, rule in settings[VERDICTS_KEY].items()
    }
    for claim, combination in chosen.items():
        own = [threshold.name for threshold in THRESHOLDS if threshold.claim == claim]
        if not combination.by or not set(combination.by) <= set(own):
            raise ValueError(
                f"claims.{VERDICTS_KEY}.{claim}.by = {list(combination.by)}; allowed are one or "
                f"more of {', '.join(own)}"
            )
    return chosen
