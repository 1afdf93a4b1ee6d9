import builtins
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpflat.benchmarks.eigensolvers import compare
from sharpflat.benchmarks.peers import METHODS, Method, Solution
from sharpflat.benchmarks.reference import Reference, largest_sine, solve_reference
from sharpflat.benchmarks.rows import CostRow
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.timing import OutOfTimeError, ProductCounter

BY_NAME = {method.name: method for method in METHODS}
PEER_PACKAGES = {method.package for method in METHODS if method.package is not None}


def measure(
    task: BenchmarkTask,
    reference: Reference,
    methods: Sequence[Method],
    **options: Any,
) -> list[CostRow]:
    settings = {"accuracy": 0.01, "repeats": 2, "time_cap": 60.0, "floor_seconds": 1e-6, "seed": 0}
    return compare(task, reference, methods=methods, **{**settings, **options})


@pytest.fixture
def uninstalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any peer, whatever is installed."""
    real_import = builtins.__import__

    def refuse(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        if name.partition(".")[0] in PEER_PACKAGES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("chunk_size", [None, 20])
def test_every_method_finds_the_eigenspace(
    task: BenchmarkTask,
    method: Method,
    chunk_size: int | None,
    top_vectors: Callable[[BenchmarkTask], Tensor],
) -> None:
    """Oracle: torch's Hessian and dense eigensolver, in float64."""
    if method.package is not None:
        pytest.importorskip(method.package)
    counter = ProductCounter()
    chunked = replace(task, chunk_size=chunk_size)
    solution = method.solve(chunked, method.ladder(task.k)[-1], 0, counter)
    assert largest_sine(solution.eigenvectors, top_vectors(task)) < 0.01
    assert counter.count >= task.k
    assert all(p.grad is None for p in task.parameters)
    assert task.model.training


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_model_of_two_inputs_suits_every_method(
    masked_task: BenchmarkTask, method: Method, top_vectors: Callable[[BenchmarkTask], Tensor]
) -> None:
    """Oracle: torch's Hessian and dense eigensolver, in float64."""
    if method.package is not None:
        pytest.importorskip(method.package)
    solution = method.solve(masked_task, method.ladder(2)[-1], 0, ProductCounter())
    assert largest_sine(solution.eigenvectors, top_vectors(masked_task)) < 0.01


def test_the_loosest_accurate_setting_is_measured(
    task: BenchmarkTask, top_vectors: Callable[[BenchmarkTask], Tensor]
) -> None:
    """Oracle: the angles of this and the next looser setting, to the dense solver's vectors."""
    method = BY_NAME["sharpflat + lobpcg"]
    (row,) = measure(task, solve_reference(task, seed=0), [method])
    assert row.reached
    assert row.setting.startswith("maxiter=")
    value = float(row.setting.partition("=")[2])
    ladder = method.ladder(task.k)
    looser = ladder[ladder.index(value) - 1]
    for iterations, accurate in ((value, True), (looser, False)):
        vectors = method.solve(task, iterations, 0, ProductCounter()).eigenvectors
        assert (largest_sine(vectors, top_vectors(task)) <= 0.01) is accurate


def test_rows_of_the_methods_that_come_with_the_package(
    task: BenchmarkTask, reference: Reference
) -> None:
    """Oracle: what the words say of each other."""
    methods = [method for method in METHODS if method.package is None]
    rows = measure(task, reference, methods)
    assert [row.method for row in rows] == [method.name for method in methods]
    for row in rows:
        assert row.reached and row.mode == "cold" and row.task == "tiny"
        assert row.sine_largest_angle is not None and row.sine_largest_angle <= 0.01
        assert row.products is not None and row.products >= task.k
        assert row.seconds_min is not None and row.seconds is not None
        assert row.seconds_max is not None
        assert 0 < row.seconds_min <= row.seconds <= row.seconds_max
        assert row.floor_seconds == pytest.approx(row.products * 1e-6)
        assert (row.num_parameters, row.k, row.threads) == (53, 3, torch.get_num_threads())


@pytest.mark.usefixtures("uninstalled")
def test_an_absent_peer_is_a_row_that_says_how_to_install_it(
    task: BenchmarkTask, reference: Reference
) -> None:
    """Oracle: an import system that knows no peer."""
    for package in PEER_PACKAGES:
        sys.modules.pop(package or "", None)
    rows = measure(task, reference, [method for method in METHODS if method.package is not None])
    assert len(rows) == 3
    for row in rows:
        assert not row.reached
        assert row.note == "not installed: pip install 'sharpflat[benchmarks]'"
        assert row.seconds is None and row.products is None


def test_a_peer_that_fails_is_a_row_and_this_package_failing_is_an_error(
    task: BenchmarkTask, reference: Reference
) -> None:
    """Oracle: a method that raises."""

    def fail(*_: object) -> Solution:
        raise RuntimeError("cannot do it\nbecause")

    broken = Method(name="broken", knob="tol", ladder=lambda _: (1.0,), solve=fail, package="peer")
    (row,) = measure(task, reference, [broken])
    assert row.note == "failed: RuntimeError: cannot do it" and not row.reached
    with pytest.raises(RuntimeError, match="cannot do it"):
        measure(task, reference, [replace(broken, package=None)])


def test_time_ends_the_search_for_a_setting(task: BenchmarkTask, reference: Reference) -> None:
    """Oracle: a cap of no time at all lets no product through."""
    with pytest.raises(OutOfTimeError):
        ProductCounter(deadline=0.0).add()
    (row,) = measure(task, reference, [BY_NAME["sharpflat + eigsh"]], time_cap=-1.0)
    assert not row.reached and row.note == "no more settings in -1 s"


def test_a_method_that_never_gets_there_keeps_its_tightest_result(
    task: BenchmarkTask, reference: Reference
) -> None:
    """Oracle: the first unit vectors, which are no eigenvectors."""

    def solve(task: BenchmarkTask, *_: object) -> Solution:
        return Solution(torch.eye(task.num_parameters)[:, : task.k])

    method = Method(name="blind", knob="tol", ladder=lambda _: (0.1, 0.01), solve=solve)
    (row,) = measure(task, reference, [method])
    assert (row.setting, row.note) == ("tol=0.01", "end of its settings")
    assert not row.reached and row.sine_largest_angle is not None and row.sine_largest_angle > 0.5
    assert row.seconds is not None
