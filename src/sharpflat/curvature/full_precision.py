"""A model in half precision, evaluated in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

#: The half precisions: products in them would be known to 8 to 60 units in 1,000.
HALF = (torch.bfloat16, torch.float16)


class FullPrecision:
    """Calls a model with float32 copies of its parameters and buffers that are in half precision.

    The model itself is left as it is. Copies of parameters are kept, to be differentiated in, and
    follow the parameters' values.

    Args:
        model: Any module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._copies: dict[str, Tensor] = {}
        self.update()

    @staticmethod
    def is_needed(model: nn.Module) -> bool:
        """Whether a parameter or buffer, a frozen one too, is in half precision."""
        return any(t.dtype in HALF for t in (*model.parameters(), *model.buffers()))

    @torch.inference_mode(False)
    @torch.no_grad()
    def update(self) -> None:
        """Give the copies the values that the parameters have now."""
        copies = {}
        for name, parameter in self._model.named_parameters():
            if parameter.dtype not in HALF:
                continue
            now, before = parameter.detach().float(), self._copies.get(name)
            if before is None or before.shape != now.shape or before.device != now.device:
                copies[name] = now
            else:
                copies[name] = before
                if not torch.equal(before, now):  # else graphs that were recorded with it hold
                    before.copy_(now)
            copies[name].requires_grad_(parameter.requires_grad)
        self._copies = copies

    def leaf(self, name: str, parameter: Tensor) -> Tensor:
        """What is differentiated in for a parameter: its copy, or itself."""
        return self._copies.get(name, parameter)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's outputs."""
        buffers = {
            name: buffer.float()
            for name, buffer in self._model.named_buffers()
            if buffer.dtype in HALF
        }
        return functional_call(self._model, {**self._copies, **buffers}, args, kwargs)
