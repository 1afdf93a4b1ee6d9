"""The methods that are compared: each finds k eigenvectors of one task's Hessian from nothing.

Every method has one knob that trades accuracy for time, with a ladder of values from loose to
tight. The comparison takes the first that is accurate enough, so that each method is measured at
the same accuracy and no tighter than it must be. Peers are imported where they are used: all are
optional.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpflat.benchmarks.scipy_bridge import as_columns, as_scipy, starting_vectors
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.threads import one_numpy_thread
from sharpflat.benchmarks.timing import ProductCounter
from sharpflat.curvature import top_eigenpairs
from sharpflat.tasks.data import select

#: Relative tolerances on eigenvalues or residuals, loose to tight.
TOLERANCES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
#: Lanczos steps beyond k.
STEPS_BEYOND_K = (2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 25, 30, 35, 40, 50, 70, 90)
#: Iterations of a block of k vectors.
ITERATIONS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 25, 30, 40, 60, 100)
#: Power iterations for an eigenvector: no limit before the tolerance or the clock ends them.
MAX_POWER_ITERATIONS = 10_000


@dataclass(frozen=True)
class Solution:
    """What a method found.

    Attributes:
        eigenvectors: ``(P, k)``.
        error_estimate: What the method says of ``‖sin Θ‖_F``, if it does.
        note: What a reader must know of this solution.
    """

    eigenvectors: Tensor
    error_estimate: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to find the top k eigenvectors.

    Attributes:
        name: Written to the tables.
        knob: What the ladder's values are.
        ladder: Values of the knob for a k, loose to tight.
        solve: Solves a task at a value of the knob, from a seed, counting products.
        package: Top-level module that must be installed, if it is not one of this package's own
            dependencies.
    """

    name: str
    knob: str
    ladder: Callable[[int], tuple[float, ...]]
    solve: Callable[[BenchmarkTask, float, int, ProductCounter], Solution]
    package: str | None = None

    def setting(self, value: float) -> str:
        """A value of the knob, for the tables."""
        return f"{self.knob}={value:g}"


@contextmanager
def surroundings() -> Iterator[None]:
    """What every method needs around it to work, and to be no slower than it must be."""
    # Only the math backend of attention can be differentiated twice.
    with sdpa_kernel(SDPBackend.MATH), one_numpy_thread():
        yield


def failure(package: str, error: Exception) -> str:
    """What a table says of a peer that is not installed or failed."""
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return "not installed: pip install 'sharpflat[benchmarks]'"
    first_line = str(error).strip().partition("\n")[0]
    return f"failed: {type(error).__name__}: {first_line}"


def solve_sharpflat(
    task: BenchmarkTask, tol: float, seed: int, counter: ProductCounter
) -> Solution:
    """This package's solver; its tolerance is the angle itself."""
    found = top_eigenpairs(task.hessian(), task.k, tol=tol, seed=seed)
    counter.add(found.num_matvecs)
    note = "" if found.converged else "says itself that it did not converge"
    return Solution(found.eigenvectors, found.error_estimate, note)


def solve_eigsh(task: BenchmarkTask, tol: float, seed: int, counter: ProductCounter) -> Solution:
    """SciPy's Lanczos (ARPACK) on this package's operator: what the solver alone costs."""
    return _eigsh(task, as_scipy(task.hessian(), counter), tol, seed)


def solve_lobpcg(
    task: BenchmarkTask, iterations: float, seed: int, counter: ProductCounter
) -> Solution:
    """SciPy's LOBPCG, without a preconditioner, on this package's operator."""
    start = starting_vectors(task.num_parameters, task.k, seed=seed)
    with warnings.catch_warnings():
        # It warns where it stops short of its tolerance: here the iterations are what is set.
        warnings.simplefilter("ignore")
        _, vectors = lobpcg(
            as_scipy(task.hessian(), counter),
            start,
            maxiter=int(iterations),
            tol=1e-12,
            largest=True,
        )
    return Solution(as_columns(vectors, task.device))


def solve_curvlinops(
    task: BenchmarkTask, tol: float, seed: int, counter: ProductCounter
) -> Solution:
    """The Hessian of curvlinops with SciPy's ``eigsh``, as its documentation shows."""
    from curvlinops import HessianLinearOperator

    model = _OneInput(task)
    operator = HessianLinearOperator(
        model, _MeanLoss(task), task.parameters, model.batches(), check_deterministic=False
    ).to_scipy()

    def multiply(vector: Any) -> Any:
        counter.add()
        return operator.matvec(vector)

    return _eigsh(
        task, LinearOperator(operator.shape, matvec=multiply, dtype=operator.dtype), tol, seed
    )


def solve_hessian_eigenthings(
    task: BenchmarkTask, max_iter: float, seed: int, counter: ProductCounter
) -> Solution:
    """The Lanczos of hessian-eigenthings 1.0 on its own operator."""
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    class Counted(HessianOperator):  # type: ignore[misc]  # the peer ships no types
        def matvec(self, v: Tensor) -> Tensor:
            counter.add()
            product: Tensor = super().matvec(v)
            return product

    model = _OneInput(task)
    found = lanczos(
        Counted(model, model.batches(), supervised_loss(task.loss)),
        k=task.k,
        max_iter=min(int(max_iter), task.num_parameters),
        which="LA",
        reorthogonalize=True,
        seed=seed,
    )
    return Solution(found.eigenvectors.T)


def solve_pyhessian(
    task: BenchmarkTask, tol: float, seed: int, counter: ProductCounter
) -> Solution:
    """PyHessian's power iteration with deflation."""
    import pyhessian

    model = _OneInput(task)
    batches = model.batches()
    data = {"data": batches[0]} if len(batches) == 1 else {"dataloader": batches}
    with _counted_pyhessian(counter), _left_as_it_was(model), torch.random.fork_rng():
        torch.manual_seed(seed)
        solver = pyhessian.hessian(model, task.loss, cuda=task.device.type == "cuda", **data)
        values, vectors = solver.eigenvalues(maxIter=MAX_POWER_ITERATIONS, tol=tol, top_n=task.k)
    columns = torch.stack([torch.cat([part.reshape(-1) for part in v]) for v in vectors], dim=1)
    negative = sum(value < 0 for value in values)
    note = f"{negative} of its eigenvalues, largest in magnitude, are negative" if negative else ""
    return Solution(columns.detach(), note=note)


METHODS = (
    # Its only tolerance is the accuracy asked for: it is not tuned by looking at the truth.
    Method(name="sharpflat", knob="tol", ladder=lambda _: (1e-2,), solve=solve_sharpflat),
    Method(
        name="curvlinops + eigsh",
        knob="tol",
        ladder=lambda _: TOLERANCES,
        solve=solve_curvlinops,
        package="curvlinops",
    ),
    Method(
        name="hessian-eigenthings",
        knob="max_iter",
        ladder=lambda k: tuple(k + steps for steps in STEPS_BEYOND_K),
        solve=solve_hessian_eigenthings,
        package="hessian_eigenthings",
    ),
    Method(
        name="PyHessian",
        knob="tol",
        ladder=lambda _: TOLERANCES,
        solve=solve_pyhessian,
        package="pyhessian",
    ),
    Method(
        name="sharpflat + lobpcg", knob="maxiter", ladder=lambda _: ITERATIONS, solve=solve_lobpcg
    ),
    Method(name="sharpflat + eigsh", knob="tol", ladder=lambda _: TOLERANCES, solve=solve_eigsh),
)


def _eigsh(task: BenchmarkTask, matrix: LinearOperator, tol: float, seed: int) -> Solution:
    start = starting_vectors(task.num_parameters, 1, seed=seed)[:, 0]
    _, vectors = eigsh(matrix, k=task.k, which="LA", v0=start, tol=tol)
    return Solution(as_columns(vectors, task.device))


class _OneInput(nn.Module):
    """A task's model for peers that call it with one tensor.

    A model of two inputs, as of tokens and their mask, gets instead the numbers of the samples
    and looks them up.
    """

    def __init__(self, task: BenchmarkTask) -> None:
        super().__init__()
        self.model = task.model
        self._task = task
        self.train(task.model.training)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self._task.inputs, tuple):
            return self._task.outputs(select(self._task.inputs, x))
        return self._task.outputs(x)

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """All samples, in chunks of the task's size."""
        inputs, targets = self._task.inputs, self._task.targets
        if isinstance(inputs, tuple):
            inputs = torch.arange(len(targets), device=targets.device)
        size = self._task.chunk_size or len(targets)
        return list(zip(torch.split(inputs, size), torch.split(targets, size), strict=True))


class _MeanLoss(nn.Module):
    """A task's loss as curvlinops needs it: a module that says how it reduces."""

    reduction = "mean"

    def __init__(self, task: BenchmarkTask) -> None:
        super().__init__()
        self._loss = task.loss

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._loss(outputs, targets)


@contextmanager
def _counted_pyhessian(counter: ProductCounter) -> Iterator[None]:
    # The package's attribute of the same name is the class, so the module is looked up by name.
    module: Any = sys.modules["pyhessian.hessian"]
    multiply, multiply_batches = module.hessian_vector_product, module.hessian.dataloader_hv_product

    def counted(*arguments: Any) -> Any:
        counter.add()
        return multiply(*arguments)

    def counted_batches(*arguments: Any) -> Any:
        counter.add()
        return multiply_batches(*arguments)

    with (
        mock.patch.object(module, "hessian_vector_product", counted),
        mock.patch.object(module.hessian, "dataloader_hv_product", counted_batches),
    ):
        yield


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    """PyHessian sets the model to evaluation and leaves its graph in the gradients."""
    training = model.training
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using backward.* with create_graph=True")
        try:
            yield
        finally:
            model.train(training)
            model.zero_grad(set_to_none=True)
