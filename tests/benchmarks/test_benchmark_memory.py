import subprocess
from typing import Any

import pytest

from sharpflat.benchmarks.memory import measure_memory
from sharpflat.benchmarks.task import BenchmarkTask


def test_memory_without_chunks_grows_with_the_samples(task: BenchmarkTask) -> None:
    """Oracle: at least six activations of five float32 a sample, and chunks that stay small."""
    rows = measure_memory(task, num_samples=(200_000,), chunk_sizes=(None, 1_000))
    whole, chunked = rows
    assert [row.chunk_size for row in rows] == [None, 1_000]
    assert whole.product_mebibytes is not None and chunked.product_mebibytes is not None
    assert whole.peak_mebibytes is not None and whole.seconds is not None
    assert whole.product_mebibytes > 6 * 200_000 * 5 * 4 / 2**20
    assert 0 <= chunked.product_mebibytes < whole.product_mebibytes / 2
    assert whole.peak_mebibytes > whole.product_mebibytes
    assert whole.seconds > 0


@pytest.mark.parametrize(
    ("code", "stderr"), [(-9, ""), (1, "torch.OutOfMemoryError: CUDA out of memory")]
)
def test_a_lack_of_memory_is_a_row(
    task: BenchmarkTask, monkeypatch: pytest.MonkeyPatch, code: int, stderr: str
) -> None:
    """Oracle: a process that the system killed, and one that ran out on a GPU."""
    fake_run(monkeypatch, code, stderr)
    (row,) = measure_memory(task, num_samples=(60,), chunk_sizes=(None,))
    assert row.note == "out of memory" and row.peak_mebibytes is None


def test_any_other_failure_is_told(task: BenchmarkTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what the process said."""
    fake_run(monkeypatch, 1, "the reason")
    with pytest.raises(RuntimeError, match="the reason"):
        measure_memory(task, num_samples=(60,), chunk_sizes=(None,))


def fake_run(monkeypatch: pytest.MonkeyPatch, code: int, stderr: str) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, code, stdout="", stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
