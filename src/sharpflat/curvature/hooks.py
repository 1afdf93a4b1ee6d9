"""What users attach to parameters and modules, kept out of what is differentiated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def backward_hooks_set_aside(model: nn.Module) -> Iterator[None]:
    """Without the hooks that change gradients; they are there again afterwards.

    Clipping, masking or scaling by ``p.register_hook`` or ``register_full_backward_hook`` acts on
    what ``backward()`` leaves. In a graph that is differentiated again it would act on second
    derivatives too, and on those twice. A hook that ``forward()`` itself puts on a tensor stays.
    """
    hooks: list[dict[int, Any] | None] = [
        *(p._backward_hooks for p in model.parameters()),
        *(layer._backward_hooks for layer in model.modules()),
        *(layer._backward_pre_hooks for layer in model.modules()),
    ]
    held = [(registered, dict(registered)) for registered in hooks if registered]
    for registered, _ in held:  # emptied, not replaced: autograd and handles refer to it
        registered.clear()
    try:
        yield
    finally:
        for registered, before in held:
            registered.update(before)


@contextmanager
def compiled_calls_set_aside(model: nn.Module) -> Iterator[None]:
    """Without what ``Module.compile()`` compiled in place: torch differentiates that once only."""
    compiled = [
        (layer, layer._compiled_call_impl)
        for layer in model.modules()
        if layer._compiled_call_impl is not None
    ]
    for layer, _ in compiled:
        layer._compiled_call_impl = None
    try:
        yield
    finally:
        for layer, call in compiled:
            layer._compiled_call_impl = call
