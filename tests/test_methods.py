"""Names of methods and their weights; oracle: the formulas of the three paths, by hand."""

import pytest

from sharpflat.methods import parse_method


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("sgd", (1.0, 1.0)),
        ("dom_sgd", (1.0, 0.0)),
        ("bulk_sgd", (0.0, 1.0)),
        ("sgd_to_bulk(0)", (1.0, 1.0)),
        ("sgd_to_bulk(1)", (0.0, 1.0)),
        ("sgd_to_dom(0)", (1.0, 1.0)),
        ("sgd_to_dom(1.0)", (1.0, 0.0)),
        ("convex(0)", (2.0, 0.0)),
        ("convex(0.5)", (1.0, 1.0)),
        ("convex(0.75)", (0.5, 1.5)),
    ],
)
def test_weights_follow_the_definitions(name: str, weights: tuple[float, float]) -> None:
    method = parse_method(name)
    assert (method.dom_weight, method.bulk_weight) == pytest.approx(weights)
    assert method.name == name


@pytest.mark.parametrize(
    "name", ["", "sgdd", "sgd(0.5)", "convex", "convex(1.5)", "convex(-0.1)", "convex(.)", "a(1)"]
)
def test_unknown_names_are_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ValueError, match="allowed are sgd, dom_sgd, bulk_sgd, sgd_to_bulk"):
        parse_method(name)
