"""A task small enough for its Hessian to be written down."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

from sharpflat.benchmarks.reference import Reference, solve_reference
from sharpflat.benchmarks.task import BenchmarkTask, descend

NUM_SAMPLES = 60
NUM_CLASSES = 3


@pytest.fixture(autouse=True)
def _small_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate of matrix products is measured in no time; no test looks at its value."""
    monkeypatch.setattr("sharpflat.benchmarks.floor.SIDE", 64)


@pytest.fixture
def task() -> BenchmarkTask:
    """A multi-layer perceptron (P = 53) on three clusters, somewhat trained, in float32."""
    torch.manual_seed(0)
    targets = torch.arange(NUM_SAMPLES) % NUM_CLASSES
    centres = 2 * torch.randn(NUM_CLASSES, 6)
    made = BenchmarkTask(
        name="tiny",
        model=nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, NUM_CLASSES)),
        loss_name="mse",
        inputs=torch.randn(NUM_SAMPLES, 6) + centres[targets],
        targets=targets,
        k=NUM_CLASSES,
        learning_rates=(0.01,),
    )
    descend(made, steps=100, batch_size=20, seed=0)
    return made


@pytest.fixture
def reference(task: BenchmarkTask) -> Reference:
    return solve_reference(task, seed=0)


@pytest.fixture
def masked_task() -> BenchmarkTask:
    """A model of two inputs, rows and their mask."""

    class MaskedMean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 3)
            self.head = nn.Linear(3, 2)

        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            weights = mask.unsqueeze(-1).to(self.head.weight.dtype)
            hidden = (torch.tanh(self.embedding(tokens)) * weights).sum(1) / weights.sum(1)
            scores: Tensor = self.head(hidden)
            return scores

    torch.manual_seed(0)
    mask = torch.arange(4) < torch.tensor([1, 2, 3, 4, 4, 2, 3, 1]).unsqueeze(1)
    return BenchmarkTask(
        name="masked",
        model=MaskedMean(),
        loss_name="cross_entropy",
        inputs=(torch.randint(5, (8, 4)), mask),
        targets=torch.arange(8) % 2,
        k=2,
        learning_rates=(0.01,),
    )


@pytest.fixture
def dense_hessian() -> Callable[[BenchmarkTask], Tensor]:
    """The Hessian as a float64 matrix, by torch's own second derivatives."""

    def build(task: BenchmarkTask) -> Tensor:
        double = task.in_double()
        names = [name for name, _ in double.model.named_parameters()]
        arguments = double.inputs if isinstance(double.inputs, tuple) else (double.inputs,)

        def loss(theta: Tensor) -> Tensor:
            values = torch.split(theta, [p.numel() for p in double.parameters])
            shaped = [v.view_as(p) for v, p in zip(values, double.parameters, strict=True)]
            replaced = dict(zip(names, shaped, strict=True))
            outputs = functional_call(double.model, replaced, arguments)
            return double.loss(outputs, double.targets)

        matrix = hessian(loss, parameters_to_vector(double.parameters).detach())
        assert isinstance(matrix, Tensor)
        return matrix

    return build


@pytest.fixture
def top_vectors(
    dense_hessian: Callable[[BenchmarkTask], Tensor],
) -> Callable[[BenchmarkTask], Tensor]:
    """The k leading eigenvectors by a dense solver."""
    return lambda task: torch.linalg.eigh(dense_hessian(task))[1][:, -task.k :]
