"""Numbers in sentences. Oracles: tables made by hand, and the pages beside the results."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from pages import text
from planted import trajectory, trials
from readme_numbers import fill, not_in

ROOT = Path(__file__).parents[2]
SENTENCES = yaml.safe_load((Path(__file__).parent / "readme_sentences.yaml").read_text())


def test_every_number_of_a_sentence_is_that_of_the_tables() -> None:
    """Whichever page the sentence stands on."""
    assert not_in(text(), SENTENCES, ROOT / "results") == []


@pytest.fixture
def results(tmp_path: Path) -> Path:
    falls = {"sgd": [0.5, 0.6], "bulk_sgd": [0.4, 0.3]}
    runs = [
        trajectory(method, seed, [1.0, 0.9, final])
        for method, finals in falls.items()
        for seed, final in enumerate(finals)
    ]
    pd.concat(runs).to_csv(tmp_path / "figure.csv", index=False)
    edges = {"sgd": 0.04, "bulk_sgd": 0.06}
    searches = [trials(method, 0, edge) for method, edge in edges.items()]
    pd.concat(searches).to_csv(tmp_path / "edge.csv", index=False)
    claims = {"claim": ["C1", "C1"], "statistic": ["all: x", "mse: x"], "estimate": [0.9, math.pi]}
    pd.DataFrame(claims).to_csv(tmp_path / "claims.csv", index=False)
    for seed, alarms in enumerate([{}, {"not_converged": {"steps": 1}}]):
        folder = tmp_path / f"prefixes/{seed}"
        folder.mkdir(parents=True)
        summary = {"record": {"seed": seed}, "alarms": alarms, "switch_reason": "alignment"}
        (folder / "summary.json").write_text(json.dumps(summary))
    return tmp_path


RUNS = {"from": "figure", "of": "runs", "column": "fall", "as": ".0f"}
RATIO = {"from": "figure", "of": "pairs", "method": "bulk_sgd", "reference": "sgd", "as": ".2f"}
EDGES = {"from": "edge", "of": "edge_ratios", "method": "bulk_sgd", "references": ["sgd"]}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (RUNS | {"where": {"method": "sgd"}, "take": "min"}, "40"),
        (RUNS | {"where": {"method": "sgd"}, "take": "each"}, "50 and 40"),
        (RUNS | {"where": {"method": ["sgd", "bulk_sgd"]}, "take": "each"}, "50, 40, 60 and 70"),
        (RUNS | {"where": {"method": "sgd", "seed": 1}}, "40"),
        (RUNS | {"take": "count", "as": "d"}, "4"),
        (RATIO | {"column": "final_train_loss", "take": "max"}, "0.80"),
        (RATIO | {"column": "final_train_loss", "take": "min", "times": 100, "as": ".0f"}, "50"),
        (EDGES | {"column": "ratio", "as": ".2f"}, "1.50"),
        (
            {"from": "claims", "begins": {"statistic": "mse"}, "column": "estimate", "as": ".2f"},
            "3.14",
        ),
        ({"from": "claims", "begins": {"statistic": "mse"}, "column": "claim", "as": ""}, "C1"),
        (
            {
                "from": "prefixes",
                "of": "summaries",
                "where": {"alarms": 1},
                "take": "count",
                "as": "d",
            },
            "1",
        ),
    ],
)
def test_a_query_finds_its_number(query: dict[str, Any], expected: str, results: Path) -> None:
    assert fill("it is {x}.", {"x": query}, results) == f"it is {expected}."


@pytest.mark.parametrize("where", [{"method": "dom_sgd"}, {"method": "sgd"}])
def test_a_query_that_finds_none_or_several_is_refused(
    where: dict[str, str], results: Path
) -> None:
    with pytest.raises(ValueError, match=r"finds [02] rows; change `where`"):
        fill("{x}", {"x": RUNS | {"where": where}}, results)


def test_a_page_that_says_another_number_is_found_out(results: Path) -> None:
    said = [{"sentence": "falls by {x} %", "numbers": {"x": RUNS | {"take": "min"}}}]
    assert not_in("The loss falls\n  by 40 % here.", said, results) == []
    assert not_in("The loss falls by 41 % here.", said, results) == ["falls by 40 %"]
