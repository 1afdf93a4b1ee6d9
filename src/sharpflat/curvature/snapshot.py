"""What a recorded graph was made from, to tell whether it still holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

#: Values of every input and target that are compared before a product, evenly spread: beside
#: autograd's version counter, which misses writes through NumPy or ``.data``. Reading all of
#: 5,000 MNIST images takes a tenth of a product with a small network, these some microseconds.
WATCHED_VALUES = 4096


class Snapshot:
    """Parameters and buffers by value, data by version and sampled values, layers by identity.

    Args:
        parameters: All of the model, also those that are not differentiated.
        buffers: Of the model.
        data: Inputs and targets.
        layers: The model's submodules.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        buffers: Sequence[Tensor],
        data: Sequence[Tensor],
        layers: tuple[nn.Module, ...],
    ) -> None:
        # Parameters by value, since `parameter.data` can be written without moving the version
        # counter, and by version, since autograd refuses a graph whose parameters were written
        # to, even with equal values. A copy of θ costs nothing beside a product.
        tensors = (*parameters, *buffers, *data)
        self._identities = [(id(t), _version(t)) for t in tensors]
        self._layers = layers
        self._values = [*_flat_by_kind((*parameters, *buffers)), *map(_spread, data)]

    def matches(self, other: Snapshot) -> bool:
        """Whether a graph recorded at one is right at the other."""
        return (
            self._identities == other._identities
            and self._layers == other._layers
            and all(map(torch.equal, self._values, other._values))
        )


class Watch:
    """Tensors that graphs are kept of, by version and sampled values."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors
        self._versions, self._values = list(map(_version, tensors)), list(map(_spread, tensors))

    def holds(self) -> bool:
        """Whether nothing wrote to them since."""
        return self._versions == list(map(_version, self._tensors)) and all(
            map(torch.equal, self._values, map(_spread, self._tensors))
        )


def _version(tensor: Tensor) -> int:
    # Tensors made in inference mode keep no count.
    return 0 if tensor.is_inference() else tensor._version


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def _flat_by_kind(tensors: Sequence[Tensor]) -> list[Tensor]:
    kinds = {(t.dtype, t.device) for t in tensors}
    return [
        _flat(t for t in tensors if (t.dtype, t.device) == kind) for kind in sorted(kinds, key=str)
    ]


def _spread(tensor: Tensor) -> Tensor:
    if not tensor.is_contiguous():  # channels_last, say; flattening would copy all of it
        tensor = tensor[:: 1 + len(tensor) // 64]
    # An odd step, so that it does not visit one column of a matrix of even width again and again.
    step = 1 + 2 * (tensor.numel() // (2 * WATCHED_VALUES))
    return tensor.detach().reshape(-1)[::step].clone()
