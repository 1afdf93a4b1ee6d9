"""Which of a model's parameters an operator differentiates.

Operators over several blocks of one model record a graph each. One graph of the whole gradient, of
which a product takes a block's part, was measured and left out: of a Transformer of four layers
(64 sequences, one core) it records once at 22 ms what takes 66 ms in four, beside 77 ms for one
product with every block. Graphs are recorded once per θ, so that over a cold solve of some twenty
products this saves 3 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn

#: Patterns of names in ``model.named_parameters()``, as in a shell (``"layers.0.*"``), modules, or
#: parameters.
Chosen: TypeAlias = Iterable[str | nn.Module | nn.Parameter]


def ids_of(model: nn.Module, chosen: Chosen) -> set[int]:
    """The ``id`` of every parameter that is chosen; a tied one by any of its names."""
    return {key for choice in chosen for key in _ids(model, choice)}


def checked(model: nn.Module, chosen: Chosen) -> tuple[str | nn.Module | nn.Parameter, ...]:
    """The choices, each of which matches a parameter of the model that can be differentiated.

    Raises:
        ValueError: Names the choice and the parameters that there are.
    """
    if isinstance(chosen, str | nn.Module | nn.Parameter):
        raise ValueError(
            f"parameters is a {type(chosen).__name__}; it must be a list, here of one: "
            "parameters=[...]"
        )
    chosen = tuple(chosen)
    free = {id(p) for p in model.parameters() if p.requires_grad}
    names = ", ".join(name for name, p in model.named_parameters() if p.requires_grad)
    if not chosen:
        raise ValueError(f"parameters is empty; leave it out for all of {names}")
    for choice in chosen:
        matched = _ids(model, choice)
        if not matched & free:
            what = "only frozen parameters" if matched else "no parameter of the model"
            said = repr(choice) if isinstance(choice, str) else f"a {type(choice).__name__}"
            raise ValueError(
                f"parameters: {said} matches {what}; those that require gradients are {names}"
            )
    return chosen


def _ids(model: nn.Module, choice: str | nn.Module | nn.Parameter) -> set[int]:
    named = list(model.named_parameters(remove_duplicate=False))
    if isinstance(choice, str):
        return {id(p) for name, p in named if fnmatchcase(name, choice)}
    if isinstance(choice, nn.Module):
        wanted = {id(p) for p in choice.parameters()}
    elif isinstance(choice, nn.Parameter):
        wanted = {id(choice)}
    else:
        raise ValueError(
            f"parameters holds a {type(choice).__name__}; allowed are name patterns, modules and "
            "parameters of the model"
        )
    return wanted & {id(p) for _, p in named}
