from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sharpflat.benchmarks.rows import CostRow, ErrorRow, MemoryRow, gather_rows, replace_rows

COST = CostRow(
    task="a", method="m", mode="cold", threads=1, device="cpu", num_parameters=2, num_samples=3, k=1
)
ERROR = ErrorRow(
    task="a",
    loss="mse",
    training="sgd",
    learning_rate=0.1,
    samples="all",
    step=9,
    error_estimate=0.1,
    sine_frobenius=0.2,
    sine_largest_angle=0.2,
)


def test_rows_take_the_place_of_those_of_the_same_task_and_loss(tmp_path: Path) -> None:
    """Oracle: rows written by hand."""
    path = tmp_path / "errors.csv"
    replace_rows(path, [ERROR, replace(ERROR, step=19)])
    replace_rows(path, [replace(ERROR, loss="cross_entropy", step=1)])
    replace_rows(path, [replace(ERROR, task="b", step=2)])
    replace_rows(path, [replace(ERROR, step=3)])
    table = pd.read_csv(path)
    assert list(table["step"]) == [1, 2, 3]
    assert list(table["loss"]) == ["cross_entropy", "mse", "mse"]


def test_a_table_with_other_columns_is_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: a table of another kind, of another task."""
    path = tmp_path / "table.csv"
    replace_rows(path, [MemoryRow(task="b", num_samples=1, chunk_size=None)])
    replace_rows(path, [COST])
    assert list(pd.read_csv(path)["task"]) == ["a"]
    assert "table.csv has the columns of another version" in caplog.text


def test_gathered_rows_lie_task_by_task(tmp_path: Path) -> None:
    """Oracle: two tables of two tasks, and one that was not made."""
    paths = [tmp_path / f"{name}.csv" for name in ("cold", "tracked", "absent")]
    replace_rows(paths[0], [COST, replace(COST, task="b")])
    replace_rows(paths[1], [replace(COST, task="b", mode="tracked"), replace(COST, mode="tracked")])
    gather_rows(tmp_path / "all.csv", paths, CostRow)
    table = pd.read_csv(tmp_path / "all.csv")
    assert list(zip(table["task"], table["mode"], strict=True)) == [
        ("a", "cold"),
        ("a", "tracked"),
        ("b", "cold"),
        ("b", "tracked"),
    ]
