from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from sharpflat.benchmarks.reference import largest_sine
from sharpflat.benchmarks.rows import CostRow
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.timing import ProductCounter
from sharpflat.benchmarks.trajectory import Training, Trajectory, solve_truths, train
from sharpflat.benchmarks.warm_comparison import compare_peers
from sharpflat.benchmarks.warm_peers import WARM_PEERS, PeerSetting, WarmPeer
from sharpflat.curvature import HessianOperator

Dense = Callable[[BenchmarkTask], Tensor]
TRAINING = Training(method="bulk_sgd", learning_rate=0.01, steps=20, batch_size=20, seed=0)
BY_NAME = {peer.name: peer for peer in WARM_PEERS}
RENEWING = [BY_NAME[name] for name in ("warm eigsh", "warm lobpcg", "subspace iteration")]


@pytest.fixture
def trajectory(task: BenchmarkTask) -> Trajectory:
    return train(task, TRAINING)


@pytest.fixture
def truths(task: BenchmarkTask, trajectory: Trajectory) -> dict[int, Tensor]:
    return solve_truths(task, trajectory, TRAINING.checked_steps)


def move(task: BenchmarkTask) -> None:
    """A step far enough to turn the eigenspace well beyond any tolerance."""
    generator = torch.Generator().manual_seed(2)
    theta = task.theta()
    task.move_to(theta + 0.05 * torch.randn(len(theta), generator=generator))


@pytest.mark.parametrize("peer", RENEWING, ids=lambda peer: peer.name)
def test_renewed_from_the_last_vectors_it_is_the_eigenspace(
    task: BenchmarkTask, peer: WarmPeer, top_vectors: Dense
) -> None:
    """Oracle: torch's Hessian and dense eigensolver in float64, before and after a step."""
    bases = peer.follow(task, top_vectors(task), peer.ladder(task)[-1], 0, ProductCounter())
    assert largest_sine(next(bases), top_vectors(task)) < 0.01
    move(task)
    truth = top_vectors(task)
    renewed = [largest_sine(next(bases), truth) for _ in range(4)]
    assert renewed[0] < 0.05 and renewed[-1] < 0.01


def test_a_step_turns_the_eigenspace_that_the_peers_are_tested_on(
    task: BenchmarkTask, top_vectors: Dense
) -> None:
    """Oracle: the dense eigenspaces before and after."""
    before = top_vectors(task)
    move(task)
    assert largest_sine(before, top_vectors(task)) > 0.1


def test_oja_on_all_samples_converges(task: BenchmarkTask, top_vectors: Dense) -> None:
    """Oracle: the dense eigenspace; with all samples and a large gain it is power iteration."""
    start = top_vectors(task)
    move(task)
    setting = PeerSetting(interval=1, value=100.0, samples=60, label="")
    counter = ProductCounter()
    bases = BY_NAME["Oja's rule, mini-batches"].follow(task, start, setting, 0, counter)
    basis = [next(bases) for _ in range(31)][-1]
    assert largest_sine(basis, top_vectors(task)) < 0.02
    assert counter.count == 30 * 3


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("subspace iteration", PeerSetting(interval=1, value=2, label="")),
        ("warm lobpcg", PeerSetting(interval=1, value=1, label="")),
        ("warm eigsh", PeerSetting(interval=1, value=0.1, label="")),
        ("Oja's rule, mini-batches", PeerSetting(interval=1, value=1, samples=20, label="")),
    ],
)
def test_products_of_a_renewal_are_counted(
    task: BenchmarkTask,
    top_vectors: Dense,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    setting: PeerSetting,
) -> None:
    """Oracle: the samples that the operator itself was made to multiply."""
    multiplied = []
    matmat = HessianOperator.matmat

    def counted(operator: HessianOperator, block: Tensor) -> Tensor:
        multiplied.append(block.shape[1] * operator.num_samples)
        return matmat(operator, block)

    counter = ProductCounter()
    bases = BY_NAME[name].follow(task, top_vectors(task), setting, 0, counter)
    next(bases)
    counter.count = 0
    monkeypatch.setattr(HessianOperator, "matmat", counted)
    next(bases)
    assert counter.count == pytest.approx(sum(multiplied) / 60) != 0


def turned(trajectory: Trajectory, spaces: dict[int, Tensor], *angles: float) -> WarmPeer:
    """A peer whose bases are the true eigenspaces of given steps, turned by a known sine.

    At other steps its bases do not matter, since nobody looks at them.
    """

    def follow(
        task: BenchmarkTask, start: Tensor, setting: PeerSetting, seed: int, counter: ProductCounter
    ) -> Iterator[Tensor]:
        while True:
            counter.add(7)
            here = [
                space
                for step, space in spaces.items()
                if torch.equal(task.theta(), trajectory.steps[step].theta)
            ]
            basis = (here[0] if here else start).clone()
            other = torch.ones(len(basis), dtype=torch.float64)
            other -= basis @ (basis.T @ other)
            rest = (1 - setting.value**2) ** 0.5 * basis[:, 0]
            basis[:, 0] = setting.value * other / other.norm() + rest
            yield basis.float()

    ladder = tuple(PeerSetting(interval=1, value=a, label=f"sine={a:g}") for a in angles)
    return WarmPeer(name="turned", ladder=lambda _: ladder, follow=follow)


def compare(
    task: BenchmarkTask,
    trajectory: Trajectory,
    truths: dict[int, Tensor],
    *peers: WarmPeer,
    time_cap: float = 60.0,
) -> list[CostRow]:
    return compare_peers(
        task,
        trajectory,
        truths,
        floor_seconds=2.0,
        cold_steps=1,
        time_cap=time_cap,
        peers=peers,
    )


def test_the_loosest_settings_at_the_tolerance_and_at_the_tracked_angle(
    task: BenchmarkTask, trajectory: Trajectory, truths: dict[int, Tensor]
) -> None:
    """Oracle: a peer whose angles are known, beside angles that the run was measured to have."""
    tracked = max(float(angles.norm()) for angles in trajectory.angles(truths).values())
    assert 0.001 < tracked < 0.045
    start = task.theta()
    loose, tight = compare(
        task, trajectory, truths, turned(trajectory, truths, 0.5, 0.2, 0.045, 1e-3, 1e-4)
    )
    assert (loose.setting, loose.accuracy, loose.reached) == ("sine=0.045", 0.05, True)
    assert (tight.setting, tight.accuracy, tight.reached) == ("sine=0.001", tracked, True)
    assert loose.sine_largest_angle == pytest.approx(0.045, rel=0.01)
    assert loose.products == 7 and loose.floor_seconds == 14
    assert loose.seconds is not None and loose.note == "timed in 20 steps"
    (both,) = compare(task, trajectory, truths, turned(trajectory, truths, 0.5, 1e-3))
    assert (both.setting, both.accuracy, both.reached) == ("sine=0.001", tracked, True)
    assert torch.equal(task.theta(), start)


def test_a_peer_that_gets_nowhere_is_shown_at_its_best(
    task: BenchmarkTask, trajectory: Trajectory, truths: dict[int, Tensor]
) -> None:
    """Oracle: a peer whose angles are known."""
    (row,) = compare(task, trajectory, truths, turned(trajectory, truths, 0.5, 0.2, 0.4))
    assert (row.setting, row.accuracy, row.reached) == ("sine=0.2", 0.05, False)
    assert row.note == "no setting of those tried is accurate enough; timed in 10 steps"
    (row,) = compare(task, trajectory, truths, turned(trajectory, truths, 0.5), time_cap=-1.0)
    assert not row.reached and row.seconds is None and row.sine_largest_angle is None
    assert row.note.startswith("no setting before its time was up is accurate enough")


def test_an_interval_is_seen_where_its_basis_is_oldest(
    task: BenchmarkTask, trajectory: Trajectory, truths: dict[int, Tensor]
) -> None:
    """Oracle: eigenspaces nine steps apart, of a renewal at step 0."""
    spaces = solve_truths(task, trajectory, [0, 9, 10, 19])
    exact = turned(trajectory, spaces, 0.0)
    setting = PeerSetting(interval=10, value=0.0, label="every 10 steps")
    peer = WarmPeer(name="stale", ladder=lambda _: (setting,), follow=exact.follow)
    rows = compare(task, trajectory, {9: truths[9]}, peer)
    assert rows[0].sine_largest_angle == pytest.approx(largest_sine(spaces[0], truths[9]), rel=0.01)
    assert rows[0].interval == 10
    assert rows[0].products == 7 * 2 / 20 and rows[0].note == "timed in 20 steps"


def test_a_cold_solve_is_measured_at_few_steps_and_may_be_absent(
    task: BenchmarkTask, trajectory: Trajectory, truths: dict[int, Tensor]
) -> None:
    """Oracle: a package that exists nowhere."""
    exact = turned(trajectory, truths, 0.0)
    cold = WarmPeer(name="cold", ladder=exact.ladder, follow=exact.follow, remembers=False)
    (row,) = compare(task, trajectory, truths, cold)
    assert row.note == "timed in 1 steps" and row.products == 7 and row.reached

    def absent(*_: object) -> Iterator[Tensor]:
        raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")
        yield

    missing = WarmPeer(name="missing", ladder=exact.ladder, follow=absent, package="nowhere")
    (row,) = compare(task, trajectory, truths, missing)
    assert row.note.startswith("not installed") and not row.reached
