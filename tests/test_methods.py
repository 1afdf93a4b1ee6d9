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
        ("weights(0.5, 2)", (0.5, 2.0)),
        ("weights(0, 4)", (0.0, 4.0)),
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


@pytest.mark.parametrize("name", ["weights(.5,2)", "weights(0.50, 2.0)", "weights(0.5,  2.)"])
def test_free_weights_have_one_spelling(name: str) -> None:
    assert parse_method(name).name == "weights(0.5, 2)"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights(0, 0)", "goes nowhere: give a weight above 0"),
        ("weights(-1, 2)", "with a and b of 0 or above as plain decimals"),
        ("weights(1e400, 2)", "plain decimals"),
        ("weights(1)", "plain decimals"),
        ("weights(0.5", "in a list of YAML it needs quotes"),
        ("weights(" + 400 * "9" + ", 1)", "negative or not finite"),
    ],
)
def test_weights_that_are_none_are_refused_in_words(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_method(name)
