"""Mini-batches as a pure function of the step, so that runs can branch and resume anywhere."""

from __future__ import annotations

import torch
from torch import Tensor


class BatchOrder:
    """Batches drawn by shuffled epochs [Song et al.]; the last of an epoch may be smaller.

    The batch of a step depends on the seed and the step alone: two methods that go on from one
    checkpoint meet the same batches, whatever happened in between. A batch of all samples has
    them in the order of the data, so that every step sums alike.

    Args:
        num_samples: Samples in the training subset.
        batch_size: Samples of a batch.
        seed: Seed of the order.
    """

    def __init__(self, num_samples: int, batch_size: int, *, seed: int) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.batches_per_epoch = -(-num_samples // batch_size)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """Indices of the samples of a step's batch, int64 ``(B,)``."""
        if self.batches_per_epoch == 1:
            return torch.arange(self.num_samples)
        epoch, position = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed + epoch)
            self._order = torch.randperm(self.num_samples, generator=generator)
            self._epoch = epoch
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]
