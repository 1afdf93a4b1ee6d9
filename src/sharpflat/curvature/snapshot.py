"""What a recorded graph was made from, to tell whether it still holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Values of every input and target that are compared before a product, evenly spread: beside
#: autograd's version counter, which misses writes through NumPy or ``.data``. Reading all of
#: 5,000 MNIST images takes a tenth of a product with a small network, these some microseconds.
WATCHED_VALUES = 4096

#: What is held that is compared by value; the rest, as functions, is the same or another.
BY_VALUE = (
    slice,
    range,
    int,
    float,
    complex,
    str,
    bytes,
    np.generic,
    torch.device,
    tuple,
    set,
    MethodType,
)


class Constant:
    """A tensor by sampled values, and by version where they are not all of it.

    A tensor that was made anew with the same values is the same constant.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._values = _spread(tensor)
        # An id is given again to another tensor once this one is gone; its version then tells.
        self._identity = (id(tensor), version(tensor))
        self._is_whole = self._values.numel() == tensor.numel()

    def matches(self, other: Constant) -> bool:
        """Whether nothing wrote to it since."""
        written = self._identity[0] == other._identity[0] and self._identity != other._identity
        return (self._is_whole or not written) and equal(self._values, other._values)


class Snapshot:
    """What was there when it was taken.

    Args:
        whole: Tensors by value. Parameters are, since ``parameter.data`` can be written without
            moving the version counter, and by version, since autograd refuses a graph whose
            parameters were written to, even with equal values. A copy of θ costs nothing beside a
            product.
        sampled: Tensors by version and sampled values.
        held: What else evaluating reads, of :mod:`sharpflat.curvature.held`.
    """

    def __init__(
        self,
        *,
        whole: Sequence[Tensor] = (),
        sampled: Mapping[str, Tensor] | None = None,
        held: Mapping[str, list[Any]] | None = None,
    ) -> None:
        self._identities = [(id(t), version(t)) for t in whole]
        self._values = _flat_by_kind(whole)
        self._named: dict[str, Any] = {
            name: (id(tensor), version(tensor), _spread(tensor))
            for name, tensor in (sampled or {}).items()
        }
        self._held = held or {}

    def matches(self, other: Snapshot) -> bool:
        """Whether a graph recorded at one is right at the other."""
        return (
            self._identities == other._identities
            and all(map(equal, self._values, other._values))
            and not self.changes(other)
        )

    def changes(self, other: Snapshot) -> list[str]:
        """Names of what differs, of the sampled tensors and of what else is held."""
        changed = [
            name
            for name in self._named.keys() | other._named.keys()
            if not _same_tensor(self._named.get(name), other._named.get(name))
        ]
        changed += [
            name
            for name in self._held.keys() | other._held.keys()
            if not same_leaves(self._held.get(name), other._held.get(name))
        ]
        return sorted(changed)


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
    one, other = stored(one), stored(other)
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    return torch.equal(one, other) or bool(((one == other) | (one != one) & (other != other)).all())


def same_leaves(one: list[Any] | None, other: list[Any] | None) -> bool:
    """Whether what is held under a name is the same."""
    if one is None or other is None or len(one) != len(other):
        return False
    return all(map(_same_leaf, one, other))


def _same_leaf(one: Any, other: Any) -> bool:
    if isinstance(one, Constant):
        return isinstance(other, Constant) and one.matches(other)
    if type(one) is not type(other) or not isinstance(one, BY_VALUE):
        return one is other
    return one is other or bool(one == other)


def _same_tensor(one: Any, other: Any) -> bool:
    there = one is not None and other is not None
    return there and one[:2] == other[:2] and equal(one[2], other[2])


def sampled_array(values: NDArray[Any]) -> tuple[Any, ...]:
    """Of an array: its shape, its kind, and values spread over it."""
    return values.shape, values.dtype.str, values.reshape(-1)[:: _step(values.size)].tobytes()


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([stored(t.detach()).reshape(-1) for t in tensors])


def _flat_by_kind(tensors: Sequence[Tensor]) -> list[Tensor]:
    kinds = {(t.dtype, t.device) for t in tensors}
    return [
        _flat(t for t in tensors if (t.dtype, t.device) == kind) for kind in sorted(kinds, key=str)
    ]


def stored(tensor: Tensor) -> Tensor:
    """A tensor, or the values that a sparse one stores."""
    return stored_parts(tensor)[0]


def stored_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """A tensor, or of a sparse one its values, and the numbers that tell their places."""
    if tensor.layout == torch.strided:
        return (tensor,)
    if tensor.layout == torch.sparse_coo:
        return tensor._values(), tensor._indices()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.values(), tensor.crow_indices(), tensor.col_indices()
    return tensor.values(), tensor.ccol_indices(), tensor.row_indices()


def _spread(tensor: Tensor) -> Tensor:
    tensor = stored(tensor.detach())
    if not tensor.is_contiguous():  # channels_last, say; flattening would copy all of it
        tensor = tensor[:: 1 + len(tensor) // 64]
    return tensor.reshape(-1)[:: _step(tensor.numel())].clone()


def _step(size: int) -> int:
    """An odd one: it does not visit one column of a matrix of even width again and again."""
    return 1 + 2 * (size // (2 * WATCHED_VALUES))
