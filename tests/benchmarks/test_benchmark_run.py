from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

from sharpflat.benchmarks.peers import METHODS
from sharpflat.benchmarks.rows import CostRow, MemoryRow
from sharpflat.benchmarks.run import BenchmarkSettings, run
from sharpflat.benchmarks.task import BenchmarkTask

SETTINGS = BenchmarkSettings(
    descent_steps=5,
    batch_size=20,
    repeats=1,
    time_cap=10.0,
    tracking_steps=12,
    peer_steps=1,
    memory_task="tiny",
    memory_samples=(60,),
    memory_chunk_size=30,
)


def test_run_writes_every_table(
    task: BenchmarkTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the rows that a task of one learning rate has, trained by two methods."""

    def measure_memory(
        task: BenchmarkTask, *, num_samples: Sequence[int], chunk_sizes: Sequence[int | None]
    ) -> list[MemoryRow]:
        assert (task.name, num_samples, chunk_sizes) == ("tiny", (60,), (None, 30))
        return [MemoryRow(task="tiny", num_samples=60, chunk_size=size) for size in chunk_sizes]

    # The real one starts processes, which takes seconds; it has tests of its own.
    monkeypatch.setattr("sharpflat.benchmarks.run.measure_memory", measure_memory)
    run([task], tmp_path / "new", settings=SETTINGS)
    tables = {path.stem: pd.read_csv(path) for path in (tmp_path / "new").glob("*.csv")}
    assert {name: len(table) for name, table in tables.items()} == {
        "eigensolver_reference": 1,
        "hessian_product": 1,
        "eigensolver_tracking": 4,
        "product_memory": 2,
        "eigensolver_cost": len(tables["eigensolver_cost"]),
    }
    costs = tables["eigensolver_cost"]
    assert list(costs.columns) == [field.name for field in fields(CostRow)]
    cold = costs[costs["mode"] == "cold"]
    assert list(cold["method"]) == [method.name for method in METHODS]
    assert costs["reached"].dtype == bool
    ours = costs[costs["method"] == "sharpflat"].set_index("mode")
    assert ours["reached"].all()
    assert list(ours.loc["tracked", "training"]) == ["bulk_sgd", "dom_sgd"]
    assert (ours.loc["tracked", "products"] < ours.loc["cold", "products"]).all()
    peer = costs[(costs["mode"] == "tracked") & (costs["method"] != "sharpflat")]
    assert list(peer["training"]) == ["bulk_sgd"]


def test_a_memory_task_that_is_none_of_the_tasks_is_refused_first(
    task: BenchmarkTask, tmp_path: Path
) -> None:
    """Oracle: nothing is written."""
    settings = BenchmarkSettings(memory_task="other")
    with pytest.raises(ValueError, match="use one of the tasks, tiny"):
        run([task], tmp_path, settings=settings)
    assert not list(tmp_path.iterdir())
