"""The comparison of libraries in the docs, this one's column of it run anew."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))  # as where it is run as a script
CHECKER: dict[str, Any] = runpy.run_path(str(DOCS / "comparison.py"))
ALONE = [name for name in CHECKER["TASKS"] if "processes" not in name]  # those are test_processes'


@pytest.mark.parametrize("name", ALONE)
def test_this_library(name):
    """Oracle: the dense matrices that the checker compares with."""
    library = CHECKER["LIBRARIES"][0]()
    assert CHECKER["cell"](CHECKER["TASKS"][name], library).startswith("yes")


def test_table_has_the_rows_of_the_checker():
    """Oracle: the tasks; a cell each for this library and four others."""
    lines = (DOCS / "comparison.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    head, _, *body = rows
    packages = [kind.package for kind in CHECKER["LIBRARIES"]]
    assert [title.split()[0] for title in head[1:]] == packages
    assert [row[0] for row in body] == list(CHECKER["TASKS"])
    assert all(row[1].startswith("yes") for row in body)
