"""Clocks that mean the same on every device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

Result = TypeVar("Result")


def now(device: torch.device) -> float:
    """Seconds on a clock that never goes back, once the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(call: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """A call's result and the seconds that it took."""
    start = now(device)
    result = call()
    return result, now(device) - start


class OutOfTimeError(Exception):
    """A method used up the time that it was given."""


@dataclass
class ProductCounter:
    """Counts products, and stops a method that would run on for ever.

    Every method multiplies in the end, so counting is where each of them can be stopped.

    Attributes:
        deadline: Reading of ``time.perf_counter`` from which a product is refused.
        count: Products so far, one over a share of the samples as that share.
    """

    deadline: float = field(default=float("inf"))
    count: float = 0

    def add(self, products: float = 1) -> None:
        """Count products that are about to be made.

        Raises:
            OutOfTimeError: The deadline has passed.
        """
        if time.perf_counter() > self.deadline:
            raise OutOfTimeError
        self.count += products
