from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from sharpflat.benchmarks.eigensolvers import compare
from sharpflat.benchmarks.peers import METHODS
from sharpflat.benchmarks.rows import CostRow, MemoryRow
from sharpflat.benchmarks.run import PARTS, BenchmarkSettings, run
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.warm_comparison import compare_peers
from sharpflat.benchmarks.warm_peers import WARM_PEERS

COLD = [method for method in METHODS if method.name in ("sharpflat", "sharpflat + eigsh")]
WARM = [peer for peer in WARM_PEERS if peer.name == "subspace iteration"]
SETTINGS = BenchmarkSettings(
    descent_steps=5,
    batch_size=20,
    repeats=1,
    time_cap=10.0,
    tracking_steps=10,
    tracking_samples=(None,),
    cold_steps=1,
    error_steps=10,
    scaling_task="tiny",
    scaling_samples=(30,),
    scaling_steps=10,
    memory_task="tiny",
    memory_samples=(60,),
    memory_chunk_size=30,
)


def test_run_writes_every_table(
    task: BenchmarkTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the rows that a task of one learning rate has, and one of another loss."""

    def measure_memory(
        task: BenchmarkTask, *, num_samples: Sequence[int], chunk_sizes: Sequence[int | None]
    ) -> list[MemoryRow]:
        assert (task.name, num_samples, chunk_sizes) == ("tiny", (60,), (None, 30))
        return [MemoryRow(task="tiny", num_samples=60, chunk_size=size) for size in chunk_sizes]

    # The real ones take seconds, to start processes or to search; each has tests of its own.
    monkeypatch.setattr("sharpflat.benchmarks.run.measure_memory", measure_memory)
    monkeypatch.setattr("sharpflat.benchmarks.run.compare", partial(compare, methods=COLD))
    monkeypatch.setattr(
        "sharpflat.benchmarks.run.compare_peers", partial(compare_peers, peers=WARM)
    )
    other_loss = replace(task, loss_name="cross_entropy")
    run([task, other_loss], tmp_path / "new", settings=SETTINGS)
    tables = {path.stem: pd.read_csv(path) for path in (tmp_path / "new").glob("*.csv")}
    costs, tracked = tables.pop("eigensolver_cost"), tables.pop("tracked_steps")
    assert {name: len(table) for name, table in tables.items()} == {
        "eigensolver_reference": 1,
        "hessian_product": 1,
        "cold_solves": 2,
        "tracking_errors": 6,
        "tracking_estimates": 6,
        "scaling": 1,
        "product_memory": 2,
    }
    assert list(costs.columns) == [field.name for field in fields(CostRow)]
    assert len(costs) == 2 + len(tracked) + 1
    assert list(costs["method"][:2]) == [method.name for method in COLD]
    assert costs["reached"].dtype == bool
    ours = costs[costs["method"] == "sharpflat"]
    assert list(ours["mode"]) == ["cold", "tracked", "tracked", "scaling"]
    assert ours["reached"].all()
    assert list(tracked[tracked["method"] == "sharpflat"]["training"]) == ["bulk_sgd", "dom_sgd"]
    peers = tracked[tracked["method"] != "sharpflat"]
    assert set(peers["training"]) == {"bulk_sgd"}
    assert set(peers["method"]) == {"subspace iteration"}
    assert list(tables["tracking_estimates"]["loss"]) == ["mse"] * 3 + ["cross_entropy"] * 3


def test_a_part_alone_writes_its_own_tables(task: BenchmarkTask, tmp_path: Path) -> None:
    """Oracle: the folder before and after."""
    settings = replace(SETTINGS, tracking_methods=("dom_sgd",))
    run([task], tmp_path, settings=settings, parts=["scaling"])
    assert {path.name for path in tmp_path.iterdir()} == {"scaling.csv", "eigensolver_cost.csv"}
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "scaling.csv"), pd.read_csv(tmp_path / "eigensolver_cost.csv")
    )


def test_an_unknown_part_is_refused_first(task: BenchmarkTask, tmp_path: Path) -> None:
    """Oracle: nothing is written, and the parts that there are."""
    with pytest.raises(ValueError, match="'trakcing' is unknown; allowed are product, cold"):
        run([task], tmp_path, settings=SETTINGS, parts=["product", "trakcing"])
    assert not list(tmp_path.iterdir())
    assert tuple(PARTS) == ("product", "cold", "tracking", "errors", "scaling", "memory")
