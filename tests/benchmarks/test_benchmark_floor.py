from dataclasses import replace

import pytest

from sharpflat.benchmarks.floor import measure_product
from sharpflat.benchmarks.task import BenchmarkTask


@pytest.mark.parametrize("chunk_size", [None, 20])
def test_flops_of_a_perceptron(task: BenchmarkTask, chunk_size: int | None) -> None:
    """Oracle: 2 products of the first layer and 6 of the second, each 2 n × in × out, by hand."""
    row = measure_product(replace(task, chunk_size=chunk_size), repeats=2)
    assert row.flops == 2 * 60 * (2 * 6 * 5 + 6 * 5 * 3)


def test_times_are_positive_and_the_floor_is_flops_over_rate(
    task: BenchmarkTask, masked_task: BenchmarkTask
) -> None:
    """Oracle: what the words say of each other."""
    for measured in (task, masked_task):
        row = measure_product(measured, repeats=2)
        assert row.floor_seconds == pytest.approx(row.flops / row.matmul_flops_per_second)
        for seconds in (row.seconds, row.seconds_with_graph, row.gradient_seconds):
            assert seconds > 0
        assert row.floor_seconds > 0
        assert (row.replay_seconds is not None) is (measured is task)
