"""Whether two passes over batches saw the same samples, in any order."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from sharpflat.curvature.nested import Nested, entries

#: Values a sample and tensor that are hashed, evenly spread: enough to meet every crop, flip and
#: noise, and a small share of reading a large image.
HASHED_VALUES = 256
#: Odd multipliers of 64 bits, from splitmix64 (Steele, Lea & Flood 2014), as signed numbers.
MIX, SPREAD = -0x40A7B892E31B1A47, -0x61C8864680B583EB
BUCKET_BITS = 6
#: Kinds of tensors that may be padded, read in full: token ids and masks.
COUNTED = (torch.int64, torch.int32, torch.bool)
#: Values a sample up to which tensors of other kinds are, too, such as features of speech.
MOST_COUNTED = 2**16


class Fingerprint:
    """Sums over samples that do not depend on their order, exact in integers modulo 2^64.

    Each tensor gives the sum of a hash of every sample's values at their places, and all tensors
    together that of a hash of a sample's hashes, which tells what belongs together. A tensor whose
    shape varies from batch to batch, as token ids do that are padded to the longest of a batch,
    has no such places; there it is counted how often each value comes (in 64 groups), and the
    count of one group may differ: that of the padding. Not counted are samples of more than 65,536
    numbers that are no integers.

    Args:
        first: Of the first pass, which this is to be compared with.
    """

    def __init__(self, first: Fingerprint | None = None) -> None:
        self._first = first
        self.num_samples = 0
        self._joint = 0
        self._shapes: defaultdict[str, set[tuple[int, ...]]] = defaultdict(set)
        self._sums: defaultdict[str, int] = defaultdict(int)
        self._counts: dict[str, Tensor] = {}

    def add(self, inputs: Nested, targets: Nested) -> None:
        """Add the samples of a batch."""
        size, joint = 0, torch.zeros((), dtype=torch.int64)
        for place, (path, tensor) in enumerate(
            (*entries(inputs, "inputs"), *entries(targets, "targets"))
        ):
            if not isinstance(tensor, Tensor):
                continue
            size = len(tensor)
            self._shapes[path].add(tuple(tensor.shape[1:]))
            whole = self._reads_whole(path, tensor)
            bits = _bits(tensor.detach(), whole=whole)
            hashed = _hashes(bits if tensor.dtype in COUNTED else _spread(bits))
            self._sums[path] = (self._sums[path] + int(hashed.sum())) % 2**64
            joint = joint + (2 * place + 1) * hashed.cpu()
            if bits.shape[1] > 1 and whole:
                groups = (bits.flatten() * SPREAD >> (64 - BUCKET_BITS)) % 2**BUCKET_BITS
                counts = torch.bincount(groups, minlength=2**BUCKET_BITS)
                self._counts[path] = self._counts.get(path, 0) + counts
        self._joint = (self._joint + int(_mixed(joint).sum())) % 2**64
        self.num_samples += size

    def _reads_whole(self, path: str, tensor: Tensor) -> bool:
        if tensor.dtype in COUNTED:
            return True
        varies = self._first is None or len(self._first._shapes[path]) > 1
        return varies and tensor[0].numel() <= MOST_COUNTED

    def difference(self) -> str | None:
        """What this pass has that the first had not, in words; ``None`` for the same samples."""
        first = self._first
        if first is None:
            return None
        if self.num_samples != first.num_samples:
            return f"{self.num_samples} samples where the first pass had {first.num_samples}"
        for path in {**first._shapes, **self._shapes}:
            if len(self._shapes[path] | first._shapes[path]) == 1:
                same = self._sums[path] == first._sums[path]
            elif path in self._counts and path in first._counts:
                same = int((self._counts[path] != first._counts[path]).sum()) <= 1
            else:
                same = bool(self._shapes[path]) == bool(first._shapes[path])
            if not same:
                return f"other values in {path} than the first pass had"
        fixed = all(len(s) == 1 for f in (self, first) for s in f._shapes.values())
        if fixed and self._joint != first._joint:
            return "other pairs of inputs and targets than the first pass had"
        return None


def _bits(tensor: Tensor, *, whole: bool) -> Tensor:
    """``(m, values)`` of int64 that differ where the values do."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    flat = tensor.reshape(len(tensor), -1)
    if not whole:
        flat = _spread(flat)
    if flat.is_floating_point():
        kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        flat = flat.contiguous().view(kinds[flat.element_size()])
    return flat.long()


def _spread(values: Tensor) -> Tensor:
    # An odd step, so that it does not visit one column of an image of even width again and again.
    return values[:, :: 1 + 2 * (values.shape[1] // (2 * HASHED_VALUES))]


def _hashes(bits: Tensor) -> Tensor:
    places = torch.arange(1, bits.shape[1] + 1, device=bits.device) * SPREAD | 1
    return _mixed((bits * places).sum(dim=1))


def _mixed(numbers: Tensor) -> Tensor:
    mixed = (numbers ^ (numbers >> 32)) * MIX
    return mixed ^ (mixed >> 29)
