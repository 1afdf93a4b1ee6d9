"""One of two processes that hold a share of the samples each; run by test_processes.py.

``python share.py RANK FOLDER`` writes what it finds to ``FOLDER/RANK.pt``.
"""

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters

from sharpflat.curvature import (
    DominantSubspace,
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    ModelChangedError,
    UnequalProcessesError,
    top_eigenpairs,
)

OPERATORS = (HessianOperator, GGNOperator, FunctionalHessianOperator)
#: Samples of each process: shares of unequal size.
SHARES = (slice(0, 9), slice(9, 30))
K, STEPS, LEARNING_RATE = 3, 12, 0.3


def build() -> tuple[nn.Module, Tensor, Tensor]:
    """The model, and all samples; every fourth target is padding."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).double() / 2)
    inputs = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    return model, inputs, torch.randint(3, (30,), generator=generator)


def summed(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """A pair (sum, count) without the samples of class 0: of other shares in each process."""
    kept = targets != 0
    return (cross_entropy(outputs, targets, reduction="none") * kept).sum(), kept.sum()


def computed(samples: slice, **options: object) -> dict[str, object]:
    """Everything that is compared, over some samples of each process."""
    model, inputs, targets = build()
    data = inputs[samples], targets[samples]
    vectors = torch.eye(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    found: dict[str, object] = {
        cls.__name__: cls(model, cross_entropy, *data, **options) @ vectors for cls in OPERATORS
    }
    batches = list(zip(*(part.split(5) for part in data), strict=True))
    pairs = HessianOperator(model, summed, batches, **options)
    found["pairs"] = pairs @ vectors
    found["loss of pairs"], found["gradient of pairs"] = pairs.loss_and_gradient()
    hessian = HessianOperator(model, cross_entropy, *data, **options)
    found["loss"], found["gradient"] = hessian.loss_and_gradient()
    solved = top_eigenpairs(hessian, K, tol=1e-6)
    found["solved"] = solved.eigenvectors
    subspace = DominantSubspace(hessian, K)
    for _ in range(STEPS):  # of Bulk-SGD
        subspace.update()
        gradient = hessian.loss_and_gradient()[1]
        step = LEARNING_RATE * (gradient - subspace.project(gradient))
        vector_to_parameters(hessian.theta() - step, model.parameters())
    subspace.update()
    found["basis"], found["products"] = subspace.basis, subspace.num_matvecs
    found["trained"] = hessian.theta()
    return found


def refusals(rank: int) -> dict[str, str]:
    """What each mistake that one process makes is answered with here."""
    group = dist.group.WORLD
    said = {}

    def told(mistake: str, make: Callable[[nn.Module, Tensor, Tensor], object]) -> None:
        model, inputs, targets = build()
        try:
            make(model, inputs[SHARES[rank]], targets[SHARES[rank]])
        except (ModelChangedError, UnequalProcessesError, ValueError) as error:
            said[mistake] = f"{type(error).__name__}: {error}"

    def hessian(model: nn.Module, *data: Tensor) -> HessianOperator:
        return HessianOperator(model, cross_entropy, *data, process_group=group)

    @torch.no_grad()
    def other_model(model: nn.Module, *data: Tensor) -> None:
        model[0].bias[0] += rank * 1e-12
        hessian(model, *data)

    @torch.no_grad()
    def drifted(model: nn.Module, *data: Tensor) -> None:
        operator = hessian(model, *data)
        model[2].weight += rank * 1e-12
        operator.matvec(operator.theta() * 0)

    def other_vectors(model: nn.Module, *data: Tensor) -> None:
        top_eigenpairs(hessian(model, *data), K, seed=rank)

    def other_kind(model: nn.Module, *data: Tensor) -> None:
        cls = OPERATORS[rank]
        operator = cls(model, cross_entropy, *data, process_group=group)
        operator.matvec(operator.theta())

    def no_samples(model: nn.Module, *data: Tensor) -> None:
        hessian(model, *(part[: (1 - rank) * len(part)] for part in data))

    def failing_product(model: nn.Module, *data: Tensor) -> None:
        operator = hessian(model, *data)
        model[2].weight.requires_grad_(rank == 0)
        operator.matvec(operator.theta())

    def sampled(model: nn.Module, *data: Tensor) -> None:
        DominantSubspace(hessian(model, *data), K, samples="auto")

    def chosen(model: nn.Module, *data: Tensor) -> None:
        hessian(model, *data).sampled(torch.tensor([0]), torch.tensor([1.0]))

    mistakes = (other_model, drifted, other_vectors, other_kind, no_samples, failing_product)
    for mistake in (*mistakes, sampled, chosen):
        told(mistake.__name__, mistake)
    return said


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=len(SHARES))
    found = computed(SHARES[rank], process_group=dist.group.WORLD)
    torch.save({**found, "refusals": refusals(rank)}, folder / f"{rank}.pt")
    gc.collect()  # operators hold the group, and it must not outlive its end
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
