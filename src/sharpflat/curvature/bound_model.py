"""A model as an operator was built over it: its parameters, its mode, and what changed since."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

from sharpflat.curvature.checks import (
    ModelChangedError,
    UnsupportedModelError,
    refuse_autocast,
    refuse_batch_dependent_layers,
    refuse_compiled,
    refuse_embeddings,
)
from sharpflat.curvature.full_precision import HALF, FullPrecision
from sharpflat.curvature.hooks import backward_hooks_set_aside, compiled_calls_set_aside
from sharpflat.curvature.selection import Chosen, checked, ids_of
from sharpflat.curvature.snapshot import Watch, equal


class BoundModel:
    """The parameters that an operator differentiates, and the mode that layers were checked in.

    Attributes:
        model: The model.
        chosen: What the parameters were chosen by.
        parameters: Those that require gradients and were chosen, in ``model.parameters()`` order.
        evaluated: What is called for outputs: the model, in float32 if some of it is in half
            precision.
        leaves: What is differentiated in: the parameters, or float32 copies of them.
        dtype: Of the first leaf.
        device: Of the first of them.
        casts: The dtype that data of some dtype are cast to.

    Args:
        model: Any module.
        chosen: Name patterns, modules and parameters; ``None`` for all parameters.
        before: The same model bound earlier: layers that it knew keep the mode they had there.

    Raises:
        UnsupportedModelError: A layer depends on the rest of the batch or on chance, an embedding
            has no gradient of its own, a layer is ``torch.compile``'s, or parameters are complex
            or were made in inference mode.
        ValueError: No trainable parameter, or a choice that matches none.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        chosen: Chosen | None = None,
        before: BoundModel | None = None,
    ) -> None:
        self.model = model
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(f"{type(model).__name__} has no parameter that requires_grad")
        self.chosen = None if chosen is None else checked(model, chosen)
        named = self._named_now()
        self._names = tuple(name for name, _ in named)
        self.parameters: tuple[Tensor, ...] = tuple(p for _, p in named)
        self._dtypes = [p.dtype for p in self.parameters]
        self._full = FullPrecision(model) if FullPrecision.is_needed(model) else None
        self.evaluated: Callable[..., Any] = self._full or model
        self.leaves = self.parameters
        if self._full is not None:
            self.leaves = tuple(self._full.leaf(name, p) for name, p in named)
        self.dtype = self.leaves[0].dtype
        was_half = before is not None and bool(before.casts)
        self.casts: dict[torch.dtype, torch.dtype] = (
            dict.fromkeys(HALF, self.dtype) if self._full or was_half else {}
        )
        self.device = self.parameters[0].device
        known = {} if before is None else before._training
        self._training: dict[nn.Module, bool] = {
            layer: known.get(layer, layer.training) for layer in model.modules()
        }
        for name, parameter in named:
            if parameter.is_inference():
                raise UnsupportedModelError(
                    f"parameter {name} was made inside torch.inference_mode() and cannot be "
                    "differentiated: build the model outside of it"
                )
            if parameter.is_complex():
                raise UnsupportedModelError(
                    f"parameter {name} is {parameter.dtype}, and curvature is in real numbers: "
                    "keep its real and imaginary parts as a real parameter, join them in forward() "
                    "with torch.view_as_complex, or freeze it"
                )
        refuse_embeddings(model)
        refuse_compiled(model)
        with self.evaluation():
            refuse_batch_dependent_layers(model)

    def _named_now(self) -> list[tuple[str, nn.Parameter]]:
        selected = None if self.chosen is None else ids_of(self.model, self.chosen)
        return [
            (name, p)
            for name, p in self.model.named_parameters()
            if p.requires_grad and (selected is None or id(p) in selected)
        ]

    def buffers(self) -> tuple[Tensor, ...]:
        """The model's buffers, as they are now."""
        return tuple(self.model.buffers())

    def refuse_if_changed(self) -> None:
        """Raise unless the model still has these parameters, as they were bound.

        Raises:
            ModelChangedError: Names the parameter, what changed, and the remedy.
        """
        now = tuple(p for _, p in self._named_now())
        same = len(now) == len(self.parameters) and all(
            p is bound and p.dtype == dtype and p.device == self.device
            for p, bound, dtype in zip(now, self.parameters, self._dtypes, strict=True)
        )
        if not same:
            raise ModelChangedError(
                f"{self._change()} after this operator was built over it: {_REMEDY}"
            )

    def _change(self) -> str:
        now = dict(self.model.named_parameters())
        for name, bound, dtype in zip(self._names, self.parameters, self._dtypes, strict=True):
            if name not in now:
                return f"the model lost its parameter {name}"
            if now[name] is not bound:
                return (
                    f"parameter {name} was replaced by another tensor (a new layer, or "
                    "load_state_dict(assign=True))"
                )
            if not bound.requires_grad:
                return f"parameter {name} was frozen (requires_grad=False)"
            if bound.dtype != dtype:
                return f"parameter {name} was cast from {dtype} to {bound.dtype}"
            if bound.device != self.device:
                return f"parameter {name} was moved from {self.device} to {bound.device}"
        new = [name for name, _ in self._named_now() if name not in self._names]
        return f"trainable parameters came to the model ({', '.join(new)}) or changed their order"

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Layers in the mode that was checked, every flag put back afterwards.

        Backward hooks are set aside: they change the gradients that training steps along, not the
        loss.

        Raises:
            UnsupportedModelError: Inside ``torch.autocast``, which rounds products, or
                ``parametrize.cached()``, which may hold weights of before.
        """
        refuse_autocast(self.device)
        if parametrize._cache_enabled:
            raise UnsupportedModelError(
                "torch.nn.utils.parametrize.cached() is on, and may hold weights that were "
                "computed earlier or without a graph: call the operator, the solver and the "
                "subspace outside of it"
            )
        if self._full is not None:
            self._full.update()
        moved = [
            (layer, layer.training)
            for layer in self.model.modules()
            if layer.training != self._training.get(layer, layer.training)
        ]
        try:
            for layer, _ in moved:
                layer.training = self._training[layer]
            with backward_hooks_set_aside(self.model), compiled_calls_set_aside(self.model):
                yield
        finally:
            for layer, training in moved:
                layer.training = training

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Evaluation that leaves no trace in the model, its graph fit to be differentiated twice.

        Raises:
            UnsupportedModelError: A layer came to depend on the batch or on chance, or a buffer
                was written to; it has its old values again. Or a parameter was written to.
        """
        refuse_batch_dependent_layers(self.model)
        # Only the math backend of attention can be differentiated twice.
        with (
            sdpa_kernel(SDPBackend.MATH),
            self._unwritten_parameters(),
            self._unwritten_buffers(),
        ):
            yield

    @contextmanager
    def _unwritten_parameters(self) -> Iterator[None]:
        # Not put back: that would take a copy of all of them, and training writes to them as well.
        evaluated = dict(self.model.named_parameters()) | dict(
            zip(self._names, self.leaves, strict=True)
        )
        before = {name: Watch((p,)) for name, p in evaluated.items()}
        yield
        if written := [name for name, watch in before.items() if not watch.holds()]:
            raise UnsupportedModelError(
                f"evaluating the model writes to its parameters {', '.join(written)}, so that its "
                "outputs depend on what was evaluated before: write to them after the optimizer's "
                "step, not in forward()"
            )

    @contextmanager
    def _unwritten_buffers(self) -> Iterator[None]:
        before = [
            (f"{path}.{name}".lstrip("."), layer, name, buffer, buffer.detach().clone())
            for path, layer in self.model.named_modules()
            for name, buffer in layer._buffers.items()
            if buffer is not None
        ]
        written = []
        try:
            yield
        finally:
            for path, layer, name, buffer, values in before:
                if layer._buffers.get(name) is buffer and equal(buffer, values):
                    continue
                written.append(path)
                with torch.no_grad():
                    buffer.copy_(values)
                layer._buffers[name] = buffer
        if written:
            raise UnsupportedModelError(
                f"evaluating the model writes to its buffers {', '.join(written)}, so that its "
                "outputs depend on what was evaluated before: call model.eval() before the "
                "operator is built, or keep forward() from writing"
            )


_REMEDY = (
    "if that was meant, call operator.rebind(), which takes the model as it is now; if not, undo it"
)
