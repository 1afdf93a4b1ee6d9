"""Models and losses that meddle with derivatives. Oracle: torch.autograd.functional.hessian."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.functional import mse_loss

from sharpflat.curvature import HessianOperator, UnsupportedModelError

from .small import every_kind

X = torch.linspace(-1, 1, 40, dtype=torch.float64).reshape(10, 4)
Y = torch.linspace(0, 2, 10, dtype=torch.float64)[:, None]


class Square(Function):
    """The square, with a backward pass that torch can differentiate."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return 2 * x * gradient


class SquareOnce(Square):
    """The square, with one that torch is told not to."""

    @staticmethod
    @once_differentiable
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return 2 * x * gradient


class Between(nn.Module):
    """Something between two linear layers."""

    def __init__(self, between) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3).double(), nn.Linear(3, 1).double()
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(torch.tanh(self.first(x))))


def dense_hessian(model: nn.Module, loss_fn) -> Tensor:
    """Of the loss in all parameters, ``(P, P)``."""
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = torch.split(flat, sizes)
        values = {n: part.view_as(p) for (n, p), part in zip(named.items(), parts, strict=True)}
        return loss_fn(functional_call(model, values, (X,)), Y)

    theta = torch.cat([p.detach().flatten() for p in named.values()])
    return torch.autograd.functional.hessian(loss, theta)


def test_an_autograd_function_of_ones_own() -> None:
    model = Between(Square.apply)
    H = HessianOperator(model, mse_loss, X, Y) @ torch.eye(19, dtype=torch.float64)
    assert torch.allclose(H, dense_hessian(model, mse_loss), atol=1e-12)


@every_kind
def test_refuses_a_function_that_hides_its_second_derivative(kind) -> None:
    """In the model and in the loss, where torch may leave it out without an error."""
    message = "autograd function SquareOnce is marked once_differentiable"
    with pytest.raises(UnsupportedModelError, match=message):
        kind(Between(SquareOnce.apply), mse_loss, X, Y)
    with pytest.raises(UnsupportedModelError, match=message):
        kind(nn.Linear(4, 1).double(), lambda f, y: SquareOnce.apply(f - y).mean(), X, Y)


def test_a_hidden_second_derivative_before_all_parameters_is_none_of_theirs() -> None:
    """Oracle: the square of the inputs as data."""
    model = nn.Linear(4, 1).double()
    expected = HessianOperator(model, mse_loss, X * X, Y) @ torch.eye(5, dtype=torch.float64)
    squared = nn.Sequential(model)
    squared.register_forward_pre_hook(lambda _, inputs: (SquareOnce.apply(inputs[0]),))
    H = HessianOperator(squared, mse_loss, X, Y) @ torch.eye(5, dtype=torch.float64)
    assert torch.equal(H, expected)


def hooked(x: Tensor) -> Tensor:
    """Doubles the gradient behind it."""
    if x.requires_grad:
        x.register_hook(lambda gradient: 2 * gradient)
    return x


@every_kind
def test_refuses_hooks_on_tensors(kind) -> None:
    """Oracle: a hook changes no loss, and would change products; those of a layer are set aside."""
    with pytest.raises(UnsupportedModelError, match=r"hangs a hook on a tensor .*a parameter or a"):
        kind(Between(hooked), mse_loss, X, Y)
    with pytest.raises(UnsupportedModelError, match="hangs a hook on a tensor"):
        kind(Between(torch.tanh), lambda f, y: mse_loss(hooked(f), y), X, Y)


def slope(x: Tensor) -> Tensor:
    """``d tanh³(x) / dx``, taken while the model is evaluated."""
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        (derivative,) = torch.autograd.grad(torch.tanh(x).pow(3).sum(), x, create_graph=True)
    return derivative


def test_a_model_that_differentiates() -> None:
    """As for forces, or the residual of a differential equation."""
    model = Between(slope)
    H = HessianOperator(model, mse_loss, X, Y) @ torch.eye(19, dtype=torch.float64)
    assert torch.allclose(H, dense_hessian(model, mse_loss), atol=1e-12)
