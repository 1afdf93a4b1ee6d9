"""Samples that an operator averages over, read batch by batch at each pass."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from sharpflat.curvature.bound_model import BoundModel
from sharpflat.curvature.fingerprint import Fingerprint
from sharpflat.curvature.held import Held, held_by_dataset
from sharpflat.curvature.nested import Nested, map_tensors, tensors_in
from sharpflat.curvature.samples import Chunk, Samples


class Batches:
    """A re-iterable of ``(inputs, targets)``, such as a ``torch.utils.data.DataLoader``.

    It is read once when this is made, and the samples of every later pass are compared with those
    of the first, whatever their order. Passes draw from random numbers of their own: the global
    generators of torch, NumPy and Python, the loader's and its samplers' are as they were
    afterwards.

    Attributes:
        num_samples: In a pass.
        largest_batch: Samples of the largest batch.
        bytes_each: Bytes of the data of a sample, on average.
        growth: Bytes of a sample of the largest over those of the first batch: where batches are
            padded to their longest sample, the first may be a short one.
        first: The samples of the first batch.

    Args:
        batches: What is read.
        device: Where batches are moved to.
        casts: The dtype that tensors of some dtype are cast to.

    Raises:
        ValueError: It cannot be read again and again, or not beside an epoch of training, holds no
            samples or no such pairs, or is a process's share that repeats samples of another.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        device: torch.device,
        casts: Mapping[torch.dtype, torch.dtype] | None = None,
    ) -> None:
        if isinstance(batches, Iterator):
            raise ValueError(
                f"a {type(batches).__name__} can be read once only, and every product reads all "
                "batches: pass a DataLoader, or list(batches) if they fit into memory"
            )
        if getattr(batches, "persistent_workers", False):
            raise ValueError(
                "the DataLoader has persistent_workers=True, of which there is one iterator: a "
                "product in the middle of an epoch would end it; give the operator a DataLoader "
                "of the same dataset without"
            )
        _refuse_padded_shares(batches)
        self.batches, self.device, self.casts = batches, device, dict(casts or {})
        self._passes = 0
        self._first_pass: Fingerprint | None = None
        self.num_samples = self.largest_batch = 0
        most, total = 0, 0
        for batch in self._pass():
            size = len(batch)
            held = sum(part.nbytes for part in batch.tensors)
            if not self.num_samples:
                self.first, first_each = batch, max(1, held // size)
            self.num_samples += size
            self.largest_batch = max(self.largest_batch, size)
            most, total = max(most, held // size), total + held
        if not self.num_samples:
            raise ValueError("the batches hold no samples; the mean is over at least 1")
        self.bytes_each, self.growth = total / self.num_samples, max(1.0, most / first_each)

    def __len__(self) -> int:
        return self.num_samples

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those of a list of batches."""
        if type(self.batches) in (list, tuple):  # of which a pass costs nothing
            return tuple(part for pair in self.batches for part in tensors_in(_pair(pair)))
        return ()

    @property
    def held(self) -> Held:
        """Tensors and arrays of a loader's dataset."""
        return held_by_dataset(getattr(self.batches, "dataset", None), "data")

    def moved(self, old: BoundModel, new: BoundModel) -> Batches:
        """For a model that was moved or cast: tensors of its old precision get the new."""
        casts = {first: new.dtype if to == old.dtype else to for first, to in self.casts.items()}
        if old.dtype != new.dtype:
            casts.setdefault(old.dtype, new.dtype)
        return Batches(self.batches, new.device, casts | new.casts)

    def chunks(self, size: int, *, skip: int = 0) -> Iterator[Chunk]:
        """All batches, those of more than ``size`` samples in equal parts.

        Raises:
            ValueError: The samples are not those of the first pass, told after the last chunk.
        """
        assert skip == 0, "another pass may come in another order"
        position = 0
        for batch in self._pass():
            parts = -(-len(batch) // size)
            each = -(-len(batch) // parts)
            for start in range(0, len(batch), each):
                chosen = slice(start, min(start + each, len(batch)))
                yield batch.chunk(chosen, start=position + start)
            position += len(batch)

    def _pass(self) -> Iterator[Samples]:
        fingerprint = Fingerprint(self._first_pass)
        self._passes += 1
        states = _seeded(self._generators, self._passes)
        with self._own_randomness(states):
            iterator = iter(self.batches)
        while True:
            with self._own_randomness(states):
                batch = next(iterator, self)  # which no batch is; None may be one, to be refused
            if batch is self:
                break
            inputs, targets = _pair(batch)
            samples = Samples(
                inputs=map_tensors(self._placed, inputs), targets=map_tensors(self._placed, targets)
            )
            fingerprint.add(inputs, targets)
            yield samples
        if self._first_pass is None:
            self._first_pass = fingerprint
        if difference := fingerprint.difference():
            raise ValueError(
                f"pass {self._passes} over the batches yields {difference}, but every product is "
                "over the same samples: read them without random augmentation, sampling with "
                "replacement or drop_last beside shuffle, from what can be iterated over again, "
                "or pass list(batches) if they fit into memory; operator.rebind() takes data that "
                "were changed on purpose"
            )

    def _placed(self, part: Tensor) -> Tensor:
        return part.to(self.device, self.casts.get(part.dtype, part.dtype))

    @property
    def _generators(self) -> list[torch.Generator]:
        """Of torch, that reading may draw from."""
        batch_sampler = getattr(self.batches, "batch_sampler", None)
        drawing = (
            self.batches,
            getattr(self.batches, "sampler", None),
            batch_sampler,
            getattr(batch_sampler, "sampler", None),
        )
        owned = [getattr(part, "generator", None) for part in drawing]
        found = [each for each in owned if isinstance(each, torch.Generator)]
        return list({id(each): each for each in (torch.default_generator, *found)}.values())

    @contextmanager
    def _own_randomness(self, states: list[Any]) -> Iterator[None]:
        """Swapped at each batch, so that a pass that is given up midway leaves nothing behind."""
        generators = self._generators
        outside = _states(generators)
        try:
            _set_states(generators, states)
            yield
        finally:
            states[:] = _states(generators)
            _set_states(generators, outside)


def data_of(inputs: Nested, targets: Nested, bound: BoundModel) -> Samples | Batches:
    """What an operator over a model averages over, from its arguments.

    Raises:
        ValueError: The targets are missing, or see :class:`Samples` and :class:`Batches`.
    """
    if targets is None:
        if isinstance(inputs, Tensor | Mapping) or not isinstance(inputs, Iterable):
            raise ValueError(
                f"inputs is a {type(inputs).__name__} and targets are missing: give both, the "
                "inputs again where a loss needs no targets, or batches, an iterable of pairs "
                "(inputs, targets)"
            )
        return Batches(inputs, bound.device, bound.casts)
    inputs = (inputs,) if isinstance(inputs, Tensor) else inputs
    return Samples(inputs=inputs, targets=targets, casts=bound.casts)


def _seeded(generators: list[torch.Generator], seed: int) -> list[Any]:
    """States of Python's generator, NumPy's and torch's, as from a seed."""
    torchs = [each.clone_state().manual_seed(seed).get_state() for each in generators]
    return [random.Random(seed).getstate(), np.random.RandomState(seed).get_state(), *torchs]


def _states(generators: list[torch.Generator]) -> list[Any]:
    torchs = [each.get_state() for each in generators]
    return [random.getstate(), np.random.get_state(), *torchs]  # the user's, put back


def _set_states(generators: list[torch.Generator], states: list[Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    for each, state in zip(generators, states[2:], strict=True):
        each.set_state(state)


def _refuse_padded_shares(batches: Iterable[Any]) -> None:
    sampler = getattr(batches, "sampler", None)
    if isinstance(sampler, DistributedSampler):
        dataset: Any = sampler.dataset
        there, read = len(dataset), sampler.total_size
        if read != there:
            raise ValueError(
                f"the DistributedSampler reads {read} of {there} samples, so that every process "
                "has as many: some would count twice or not at all; give each process its share, "
                "torch.utils.data.Subset(dataset, range(rank, len(dataset), world_size)), without "
                "a sampler"
            )


def _pair(batch: Any) -> tuple[Nested, Nested]:
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    found = f"a {type(batch).__name__}"
    if isinstance(batch, tuple | list):
        found += f" of {len(batch)}"
    raise ValueError(
        f"a batch is {found}; it must be a pair (inputs, targets), in which inputs may be a tuple "
        "or dict of tensors: give the DataLoader a collate_fn that returns such pairs"
    )
