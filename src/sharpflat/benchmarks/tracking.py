"""Tracked solves: what a training step costs with the Dominant subspace kept up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

import torch
from torch import Tensor

from sharpflat.benchmarks.peers import Method, surroundings
from sharpflat.benchmarks.reference import largest_sine, sines
from sharpflat.benchmarks.rows import CostRow, TrackingRow
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.timing import ProductCounter, timed
from sharpflat.curvature import DominantSubspace, HessianOperator, top_eigenpairs
from sharpflat.methods import Method as TrainingMethod
from sharpflat.methods import parse_method
from sharpflat.optim import ProjectedOptimizer
from sharpflat.tasks.data import Inputs

#: Steps between two measurements of the true angle.
CHECK_EVERY = 10
#: Accepted ``‖sin Θ‖_F`` of the solves that the angle is measured against.
CHECK_TOLERANCE = 2e-3


@dataclass(frozen=True)
class ColdPeer:
    """A method that solves afresh in every training step, for comparison.

    Attributes:
        method: The method.
        value: Value of its knob.
        reached: Whether that met the accuracy in the comparison of cold solves.
    """

    method: Method
    value: float
    reached: bool


@dataclass
class _Run:
    """What trains, and what is collected along the run."""

    training: TrainingMethod
    learning_rate: float
    seconds: list[float] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    estimates: list[float] = field(default_factory=list)
    checks: list[TrackingRow] = field(default_factory=list)
    peer_seconds: list[float] = field(default_factory=list)
    peer_products: list[int] = field(default_factory=list)
    peer_sines: list[float] = field(default_factory=list)


def track(
    task: BenchmarkTask,
    *,
    training: str,
    learning_rate: float,
    steps: int,
    batch_size: int,
    floor_seconds: float,
    seed: int,
    peer: ColdPeer | None = None,
    peer_steps: int = 3,
) -> tuple[list[CostRow], list[TrackingRow]]:
    """Measure training with a tracked subspace, and a peer's cold solve at a few of its steps.

    A step is timed whole: the batch's gradient, the subspace's update, the projected step. The
    subspace's first, cold solve and all that measures the truth are left out.

    Args:
        task: Where the run starts; its model is left as it is.
        training: Name of the projected method that trains.
        learning_rate: Its learning rate.
        steps: Steps.
        batch_size: Samples a batch.
        floor_seconds: Least time of one product.
        seed: Seeds the batches and every solver.
        peer: A method to compare with; default none.
        peer_steps: Steps at which the peer is timed too, spread over the run.

    Returns:
        A row of costs for the run and one for the peer, and a row for every checked step.
    """
    start = task.theta()
    run = _Run(parse_method(training), learning_rate)
    try:
        tolerance = _track(task, run, steps, batch_size, seed, peer, peer_steps)
    finally:
        task.move_to(start)
        task.model.zero_grad()
    rows = [_tracked_row(task, run, floor_seconds, tolerance)]
    if peer is not None and run.peer_seconds:
        rows.append(_peer_row(task, run, floor_seconds, peer))
    return rows, run.checks


def _track(
    task: BenchmarkTask,
    run: _Run,
    steps: int,
    batch_size: int,
    seed: int,
    peer: ColdPeer | None,
    peer_steps: int,
) -> float:
    operator = task.hessian()
    subspace = DominantSubspace(operator, task.k, seed=seed)
    optimizer = ProjectedOptimizer(
        torch.optim.SGD(task.parameters, lr=run.learning_rate),
        subspace,
        dom_weight=run.training.dom_weight,
        bulk_weight=run.training.bulk_weight,
    )
    subspace.update()
    batches = task.batches(batch_size, seed=seed)
    with_peer = {round((i + 0.5) * steps / peer_steps) for i in range(peer_steps)} if peer else ()
    for step in range(steps):
        batch = next(batches)
        if peer is not None and step in with_peer:
            _peer_step(task, run, operator, peer, batch, seed)
        before = subspace.num_matvecs
        theta = operator.theta()
        _, seconds = timed(partial(_step, task, optimizer, batch), task.device)
        run.seconds.append(seconds)
        run.products.append(subspace.num_matvecs - before)
        run.estimates.append(subspace.error_estimate)
        if step % CHECK_EVERY == 0:
            run.checks.append(_check(task, run, subspace, theta, step, seed))
    return subspace.tol


def _step(task: BenchmarkTask, optimizer: ProjectedOptimizer, batch: tuple[Inputs, Tensor]) -> None:
    inputs, targets = batch
    optimizer.zero_grad()
    task.loss(task.outputs(inputs), targets).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _check(
    task: BenchmarkTask,
    run: _Run,
    subspace: DominantSubspace,
    theta: Tensor,
    step: int,
    seed: int,
) -> TrackingRow:
    """Compare with a converged solve at the parameters that the subspace was updated for."""
    after = task.theta()
    task.move_to(theta)
    # The run's own operator, so that no second graph is held; a later product records its own.
    truth = top_eigenpairs(
        subspace.operator, task.k, tol=CHECK_TOLERANCE, initial=subspace.basis, seed=seed
    )
    task.move_to(after)
    angles = sines(subspace.basis, truth.eigenvectors.double())
    return TrackingRow(
        task=task.name,
        training=run.training.name,
        learning_rate=run.learning_rate,
        step=step,
        products=sum(run.products),
        error_estimate=subspace.error_estimate,
        sine_largest_angle=float(angles[0]),
        sine_frobenius=float(torch.linalg.vector_norm(angles)),
        kth_eigenvalue=float(truth.eigenvalues[-1]),
        next_eigenvalue=truth.next_eigenvalue,
        reference_error=truth.error_estimate,
    )


def _peer_step(
    task: BenchmarkTask,
    run: _Run,
    operator: HessianOperator,
    peer: ColdPeer,
    batch: tuple[Inputs, Tensor],
    seed: int,
) -> None:
    """Time the same training step with the peer's solve, and take it back."""
    theta, counter = task.theta(), ProductCounter()

    def solve_and_step() -> Tensor:
        inputs, targets = batch
        loss = task.loss(task.outputs(inputs), targets)
        gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, task.parameters)])
        basis = peer.method.solve(task, peer.value, seed, counter).eigenvectors.to(gradient)
        dominant = basis @ (basis.T @ gradient)
        bulk = gradient - dominant
        step = run.training.dom_weight * dominant + run.training.bulk_weight * bulk
        task.move_to(theta - run.learning_rate * step)
        return basis

    with surroundings():
        basis, seconds = timed(solve_and_step, task.device)
    task.move_to(theta)
    truth = top_eigenpairs(operator, task.k, tol=CHECK_TOLERANCE, seed=seed)
    run.peer_seconds.append(seconds)
    run.peer_products.append(counter.count)
    run.peer_sines.append(largest_sine(basis, truth.eigenvectors.double()))


def _tracked_row(task: BenchmarkTask, run: _Run, floor_seconds: float, tolerance: float) -> CostRow:
    products = fmean(run.products)
    stretches = _stretches(run.seconds)
    worst = max(check.sine_largest_angle for check in run.checks)
    unsure = sum(check.reference_error > CHECK_TOLERANCE for check in run.checks)
    note = f"{unsure} of {len(run.checks)} checks against a solve that did not converge"
    return CostRow(
        task=task.name,
        method="sharpflat",
        mode="tracked",
        setting=f"tol={tolerance:g}",
        products=products,
        seconds=fmean(run.seconds),
        seconds_min=min(stretches),
        seconds_max=max(stretches),
        sine_largest_angle=worst,
        error_estimate=fmean(run.estimates),
        reached=worst <= tolerance,
        floor_seconds=products * floor_seconds,
        threads=torch.get_num_threads(),
        device=str(task.device),
        num_parameters=task.num_parameters,
        k=task.k,
        training=run.training.name,
        learning_rate=run.learning_rate,
        note=note if unsure else "",
    )


def _stretches(seconds: Sequence[float]) -> list[float]:
    """Means over stretches of steps: single steps differ by what they have to do."""
    return [fmean(seconds[i : i + CHECK_EVERY]) for i in range(0, len(seconds), CHECK_EVERY)]


def _peer_row(task: BenchmarkTask, run: _Run, floor_seconds: float, peer: ColdPeer) -> CostRow:
    products = fmean(run.peer_products)
    return CostRow(
        task=task.name,
        method=peer.method.name,
        mode="tracked",
        setting=f"cold in every step, {peer.method.setting(peer.value)}",
        products=products,
        seconds=fmean(run.peer_seconds),
        seconds_min=min(run.peer_seconds),
        seconds_max=max(run.peer_seconds),
        sine_largest_angle=max(run.peer_sines),
        reached=peer.reached,
        floor_seconds=products * floor_seconds,
        threads=torch.get_num_threads(),
        device=str(task.device),
        num_parameters=task.num_parameters,
        k=task.k,
        training=run.training.name,
        learning_rate=run.learning_rate,
        note=f"timed in {len(run.peer_seconds)} steps",
    )
