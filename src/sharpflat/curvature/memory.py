"""How much memory a recorded graph holds, and how much a machine has left for graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from sharpflat.curvature.snapshot import stored

#: Of the free memory, what one operator's graphs may take by default: H, G and F of one model
#: beside each other, or as many processes, still leave some of it.
DEFAULT_SHARE = 0.25
#: Bytes of free memory to assume where the system does not say.
UNKNOWN_FREE = 4 * 2**30


def default_memory_limit(device: torch.device) -> int:
    """A quarter of the memory that is free now, on a GPU or for this process, in bytes."""
    return int(DEFAULT_SHARE * _free(device))


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return min(_free_of_machine(), _free_of_control_group())


def _free_of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return UNKNOWN_FREE
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return 1024 * kilobytes.get("MemAvailable", UNKNOWN_FREE // 1024)


def _free_of_control_group() -> int:
    """What a container or a cluster's job leaves, which may be less than the machine has."""
    free = 2**63
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().strip("/")
    except OSError:
        return free
    for folder in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup") / own):
        try:
            limit, used = ((folder / f"memory.{name}").read_text() for name in ("max", "current"))
            free = min(free, int(limit) - int(used))
        except (OSError, ValueError):  # no such group, or the limit is "max"
            continue
    return max(0, free)


def bytes_per_sample(
    record: Callable[[slice], object], num_samples: int, outside: Iterable[Tensor]
) -> int:
    """Bytes that a recorded graph holds a sample, from two small ones.

    Args:
        record: Records the graph of some samples and returns what keeps it.
        num_samples: Samples there are.
        outside: Parameters, buffers and data: the graph refers to them without a copy.

    Returns:
        Counted from the tensors that autograd saves: the same on every run.
    """
    few, more = max(1, min(4, num_samples // 2)), min(8, num_samples)
    sizes = [_bytes_saved(record, size, outside) for size in (few, more)]
    if few == more:  # one sample, as in the first of batches of one: what is shared counts too
        return max(1, sizes[1])
    return max(1, (sizes[1] - sizes[0]) // (more - few))


def _bytes_saved(record: Callable[[slice], object], size: int, outside: Iterable[Tensor]) -> int:
    known = {stored(t).untyped_storage().data_ptr() for t in outside}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = stored(tensor).untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = record(slice(0, size))  # alive until all is counted, so that no address comes twice
    total = sum(saved.values())
    del graph
    return total
