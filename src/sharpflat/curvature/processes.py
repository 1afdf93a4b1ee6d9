"""An operator whose samples are spread over processes: what they add up, and what must be equal.

Every process holds a share of the samples and a copy of the model, and runs the same program. Only
products, losses and gradients meet: they are added up, and every process is given the same sum to
the bit. What is computed and decided from them, with the same seeds, is then the same everywhere,
so that no basis is ever sent. What would break that, copies of the model or vectors that differ,
is compared by checksums at every product, which reads each of them once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sharpflat.curvature.checks import UnequalProcessesError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

#: Integer types by the size of an entry, to read the bits of any tensor.
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
#: What must be equal in all processes, and the remedy where it is not.
REMEDIES = {
    "kinds of operator and loss": "build the same operator in every process",
    "parameters or buffers of the model": (
        "give every process the same ones, as torch.distributed.broadcast and "
        "DistributedDataParallel do, and the same gradient at every step: "
        "operator.loss_and_gradient() is over all samples"
    ),
    "vectors to be multiplied": (
        "use the same seeds, numbers of threads and kinds of machine in every process"
    ),
}


class Processes:
    """The processes that share an operator's samples; without a group, this one alone.

    Args:
        group: Theirs, or ``None``.
    """

    def __init__(self, group: ProcessGroup | None) -> None:
        self._group = group

    @property
    def are_several(self) -> bool:
        """Whether there is a group, be it of one."""
        return self._group is not None

    def total(self, own: Tensor) -> Tensor:
        """The sum of every process's own tensor, written into it: equal everywhere to the bit."""
        if self._group is not None:
            import torch.distributed as dist

            dist.all_reduce(own, group=self._group)
        return own

    @contextmanager
    def in_step(
        self,
        *,
        kinds: Iterable[str] = (),
        state: Iterable[Tensor],
        vectors: Iterable[Tensor] = (),
    ) -> Iterator[None]:
        """All processes do what is inside, or none goes on.

        Args:
            kinds: What the processes compute, in words.
            state: Parameters and buffers of their models.
            vectors: What they multiply.

        Raises:
            UnequalProcessesError: One of these differs between the processes, or what is inside
                raised an error in another one.
        """
        if self._group is None:
            yield
            return
        state = tuple(state)
        seen = [_digest(parts) for parts in (kinds, state, vectors)]
        try:
            yield
        except Exception:
            self._gather([0] * len(seen), failed=True, device=state[0].device)
            raise
        reports = self._gather(seen, failed=False, device=state[0].device)
        failed = [rank for rank, report in enumerate(reports) if report[0]]
        if failed:
            raise UnequalProcessesError(
                f"process {failed[0]} of {len(reports)} raised an error, and without its samples "
                "the mean is not over all of them: see what it says"
            )
        for place, (what, remedy) in enumerate(REMEDIES.items(), start=1):
            found = [report[place] for report in reports]
            if len(set(found)) > 1:
                other = next(rank for rank, digest in enumerate(found) if digest != found[0])
                raise UnequalProcessesError(
                    f"{what} differ between processes 0 and {other} of {len(reports)}: {remedy}"
                )

    def _gather(self, seen: list[int], *, failed: bool, device: torch.device) -> list[list[int]]:
        import torch.distributed as dist

        own = torch.tensor([int(failed), *seen], device=device)
        reports = [torch.empty_like(own) for _ in range(dist.get_world_size(self._group))]
        dist.all_gather(reports, own, group=self._group)
        return [report.tolist() for report in reports]


def _digest(parts: Iterable[str | Tensor]) -> int:
    """A checksum of texts and tensors, as a positive int64."""
    found = hashlib.blake2b(digest_size=7)
    for part in parts:
        if isinstance(part, str):
            found.update(part.encode())
            continue
        found.update(f"{tuple(part.shape)} {part.dtype}".encode())
        found.update(_sums_of_bits(part).cpu().numpy().tobytes())
    return int.from_bytes(found.digest(), "big")


def _sums_of_bits(tensor: Tensor) -> Tensor:
    """The sum of every row's bits, read as integers, exact modulo 2^64."""
    flat = tensor.detach()
    flat = torch.view_as_real(flat) if flat.is_complex() else flat
    flat = flat.reshape(len(flat) if flat.ndim else 1, -1).contiguous()
    return flat.view(INTEGERS[flat.element_size()]).sum(dim=1, dtype=torch.int64)
