"""How torch computes in this process: device, threads, precision, determinism."""

from __future__ import annotations

import os

import torch


def set_up(*, device: str, threads: int, tf32: bool, deterministic: bool) -> torch.device:
    """Set torch up, and return the device to train on.

    Args:
        device: ``"auto"`` is CUDA where torch finds it, else the CPU.
        threads: Threads of the CPU's kernels.
        tf32: Whether float32 products may round to TF32, which torch by itself lets convolutions.
        deterministic: Whether to take deterministic kernels where there are any. Some on CUDA have
            none, such as max-pooling's derivative: torch then warns, and last digits may differ.

    Raises:
        ValueError: CUDA is asked for and not there.
    """
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise ValueError("device = 'cuda', but torch finds no CUDA device: set device=cpu or auto")
    torch.set_num_threads(threads)
    torch.backends.fp32_precision = "tf32" if tf32 else "ieee"  # type: ignore[attr-defined]
    # cuBLAS reads it when CUDA starts; the value is NVIDIA's for reproducible results.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Filling new memory finds bugs that read it, at the cost of a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device("cuda" if found and device != "cpu" else "cpu")
