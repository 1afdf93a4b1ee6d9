"""What evaluating a model or a loss may read beside parameters, buffers and layers."""

from __future__ import annotations

import dis
import functools
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, is_dataclass
from functools import lru_cache
from inspect import getattr_static
from itertools import islice
from types import CodeType, FunctionType, MemberDescriptorType, MethodType, SimpleNamespace
from typing import Any, TypeAlias
from weakref import CallableProxyType, ProxyType, ReferenceType

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from sharpflat.curvature.snapshot import Constant, sampled_array, stored_parts

#: By name what is held there: numbers, texts, functions and modules themselves, tensors as
#: :class:`~sharpflat.curvature.snapshot.Constant`.
Held: TypeAlias = dict[str, list[Any]]

#: What every module holds of its own; hooks before and after ``forward`` are read by name.
_OWN = frozenset(vars(nn.Module()))
#: Of what is held under a name: a list of all losses so far, say, need not be read to its end.
MOST_LEAVES = 4096
#: Of a list of tensors that a dataset holds.
MOST_PARTS = 64
_WEAK = (ReferenceType, ProxyType, CallableProxyType)
_PLAIN = (
    type(None),
    slice,
    range,
    int,
    float,
    complex,
    str,
    bytes,
    np.generic,
    torch.dtype,
    torch.device,
)


def held_by_layers(module: nn.Module, name: str, own: Collection[int]) -> Held:
    """What ``forward`` may read of a module's layers: attributes, and forward hooks.

    Of functions among them what a loss that is one may read, see :func:`held_by_loss`.

    Args:
        module: The module.
        name: For it in names.
        own: Identities of tensors and modules that are looked at elsewhere.
    """
    held: Held = {}
    _add_layers(held, name, module, own, set())
    return held


def held_by_dataset(dataset: Any, name: str) -> Held:
    """Tensors and arrays of a dataset of torch, and of those that it is made of.

    Args:
        dataset: The dataset; nothing is known of what is none.
        name: For it in names.
    """
    held: Held = {}
    left, seen = [(name, dataset)], {id(dataset)}
    while left:
        path, whole = left.pop()
        if isinstance(whole, Tensor | np.ndarray):
            held[path] = _first_leaves(whole, ())
        for attribute, value in vars(whole).items() if isinstance(whole, Dataset) else ():
            parts = value[:MOST_PARTS] if isinstance(value, tuple | list) else (value,)
            new = [part for part in parts if id(part) not in seen]
            seen.update(map(id, new))
            left += [(f"{path}.{attribute}.{place}", part) for place, part in enumerate(new)]
    return held


def held_by_loss(loss_fn: Callable[..., Any], own: Collection[int]) -> Held:
    """What a loss may read, as far as its code says.

    Of a module it is all that it holds; of a function its closure, its defaults and the globals
    that it names; of a method, or an object that is called, also the attributes that it names.
    Functions that it calls are looked into if they are of the same file; torch's are not.

    Args:
        loss_fn: The loss.
        own: Identities of tensors and modules that are looked at elsewhere, as the model's.
    """
    held: Held = {}
    _add(held, "loss_fn", loss_fn, own, set())
    return held


def _add(held: Held, name: str, value: Any, own: Collection[int], seen: set[object]) -> None:
    if id(value) in own or id(value) in seen or type(value) in _WEAK:
        return
    if isinstance(value, nn.Module):
        seen.add(id(value))
        _add_layers(held, name, value, own, seen)
        for path, tensor in (*value.named_parameters(name), *value.named_buffers(name)):
            if id(tensor) not in own:
                held[path] = [Constant(tensor)]
    elif isinstance(value, functools.partial):
        held[name] = _first_leaves((value.args, value.keywords), own)
        _add(held, f"{name}.func", value.func, own, seen)
    elif isinstance(value, MethodType):
        _add_method(held, name, value.__func__, value.__self__, own, seen)
    elif isinstance(getattr(value, "__wrapped__", None), FunctionType):  # as lru_cache's are
        held[name] = [value]
        _add(held, f"{name}.wrapped", value.__wrapped__, own, seen)
    elif isinstance(value, FunctionType):
        _add_function(held, name, value, own, seen)
    elif callable(value) and isinstance(type(value).__call__, FunctionType):
        _add_method(held, name, type(value).__call__, value, own, seen)
    else:
        held[name] = _first_leaves(value, own)


def _add_layers(
    held: Held, name: str, module: nn.Module, own: Collection[int], seen: set[object]
) -> None:
    for path, layer in module.named_modules(prefix=name):
        held[path] = [layer]
        for place, hook in enumerate(
            (*layer._forward_pre_hooks.values(), *layer._forward_hooks.values())
        ):
            _add(held, f"{path} hook {place}", hook, own, seen)
        if id(layer) not in own:  # the model's are evaluated in the mode that they were bound in
            held[f"{path}.training"] = [layer.training]
        for attribute, value in vars(layer).items():
            if attribute not in _OWN:
                _add(held, f"{path}.{attribute}", value, own, seen)
        _add_forward(held, path, type(layer), own, seen)


def _add_forward(
    held: Held, name: str, kind: type[nn.Module], own: Collection[int], seen: set[object]
) -> None:
    """What ``forward``, and the methods that it names, read outside of the module."""
    left = [] if _is_torchs(kind) else ["forward"]
    while left:
        method = left.pop()
        function = getattr_static(kind, method, None)
        known = id(function) in seen or not isinstance(function, FunctionType)
        if not known and not _is_torchs(function):
            _add_function(held, f"{name}.{method}", function, own, seen)
            left += _named(function.__code__, "LOAD_ATTR", "LOAD_METHOD")


def _add_function(
    held: Held, name: str, function: FunctionType, own: Collection[int], seen: set[object]
) -> None:
    held[name] = [function]
    if id(function) in seen:
        return
    seen.add(id(function))
    if _is_torchs(function):
        return
    code = function.__code__
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            _add(held, f"{name}.{variable}", cell.cell_contents, own, seen)
        except ValueError:  # not assigned yet
            continue
    defaults = (function.__defaults__, function.__kwdefaults__)
    held[f"{name} defaults"] = _first_leaves(defaults, own)
    for variable in _named(code, "LOAD_GLOBAL"):
        value = function.__globals__.get(variable)
        if not isinstance(value, FunctionType) or value.__module__ == function.__module__:
            _add(held, f"{name}.{variable}", value, own, seen)


def _add_method(
    held: Held, name: str, function: Any, owner: Any, own: Collection[int], seen: set[object]
) -> None:
    """A function with an object whose attributes it may read: those that its code names."""
    if isinstance(owner, nn.Module):
        _add(held, name, owner, own, seen)
        return
    if not isinstance(function, FunctionType):
        held[name] = [function]
        return
    _add_function(held, name, function, own, seen)
    if (pair := (id(function), id(owner))) in seen:
        return
    seen.add(pair)
    for attribute in _named(function.__code__, "LOAD_ATTR", "LOAD_METHOD"):
        try:
            value = getattr_static(owner, attribute)
        except AttributeError:  # of another object that the function reads
            continue
        read = f"{name}.self.{attribute}"
        if isinstance(value, property) and isinstance(value.fget, FunctionType):
            _add_method(held, read, value.fget, owner, own, seen)
        elif isinstance(value, MemberDescriptorType):  # a slot
            _add(held, read, getattr(owner, attribute, None), own, seen)
        elif isinstance(value, classmethod | staticmethod):
            _add_method(held, read, value.__func__, owner, own, seen)
        elif isinstance(value, FunctionType) and attribute not in getattr(owner, "__dict__", {}):
            _add_method(held, read, value, owner, own, seen)
        else:
            _add(held, read, value, own, seen)


def _is_torchs(defined: FunctionType | type) -> bool:
    return (defined.__module__ or "").partition(".")[0] == "torch"


@lru_cache(maxsize=1024)
def _named(code: CodeType, *operations: str) -> tuple[str, ...]:
    """Names that a function's code, and code within it, loads in one of these ways."""
    names = [each.argval for each in dis.get_instructions(code) if each.opname in operations]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names += _named(constant, *operations)
    return tuple(dict.fromkeys(names))


def _first_leaves(value: Any, own: Collection[int]) -> list[Any]:
    return list(islice(_leaves(value, own, set()), MOST_LEAVES))


def _leaves(value: Any, own: Collection[int], seen: set[int]) -> Iterator[Any]:
    """What a value is made of, as far as it can be compared; the rest is left out."""
    if id(value) in own or type(value) in _WEAK:  # such as a layer makes anew of its weights
        return
    if isinstance(value, Tensor):
        if value.grad_fn is None:  # no kept activation
            yield from map(Constant, stored_parts(value))
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "biufc":
            yield sampled_array(value)
    elif isinstance(value, _PLAIN):
        yield value
    elif id(value) in seen:
        return
    elif isinstance(value, nn.Module):  # in a list, say, so that it is no layer
        seen.add(id(value))
        for layer in value.modules():
            yield layer
            yield layer.training
            for attribute, part in vars(layer).items():
                if attribute not in _OWN:
                    yield from _leaves(part, own, seen)
        for tensor in (*value.parameters(), *value.buffers()):
            yield from _leaves(tensor, own, seen)
    elif isinstance(value, set | frozenset):
        yield {part for part in value if isinstance(part, _PLAIN)}
    elif (parts := _parts(value)) is not None:
        seen.add(id(value))
        yield len(parts)
        for part in parts:
            yield from _leaves(part, own, seen)
    else:  # of which another may come in its place
        yield value


def _parts(value: Any) -> list[Any] | None:
    """Of a container or a record; ``None`` of anything else."""
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, list | tuple | deque):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, SimpleNamespace | Namespace):
        return [part for item in vars(value).items() for part in item]
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, each.name, None) for each in fields(value)]
    return None
