"""Tensors in tuples, lists, mappings and dataclasses, however deep."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeAlias

from torch import Tensor

#: A tensor, or a tuple, list, mapping or dataclass of nested ones.
Nested: TypeAlias = Any


def entries(tree: Nested, path: str = "") -> Iterator[tuple[str, Any]]:
    """What lies at the ends of a structure, tensors or not, each with the way to it."""
    children = _children(tree)
    if children is None:
        yield path, tree
        return
    for key, child in children:
        yield from entries(child, f"{path}[{key!r}]")


def tensors_in(tree: Nested) -> tuple[Tensor, ...]:
    """The tensors of a structure, in its order."""
    return tuple(entry for _, entry in entries(tree) if isinstance(entry, Tensor))


def map_tensors(function: Callable[..., Tensor], tree: Nested, *others: Nested) -> Nested:
    """A structure of the same kind with ``function(tensor, *tensors of the others)`` in place.

    What is no tensor is taken from the first.
    """
    if isinstance(tree, Tensor):
        return function(tree, *others)
    children = _children(tree)
    if children is None:
        return tree
    held = [dict(_children(other) or ()) for other in others]
    mapped = {k: map_tensors(function, v, *(other[k] for other in held)) for k, v in children}
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **mapped)
    if isinstance(tree, Mapping):
        rebuilt: Any = copy.copy(tree)  # keeps a mapping's own kind, such as a tokenizer's
        for key, value in mapped.items():
            rebuilt[key] = value
        return rebuilt
    if hasattr(tree, "_fields"):  # a named tuple
        return type(tree)(*mapped.values())
    return type(tree)(mapped.values())


def real_tensors(tree: Nested) -> tuple[Tensor, ...]:
    """The floating-point tensors of a structure: those that can be differentiated."""
    return tuple(tensor for tensor in tensors_in(tree) if tensor.is_floating_point())


def with_real_tensors(tree: Nested, tensors: tuple[Tensor, ...]) -> Nested:
    """The structure with other floating-point tensors, in the order of :func:`real_tensors`."""
    following = iter(tensors)
    return map_tensors(lambda t: next(following) if t.is_floating_point() else t, tree)


def _children(tree: Nested) -> list[tuple[Any, Any]] | None:
    # A dataclass first: the outputs of Hugging Face's models are mappings too, and are made anew
    # from their fields alone.
    if is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in fields(tree) if field.init]
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, tuple | list):
        return list(enumerate(tree))
    return None
