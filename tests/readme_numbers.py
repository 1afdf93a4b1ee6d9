"""Sentences whose numbers come from the tables, so that no number of a page is typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sharpflat.analysis.edges import edge_ratios, stability_edges
from sharpflat.analysis.intervals import geometric_mean, geometric_mean_interval
from sharpflat.analysis.statistics import paired, run_statistics
from sharpflat.archive import summaries

#: From the values of a column, in the table's order, to what a sentence says of them.
TAKE: Mapping[str, Callable[[pd.Series], Any]] = {
    "min": lambda values: values.min(),
    "max": lambda values: values.max(),
    "mean": lambda values: values.mean(),
    "geometric_mean": geometric_mean,
    "geometric_mean_low": lambda values: geometric_mean_interval(values)[0],
    "geometric_mean_high": lambda values: geometric_mean_interval(values)[1],
    "median": lambda values: values.median(),
    "count": len,
    "count_nonzero": np.count_nonzero,
    "each": list,
}


def fill(sentence: str, numbers: Mapping[str, Mapping[str, Any]], results: Path) -> str:
    """A sentence with its numbers.

    Args:
        sentence: With a ``{name}`` in the place of each number.
        numbers: For each name a query with

            - ``from``: a table under ``results``, without ``.csv``, or a folder of runs,
              from the tier's archive where that is all there is;
            - ``of``: ``rows`` of that table, the default; ``runs``, their statistics, with
              ``fall``, by how many per cent the training loss fell; ``pairs``, a ``column`` of a
              ``method`` over that of a ``reference``; ``edges`` and ``edge_ratios`` (``method``,
              ``references``) of a table of trials; ``summaries`` of the runs of a folder;
            - ``where``: values, or lists of them, that columns must have; ``begins``: what they
              must begin with;
            - ``column``, and ``take``, one of :data:`TAKE`; without it a single row is expected;
            - ``as``: a format specification; ``times``, a factor before it.
        results: Folder of all results.

    Raises:
        ValueError: A query finds no row, or several where it takes one.

    Example:
        >>> fill("nothing to fill", {}, Path("results"))
        'nothing to fill'
    """
    return sentence.format(**{name: _number(query, results) for name, query in numbers.items()})


def not_in(page: str, sentences: Sequence[Mapping[str, Any]], results: Path) -> list[str]:
    """Filled sentences that a page does not hold, however it breaks its lines.

    Args:
        page: Text of the page.
        sentences: Each with its ``sentence`` and its ``numbers``, as :func:`fill` takes them.
        results: Folder of all results.
    """
    flat = " ".join(page.split())
    filled = [fill(each["sentence"], each["numbers"], results) for each in sentences]
    return [sentence for sentence in filled if " ".join(sentence.split()) not in flat]


def _number(query: Mapping[str, Any], results: Path) -> str:
    rows = SOURCES[query.get("of", "rows")](results / query["from"], query)
    for column, allowed in query.get("where", {}).items():
        values = allowed if isinstance(allowed, list) else [allowed]
        rows = rows[rows[column].isin(values)]
    for column, beginning in query.get("begins", {}).items():
        rows = rows[rows[column].str.startswith(beginning)]
    if rows.empty or ("take" not in query and len(rows) != 1):
        raise ValueError(f"{dict(query)} finds {len(rows)} rows; change `where`, or `take` of them")
    values = rows[query.get("column", rows.columns[0])]
    taken = TAKE[query["take"]](values) if "take" in query else values.iloc[0]
    words = [_word(value, query) for value in np.atleast_1d(np.asarray(taken, dtype=object))]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _word(value: Any, query: Mapping[str, Any]) -> str:
    return value if isinstance(value, str) else format(value * query.get("times", 1), query["as"])


@lru_cache
def _rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path.with_suffix(".csv"))


@lru_cache
def _runs(path: Path) -> pd.DataFrame:
    runs = run_statistics(_rows(path))
    return runs.assign(fall=100 * (1 - runs["final_train_loss"] / runs["start_train_loss"]))


def _pairs(path: Path, query: Mapping[str, Any]) -> pd.DataFrame:
    pairs = paired(_runs(path), query["column"], query["method"], query["reference"])
    return pairs.assign(**{query["column"]: pairs["method"] / pairs["reference"]})


@lru_cache
def _edges(path: Path) -> pd.DataFrame:
    return stability_edges(_rows(path))


def _edge_ratios(path: Path, query: Mapping[str, Any]) -> pd.DataFrame:
    return edge_ratios(_edges(path), query["method"], query["references"])


@lru_cache
def _summaries(folder: Path) -> pd.DataFrame:
    """Summaries of a tier's results, and in how many steps each alarm rang, and any."""
    read = list(summaries(folder.parent, folder.name).values())
    # Searches for the edge have none of their own.
    found = [each.get("alarms", {}) for each in read]
    rang = [{kind: alarm["steps"] for kind, alarm in alarms.items()} for alarms in found]
    table = pd.DataFrame(
        [each["record"].get("prefix", {}) | each["record"] | each for each in read]
    )
    steps = pd.DataFrame(rang, index=table.index).fillna(0)
    return table.assign(**steps, alarms=steps.sum(axis="columns"))


#: What a query may be made of.
SOURCES: Mapping[str, Callable[[Path, Mapping[str, Any]], pd.DataFrame]] = {
    "rows": lambda path, query: _rows(path),
    "runs": lambda path, query: _runs(path),
    "pairs": _pairs,
    "edges": lambda path, query: _edges(path),
    "edge_ratios": _edge_ratios,
    "summaries": lambda folder, query: _summaries(folder),
}
