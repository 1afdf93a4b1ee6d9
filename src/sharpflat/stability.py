"""What counts as a stable run: one definition for the search for the edge, figures and claims."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Stability = Literal["stable", "unstable", "diverged"]

#: Over the least training loss so far, from which on a record belongs to an excursion [assumption].
EXCURSION_FACTOR = 1.2
#: Over the training loss at the switch, likewise [assumption]. Above 1, because a run that makes no
#: progress hovers around where it began: in the `laptop` tier Dom-SGD and SGD at the study's
#: learning rates rise above their start by up to 4 %, with η λ_1 far below 2.
START_FACTOR = 1.05
#: Share of the records after the switch that may belong to excursions [assumption]: one of twenty,
#: so that a single recorded step decides nothing.
EXCURSION_SHARE = 0.05
#: Over the training loss at the switch, from which on a single record is enough [assumption]. The
#: share of a short and high excursion shrinks as the run goes on; that the loss of all training
#: samples doubled is no noise of mini-batches, however long the run.
PEAK_FACTOR = 2.0


def classify(train_losses: ArrayLike, *, diverged: bool) -> Stability:
    """Class of a run by its recorded training losses.

    A run is *diverged* if it was ended as such or recorded an infinite loss. It is *unstable* if

    - its loss ends above 1.05 times that at the switch,
    - or any record is above twice that,
    - or more than one record and more than a twentieth of those after the switch lie above 1.05
      times the loss at the switch or above 1.2 times the least loss so far.

    Otherwise it is *stable*, which does not say that it makes progress.

    Whether λ_1 exceeds 2/η is not part of it: along Bulk-SGD, which does not follow the leading
    eigenvectors, λ_1 may lie far beyond 2/η while the loss falls as smoothly as ever. What a
    quadratic predicts from the eigenvalues is reported beside what was observed, not mixed in.

    Args:
        train_losses: ``(records,)``, from the switch on; the first is that at the switch. NaN is a
            record without a loss and is left out.
        diverged: Whether the run was ended as diverged.

    Raises:
        ValueError: A run that did not diverge has no loss at the switch, or none after it.

    Example:
        >>> classify([1.0, 0.9, 0.8, 0.7], diverged=False)
        'stable'
        >>> classify([1.0, 0.9, 7.0, 0.7], diverged=False)
        'unstable'
    """
    losses = np.asarray(train_losses, dtype=np.float64)
    if diverged or np.isposinf(losses).any():
        return "diverged"
    recorded = losses[~np.isnan(losses)]
    if recorded.size < 2 or np.isnan(losses[0]):
        raise ValueError(
            f"stability needs the training loss at the switch and at least one after it, and the "
            f"records hold {losses.tolist()}; record more often or train for more steps"
        )
    start, after = recorded[0], recorded[1:]
    least = np.minimum.accumulate(recorded)[1:]
    excursion = (after > START_FACTOR * start) | (after > EXCURSION_FACTOR * least)
    lasting = excursion.sum() > max(1.0, EXCURSION_SHARE * after.size)
    if lasting or after[-1] > START_FACTOR * start or after.max() > PEAK_FACTOR * start:
        return "unstable"
    return "stable"
