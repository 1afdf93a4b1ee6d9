"""Warm peers along a tracked run, each at its loosest settings that keep the angle."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean

import torch
from torch import Tensor

from sharpflat.benchmarks.peers import failure, surroundings
from sharpflat.benchmarks.reference import sines, solve_by_eigsh
from sharpflat.benchmarks.rows import CostRow
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.timing import OutOfTimeError, ProductCounter, timed
from sharpflat.benchmarks.tracking import step_row, stretches
from sharpflat.benchmarks.trajectory import TRUTH_TOLERANCE, Trajectory
from sharpflat.benchmarks.warm_peers import WARM_PEERS, PeerSetting, WarmPeer
from sharpflat.methods import parse_method
from sharpflat.tasks.data import Inputs


@dataclass
class _Followed:
    """A peer at one setting along a run, up to where it lost the angle or its time was up."""

    setting: PeerSetting
    seconds: list[float] = field(default_factory=list)  # of each step that was followed
    products: float = 0.0  # in all of them
    errors: list[float] = field(default_factory=list)  # true ‖sin Θ‖_F where it was checked
    sines: list[float] = field(default_factory=list)  # largest angles there
    out_of_time: bool = False

    @property
    def worst(self) -> float:
        return max(self.errors, default=float("inf"))


@dataclass(frozen=True)
class _Found:
    """The setting of a peer that stands for an accuracy."""

    peer: WarmPeer
    followed: _Followed
    accuracy: float
    note: str


@dataclass(frozen=True)
class _Course:
    """What a peer follows."""

    task: BenchmarkTask
    trajectory: Trajectory
    truths: dict[int, Tensor]
    start: Tensor
    visited: Sequence[int]


def compare_peers(
    task: BenchmarkTask,
    trajectory: Trajectory,
    truths: dict[int, Tensor],
    *,
    floor_seconds: float,
    cold_steps: int,
    time_cap: float,
    peers: Sequence[WarmPeer] = WARM_PEERS,
) -> list[CostRow]:
    """Measure every peer along a tracked run, at its loosest settings that are accurate enough.

    Two accuracies are asked for, in ``‖sin Θ‖_F`` as the tolerance is: the run's tolerance, and the
    largest true error that the tracked subspace in fact had, if that is smaller. A setting that
    meets both is one row.

    Args:
        task: At the run's start; it is left there.
        trajectory: The run; peers meet the same parameters and the same batches.
        truths: True eigenvectors at its checked steps.
        floor_seconds: Least time of one product.
        cold_steps: Checked steps at which a peer that remembers nothing is measured, instead.
        time_cap: Seconds that a peer may take for all its settings.
        peers: The peers.
    """
    tracked = max(float(angles.norm()) for angles in trajectory.angles(truths).values())
    accuracies = sorted({max(trajectory.tolerance, tracked), tracked}, reverse=True)
    seed = trajectory.training.seed
    start = solve_by_eigsh(task.hessian(), task.k, tol=TRUTH_TOLERANCE, seed=seed)
    rows: list[CostRow] = []
    for peer in peers:
        visited: Sequence[int] = range(len(trajectory.steps))
        if not peer.remembers:
            checked = sorted(truths)
            visited = checked[:: -(-len(checked) // cold_steps)]
        course = _Course(task, trajectory, truths, start, visited)
        counter = ProductCounter(deadline=time.perf_counter() + time_cap)
        try:
            found = _loosest(peer, course, accuracies, counter)
        except Exception as error:
            # A peer that is absent or fails is a result, not an end of the comparison.
            if peer.package is None:
                raise
            row = step_row(task, trajectory.training)
            rows.append(replace(row, method=peer.name, note=failure(peer.package, error)))
            continue
        rows += [_row(course, measured, floor_seconds) for measured in found]
    return rows


def _loosest(
    peer: WarmPeer, course: _Course, accuracies: Sequence[float], counter: ProductCounter
) -> list[_Found]:
    """For each accuracy, loose to tight, the first setting that meets it.

    Where none does, the most accurate one stands for that accuracy and the tighter ones.
    """
    tried: list[_Followed] = []
    found: list[_Found] = []
    ladder = iter(peer.ladder(course.task))
    for accuracy in accuracies:
        if found and found[-1].followed.worst <= accuracy:
            found[-1] = replace(found[-1], accuracy=accuracy)
            continue
        for setting in ladder:
            followed = _follow(peer, course, setting, accuracy, counter)
            tried.append(followed)
            if followed.worst <= accuracy:
                found.append(_Found(peer, followed, accuracy, _timed(followed)))
                break
            if followed.out_of_time:
                break
        if not found or found[-1].accuracy != accuracy:
            best = min(tried, key=lambda followed: followed.worst)
            end = "before its time was up" if tried[-1].out_of_time else "of those tried"
            note = f"no setting {end} is accurate enough; {_timed(best)}"
            found.append(_Found(peer, best, accuracy, note))
            break
    return found


def _timed(followed: _Followed) -> str:
    up = ", until its time was up" if followed.out_of_time else ""
    return f"timed in {len(followed.seconds)} steps{up}"


def _follow(
    peer: WarmPeer,
    course: _Course,
    setting: PeerSetting,
    accuracy: float,
    counter: ProductCounter,
) -> _Followed:
    task, training = course.task, course.trajectory.training
    batches = task.batches(training.batch_size, seed=training.seed)
    followed, home = _Followed(setting), task.theta()
    bases = peer.follow(task, course.start, setting, training.seed, counter)
    try:
        with surroundings():
            basis, counter.count = next(bases), 0
            for step in course.visited:
                task.move_to(course.trajectory.steps[step].theta)
                renewed = bases if step % setting.interval == 0 or not peer.remembers else None
                whole_step = partial(_step, course, next(batches), basis, renewed)
                basis, seconds = timed(whole_step, task.device)
                followed.seconds.append(seconds)
                followed.products = counter.count
                if step in course.truths:
                    angles = sines(basis, course.truths[step])
                    followed.errors.append(float(torch.linalg.vector_norm(angles)))
                    followed.sines.append(float(angles[0]))
                    if followed.worst > accuracy:
                        break
    except OutOfTimeError:
        followed.out_of_time = True
    finally:
        task.move_to(home)
    return followed


def _step(
    course: _Course,
    batch: tuple[Inputs, Tensor],
    basis: Tensor,
    renewed: Iterator[Tensor] | None,
) -> Tensor:
    """A whole training step; returns the basis that it projected on."""
    task, training = course.task, course.trajectory.training
    method = parse_method(training.method)
    inputs, targets = batch
    loss = task.loss(task.outputs(inputs), targets)
    gradient = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, task.parameters)])
    if renewed is not None:
        basis = next(renewed)
    dominant = basis @ (basis.T @ gradient)
    update = method.dom_weight * dominant + method.bulk_weight * (gradient - dominant)
    task.move_to(task.theta() - training.learning_rate * update)
    return basis


def _row(course: _Course, found: _Found, floor_seconds: float) -> CostRow:
    followed, setting = found.followed, found.followed.setting
    row = replace(
        step_row(course.task, course.trajectory.training),
        method=found.peer.name,
        setting=setting.label,
        samples="all" if setting.samples is None else str(setting.samples),
        interval=setting.interval,
        accuracy=found.accuracy,
        note=found.note,
    )
    if not followed.seconds:
        return row
    products, by_stretch = followed.products / len(followed.seconds), stretches(followed.seconds)
    return replace(
        row,
        products=products if setting.samples is None else 0.0,
        equivalent_products=products,
        seconds=fmean(followed.seconds),
        seconds_min=min(by_stretch),
        seconds_max=max(by_stretch),
        sine_largest_angle=max(followed.sines, default=None),
        sine_frobenius=max(followed.errors, default=None),
        reached=followed.worst <= found.accuracy,
        floor_seconds=products * floor_seconds,
    )
