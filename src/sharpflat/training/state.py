"""What a run is made of when it starts: model, data, batches, curvature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpflat.curvature import DominantSubspace, HessianOperator
from sharpflat.records import PrefixRecord
from sharpflat.sources import training_code_hash
from sharpflat.tasks.data import Dataset, load
from sharpflat.tasks.losses import load_loss
from sharpflat.tasks.models import build_model
from sharpflat.tasks.registry import DATASETS
from sharpflat.training.batches import BatchOrder
from sharpflat.training.randomness import stream_seed


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """The parts of a run that its steps and its measurements share."""

    model: nn.Module
    loss_fn: Callable[[Tensor, Tensor], Tensor]
    dataset: Dataset
    order: BatchOrder
    hessian: HessianOperator
    code: str

    def batch_loss(self, step: int) -> Tensor:
        """Loss of a step's mini-batch, with its graph."""
        indices = self.order.indices(step).to(self.dataset.train_targets.device)
        inputs, targets = self.dataset.batch(indices)
        return self.loss_fn(_apply(self.model, inputs), targets)

    def full_gradient(self) -> tuple[float, Tensor]:
        """Loss and gradient ``(P,)`` over the whole training subset."""
        loss = self.loss_fn(
            _apply(self.model, self.dataset.train_inputs), self.dataset.train_targets
        )
        gradient = torch.autograd.grad(loss, self.hessian.parameters, materialize_grads=True)
        return loss.item(), torch.cat([part.reshape(-1) for part in gradient])

    @torch.no_grad()
    def loss_of(self, samples: slice) -> float:
        """Loss of some of the Hessian's samples."""
        inputs = tuple(part[samples] for part in self.hessian.inputs)
        return self.loss_fn(self.model(*inputs), self.hessian.targets[samples]).item()

    @torch.no_grad()
    def test(self) -> tuple[float, float]:
        """Loss and accuracy on the test samples."""
        outputs = _apply(self.model, self.dataset.test_inputs)
        targets = self.dataset.test_targets
        accuracy = (outputs.argmax(dim=-1) == targets).to(torch.float64).mean()
        return self.loss_fn(outputs, targets).item(), accuracy.item()


def initial_state(record: PrefixRecord, data: Path, *, device: torch.device) -> TrainingState:
    """Load the data and initialise the model of a record.

    Args:
        record: What to train.
        data: The data set's canonical file.
        device: Where to train.

    Raises:
        DataError: The file is not the data set that the record names.
    """
    dataset = load(record.dataset, data, device=device)
    model = build_model(
        record.model,
        DATASETS[record.dataset],
        dict(record.sizes),
        seed=stream_seed(record.seed, "initialisation"),
    ).to(device)
    loss_fn = load_loss(record.loss)
    order = BatchOrder(
        dataset.num_train, record.batch_size, seed=stream_seed(record.seed, "batches")
    )
    inputs, targets = dataset.train_subset(record.hessian_samples)
    return TrainingState(
        model=model,
        loss_fn=loss_fn,
        dataset=dataset,
        order=order,
        hessian=HessianOperator(model, loss_fn, inputs, targets),
        code=training_code_hash(record),
    )


def subspace_of(
    state: TrainingState, record: PrefixRecord, *, refresh: str | int
) -> DominantSubspace:
    """The Dominant subspace of a run's Hessian."""
    samples = record.tracking_samples
    sampled: dict[str, Any] = {} if samples is None else {"samples": samples}
    return DominantSubspace(
        state.hessian,
        record.k,
        refresh=refresh,  # type: ignore[arg-type]
        tol=record.tolerance,
        seed=stream_seed(record.seed, "eigensolver"),
        **sampled,
    )


def _apply(model: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    outputs: Tensor = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    return outputs
