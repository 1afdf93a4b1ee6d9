"""Memory of one product against the number of samples, each measured in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from sharpflat.benchmarks.rows import MemoryRow
from sharpflat.benchmarks.task import BenchmarkTask


def measure_memory(
    task: BenchmarkTask,
    *,
    num_samples: Sequence[int],
    chunk_sizes: Sequence[int | None],
) -> list[MemoryRow]:
    """Measure a product of this package at every number of samples and every chunk size.

    Args:
        task: Its samples are repeated up to the number wanted.
        num_samples: Numbers of samples.
        chunk_sizes: Samples whose graph is held at a time; ``None`` for all.

    Raises:
        RuntimeError: A measurement failed for another reason than a lack of memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.pt"
        torch.save(task, path)
        return [
            _measure(task.name, path, samples, chunk_size)
            for chunk_size in chunk_sizes
            for samples in num_samples
        ]


def _measure(name: str, path: Path, num_samples: int, chunk_size: int | None) -> MemoryRow:
    # A process never gives back its peak, and allocators keep what they were given.
    command = [sys.executable, "-m", "sharpflat.benchmarks.memory_child", str(path)]
    command += [str(num_samples), str(chunk_size or num_samples), str(torch.get_num_threads())]
    # What can be imported here can be imported there, installed or not.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # glibc by itself keeps what is freed below a threshold that it moves up to 32 MiB, so that more
    # samples can need less. Given one, it returns at once what is freed: need is what is measured.
    environment["MALLOC_MMAP_THRESHOLD_"] = str(2**17)
    child = subprocess.run(command, capture_output=True, text=True, env=environment)
    row = MemoryRow(task=name, num_samples=num_samples, chunk_size=chunk_size)
    if child.returncode == -signal.SIGKILL or "OutOfMemoryError" in child.stderr:
        return MemoryRow(**{**vars(row), "note": "out of memory"})
    if child.returncode != 0:
        raise RuntimeError(
            f"measuring the memory of {num_samples} samples failed with exit code "
            f"{child.returncode}; correct what it says:\n{child.stderr[-2000:]}"
        )
    return MemoryRow(**{**vars(row), **json.loads(child.stdout)})
