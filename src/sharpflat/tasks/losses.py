"""Losses: means over the samples, twice differentiable in the outputs."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from sharpflat.tasks.registry import LOSSES, look_up, resolve

Loss = Callable[[Tensor, Tensor], Tensor]
"""``loss(outputs, targets)``: (N, C) values and (N,) int64 classes to a scalar; or (N, L, C) and
(N, L), the mean over the samples and their positions."""


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared distance to the one-hot target: summed over classes, no ½, mean over samples [S].

    Example:
        >>> import torch
        >>> mse(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0]))
        tensor(5.)
    """
    one_hot = functional.one_hot(targets, outputs.shape[-1]).to(outputs.dtype)
    return (outputs - one_hot).square().sum(dim=-1).mean()


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats of the softmax of ``outputs``, mean over samples [S]."""
    # Of outputs with more than two dimensions it takes the second for the classes.
    return functional.cross_entropy(outputs.flatten(end_dim=-2), targets.flatten())


def load_loss(name: str) -> Loss:
    """The loss called ``name``.

    Raises:
        ValueError: If there is no loss of that name.
    """
    loss: Loss = resolve(look_up(LOSSES, name, what="loss"))
    return loss
