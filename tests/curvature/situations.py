"""Models and losses that read something beside the parameters, each with what changes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

SAMPLES, HIDDEN, OUTPUTS = 10, 4, 2
FACTOR = 1.0  # what a loss reads of this module

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A model and its loss, and what changes one of them."""

    model: nn.Module
    loss: LossFunction
    change: Callable[[], object]


class Net(nn.Module):
    """Passes what the first layer gives through ``read``, with whatever the model holds."""

    def __init__(self, held: Any = None) -> None:
        super().__init__()
        self.first = nn.Linear(3, HIDDEN).double()
        self.second = nn.Linear(HIDDEN, OUTPUTS).double()
        self.held = held

    def read(self, hidden: Tensor) -> Tensor:
        return hidden

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.second(torch.tanh(self.read(self.first(x))))
        return outputs


def of_model(
    held: Any, read: Callable[[Any, Tensor], Tensor], change: Callable[[Any], object]
) -> Situation:
    """A model whose forward() reads what it holds."""

    class Reader(Net):
        def read(self, hidden: Tensor) -> Tensor:
            return read(self.held, hidden)

    model = Reader(held)
    return Situation(model=model, loss=mse_loss, change=lambda: change(model))


def of_loss(loss: LossFunction, change: Callable[[], object]) -> Situation:
    return Situation(model=Net(), loss=loss, change=change)


@dataclass
class Settings:
    """What a model's options are kept in."""

    scale: float = 1.0


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.float64)


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def write(tensor: Tensor, value: float = 3.0) -> None:
    with torch.no_grad():
        tensor.fill_(value)


MODELS: dict[str, Callable[[], Situation]] = {
    "number": lambda: of_model(1.0, lambda a, h: a * h, lambda m: setattr(m, "held", 3.0)),
    "dict": lambda: of_model(
        {"scale": 1.0}, lambda a, h: a["scale"] * h, lambda m: m.held.update(scale=3.0)
    ),
    "dict in a dict": lambda: of_model(
        {"inner": {"scale": 1.0}},
        lambda a, h: a["inner"]["scale"] * h,
        lambda m: m.held["inner"].update(scale=3.0),
    ),
    "namespace": lambda: of_model(
        SimpleNamespace(scale=1.0),
        lambda a, h: a.scale * h,
        lambda m: setattr(m.held, "scale", 3.0),
    ),
    "dataclass": lambda: of_model(
        Settings(), lambda a, h: a.scale * h, lambda m: setattr(m.held, "scale", 3.0)
    ),
    "list of numbers": lambda: of_model(
        [1.0, 1.0], lambda a, h: a[1] * h, lambda m: m.held.__setitem__(1, 3.0)
    ),
    "list of tensors in place": lambda: of_model(
        [ones(HIDDEN)], lambda a, h: a[0] * h, lambda m: write(m.held[0])
    ),
    "list of tensors replaced": lambda: of_model(
        [ones(HIDDEN)], lambda a, h: a[0] * h, lambda m: m.held.__setitem__(0, 3 * ones(HIDDEN))
    ),
    "tuple of tensors in place": lambda: of_model(
        (ones(HIDDEN), 1.0), lambda a, h: a[0] * h, lambda m: write(m.held[0])
    ),
    "dict of tensors in place": lambda: of_model(
        {"scale": ones(HIDDEN)}, lambda a, h: a["scale"] * h, lambda m: write(m.held["scale"])
    ),
    "namespace of tensors in place": lambda: of_model(
        SimpleNamespace(scale=ones(HIDDEN)), lambda a, h: a.scale * h, lambda m: write(m.held.scale)
    ),
    "leaf with a gradient in place": lambda: of_model(
        ones(HIDDEN).requires_grad_(), lambda a, h: a * h, lambda m: write(m.held)
    ),
    "leaf with a gradient replaced": lambda: of_model(
        ones(HIDDEN).requires_grad_(),
        lambda a, h: a * h,
        lambda m: setattr(m, "held", (3 * ones(HIDDEN)).requires_grad_()),
    ),
    "leaf with a gradient replaced by a constant": lambda: of_model(
        ones(HIDDEN).requires_grad_(),
        lambda a, h: a * h,
        lambda m: setattr(m, "held", 3 * ones(HIDDEN)),
    ),
    "one entry of 20,000": lambda: of_model(
        zeros(5_000, HIDDEN), lambda a, h: h + a[0], lambda m: write(m.held[0, 1])
    ),
    "one entry of 20,000 in a list": lambda: of_model(
        [zeros(5_000, HIDDEN)], lambda a, h: h + a[0][0], lambda m: write(m.held[0][0, 1])
    ),
    "row of a transposed constant": lambda: of_model(
        zeros(HIDDEN, 100).T, lambda a, h: h + a[1], lambda m: write(m.held[1])
    ),
    "row of every other column": lambda: of_model(
        zeros(300, 2 * HIDDEN)[:, ::2], lambda a, h: h + a[1], lambda m: write(m.held[1])
    ),
    "array in place": lambda: of_model(
        np.ones(HIDDEN), lambda a, h: torch.from_numpy(a) * h, lambda m: m.held.fill(3.0)
    ),
    "array replaced": lambda: of_model(
        np.ones(HIDDEN),
        lambda a, h: torch.from_numpy(a) * h,
        lambda m: setattr(m, "held", np.full(HIDDEN, 3.0)),
    ),
    "array in a dict": lambda: of_model(
        {"scale": np.ones(HIDDEN)},
        lambda a, h: torch.from_numpy(a["scale"]) * h,
        lambda m: m.held["scale"].fill(3.0),
    ),
}


def of_hooked(hook_on: Callable[[nn.Module, dict[str, float]], object]) -> Situation:
    """A model whose layer scales by what a function's closure holds."""
    model, options = Net(), {"scale": 1.0}
    hook_on(model.first, options)
    return Situation(model=model, loss=mse_loss, change=lambda: options.update(scale=3.0))


def function_of_a_closure() -> Situation:
    options = {"scale": 1.0}
    return of_model(
        lambda h: options["scale"] * h, lambda a, h: a(h), lambda _: options.update(scale=3.0)
    )


class ScaledNet(Net):
    """Reads a global number in a method that ``forward`` calls."""

    def read(self, hidden: Tensor) -> Tensor:
        return FACTOR * hidden


def global_number_in_a_method() -> Situation:
    return Situation(
        model=ScaledNet(), loss=mse_loss, change=lambda: globals().__setitem__("FACTOR", 3.0)
    )


def sparse_buffer() -> Situation:
    situation = of_model(None, lambda _, h: h, lambda m: m.places._values().fill_(3.0))
    model = situation.model
    model.register_buffer("places", torch.eye(HIDDEN, dtype=torch.float64).to_sparse_coo())
    model.read = lambda hidden: torch.sparse.mm(model.places, hidden.T).T
    return situation


def replace_forward(layer: nn.Module, options: dict[str, float]) -> None:
    before = layer.forward
    layer.forward = lambda x: options["scale"] * before(x)


MODELS |= {
    "closure of a function": function_of_a_closure,
    "closure of a hook": lambda: of_hooked(
        lambda layer, options: layer.register_forward_hook(lambda *io: options["scale"] * io[2])
    ),
    "closure of a hook before": lambda: of_hooked(
        lambda layer, options: layer.register_forward_pre_hook(
            lambda _, inputs: (options["scale"] * inputs[0],)
        )
    ),
    "closure of a replaced forward": lambda: of_hooked(replace_forward),
    "attribute of a module that is no layer": lambda: of_model(
        [nn.LeakyReLU(0.1)],
        lambda a, h: a[0](h),
        lambda m: setattr(m.held[0], "negative_slope", 3.0),
    ),
    "mode of a module that is no layer": lambda: of_model(
        [nn.Dropout(1.0).eval()], lambda a, h: a[0](h) + h, lambda m: m.held[0].train()
    ),
    "global number": lambda: of_model(
        None, lambda _, h: FACTOR * h, lambda _: globals().__setitem__("FACTOR", 3.0)
    ),
    "global number in another method": global_number_in_a_method,
    "sparse buffer in place": sparse_buffer,
    "sparse tensor replaced": lambda: of_model(
        torch.eye(HIDDEN, dtype=torch.float64).to_sparse(),
        lambda a, h: h @ a.to_dense(),
        lambda m: setattr(m, "held", torch.eye(HIDDEN).double().flip(0).to_sparse()),
    ),
    "sparse tensor in place": lambda: of_model(
        torch.eye(HIDDEN, dtype=torch.float64).to_sparse(),
        lambda a, h: h @ a.to_dense(),
        lambda m: m.held._values().fill_(3.0),
    ),
}


class ScaledError(nn.Module):
    """A module whose number is read by ``forward`` and by whoever calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 1.0

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.factor * mse_loss(outputs, targets)


class CallableError:
    """An object that is called, and is no module."""

    def __init__(self) -> None:
        self.factor = 1.0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.factor * mse_loss(outputs, targets)


class Trainer:
    """Holds a model with its optimizer and records; its method is the loss."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        self.records: list[float] = []
        self.beta = 1.0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.beta * mse_loss(outputs, targets)


def scaled(outputs: Tensor, targets: Tensor, *, options: dict[str, float]) -> Tensor:
    return options["factor"] * mse_loss(outputs, targets)


def weighted(outputs: Tensor, targets: Tensor, *, weights: Tensor) -> Tensor:
    return (weights * (outputs - targets).square()).mean()


def closure_dict() -> Situation:
    options = {"factor": 1.0}
    return of_loss(
        lambda f, t: options["factor"] * mse_loss(f, t), lambda: options.update(factor=3.0)
    )


def closure_number() -> Situation:
    factor = 1.0

    def change() -> None:
        nonlocal factor
        factor = 3.0

    return of_loss(lambda f, t: factor * mse_loss(f, t), change)


def closure_tensor_in_place() -> Situation:
    weights = ones(OUTPUTS)
    return of_loss(lambda f, t: weighted(f, t, weights=weights), lambda: write(weights))


def closure_tensor_replaced() -> Situation:
    weights = ones(OUTPUTS)

    def change() -> None:
        nonlocal weights
        weights = 3 * weights

    return of_loss(lambda f, t: weighted(f, t, weights=weights), change)


def closure_module() -> Situation:
    module = ScaledError()
    return of_loss(lambda f, t: module(f, t), lambda: setattr(module, "factor", 3.0))


def closure_of_a_closure() -> Situation:
    options = {"factor": 1.0}

    def inner(outputs: Tensor, targets: Tensor) -> Tensor:
        return scaled(outputs, targets, options=options)

    return of_loss(lambda f, t: inner(f, t), lambda: options.update(factor=3.0))


def partial_of_a_dict() -> Situation:
    options = {"factor": 1.0}
    return of_loss(partial(scaled, options=options), lambda: options.update(factor=3.0))


def partial_of_a_tensor() -> Situation:
    weights = ones(OUTPUTS)
    return of_loss(partial(weighted, weights=weights), lambda: write(weights))


def default_argument() -> Situation:
    weights = ones(OUTPUTS)

    def loss(outputs: Tensor, targets: Tensor, weights: Tensor = weights) -> Tensor:
        return weighted(outputs, targets, weights=weights)

    return of_loss(loss, lambda: write(weights))


def module() -> Situation:
    loss = ScaledError()
    return of_loss(loss, lambda: setattr(loss, "factor", 3.0))


def method_of_a_module() -> Situation:
    loss = ScaledError()
    return of_loss(loss.forward, lambda: setattr(loss, "factor", 3.0))


def callable_object() -> Situation:
    loss = CallableError()
    return of_loss(loss, lambda: setattr(loss, "factor", 3.0))


def method_of_a_trainer() -> Situation:
    trainer = Trainer(Net())
    return Situation(
        model=trainer.model, loss=trainer.loss, change=lambda: setattr(trainer, "beta", 3.0)
    )


class SummedError:
    """Two objects of one class, each with a number of its own."""

    def __init__(self) -> None:
        self.first, self.second = CallableError(), CallableError()

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.first(outputs, targets) + self.second(outputs, targets)


class ClassError:
    """Its number is the class's."""

    factor = 1.0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.factor * mse_loss(outputs, targets)


class SlottedError:
    """It has no dictionary."""

    __slots__ = ("factor",)

    def __init__(self) -> None:
        self.factor = 1.0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.factor * mse_loss(outputs, targets)


class ModalError(nn.Module):
    """It depends on its mode."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (1.0 if self.training else 3.0) * mse_loss(outputs, targets)


def second_of_two_objects() -> Situation:
    loss = SummedError()
    return of_loss(loss, lambda: setattr(loss.second, "factor", 3.0))


def class_attribute() -> Situation:
    own = type("Own", (ClassError,), {"factor": 1.0})
    return of_loss(own(), lambda: setattr(own, "factor", 3.0))


def slotted_object() -> Situation:
    loss = SlottedError()
    return of_loss(loss, lambda: setattr(loss, "factor", 3.0))


def mode_of_a_module() -> Situation:
    loss = ModalError()
    return of_loss(loss, loss.eval)


def cached_function() -> Situation:
    options = {"factor": 1.0}

    @lru_cache(maxsize=1)
    def factor(of: float) -> float:
        return of * options["factor"]

    return of_loss(
        lambda f, t: factor(options["factor"]) * mse_loss(f, t), lambda: options.update(factor=3.0)
    )


def global_number() -> Situation:
    return of_loss(
        lambda f, t: FACTOR * mse_loss(f, t), lambda: globals().__setitem__("FACTOR", 3.0)
    )


LOSSES: dict[str, Callable[[], Situation]] = {
    "second of two objects of one class": second_of_two_objects,
    "attribute of a class": class_attribute,
    "object with slots": slotted_object,
    "mode of a module": mode_of_a_module,
    "closure of a cached function": cached_function,
    "closure over a dict": closure_dict,
    "closure over a number": closure_number,
    "closure over a tensor in place": closure_tensor_in_place,
    "closure over a tensor replaced": closure_tensor_replaced,
    "closure over a module": closure_module,
    "closure over a closure": closure_of_a_closure,
    "partial of a dict": partial_of_a_dict,
    "partial of a tensor in place": partial_of_a_tensor,
    "default argument in place": default_argument,
    "module": module,
    "method of a module": method_of_a_module,
    "callable object": callable_object,
    "method of a trainer": method_of_a_trainer,
    "global number": global_number,
}
SITUATIONS = {f"model: {name}": build for name, build in MODELS.items()} | {
    f"loss: {name}": build for name, build in LOSSES.items()
}
