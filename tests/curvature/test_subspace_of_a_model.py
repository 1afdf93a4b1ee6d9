"""What a subspace sees of a small model, gives of its basis, and refuses."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from curvature.rotating import OUTLIERS, K, RotatingMatrix
from torch import Tensor, nn

from sharpflat.curvature import (
    DominantSubspace,
    HessianOperator,
    ModelChangedError,
    UnsupportedModelError,
)
from sharpflat.tasks.losses import mse


def small_model() -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.Linear(3, 3)).double()
    model[3].requires_grad_(False)
    return model, torch.randn(12, 4, dtype=torch.float64), torch.arange(12) % 3


def largest(operator: HessianOperator) -> float:
    dense = operator @ torch.eye(operator.shape[0], dtype=torch.float64)
    return float(torch.linalg.eigvalsh(dense)[-1])


SURROUNDINGS = {
    "data": lambda model, x: x.mul_(3),
    "data through NumPy": lambda model, x: np.multiply(x.numpy(), 3, out=x.numpy()),
    "frozen": lambda model, x: model[3].weight.data.mul_(3),
    "layer": lambda model, x: model.__setitem__(1, nn.Sigmoid()),
}


@pytest.mark.parametrize("refresh", ["adaptive", 50])
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_what_changes_beside_the_parameters(name, refresh):
    """Oracle: the dense Hessian after the change; nothing else would make a product here."""
    model, x, y = small_model()
    hessian = HessianOperator(model, mse, x, y)
    subspace = DominantSubspace(hessian, 2, refresh=refresh, tol=1e-3)
    subspace.update()
    before = subspace.num_matvecs
    subspace.update()
    assert subspace.num_matvecs == before
    SURROUNDINGS[name](model, x)
    subspace.update()
    assert subspace.num_matvecs > before
    assert float(subspace.eigenvalues[0]) == pytest.approx(largest(hessian), rel=1e-4)


def test_missing_labels_are_no_change():
    """Oracle: the same data, of which some are NaN and left out by the loss."""
    model, x, _ = small_model()
    y = torch.zeros(12, 3, dtype=torch.float64)
    y[:, 1] = float("nan")

    def known(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets.nan_to_num()).square().mean()

    subspace = DominantSubspace(HessianOperator(model, known, x, y), 2)
    subspace.update()
    before = subspace.num_matvecs
    subspace.update()
    assert subspace.num_matvecs == before


def test_a_changed_model_is_refused():
    """Oracle: the basis would go on as that of parameters which the model no longer has."""
    model, x, y = small_model()
    subspace = DominantSubspace(HessianOperator(model, mse, x, y), 2)
    subspace.update()
    model.load_state_dict({k: 2 * v for k, v in model.state_dict().items()}, assign=True)
    with pytest.raises(ModelChangedError, match=r"0\.weight was replaced.*operator\.rebind"):
        subspace.update()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_alignment_of_vectors_whose_squares_are_out_of_range(scale):
    """Oracle: alignment does not depend on the vector's length."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    v = torch.linspace(-1, 2, 60, dtype=torch.float64)
    assert subspace.alignment(scale * v) == pytest.approx(subspace.alignment(v))
    assert subspace.alignment(0 * v) == 0.0
    assert math.isnan(subspace.alignment(math.nan * v))


@pytest.mark.parametrize("scale", [1e-200, 1e-60, 1e60, 1e200])
def test_alignment_of_vectors_that_the_basis_precision_does_not_hold(scale):
    """Oracle: alignment does not depend on the vector's length; float32 reaches from 1e-45."""
    model, x, y = small_model()
    subspace = DominantSubspace(HessianOperator(model.float(), mse, x.float(), y), 2)
    v = torch.linspace(-1, 2, subspace.operator.shape[0], dtype=torch.float64)
    assert subspace.basis.dtype == torch.float32
    assert subspace.alignment(scale * v) == pytest.approx(subspace.alignment(v))
    assert subspace.alignment(0 * v) == 0.0
    assert math.isnan(subspace.alignment(math.inf * v))


@pytest.mark.parametrize("within", [True, False])
def test_in_and_out_of_inference_mode(sine, within):
    """Oracle: the same updates outside of it."""
    outside, changing = DominantSubspace(RotatingMatrix(), K), DominantSubspace(RotatingMatrix(), K)
    for step in range(30):
        for subspace in (outside, changing):
            torch.manual_seed(step)
            subspace.operator.move(0.01)
            with torch.inference_mode(subspace is changing and (step % 2 == 0) == within):
                subspace.update()
    assert torch.equal(outside.basis, changing.basis)


def test_the_gradient_in_inference_mode():
    """Oracle: outside of it."""
    model, x, y = small_model()
    operator = HessianOperator(model, mse, x, y)
    loss, gradient = operator.loss_and_gradient()
    with torch.inference_mode():
        within = operator.loss_and_gradient()
    assert within[0] == loss and torch.equal(within[1], gradient)


def test_refuses_an_operator_that_was_bound_to_other_parameters():
    """Oracle: the basis is of vectors of the size before."""
    model, x, y = small_model()
    subspace = DominantSubspace(HessianOperator(model, mse, x, y), 2)
    subspace.update()
    model[0].weight.requires_grad_(False)
    subspace.operator.rebind()
    for ask in (subspace.update, subspace.refresh):
        with pytest.raises(ModelChangedError, match="make a new DominantSubspace"):
            ask()


def test_refuses_autocast():
    """Oracle: a projection in bfloat16 is off by 3 %."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    subspace.update()
    for use in (subspace.update, subspace.refresh, subspace.project, subspace.alignment):
        arguments = () if use in (subspace.update, subspace.refresh) else (torch.ones(60),)
        with (
            torch.autocast("cpu", dtype=torch.bfloat16),
            pytest.raises(UnsupportedModelError, match="outside of it"),
        ):
            use(*arguments)


VECTORS = {
    "of another length": torch.ones(99),
    "a matrix of another length": torch.ones(99, 2),
    "a single number": torch.tensor(1.0),
    "of integers": torch.ones(60, dtype=torch.int64),
}


@pytest.mark.parametrize("name", VECTORS)
def test_refuses_vectors_that_are_none_of_the_space(name):
    """Oracle: the documented ValueError."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    for ask in (subspace.project, subspace.alignment):
        with pytest.raises(ValueError, match=r"it must be floating point of shape \(P.* P = 60"):
            ask(VECTORS[name])


def test_alignment_is_of_one_vector():
    """Columns that are weighed together have none; each is projected on its own."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    columns = torch.eye(60, dtype=torch.float64)[:, :2]
    with pytest.raises(ValueError, match=r"of shape \(60, 2\); it must be"):
        subspace.alignment(columns)
    expected = torch.stack([subspace.project(column) for column in columns.T], dim=1)
    assert torch.allclose(subspace.project(columns), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_vectors_of_another_precision_are_cast(dtype):
    """Oracle: the same vector in the precision of the basis; a part has its vector's."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    vector = torch.linspace(-1, 1, 60).to(dtype)
    part = subspace.project(vector)
    assert part.dtype == dtype
    assert torch.equal(part, subspace.project(vector.double()).to(dtype))
    assert subspace.alignment(vector) == subspace.alignment(vector.double())


def test_another_operator_or_tolerance_is_taken():
    """Oracle: the eigenvalues of the operator that was put in place; a copy counts on its own."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    subspace.update()
    before, copied = subspace.num_matvecs, copy.copy(subspace)
    copied.operator = RotatingMatrix(2 * OUTLIERS)
    copied.refresh()
    assert torch.allclose(copied.eigenvalues, 2 * subspace.eigenvalues, rtol=1e-2)
    assert subspace.num_matvecs == before < copied.num_matvecs


def test_warns_where_no_k_vectors_are_the_eigenspace():
    """Oracle: squared error over a linear layer has triple eigenvalues, so that k = 2 cuts one."""
    model, x = nn.Linear(6, 3, dtype=torch.float64), torch.randn(20, 6, dtype=torch.float64)
    hessian = HessianOperator(model, nn.MSELoss(), x, x[:, :3])
    with pytest.warns(UserWarning, match=r"subspace is known to 1\.4 alone.*choose a k"):
        subspace = DominantSubspace(hessian, 2)
        subspace.update()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        subspace.refresh()  # said once
        assert DominantSubspace(hessian, 3).error_estimate < 0.05
