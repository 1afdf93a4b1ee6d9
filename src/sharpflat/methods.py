"""The named methods: points ``(a, b)`` of ``θ ← θ - η (a P_k g + b (g - P_k g))``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: Named points [Zakarin & Singh].
POINTS: Mapping[str, tuple[float, float]] = {
    "sgd": (1.0, 1.0),
    "dom_sgd": (1.0, 0.0),
    "bulk_sgd": (0.0, 1.0),
}
#: How figures and pages call them.
LABELS: Mapping[str, str] = {"sgd": "SGD", "dom_sgd": "Dom-SGD", "bulk_sgd": "Bulk-SGD"}
#: Interpolation paths, α from 0 to 1 [assumption: the paper unifies the three methods, its exact
#: path is not known here]. ``convex(0.5)`` is SGD.
PATHS: Mapping[str, Callable[[float], tuple[float, float]]] = {
    "sgd_to_bulk": lambda alpha: (1.0 - alpha, 1.0),
    "sgd_to_dom": lambda alpha: (1.0, 1.0 - alpha),
    "convex": lambda alpha: (2.0 - 2.0 * alpha, 2.0 * alpha),
}
_PATH_POINT = re.compile(r"(\w+)\(([0-9.]+)\)")


@dataclass(frozen=True)
class Method:
    """A method by name with its weights.

    Attributes:
        name: ``"sgd"``, ``"dom_sgd"``, ``"bulk_sgd"`` or ``"path(alpha)"``.
        dom_weight: ``a``, of the Dominant part.
        bulk_weight: ``b``, of the Bulk part.
    """

    name: str
    dom_weight: float
    bulk_weight: float


def parse_method(name: str) -> Method:
    """Look a method up by its name.

    Raises:
        ValueError: An unknown name, or α outside 0 to 1; says what is allowed.

    Example:
        >>> parse_method("sgd_to_bulk(0.25)")
        Method(name='sgd_to_bulk(0.25)', dom_weight=0.75, bulk_weight=1.0)
    """
    if name in POINTS:
        return Method(name, *POINTS[name])
    matched = _PATH_POINT.fullmatch(name)
    if matched and matched[1] in PATHS and matched[2].count(".") <= 1 and matched[2] != ".":
        alpha = float(matched[2])
        if 0.0 <= alpha <= 1.0:
            return Method(name, *PATHS[matched[1]](alpha))
    points, paths = ", ".join(POINTS), ", ".join(f"{path}(α)" for path in PATHS)
    raise ValueError(f"unknown method {name!r}; allowed are {points}, {paths} with α from 0 to 1")
