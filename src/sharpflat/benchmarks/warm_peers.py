"""What a competent user would do instead of tracking: renew the last eigenvectors along training.

Each peer is a generator of bases: it is handed the solved eigenspace where the run starts, and
gives with every ``next`` a basis ``(P, k)`` at the parameters of the moment. All multiply with this
package's operators, so that only what they do with the products is compared, but for the cold
solve, which is a peer's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from scipy.sparse.linalg import eigsh, lobpcg
from torch import Tensor

from sharpflat.benchmarks.peers import METHODS, TOLERANCES
from sharpflat.benchmarks.scipy_bridge import as_columns, as_scipy
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.timing import ProductCounter
from sharpflat.curvature import HessianOperator

#: Steps between two renewals, loose to tight. Each divides or is a multiple of the steps between
#: two measurements of the angle, which therefore see a basis at its oldest. Which of them keeps an
#: angle is seen from the truth alone: a user would have to guess it.
INTERVALS = (100, 50, 20, 10, 5, 2)
#: Vectors beyond k that subspace iteration carries along, for a wider gap.
OVERSAMPLING = 3
#: Iterations that settle those before the run.
SETTLING = 5


@dataclass(frozen=True, kw_only=True)
class PeerSetting:
    """One way to run a peer.

    Attributes:
        interval: Steps between two renewals.
        value: The peer's own knob: a tolerance, iterations or a gain.
        samples: Samples of its products; default all.
        label: For the tables.
    """

    interval: int
    value: float
    samples: int | None = None
    label: str


@dataclass(frozen=True, kw_only=True)
class WarmPeer:
    """A way to keep an eigenspace up to date.

    Attributes:
        name: Written to the tables.
        ladder: Its settings for a task, loose to tight.
        follow: Makes the generator of bases, from a task, the true eigenvectors ``(P, k)`` at its
            parameters, a setting, a seed and a counter of products over all samples.
        remembers: Whether a renewal depends on those before, so that it must see every step.
        package: Top-level module that must be installed.
    """

    name: str
    ladder: Callable[[BenchmarkTask], tuple[PeerSetting, ...]]
    follow: Callable[
        [BenchmarkTask, Tensor, PeerSetting, int, ProductCounter],
        Iterator[Tensor],
    ]
    remembers: bool = True
    package: str | None = None


def follow_by_eigsh(
    task: BenchmarkTask, start: Tensor, setting: PeerSetting, seed: int, counter: ProductCounter
) -> Iterator[Tensor]:
    """SciPy's Lanczos, started from the sum of the last eigenvectors."""
    matrix, basis = as_scipy(task.hessian(), counter), start
    while True:
        yield basis.to(task.parameters[0].dtype)
        sum_of_last = basis.sum(dim=1).double().cpu().numpy()
        _, vectors = eigsh(matrix, k=task.k, which="LA", v0=sum_of_last, tol=setting.value)
        basis = as_columns(vectors, task.device)


def follow_by_lobpcg(
    task: BenchmarkTask, start: Tensor, setting: PeerSetting, seed: int, counter: ProductCounter
) -> Iterator[Tensor]:
    """SciPy's LOBPCG for a number of iterations, started from the last eigenvectors."""
    matrix, basis = as_scipy(task.hessian(), counter), start
    while True:
        yield basis.to(task.parameters[0].dtype)
        with warnings.catch_warnings():
            # It warns where it stops short of its tolerance: here the iterations are what is set.
            warnings.simplefilter("ignore")
            _, vectors = lobpcg(
                matrix,
                basis.double().cpu().numpy(),
                maxiter=int(setting.value),
                tol=1e-12,
                largest=True,
            )
        basis = as_columns(vectors, task.device)


def follow_by_subspace_iteration(
    task: BenchmarkTask, start: Tensor, setting: PeerSetting, seed: int, counter: ProductCounter
) -> Iterator[Tensor]:
    """Orthogonal iteration on k + 3 vectors; Rayleigh-Ritz says which k of them lead."""
    operator = task.hessian()
    generator = torch.Generator().manual_seed(seed)
    extra = torch.randn(task.num_parameters, OVERSAMPLING, generator=generator)
    block = torch.linalg.qr(torch.cat([start, extra.to(start)], dim=1))[0].to(operator.dtype)
    for _ in range(SETTLING):
        block = _iterate(operator, block)
    yield block[:, : task.k]
    while True:
        for _ in range(int(setting.value)):
            counter.add(block.shape[1])
            block = _iterate(operator, block)
        yield block[:, : task.k]


def _iterate(operator: HessianOperator, block: Tensor) -> Tensor:
    products = operator.matmat(block)
    _, coordinates = torch.linalg.eigh(block.T @ products)
    # The first k columns of a QR span what the first k leading Ritz vectors were mapped to.
    iterated: Tensor = torch.linalg.qr(products @ coordinates.flip(1))[0]
    return iterated


def follow_by_oja(
    task: BenchmarkTask, start: Tensor, setting: PeerSetting, seed: int, counter: ProductCounter
) -> Iterator[Tensor]:
    """Oja's rule ``V ← orth(V + γ H_B V)`` with the Hessian of a mini-batch B.

    γ is the setting's gain over the largest Rayleigh quotient ``vᵀ H_B v``; a large gain makes it
    block power iteration.
    """
    assert setting.samples is not None
    batches = task.batches(setting.samples, seed=seed)
    basis = start.to(task.parameters[0].dtype)
    while True:
        yield basis
        inputs, targets = next(batches)
        counter.add(task.k * len(targets) / len(task.targets))
        hessian = HessianOperator(task.model, task.loss, inputs, targets)
        products = hessian.matmat(basis)
        largest = (basis * products).sum(0).max().clamp_min(torch.finfo(basis.dtype).tiny)
        basis = torch.linalg.qr(basis + setting.value / largest * products)[0]


_CURVLINOPS = next(method for method in METHODS if method.name == "curvlinops + eigsh")


def follow_by_cold_solve(
    task: BenchmarkTask, start: Tensor, setting: PeerSetting, seed: int, counter: ProductCounter
) -> Iterator[Tensor]:
    """The Hessian of curvlinops with SciPy's ``eigsh``, from nothing every time."""
    yield start.to(task.parameters[0].dtype)
    while True:
        yield _CURVLINOPS.solve(task, setting.value, seed, counter).eigenvectors.to(
            task.parameters[0].dtype
        )


def _in_every_step(knob: str, values: tuple[float, ...]) -> tuple[PeerSetting, ...]:
    return tuple(
        PeerSetting(interval=1, value=value, label=f"{knob}={value:g}") for value in values
    )


def _at_intervals(knob: str, values: tuple[float, ...]) -> tuple[PeerSetting, ...]:
    return tuple(
        PeerSetting(interval=interval, value=value, label=f"{knob}={value:g}")
        for interval, value in product(INTERVALS, values)
    )


def _oja_ladder(task: BenchmarkTask) -> tuple[PeerSetting, ...]:
    n = len(task.targets)
    return tuple(
        PeerSetting(
            interval=1, value=gain, samples=samples, label=f"samples={samples}, gain={gain:g}"
        )
        for samples, gain in product((n // 100, n // 20, n // 5, n // 2), (0.03, 0.3, 3.0))
        if samples > 0
    )


WARM_PEERS = (
    WarmPeer(
        name="warm eigsh",
        ladder=lambda _: _in_every_step("tol", (1e-1, 1e-2, 1e-3, 1e-4)),
        follow=follow_by_eigsh,
    ),
    WarmPeer(
        name="warm lobpcg",
        ladder=lambda _: _in_every_step("maxiter", (1, 2, 3, 5, 10)),
        follow=follow_by_lobpcg,
    ),
    WarmPeer(
        name="subspace iteration",
        ladder=lambda _: _in_every_step("iterations", (1, 2, 3, 5)),
        follow=follow_by_subspace_iteration,
    ),
    WarmPeer(name="Oja's rule, mini-batches", ladder=_oja_ladder, follow=follow_by_oja),
    WarmPeer(
        name="warm eigsh at intervals",
        ladder=lambda _: _at_intervals("tol", (1e-1, 1e-3)),
        follow=follow_by_eigsh,
    ),
    WarmPeer(
        name="warm lobpcg at intervals",
        ladder=lambda _: _at_intervals("maxiter", (1, 3)),
        follow=follow_by_lobpcg,
    ),
    WarmPeer(
        name="subspace iteration at intervals",
        ladder=lambda _: _at_intervals("iterations", (1, 2)),
        follow=follow_by_subspace_iteration,
    ),
    WarmPeer(
        name="curvlinops + eigsh, cold",
        ladder=lambda _: _in_every_step("tol", TOLERANCES),
        follow=follow_by_cold_solve,
        remembers=False,
        package="curvlinops",
    ),
)
