"""The loop of all training: step, record, keep snapshots, and go on after a kill."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sharpflat.curvature import DominantSubspace, NonFiniteProductError
from sharpflat.optim import ProjectedOptimizer
from sharpflat.optimizers import is_plain_sgd
from sharpflat.records import PrefixRecord
from sharpflat.training.alarms import Action, Alarms
from sharpflat.training.checkpoints import CheckpointError, read_checkpoint, write_checkpoint
from sharpflat.training.measure import measure_eigenspace, measure_losses, measure_update
from sharpflat.training.optimizers import load_states, reevaluates
from sharpflat.training.recorder import Trajectory
from sharpflat.training.state import TrainingState

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Progress:
    """How far a stretch of training is: with the state's parts, all that its next step needs."""

    step: int
    alignment_ema: float | None = None  # before initialisation
    initial_loss: float = math.inf  # training loss at initialisation
    status: str = "finished"  # or "diverged"
    seconds: float = 0.0
    update_matvecs: int = 0  # products with the Hessian that the optimizer's update sees
    alarms: dict[str, dict[str, float]] = field(default_factory=dict)  # what sounded
    trajectory: Trajectory = field(default_factory=Trajectory)
    snapshots: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What is trained from one step to another.

    Attributes:
        state: Model, data, batches and curvature.
        optimizer: Takes the steps, projected or not.
        measuring: Measures the alignment; shared with the optimizer, or its own.
        record: Rhythm of the records, the switch and divergence.
        stop: Last step, measured and not taken.
        start: How far training is at the first step.
        ends: Whether an average ends the stretch.
        snapshot_steps: Steps whose parameters are kept.
        key: Identity of the run, its code, data and device: whose checkpoint may be resumed.
        resume: File that the stretch goes on from after a kill.
        checkpoint_every: Steps from one such checkpoint to the next.
        alarms: For each numerical alarm, whether it is recorded or ends the run.
        label: For the log.
    """

    state: TrainingState
    optimizer: ProjectedOptimizer
    measuring: DominantSubspace
    record: PrefixRecord
    stop: int
    start: Progress
    ends: Callable[[float], bool]
    snapshot_steps: frozenset[int]
    key: str
    resume: Path
    checkpoint_every: int
    alarms: Mapping[str, Action]
    label: str

    def train(self) -> Progress:
        """Step from the start to the stop; end early at the switch or on divergence."""
        progress = self._resumed() or copy.deepcopy(self.start)
        logger.info("%s: steps %d to %d", self.label, progress.step, self.stop)
        began = time.perf_counter() - progress.seconds
        steps = range(progress.step, self.stop + 1)
        for step in tqdm(steps, desc=self.label, disable=None, leave=False):
            progress.step, progress.seconds = step, time.perf_counter() - began
            if step > steps[0] and (step - self.start.step) % self.checkpoint_every == 0:
                self._checkpoint(progress)
            if self._step(progress):
                break
        progress.seconds = time.perf_counter() - began
        logger.info("%s: %s at step %d", self.label, progress.status, progress.step)
        return progress

    def _step(self, progress: Progress) -> bool:
        """Measure where a record is due, then move; returns whether the stretch ends here."""
        step = progress.step
        row: dict[str, float] = {"step": step, "batch_loss": self._differentiate(step)}
        last = step == self.stop
        try:
            if not math.isfinite(row["batch_loss"]):
                raise NonFiniteProductError(f"the loss is {row['batch_loss']}")
            eigenspace = last or self._due(step, self.record.eigen_every)
            if eigenspace or self._due(step, self.record.record_every):
                row |= self._measure(progress, eigenspace=eigenspace)
                progress.trajectory.add(row)
                if step == 0:
                    progress.initial_loss = row["train_loss"]
            last = last or (eigenspace and self.ends(row["alignment_ema"]))
            self._refuse_divergence(progress, row["batch_loss"])
            if eigenspace:  # after divergence, which is a result and no alarm
                self._alarms(progress).check_record(self.state, row)
            if last or step in self.snapshot_steps:
                progress.snapshots[step] = self.state.hessian.theta().cpu()
            if not last:
                self._take_step(progress)
        except NonFiniteProductError as error:
            logger.warning("%s: diverged at step %d: %s", self.label, step, error)
            if step not in progress.trajectory:
                progress.trajectory.add(row)
            progress.status = "diverged"
            return True
        return last

    def _differentiate(self, step: int) -> float:
        """Loss of a step's mini-batch at the parameters of the moment; leaves its gradient."""
        self.optimizer.zero_grad()
        loss = self.state.batch_loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def _closure(self, step: int) -> Callable[[], float] | None:
        """For a base optimizer that takes the gradient elsewhere too; the others have it."""
        if reevaluates(self.optimizer.base_optimizers):
            return lambda: self._differentiate(step)
        return None

    def _due(self, step: int, rhythm: int) -> bool:
        return (step - self.start.step) % rhythm == 0

    def _measure(self, progress: Progress, *, eigenspace: bool) -> dict[str, float]:
        batch_gradient = _gradient(self.state)
        row, gradient = measure_losses(self.state)
        if eigenspace:
            row |= measure_eigenspace(
                self.measuring, gradient=gradient, batch_gradient=batch_gradient
            )
            average = self._average(progress, row["alignment"])
            progress.alignment_ema = row["alignment_ema"] = average
            row |= self._measure_update(progress, batch_alignment=row["batch_alignment"])
        tracking = sum(subspace.num_matvecs for subspace in self.subspaces())
        row["num_matvecs"] = tracking + progress.update_matvecs
        return row

    def _measure_update(self, progress: Progress, *, batch_alignment: float) -> dict[str, float]:
        if is_plain_sgd(self.record.optimizer, self.record.optimizer_options):
            return {"update_alignment": batch_alignment}
        row, matvecs = measure_update(
            self.measuring,
            self.optimizer.base_optimizers,
            closure=self._closure(progress.step),
            tolerance=self.record.tolerance,
        )
        progress.update_matvecs += matvecs
        return row

    def _alarms(self, progress: Progress) -> Alarms:
        tolerance = self.record.tolerance
        return Alarms(actions=self.alarms, tolerance=tolerance, found=progress.alarms)

    def _take_step(self, progress: Progress) -> None:
        self.optimizer.step(self._closure(progress.step))
        if self.optimizer.projects:
            subspace = self.optimizer.subspace
            if not isinstance(subspace.refresh_policy, int):  # a fixed interval accepts any error
                self._alarms(progress).check_step(progress.step, subspace.error_estimate)

    def _average(self, progress: Progress, value: float) -> float:
        """The average's memory is counted in steps, whatever the rhythm of the eigenspace."""
        decay = self.record.switch_ema_decay
        if progress.alignment_ema is None:
            return (1 - decay) * value  # it starts at zero, one step before initialisation
        if progress.step == self.start.step:
            return progress.alignment_ema  # the switch's own record, made by the prefix
        # At a stop between two records fewer steps have passed.
        rhythm = self.record.eigen_every
        decay **= (progress.step - self.start.step) % rhythm or rhythm
        return decay * progress.alignment_ema + (1 - decay) * value

    def _refuse_divergence(self, progress: Progress, batch_loss: float) -> None:
        limit = self.record.divergence_factor * progress.initial_loss
        if batch_loss > limit:
            raise NonFiniteProductError(f"the loss is {batch_loss:.3g}, above {limit:.3g}")

    def subspaces(self) -> list[DominantSubspace]:
        """Those whose state the next step depends on, each once."""
        return list(dict.fromkeys([self.measuring, self.optimizer.subspace]))

    def _checkpoint(self, progress: Progress) -> None:
        values = {
            "key": self.key,
            "model": self.state.model.state_dict(),
            "optimizers": [base.state_dict() for base in self.optimizer.base_optimizers],
            "subspaces": [subspace.state_dict() for subspace in self.subspaces()],
            "progress": vars(progress) | {"trajectory": progress.trajectory.rows},
        }
        write_checkpoint(self.resume, values)

    def _resumed(self) -> Progress | None:
        """Where an earlier process of the same run came to; puts every part back to there."""
        if not self.resume.exists():
            return None
        try:
            values = read_checkpoint(self.resume)
            if values["key"] != self.key:
                raise CheckpointError(f"{self.resume} is of another run or version")
        except CheckpointError as error:
            aside = self.resume.with_name(f"{self.resume.name}.rejected")
            logger.warning("%s: %s; moved to %s, starting over", self.label, error, aside.name)
            self.resume.replace(aside)
            return None
        self.state.model.load_state_dict(values["model"])
        load_states(self.optimizer.base_optimizers, values["optimizers"])
        for subspace, state in zip(self.subspaces(), values["subspaces"], strict=True):
            subspace.load_state_dict(state)
        progress: dict[str, Any] = values["progress"]
        logger.info("%s: goes on from step %d", self.label, progress["step"])
        return Progress(**progress | {"trajectory": Trajectory(progress["trajectory"])})


def _gradient(state: TrainingState) -> Tensor:
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in state.hessian.parameters]
    return torch.cat([part.reshape(-1) for part in parts])
