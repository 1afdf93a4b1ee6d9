"""Multiply once and print the peak memory: ``TASK_FILE NUM_SAMPLES CHUNK_SIZE THREADS``.

Run by :mod:`sharpflat.benchmarks.memory`.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.timing import timed

_MEBI = 2**20


def main(path: str, num_samples: int, chunk_size: int, threads: int) -> None:
    """Measure one product and print it as JSON."""
    torch.set_num_threads(threads)
    # The parent process wrote the file a moment ago; it holds a model, hence is a pickle.
    task: BenchmarkTask = torch.load(path, weights_only=False)
    first = slice(min(16, len(task.targets)))
    warm_up = replace(task, inputs=_rows(task, first), targets=task.targets[first])
    v = torch.ones(task.num_parameters, device=task.device, dtype=task.parameters[0].dtype)
    _ = warm_up.hessian() @ v  # loads the libraries, whose memory is no product's
    rows = torch.arange(num_samples, device=task.targets.device) % len(task.targets)
    task = replace(
        task, inputs=_rows(task, rows), targets=task.targets[rows], chunk_size=chunk_size
    )
    operator = task.hessian()
    before, _ = _resident_and_peak(task.device)
    _, seconds = timed(lambda: operator @ v, task.device)
    _, peak = _resident_and_peak(task.device)
    report = {
        "peak_mebibytes": peak / _MEBI,
        "product_mebibytes": (peak - before) / _MEBI,
        "seconds": seconds,
    }
    print(json.dumps(report))


def _rows(task: BenchmarkTask, rows: Tensor | slice) -> Tensor | tuple[Tensor, ...]:
    if isinstance(task.inputs, tuple):
        return tuple(part[rows] for part in task.inputs)
    return task.inputs[rows]


def _resident_and_peak(device: torch.device) -> tuple[float, float]:
    """Bytes held now, and at most so far."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux its ru_maxrss starts at the peak of the process that started us.
        fields = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status.read_text(), re.MULTILINE))
        return int(fields["VmRSS"]) * 1024, int(fields["VmHWM"]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak, peak


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
