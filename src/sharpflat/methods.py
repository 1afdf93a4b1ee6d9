"""The named methods: points ``(a, b)`` of ``θ ← θ - η (a P_k g + b (g - P_k g))``."""

from __future__ import annotations

import math
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
#: Free weights, ``weights(a, b)``.
FREE = "weights"
_FREE_POINT = re.compile(rf"{FREE}\((\d+\.?\d*|\.\d+), *(\d+\.?\d*|\.\d+)\)")


@dataclass(frozen=True)
class Method:
    """A method by name with its weights.

    Attributes:
        name: ``"sgd"``, ``"dom_sgd"``, ``"bulk_sgd"``, ``"path(alpha)"`` or ``"weights(a, b)"``.
        dom_weight: ``a``, of the Dominant part.
        bulk_weight: ``b``, of the Bulk part.
    """

    name: str
    dom_weight: float
    bulk_weight: float


def weights(dom_weight: float, bulk_weight: float) -> Method:
    """The method with free weights; a number has one spelling in its name.

    Raises:
        ValueError: A weight is negative or not finite, or both are 0.

    Example:
        >>> weights(0.50, 2).name
        'weights(0.5, 2)'
    """
    # Six digits, which the name shows, are all that counts: no two methods have the same name.
    a, b = (float(f"{weight:g}") for weight in (dom_weight, bulk_weight))
    name = f"{FREE}({a:g}, {b:g})"
    if not (0 <= a < math.inf and 0 <= b < math.inf):
        raise ValueError(f"{name} has a weight that is negative or not finite; 0 and above are")
    if a == b == 0:
        raise ValueError(f"{name} goes nowhere: give a weight above 0")
    return Method(name, a, b)


def parse_method(name: str) -> Method:
    """Look a method up by its name.

    Raises:
        ValueError: An unknown name, α outside 0 to 1, or weights that are not allowed; says what
            is.

    Example:
        >>> parse_method("sgd_to_bulk(0.25)")
        Method(name='sgd_to_bulk(0.25)', dom_weight=0.75, bulk_weight=1.0)
        >>> parse_method("weights(0.5, 2)")
        Method(name='weights(0.5, 2)', dom_weight=0.5, bulk_weight=2.0)
    """
    if name in POINTS:
        return Method(name, *POINTS[name])
    matched = _PATH_POINT.fullmatch(name)
    if matched and matched[1] in PATHS and matched[2].count(".") <= 1 and matched[2] != ".":
        alpha = float(matched[2])
        if 0.0 <= alpha <= 1.0:
            return Method(name, *PATHS[matched[1]](alpha))
    if free := _FREE_POINT.fullmatch(name):
        return weights(float(free[1]), float(free[2]))
    points, paths = ", ".join(POINTS), ", ".join(f"{path}(α)" for path in PATHS)
    remedy = "; in a list of YAML it needs quotes" if name.startswith(FREE) else ""
    raise ValueError(
        f"unknown method {name!r}; allowed are {points}, {paths} with α from 0 to 1, and "
        f'"{FREE}(a, b)" with a and b of 0 or above as plain decimals{remedy}'
    )
