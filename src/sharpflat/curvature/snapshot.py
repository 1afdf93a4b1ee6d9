"""What a recorded graph was made from, to tell whether it still holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

#: Values of every input and target that are compared before a product, evenly spread: beside
#: autograd's version counter, which misses writes through NumPy or ``.data``. Reading all of
#: 5,000 MNIST images takes a tenth of a product with a small network, these some microseconds.
WATCHED_VALUES = 4096


class Snapshot:
    """Parameters and buffers by value, data by version and sampled values, layers by identity.

    Of layers also what they hold besides: numbers, texts, functions and constant tensors that
    ``forward`` may read, and forward hooks.

    Args:
        parameters: All of the model, also those that are not differentiated.
        buffers: Of the model.
        data: Inputs and targets.
        layers: The model's submodules, and those of the loss.
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
        attributes = [value for layer in layers for value in _attributes(layer)]
        constants = [value for value in attributes if isinstance(value, Tensor)]
        tensors = (*parameters, *buffers, *data)
        self._identities = [(id(t), version(t)) for t in tensors]
        self._layers = layers
        self._settings = [value for value in attributes if not isinstance(value, Tensor)]
        spread = map(_spread, (*data, *constants))  # forward() may make constants anew
        self._values = [*_flat_by_kind((*parameters, *buffers)), *spread]

    def matches(self, other: Snapshot) -> bool:
        """Whether a graph recorded at one is right at the other."""
        return (
            self._identities == other._identities
            and self._layers == other._layers
            and self._settings == other._settings
            and all(map(equal, self._values, other._values))
        )


class Watch:
    """Tensors that graphs are kept of, by version and sampled values."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors
        self._versions, self._values = list(map(version, tensors)), list(map(_spread, tensors))

    def holds(self) -> bool:
        """Whether nothing wrote to them since."""
        return self._versions == list(map(version, self._tensors)) and all(
            map(equal, self._values, map(_spread, self._tensors))
        )


def version(tensor: Tensor) -> int:
    """Autograd's count of writes; tensors made in inference mode keep none."""
    return 0 if tensor.is_inference() else tensor._version


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same, NaN where the other is NaN."""
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    return torch.equal(one, other) or bool(((one == other) | (one != one) & (other != other)).all())


#: What every module holds of its own; hooks before and after ``forward`` are read by name.
_OWN = frozenset(vars(nn.Module()))


def _attributes(layer: nn.Module) -> Iterator[Any]:
    """What ``forward`` may read of a layer beside parameters, buffers and layers, with names."""
    for name, value in vars(layer).items():
        if name not in _OWN and _is_seen(value):
            yield name
            yield tuple(value) if isinstance(value, list) else value
    yield tuple(layer._forward_pre_hooks.values())
    yield tuple(layer._forward_hooks.values())


def _is_seen(value: Any) -> bool:
    if isinstance(value, Tensor):  # not an activation that a layer keeps, which has a graph
        return value.layout == torch.strided and not value.requires_grad
    if isinstance(value, tuple | list):
        return all(not isinstance(part, Tensor) and _is_seen(part) for part in value)
    is_function = callable(value) and not isinstance(value, nn.Module)
    return value is None or isinstance(value, int | float | complex | str) or is_function


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
