"""What users attach to parameters and modules, kept out of what is differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sharpflat.curvature.checks import UnsupportedModelError


@contextmanager
def backward_hooks_set_aside(model: nn.Module) -> Iterator[None]:
    """Without the hooks that change gradients; they are there again afterwards.

    Clipping, masking or scaling by ``p.register_hook`` or ``register_full_backward_hook`` acts on
    what ``backward()`` leaves. In a graph that is differentiated again it would act on second
    derivatives too, and on those twice. :class:`TensorHooksRefused` sees those of ``forward()``.
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


class TensorHooksRefused(TorchFunctionMode):
    """Raises where ``forward()`` or the loss hangs a hook on a tensor, which cannot be set aside.

    Raises:
        UnsupportedModelError: With the remedy.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call what was called, unless it registers a hook."""
        if function is Tensor.register_hook:
            raise UnsupportedModelError(
                "the model or the loss hangs a hook on a tensor while it is evaluated "
                "(register_hook), which would act on second derivatives too: hang it on a "
                "parameter or a module before training, where products set it aside, or leave it "
                "out of forward() and loss_fn"
            )
        return function(*args, **(kwargs or {}))
