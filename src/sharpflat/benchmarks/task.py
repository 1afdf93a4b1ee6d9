"""What is measured on: a model at some parameters, its data, and batches of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sharpflat.curvature import HessianOperator
from sharpflat.tasks.data import Inputs, select
from sharpflat.tasks.losses import Loss, load_loss


@dataclass(frozen=True, kw_only=True)
class BenchmarkTask:
    """A model with the data and the settings that its Hessian is measured at.

    Attributes:
        name: Written to the tables.
        model: Without batch-dependent or random layers; its parameters are moved by
            :func:`descend` and by tracking.
        loss_name: A name in :data:`sharpflat.tasks.registry.LOSSES`.
        inputs: All samples, a tensor or a pair of values and mask.
        targets: int64 (n,).
        k: Dimension of the Dominant subspace.
        learning_rates: Of the tracked runs; the first one also of the descent before.
        chunk_size: Samples whose graph is held at a time, by every method; ``None`` for as many as
            fit the memory.
    """

    name: str
    model: nn.Module
    loss_name: str
    inputs: Inputs
    targets: Tensor
    k: int
    learning_rates: tuple[float, ...]
    chunk_size: int | None = None

    @property
    def loss(self) -> Loss:
        """The loss that ``loss_name`` names."""
        return load_loss(self.loss_name)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that are trained."""
        return [p for p in self.model.parameters() if p.requires_grad]

    @property
    def num_parameters(self) -> int:
        """P."""
        return sum(p.numel() for p in self.parameters)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.parameters[0].device

    def hessian(self) -> HessianOperator:
        """A new operator, with nothing recorded yet."""
        return HessianOperator(
            self.model,
            self.loss,
            self.inputs,
            self.targets,
            chunk_size=self.chunk_size,
            memory_limit=None if self.chunk_size is None else 0,
        )

    def theta(self) -> Tensor:
        """A copy of the parameters, ``(P,)``."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    @torch.no_grad()
    def move_to(self, theta: Tensor) -> None:
        """Set the parameters to ``(P,)`` values."""
        parts = torch.split(theta, [p.numel() for p in self.parameters])
        for parameter, values in zip(self.parameters, parts, strict=True):
            parameter.copy_(values.view_as(parameter))

    def in_double(self) -> BenchmarkTask:
        """The same task in float64, on a copy of the model."""
        parts = self.inputs if isinstance(self.inputs, tuple) else (self.inputs,)
        double = tuple(part.double() if part.is_floating_point() else part for part in parts)
        return replace(
            self,
            model=copy.deepcopy(self.model).double(),
            inputs=double if isinstance(self.inputs, tuple) else double[0],
        )

    def batches(self, batch_size: int, *, seed: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Mini-batches without end, from shuffled epochs."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(self.targets), generator=generator)
            for indices in torch.split(order, batch_size):
                rows = indices.to(self.targets.device)
                yield select(self.inputs, rows), self.targets[rows]

    def outputs(self, inputs: Inputs) -> Tensor:
        """The model's outputs."""
        arguments = inputs if isinstance(inputs, tuple) else (inputs,)
        outputs: Tensor = self.model(*arguments)
        return outputs


def descend(task: BenchmarkTask, *, steps: int, batch_size: int, seed: int) -> None:
    """Move the task's model along plain SGD, at its first learning rate."""
    optimizer = torch.optim.SGD(task.parameters, lr=task.learning_rates[0])
    batches = task.batches(batch_size, seed=seed)
    for _ in range(steps):
        inputs, targets = next(batches)
        optimizer.zero_grad()
        task.loss(task.outputs(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad()
