"""The cases of the operator tests, their dense oracles, and matrices of given eigenvalues."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parameters_to_vector

from sharpflat.curvature import MatrixOperator
from sharpflat.tasks.losses import Loss, cross_entropy, mse

NUM_SAMPLES = 7  # chunks of 3 are ragged
NUM_CLASSES = 3


@contextmanager
def evaluated(model: nn.Module) -> Iterator[list[int]]:
    """Numbers of samples that a model is evaluated on, without a hook of its own to be seen."""
    sizes: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        if layer is model:
            sizes.append(len(outputs))

    hook = register_module_forward_hook(count)
    try:
        yield sizes
    finally:
        hook.remove()


class MaskedAttention(nn.Module):
    """One encoder layer over token ids, its output averaged where the mask is true."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.layer = nn.TransformerEncoderLayer(
            4, 2, dim_feedforward=5, dropout=0.0, activation="gelu", batch_first=True
        )
        self.head = nn.Linear(4, NUM_CLASSES)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        hidden = self.layer(self.embedding(tokens), src_key_padding_mask=~mask)
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        scores: Tensor = self.head((hidden * weights).sum(dim=1) / weights.sum(dim=1))
        return scores


def build_mlp() -> tuple[nn.Module, tuple[Tensor, ...]]:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, NUM_CLASSES))
    return model, (torch.randn(NUM_SAMPLES, 4, dtype=torch.float64),)


def build_cnn() -> tuple[nn.Module, tuple[Tensor, ...]]:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2, 2, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, NUM_CLASSES),
    )
    return model, (torch.randn(NUM_SAMPLES, 1, 8, 8, dtype=torch.float64),)


def build_attention() -> tuple[nn.Module, tuple[Tensor, ...]]:
    lengths = torch.tensor([1, 2, 3, 4, 4, 2, 3])
    mask = torch.arange(4) < lengths.unsqueeze(1)
    return MaskedAttention(), (torch.randint(5, (NUM_SAMPLES, 4)), mask)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model with its data and loss, in float64."""

    model: nn.Module
    loss: Loss
    inputs: tuple[Tensor, ...]
    targets: Tensor

    @property
    def arguments(self) -> tuple[nn.Module, Loss, tuple[Tensor, ...], Tensor]:
        """What an operator takes."""
        return self.model, self.loss, self.inputs, self.targets

    @property
    def theta(self) -> Tensor:
        return parameters_to_vector(self.model.parameters()).detach()

    def outputs_at(self, theta: Tensor) -> Tensor:
        named = dict(self.model.named_parameters())
        parts = torch.split(theta, [p.numel() for p in named.values()])
        views = {n: t.view_as(p) for (n, p), t in zip(named.items(), parts, strict=True)}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            outputs: Tensor = functional_call(self.model, views, self.inputs)
        return outputs

    def loss_at(self, theta: Tensor) -> Tensor:
        return self.loss(self.outputs_at(theta), self.targets)

    def gradient_at(self, theta: Tensor) -> Tensor:
        theta = theta.clone().requires_grad_()
        return torch.autograd.grad(self.loss_at(theta), theta)[0]

    def hessian(self) -> Tensor:
        """``torch.autograd.functional``'s, or differences of gradients for attention."""
        if isinstance(self.model, MaskedAttention):
            return self.difference_hessian()
        return hessian(self.loss_at, self.theta)

    def difference_hessian(self, h: float = 2e-3) -> Tensor:
        """Central differences of the gradient, of fourth order: first derivatives only."""
        eye = torch.eye(len(self.theta), dtype=torch.float64)

        def change(step: float) -> Tensor:
            moved = [self.gradient_at(self.theta + step * e) for e in eye]
            return torch.stack(moved) - torch.stack(
                [self.gradient_at(self.theta - step * e) for e in eye]
            )

        return (8 * change(h) - change(2 * h)) / (12 * h)

    def ggn(self) -> Tensor:
        """``Jᵀ (∇²_f L) J`` with both factors written out, all samples at once."""
        outputs = self.outputs_at(self.theta)
        J = jacobian(self.outputs_at, self.theta).reshape(outputs.numel(), -1)
        curvature = hessian(lambda f: self.loss(f, self.targets), outputs.detach())
        return J.T @ curvature.reshape(outputs.numel(), -1) @ J


BUILDERS = {"mlp": build_mlp, "cnn": build_cnn, "attention": build_attention}
LOSSES: dict[str, Loss] = {"mse": mse, "cross_entropy": cross_entropy}
CASES = [f"{model}-{loss}" for model in BUILDERS for loss in LOSSES]


def build(name: str) -> Case:
    model, loss = name.split("-")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network, inputs = BUILDERS[model]()
        network.double()
        with torch.no_grad():
            for parameter in network.parameters():  # no LayerNorm at one and zero
                parameter.add_(0.3 * torch.randn_like(parameter))
        targets = torch.arange(NUM_SAMPLES) % NUM_CLASSES
    return Case(model=network, loss=LOSSES[loss], inputs=inputs, targets=targets)


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same random vectors whichever tests run."""
    torch.manual_seed(0)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Each model with each loss."""
    return build(request.param)


@pytest.fixture(params=[name for name in CASES if not name.startswith("attention")])
def case_without_attention(request: pytest.FixtureRequest) -> Case:
    """Those that curvlinops and ``torch.autograd.functional`` differentiate right."""
    return build(request.param)


@pytest.fixture
def mlp() -> Case:
    """One case, where one is enough."""
    return build("mlp-cross_entropy")


@pytest.fixture
def attention() -> Case:
    """A case whose inputs are a tuple."""
    return build("attention-mse")


class CountingMatrix(MatrixOperator):
    """A matrix that counts the vectors it was multiplied with."""

    products = 0

    def matmat(self, V: Tensor) -> Tensor:
        self.products += V.shape[1]
        return super().matmat(V)


Eigenpairs = tuple[CountingMatrix, Tensor]


@pytest.fixture(scope="session")
def matrix_with() -> Callable[..., Eigenpairs]:
    """Makes a float64 matrix of given eigenvalues, and the eigenvectors in their order."""

    def make(eigenvalues: Tensor, seed: int = 0) -> Eigenpairs:
        generator = torch.Generator().manual_seed(seed)
        size = len(eigenvalues)
        noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
        Q = torch.linalg.qr(noise)[0]
        matrix = (Q * eigenvalues) @ Q.T
        return CountingMatrix((matrix + matrix.T) / 2), Q

    return make


@pytest.fixture(scope="session")
def sine() -> Callable[[Tensor, Tensor], float]:
    """``‖sin Θ‖_F`` between the spans of two orthonormal bases, computed without cancellation."""

    def between(first: Tensor, second: Tensor) -> float:
        return float(torch.linalg.matrix_norm(first - second @ (second.T @ first)))

    return between
