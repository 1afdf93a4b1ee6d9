"""Matrices and models in half precision. Oracle: the same in float64."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from sharpflat.curvature import (
    DominantSubspace,
    EigenResult,
    HessianOperator,
    MatrixOperator,
    UnsupportedModelError,
    top_eigenpairs,
)
from sharpflat.optim import ProjectedOptimizer

SPECTRA = {
    "outliers": torch.cat([torch.tensor([20.0, 14.0]), torch.linspace(-1, 2, 60)]),
    "close": torch.cat([torch.tensor([20.0, 14.0, 13.9]), torch.linspace(-1, 2, 60)]),
    "no gap": torch.linspace(-1, 1, 60),
}


@pytest.mark.parametrize("tol", [0.5, 0.05, 1e-3])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pairs_without_a_claim(matrix_with, dtype, name, tol):
    matrix = matrix_with(SPECTRA[name].double())[0].matrix.to(dtype)
    expected = torch.linalg.eigvalsh(matrix.double()).flip(0)[:2]
    found = top_eigenpairs(MatrixOperator(matrix), 2, tol=tol)
    assert not found.converged
    assert found.eigenvectors.dtype == torch.float32
    gram = found.eigenvectors.T @ found.eigenvectors
    assert torch.allclose(gram, torch.eye(2), rtol=0, atol=1e-6)
    level = max(16 * torch.finfo(dtype).eps, tol**2) * float(matrix.double().norm(p=2))
    assert torch.allclose(found.eigenvalues, expected, rtol=0, atol=level)
    assert found.num_matvecs <= 120  # it does not go on below the rounding of the products


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0][:, -1])


class Tied(nn.Module):
    """Half-precision weights that are tied, a buffer of them, and a layer in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(7, 6), nn.Linear(6, 6)
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("positions", torch.randn(5, 6))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = torch.tanh(self.hidden(self.embedding(tokens) + self.positions))
        return self.head(self.norm(hidden)).transpose(1, 2)

    def to(self, dtype: torch.dtype) -> nn.Module:
        super().to(dtype)
        self.norm.float()
        return self


MODELS = {
    "recurrent": lambda: (Recurrent(), torch.randn(12, 6, 4), torch.arange(12) % 3),
    "tied": lambda: (Tied(), torch.randint(7, (12, 5)), torch.randint(7, (12, 5))),
}


@pytest.fixture(params=MODELS)
def task(request):
    """A model with inputs and targets."""
    return MODELS[request.param]()


def exact_pairs(model: nn.Module, inputs: Tensor, targets: Tensor) -> EigenResult:
    """Those at the same parameters in float64."""
    if inputs.is_floating_point():
        inputs = inputs.double()
    operator = HessianOperator(copy.deepcopy(model).double(), cross_entropy, inputs, targets)
    return top_eigenpairs(operator, 2, tol=1e-8)


every_half = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


@every_half
@pytest.mark.parametrize("batches", [False, True])
def test_model_is_evaluated_in_float32(task, dtype, batches, sine):
    """Oracle: the same parameters in float64; the model is left in half precision."""
    model, inputs, targets = task
    model.to(dtype)
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    before = copy.deepcopy(model.state_dict())
    whole = (inputs, targets)
    data = ([(inputs[:5], targets[:5]), (inputs[5:], targets[5:])],) if batches else whole
    operator = HessianOperator(model, cross_entropy, *data)
    found = top_eigenpairs(operator, 2, tol=1e-3)
    expected = exact_pairs(model, inputs, targets)
    assert operator.dtype == operator.theta().dtype == found.eigenvectors.dtype == torch.float32
    assert found.converged
    assert sine(found.eigenvectors.double(), expected.eigenvectors) <= 1e-3
    assert torch.allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-5)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_subspace_follows_a_model_in_half_precision(task, sine):
    """Oracle: as above, after steps of an optimizer that rounds to bfloat16."""
    model, inputs, targets = task
    model.to(torch.bfloat16)
    operator = HessianOperator(model, cross_entropy, inputs, targets)
    subspace = DominantSubspace(operator, 2)
    optimizer = ProjectedOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.5), subspace, dom_weight=0.0, bulk_weight=1.0
    )
    start = operator.theta()
    for _ in range(5):
        gradient = torch.split(
            operator.loss_and_gradient()[1], [p.numel() for p in operator.parameters]
        )
        for parameter, part in zip(operator.parameters, gradient, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        optimizer.step()
    subspace.update()
    assert not torch.equal(operator.theta(), start)
    expected = exact_pairs(model, inputs, targets)
    assert sine(subspace.basis.double(), expected.eigenvectors) <= 0.05


def test_rebinds_to_another_precision(task):
    """Oracle: an operator that is built anew."""
    model, inputs, targets = task
    operator = HessianOperator(model.to(torch.bfloat16), cross_entropy, inputs, targets)
    model.double()
    operator.rebind()
    assert operator.dtype == torch.float64
    assert torch.allclose(
        top_eigenpairs(operator, 2, tol=1e-8).eigenvalues,
        exact_pairs(model, inputs, targets).eigenvalues,
    )


@every_half
def test_frozen_half_of_a_model(dtype, sine):
    """Oracle: float64, float32 parameters trained beside frozen ones in half."""
    model, inputs, targets = MODELS["recurrent"]()
    model.cells.to(dtype).requires_grad_(False)
    operator = HessianOperator(model, cross_entropy, inputs, targets)
    found = top_eigenpairs(operator, 2, tol=1e-3)
    expected = exact_pairs(model, inputs, targets)
    assert found.converged
    assert sine(found.eigenvectors.double(), expected.eigenvectors) <= 1e-3


@every_half
def test_targets_in_half_precision_beside_a_model_in_float32(dtype):
    """Oracle: the same targets in float32, in which the loss computes."""
    model, x, y = nn.Linear(4, 3), torch.randn(12, 4), torch.randn(12, 3).to(dtype)
    products = HessianOperator(model, mse_loss, x, y) @ torch.eye(15)
    assert torch.equal(products, HessianOperator(model, mse_loss, x, y.float()) @ torch.eye(15))


class Autocast(nn.Module):
    """Computes in half precision and returns single."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.layer = dtype, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=self.dtype):
            return self.layer(x).float()


@every_half
def test_refuses_half_precision_inside(dtype):
    """Oracle: rounding, which such products hide; in float64 the pairs were off by 30 times tol."""
    data = torch.randn(12, 4), torch.arange(12) % 3
    with pytest.raises(UnsupportedModelError, match=f"computes in {dtype} whatever"):
        HessianOperator(Autocast(dtype), cross_entropy, *data)
    with pytest.raises(UnsupportedModelError, match=f"computes in {dtype} whatever"):
        HessianOperator(nn.Linear(4, 3), lambda f, y: cross_entropy(f, y).to(dtype), *data)

    def rounded(outputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=dtype):
            return cross_entropy((outputs @ torch.ones(3, 3)).float(), targets)

    with pytest.raises(UnsupportedModelError, match=rf"computes in {dtype} whatever.*and loss_fn"):
        HessianOperator(nn.Linear(4, 3), rounded, *data)
    operator = HessianOperator(nn.Linear(4, 3), cross_entropy, *data)
    with (
        torch.autocast("cpu", dtype=dtype),
        pytest.raises(UnsupportedModelError, match=r"autocast\('cpu', enabled=False\)"),
    ):
        top_eigenpairs(operator, 2)
