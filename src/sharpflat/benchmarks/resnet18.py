"""One product and one cold solve on a ResNet-18 with GroupNorm, beside the other libraries.

11 million parameters, 64 images of 32×32 (scikit-learn's digits, enlarged), k = 5. The times are
the processor's seconds on one thread. Products take turns, so that what else a machine does falls
on all alike. A peer's solve is timed at the loosest of its settings with which the largest angle to
the true eigenspace has a sine of at most 0.01.

curvlinops cannot multiply through ``nn.GroupNorm``, of which torch has no forward derivative of the
backward pass. So products are measured twice, with it and with the same layer written out, and
solves with the latter.

    python -m sharpflat.benchmarks.resnet18 results/benchmarks
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.models import resnet18

from sharpflat.benchmarks.peers import METHODS, surroundings
from sharpflat.benchmarks.reference import largest_sine
from sharpflat.benchmarks.task import BenchmarkTask, descend
from sharpflat.benchmarks.timing import ProductCounter
from sharpflat.curvature import top_eigenpairs

NUM_IMAGES, SIDE, GROUPS, K = 64, 32, 32, 5
LEARNING_RATE, STEPS, BATCH = 0.02, 30, 32
PACKAGES = {
    "sharpflat": "sharpflat",
    "curvlinops + eigsh": "curvlinops-for-pytorch",
    "hessian-eigenthings": "hessian-eigenthings",
}
#: Settings of each, loose to tight; this package's is the accuracy itself.
LADDERS = {
    "sharpflat": (1e-2,),
    "curvlinops + eigsh": (1e-1, 1e-2, 1e-3, 1e-4),
    "hessian-eigenthings": (15, 20, 25, 30, 40),
}
ACCURACY = 0.01
#: ``‖sin Θ‖_F`` of the eigenspace that counts as true. The peers find it too, or do not reach.
TRUTH = 1e-4


class WrittenOut(nn.GroupNorm):
    """GroupNorm in operations that can be differentiated in either mode."""

    def forward(self, x: Tensor) -> Tensor:
        """``(m, channels, height, width)``."""
        grouped = x.view(len(x), self.num_groups, -1)
        centred = grouped - grouped.mean(dim=2, keepdim=True)
        scaled = centred * (centred.square().mean(dim=2, keepdim=True) + self.eps).rsqrt()
        return scaled.view_as(x) * self.weight[:, None, None] + self.bias[:, None, None]


NORMS = {"group_norm": nn.GroupNorm, "written_out": WrittenOut}


def build_task(norm: type[nn.GroupNorm]) -> BenchmarkTask:
    """The network after a few steps of SGD, which bring outliers into its spectrum."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images[:NUM_IMAGES, None] / 8 - 1, dtype=torch.float32)
    images = nn.functional.interpolate(images, size=SIDE, mode="bilinear").expand(-1, 3, -1, -1)
    model = resnet18(num_classes=10, norm_layer=lambda width: norm(GROUPS, width))
    task = BenchmarkTask(
        name="digits_resnet18",
        model=model,
        loss_name="cross_entropy",
        inputs=images.contiguous(),
        targets=torch.tensor(digits.target[:NUM_IMAGES]),
        k=K,
        learning_rates=(LEARNING_RATE,),
    )
    descend(task, steps=STEPS, batch_size=BATCH, seed=0)
    return task


def products(task: BenchmarkTask) -> dict[str, Callable[[Tensor], Any]]:
    """What multiplies the task's Hessian with a vector, by package."""
    from curvlinops import HessianLinearOperator
    from hessian_eigenthings import HessianOperator, supervised_loss

    data = [(task.inputs, task.targets)]
    mean = nn.CrossEntropyLoss()
    curvlinops = HessianLinearOperator(
        task.model, mean, task.parameters, data, check_deterministic=False
    )
    eigenthings = HessianOperator(task.model, data, supervised_loss(mean))
    return {
        "sharpflat": task.hessian().matvec,
        "curvlinops + eigsh": lambda v: curvlinops @ v,
        "hessian-eigenthings": eigenthings.matvec,
    }


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """A call's result and the processor's seconds that it took."""
    gc.collect()
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def time_products(task: BenchmarkTask, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of a product, the first at its parameters and a later one, and how they differ."""
    v = torch.randn(task.num_parameters, generator=torch.Generator().manual_seed(1))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in PACKAGES}
    found: dict[str, Tensor] = {}
    for _ in range(rounds + 1):  # the first round warms up
        for name, multiply in products(task).items():
            try:
                _, first = timed(partial(multiply, v))
            except NotImplementedError:
                continue
            found[name], later = timed(partial(multiply, v))
            times[name].append((first, later))
    ours = found["sharpflat"]
    return {
        name: {
            "first_product_seconds": median(first for first, _ in pairs[1:]),
            "product_seconds": median(later for _, later in pairs[1:]),
            "product_difference": float((found[name] - ours).norm() / ours.norm()),
        }
        for name, pairs in times.items()
        if pairs
    }


def time_solves(task: BenchmarkTask) -> dict[str, dict[str, Any]]:
    """Seconds of a cold solve that is accurate enough, and what it found."""
    truth = top_eigenpairs(task.hessian(), K, tol=TRUTH)
    if not truth.converged:
        raise RuntimeError(
            f"no eigenspace of dimension {K} was found to {TRUTH}: raise TRUTH, or lower K to "
            "where the spectrum has a gap"
        )
    basis = truth.eigenvectors.double()
    rows: dict[str, dict[str, Any]] = {}
    for method in METHODS:
        for value in LADDERS.get(method.name, ()):
            counter = ProductCounter()
            solution, seconds = timed(partial(method.solve, task, value, 0, counter))
            sine = largest_sine(solution.eigenvectors, basis)
            vectors = solution.eigenvectors.double()
            gram = vectors.T @ vectors
            rows[method.name] = {
                "setting": method.setting(value),
                "products": counter.count,
                "seconds": seconds,
                "sine_largest_angle": sine,
                "orthonormality": float((gram - torch.eye(K).to(gram)).abs().max()),
            }
            if sine <= ACCURACY:
                break
    return rows


def write(path: Path, rows: dict[str, dict[str, Any]], **columns: Any) -> None:
    """A table of one row a library, with ratios to the first."""
    table = pd.DataFrame(
        [
            {**columns, "method": name, "version": version(PACKAGES[name]), **row}
            for name, row in rows.items()
        ]
    )
    for column in [name for name in map(str, table) if name.endswith("seconds")]:
        table[column.replace("seconds", "ratio")] = table[column] / table[column][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.4g")
    print(table.T.to_string(), flush=True)


def main(folder: Path, rounds: int) -> None:
    """Measure and write a table of products for each norm, and one of solves."""
    torch.set_num_threads(1)
    size: dict[str, Any] = {"num_samples": NUM_IMAGES}
    with surroundings():
        for name, norm in NORMS.items():
            task = build_task(norm)
            size["num_parameters"] = task.num_parameters
            path = folder / f"resnet18_product_{name}.csv"
            write(path, time_products(task, rounds), norm=name, **size)
        write(folder / "resnet18_solve.csv", time_solves(task), norm=name, k=K, **size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    main(options.folder, options.rounds)
