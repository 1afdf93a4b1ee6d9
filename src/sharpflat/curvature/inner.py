"""Sums over the parameters that stay right at any number of them.

A float32 sum over millions of entries loses what comes after its first large ones: at P = 11
million plain matrix products were seen to leave ``VᵀV - I`` at 1e-3. Here a tall, thin product goes
through float64 a block of rows at a time, so that nothing of length P is copied.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: Rows taken at a time: on the CPU few enough for its cache, elsewhere enough to hide the launches.
ROWS_ON_CPU, ROWS_ELSEWHERE = 2**15, 2**18


def inner(a: Tensor, b: Tensor) -> Tensor:
    """``aᵀ b``, summed over P in float64.

    At P = 11 million in float32 it takes 1.1 times as long as ``a.T @ b`` where both have 12
    columns and twice as long where one has 1; whole float64 copies take 10 and 24 times as long.

    Args:
        a: ``(P, m)``, floating point.
        b: ``(P, l)``, floating point.

    Returns:
        ``(m, l)``, float64, on the device of ``a``.

    Example:
        >>> import torch
        >>> large_first = torch.full((9_000_000, 1), 1e-4).index_fill(0, torch.tensor(0), 1.0)
        >>> round(float(inner(large_first, large_first)), 6)  # 1 + 9e6 · 1e-8
        1.09
    """
    total = torch.zeros(a.shape[1], b.shape[1], dtype=torch.float64, device=a.device)
    for rows in _blocks(a):
        total += a[rows].double().T @ b[rows].double()
    return total


def combine(a: Tensor, coordinates: Tensor) -> Tensor:
    """``a c``, rounded to no less than the dtype of ``a`` holds.

    Args:
        a: ``(P, m)``, floating point.
        coordinates: ``c``, ``(m, l)``.

    Returns:
        ``(P, l)``, in the dtype of ``a``, a column's entries side by side in memory.
    """
    combined = a.new_empty(coordinates.shape[1], len(a)).T
    # On the CPU float32 products are float32; elsewhere they may be TF32, which has 10 bits.
    exact = a.dtype if a.device.type == "cpu" and a.dtype == torch.float32 else torch.float64
    coordinates = coordinates.to(a.device, exact)
    for rows in _blocks(a):
        combined[rows] = a[rows].to(exact) @ coordinates
    return combined


def norms(a: Tensor) -> Tensor:
    """Euclidean norms of the columns of ``(P, m)``: ``(m,)``, float64, on the device of ``a``."""
    squares = torch.zeros(a.shape[1], dtype=torch.float64, device=a.device)
    for rows in _blocks(a):
        squares += a[rows].double().square().sum(0)
    return squares.sqrt()


def _blocks(a: Tensor) -> Iterator[slice]:
    count = ROWS_ON_CPU if a.device.type == "cpu" else ROWS_ELSEWHERE
    for start in range(0, len(a), count):
        yield slice(start, start + count)
