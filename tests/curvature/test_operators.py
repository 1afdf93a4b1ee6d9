"""Products with H, G and F against dense matrices and against curvlinops."""

from collections.abc import Callable

import pytest
import torch
from curvlinops import GGNLinearOperator, HessianLinearOperator
from torch import Tensor, nn

from sharpflat.curvature import (
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    MatrixOperator,
    combination,
)

from .dense import dense, relative_error

OPERATORS = [HessianOperator, GGNOperator, FunctionalHessianOperator]
every_operator = pytest.mark.parametrize("kind", OPERATORS)


def test_hessian(case_without_attention):
    """Oracle: the dense matrix of torch.autograd.functional.hessian."""
    case = case_without_attention
    assert relative_error(dense(HessianOperator(*case.arguments)), case.hessian()) <= 1e-10


def test_hessian_of_attention(attention):
    """Oracle: central differences of the gradient, which need no second derivative."""
    operator = HessianOperator(*attention.arguments)
    assert relative_error(dense(operator), attention.difference_hessian()) <= 1e-8


@every_operator
def test_symmetry(case, kind):
    """Oracle: the symmetry of second derivatives, which torch.func breaks for LayerNorm."""
    H = dense(kind(*case.arguments))
    assert relative_error(H, H.T) <= 1e-12


def test_ggn(case):
    """Oracle: the Jacobian and the loss's Hessian of torch.autograd.functional, multiplied."""
    assert relative_error(dense(GGNOperator(*case.arguments)), case.ggn()) <= 1e-10


def test_functional_hessian(case):
    """Oracle: the dense Hessian less the dense GGN."""
    F = dense(FunctionalHessianOperator(*case.arguments))
    assert relative_error(F, case.hessian() - case.ggn()) <= 1e-7


def test_decomposition(case):
    """Oracle: the identity H = G + F."""
    H, G, F = (dense(kind(*case.arguments)) for kind in OPERATORS)
    assert relative_error(G + F, H) <= 1e-12


class CurvlinopsLoss(nn.Module):
    """A loss as curvlinops wants it."""

    reduction = "mean"

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.forward = loss


@pytest.mark.parametrize(
    ("kind", "peer"),
    [(HessianOperator, HessianLinearOperator), (GGNOperator, GGNLinearOperator)],
)
def test_agrees_with_curvlinops(case_without_attention, kind, peer):
    """Oracle: curvlinops, in float64, given the data in two batches."""
    case = case_without_attention
    (x,), y = case.inputs, case.targets
    expected = peer(
        case.model,
        CurvlinopsLoss(case.loss),
        list(case.model.parameters()),
        [(x[:4], y[:4]), (x[4:], y[4:])],
    )
    V = torch.randn(len(case.theta), 3, dtype=torch.float64)
    assert relative_error(kind(*case.arguments) @ V, expected @ V) <= 1e-10


@every_operator
def test_matmat_and_matmul_agree_with_matvec(case, kind):
    """Oracle: matvec, one column at a time, by an operator of its own."""
    V = torch.randn(len(case.theta), 3, dtype=torch.float64)
    operator, single = kind(*case.arguments), kind(*case.arguments)
    columns = torch.stack([single.matvec(v) for v in V.T], dim=1)
    assert torch.equal(operator.matmat(V), columns)
    assert torch.equal(operator @ V, columns)
    assert torch.equal(operator @ V[:, 0], columns[:, 0])


@every_operator
@pytest.mark.parametrize("chunk_size", [1, 3, 7, 100])
def test_chunks_change_nothing(case, kind, chunk_size):
    """Oracle: the operator without chunks."""
    V = torch.randn(len(case.theta), 2, dtype=torch.float64)
    chunked = kind(*case.arguments, chunk_size=chunk_size)
    assert relative_error(chunked @ V, kind(*case.arguments) @ V) <= 1e-12


def add_in_place(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)


def write_data(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data.copy_(1.1 * parameter.data)  # does not move the version counter


def replace_data(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = 1.1 * parameter.data


def step_an_optimizer(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(model.parameters(), lr=0.1).step()


def step_with_zero_lr(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(model.parameters(), lr=0.0).step()


def load_the_same_values(model: nn.Module) -> None:
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})


MOVES = [
    add_in_place,
    write_data,
    replace_data,
    step_an_optimizer,
    step_with_zero_lr,
    load_the_same_values,
]


@every_operator
@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("move", MOVES)
def test_reads_parameters_at_the_call(mlp, kind, chunk_size, move):
    """Oracle: an operator built after the parameters moved, or were written without moving."""
    v = torch.randn(len(mlp.theta), dtype=torch.float64)
    operator = kind(*mlp.arguments, chunk_size=chunk_size)
    operator @ v
    move(mlp.model)
    assert torch.equal(operator @ v, kind(*mlp.arguments, chunk_size=chunk_size) @ v)
    assert torch.equal(operator.theta(), mlp.theta)


@every_operator
def test_frozen_parameters_are_left_out(mlp, kind):
    """Oracle: rows and columns of the product with every parameter."""
    whole = dense(kind(*mlp.arguments))
    mlp.model[0].weight.requires_grad_(False)
    free = dense(kind(*mlp.arguments))
    first_free = mlp.model[0].weight.numel()
    assert relative_error(free, whole[first_free:, first_free:]) <= 1e-12


@every_operator
def test_unused_parameter_has_no_curvature(mlp, kind):
    """Oracle: a loss that does not depend on a parameter has zero rows and columns for it."""
    expected = dense(kind(*mlp.arguments))
    mlp.model.register_parameter("unused", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    padded = torch.zeros(len(expected) + 2, len(expected) + 2, dtype=torch.float64)
    padded[2:, 2:] = expected  # a module's own parameters come before its children's
    assert torch.equal(dense(kind(*mlp.arguments)), padded)


def test_linear_model_has_no_functional_hessian(mlp):
    """Oracle: the outputs of a linear model have no second derivative, so F = 0 and H = G."""
    arguments = (nn.Linear(4, 3).double(), *mlp.arguments[1:])
    assert not dense(FunctionalHessianOperator(*arguments)).any()
    H, G = dense(HessianOperator(*arguments)), dense(GGNOperator(*arguments))
    assert relative_error(H, G) <= 1e-12


@every_operator
def test_relu_layer_that_is_off_has_no_curvature(mlp, kind):
    """Oracle: where every ReLU is off only the last bias matters, and L is quadratic in it."""
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    nn.init.constant_(model[0].bias, -100.0)
    matrix = dense(kind(model, lambda f, _: f.square().sum(dim=1).mean(), *mlp.arguments[2:]))
    expected = torch.zeros_like(matrix)
    if kind is not FunctionalHessianOperator:
        expected[-3:, -3:] = 2 * torch.eye(3)
    assert torch.allclose(matrix, expected, rtol=0, atol=1e-14)


@every_operator
def test_loss_linear_in_the_outputs(mlp, kind):
    """Oracle: ∇²ℓ = 0, so G = 0 and F = H."""
    arguments = (mlp.model, lambda f, _: f.sum(dim=1).mean(), *mlp.arguments[2:])
    expected = dense(HessianOperator(*arguments))
    assert expected.any()
    if kind is GGNOperator:
        expected = torch.zeros_like(expected)
    assert torch.allclose(dense(kind(*arguments)), expected, rtol=0, atol=1e-14)


def test_tensor_and_tuple_inputs_agree(mlp):
    """Oracle: the same operator given its one input as a tuple."""
    v = torch.randn(len(mlp.theta), dtype=torch.float64)
    model, loss, inputs, targets = mlp.arguments
    assert torch.equal(
        HessianOperator(model, loss, inputs[0], targets) @ v,
        HessianOperator(model, loss, inputs, targets) @ v,
    )


@pytest.mark.parametrize("model_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("vector_dtype", [torch.float32, torch.float64])
@every_operator
def test_result_has_the_dtype_of_the_vectors(mlp, kind, model_dtype, vector_dtype):
    """Oracle: the product in float64 throughout, within rounding of float32."""
    V = torch.randn(len(mlp.theta), 2, dtype=vector_dtype)
    expected = kind(*mlp.arguments) @ V.double()
    model, loss, (x,), targets = mlp.arguments
    operator = kind(model.to(model_dtype), loss, x.to(model_dtype), targets)
    assert (operator @ V).dtype == (operator @ V[:, 0]).dtype == vector_dtype
    assert operator.dtype == model_dtype
    assert relative_error((operator @ V).double(), expected) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
@every_operator
def test_products_with_integers_are_not_cut_to_integers(mlp, kind, dtype):
    """Oracle: the product with the same signs as real numbers. A trace is taken so."""
    operator = kind(*mlp.arguments)
    signs = (torch.arange(86).view(43, 2) % 3).to(dtype)
    found = operator @ signs
    assert found.dtype == operator.dtype
    assert torch.equal(found, operator @ signs.double())
    assert torch.equal(operator @ signs[:, 0], operator @ signs[:, 0].double())


def test_integers_through_sums_and_matrices():
    """Oracle: the same vectors as real numbers."""
    operator = MatrixOperator(torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64)))
    signs = torch.tensor([[1], [-1]])
    for tried in (operator, combination((0.3, operator), shift=0.1)):
        assert torch.equal(tried.matmat(signs), tried.matmat(signs.double()))


def test_refuses_complex_vectors(mlp):
    """Oracle: the documented ValueError; their imaginary part would be lost."""
    with pytest.raises(ValueError, match=r"complex128: multiply real and imaginary parts apart"):
        HessianOperator(*mlp.arguments) @ torch.ones(43, dtype=torch.complex128)


@every_operator
def test_products_under_no_grad_leave_no_trace(mlp, kind):
    """Oracle: the product outside no_grad; gradients that were there stay as they are."""
    v = torch.randn(len(mlp.theta), dtype=torch.float64)
    expected = kind(*mlp.arguments) @ v
    for parameter in mlp.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with torch.no_grad():
        assert torch.equal(kind(*mlp.arguments) @ v, expected)
    assert all(bool((p.grad == 1).all()) for p in mlp.model.parameters())


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_loss_and_gradient(case, chunk_size):
    """Oracle: the loss of all samples at once, differentiated by autograd."""
    found = HessianOperator(*case.arguments, chunk_size=chunk_size).loss_and_gradient()
    assert found[0] == pytest.approx(float(case.loss_at(case.theta)), rel=1e-12)
    assert relative_error(found[1], case.gradient_at(case.theta)) <= 1e-12


def test_sum_over_some_samples_has_no_loss(mlp):
    """Oracle: the definition of the loss, a mean over all samples."""
    some = HessianOperator(*mlp.arguments).sampled(torch.tensor([1]), torch.tensor([0.5]))
    with pytest.raises(ValueError, match="no loss of its own"):
        some.loss_and_gradient()


@pytest.mark.parametrize("shape", [(5,), (5, 2), (43, 2, 1)])
def test_refuses_vectors_of_another_shape(mlp, shape):
    """Oracle: the contract, (P,) for matvec and (P, m) for matmat; here P = 43."""
    operator = HessianOperator(*mlp.arguments)
    assert operator.shape == (43, 43)
    with pytest.raises(ValueError, match=r"cannot multiply \(43, 43\) with \("):
        operator @ torch.ones(shape, dtype=torch.float64)


def test_no_vectors(mlp):
    """Oracle: the product with a (P, 0) matrix is a (P, 0) matrix."""
    assert (HessianOperator(*mlp.arguments) @ torch.ones(43, 0)).shape == (43, 0)


def test_matrix_operator():
    """Oracle: the matrix; one that is not square is refused."""
    matrix = torch.tensor([[2.0, 1.0], [1.0, -3.0]])
    assert torch.equal(MatrixOperator(matrix).matmat(torch.eye(2)), matrix)
    with pytest.raises(ValueError, match="square"):
        MatrixOperator(matrix[:1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_operator
def test_cuda(case, kind):
    """Oracle: the product on the CPU, in float64 on both."""
    v = torch.randn(len(case.theta), dtype=torch.float64)
    expected = kind(*case.arguments) @ v
    operator = kind(
        case.model.cuda(), case.loss, tuple(x.cuda() for x in case.inputs), case.targets.cuda()
    )
    assert operator.device.type == "cuda"
    assert relative_error((operator @ v.cuda()).cpu(), expected) <= 1e-10
