"""Numerical alarms: what makes a run's numbers doubtful, recorded or refused as the config says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from sharpflat.training.state import TrainingState

#: What is watched: a solver that reached its limit of products before its tolerance, an estimate
#: of the subspace's error above the tolerance, a basis that is not orthonormal, and a full-batch
#: loss that is not the mean of the losses of its parts, which every curvature operator relies on.
ALARMS = ("not_converged", "subspace_error", "orthogonality", "chunked_loss")
#: Largest accepted entry of ``|V^T V - I|``: far below any tolerance of the subspace, and far above
#: what float32 rounding leaves, up to 2e-5 in the laptop tier, on the MNIST MLP.
ORTHOGONALITY = 1e-3
#: Largest accepted relative difference of the two losses. Rounding leaves 1e-7 in that tier.
CHUNKED_LOSS = 1e-4

Action = Literal["record", "raise"]


class NumericalAlarm(RuntimeError):
    """A number that the configuration does not accept; says which, where, and what to do."""


@dataclass(kw_only=True)
class Alarms:
    """What is watched along a run.

    Attributes:
        actions: For each alarm whether it is recorded or ends the run.
        tolerance: Accepted ``‖sin Θ‖_F`` of the tracked subspace.
        found: What was recorded so far, by alarm: ``steps`` with it, the ``first`` of them, and
            the ``worst`` value.
    """

    actions: Mapping[str, Action]
    tolerance: float
    found: dict[str, dict[str, float]]

    def check_record(self, state: TrainingState, row: Mapping[str, float]) -> None:
        """Check a row that holds the eigenspace, at the state's parameters.

        Raises:
            NumericalAlarm: A value above its limit that the configuration does not accept.
        """
        step = int(row["step"])
        self._check("not_converged", step, 1 - row["eigen_converged"], 0)
        self._check("orthogonality", step, row["orthogonality"], ORTHOGONALITY)
        self._check("chunked_loss", step, chunked_loss_difference(state), CHUNKED_LOSS)

    def check_step(self, step: int, subspace_error: float) -> None:
        """Check the estimated error of the subspace that a step was projected on.

        Raises:
            NumericalAlarm: It is above the tolerance, and the configuration does not accept that.
        """
        self._check("subspace_error", step, subspace_error, self.tolerance)

    def _check(self, name: str, step: int, value: float, limit: float) -> None:
        if value <= limit:
            return
        if self.actions[name] == "raise":
            raise NumericalAlarm(
                f"alarm {name} at step {step}: {value:.3g} is above {limit:.3g}; "
                f"set alarms.{name} to 'record' to go on"
            )
        before = self.found.get(name, {"steps": 0, "first": step, "worst": value})
        worst = value if math.isnan(value) else max(before["worst"], value)
        self.found[name] = {"steps": before["steps"] + 1, "first": before["first"], "worst": worst}


@torch.no_grad()
def chunked_loss_difference(state: TrainingState) -> float:
    """Relative difference of the loss over the Hessian's samples and the mean over two parts."""
    count = state.hessian.num_samples
    whole = state.loss_of(slice(0, count))
    mean = 0.0
    for part in (slice(0, count // 3), slice(count // 3, count)):
        if part.start < part.stop:
            mean += state.loss_of(part) * (part.stop - part.start) / count
    return abs(whole - mean) / max(abs(whole), torch.finfo(torch.float32).tiny)
