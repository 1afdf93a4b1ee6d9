"""Arguments of other kinds are refused in words. Oracle: the documented errors."""

import numpy as np
import pytest
import torch
from torch import nn

from sharpflat.curvature import (
    DominantSubspace,
    HessianOperator,
    MatrixOperator,
    top_eigenpairs,
    trace,
)
from sharpflat.optim import ProjectedOptimizer

MODEL, LOSS = nn.Linear(3, 1, bias=False), nn.MSELoss()
X = torch.eye(3)
OPERATOR = HessianOperator(MODEL, LOSS, X, X[:, :1])
SGD = torch.optim.SGD(MODEL.parameters(), lr=0.1)


def _project(base: object, subspace: object) -> None:
    ProjectedOptimizer(base, subspace, dom_weight=0.0, bulk_weight=1.0)


WRONG = {
    "a model for an operator": (lambda: top_eigenpairs(MODEL, 1), "operator is a Linear: give a"),
    "a model to track": (lambda: DominantSubspace(MODEL, 1), "operator is a Linear: give a"),
    "a tensor for an operator": (lambda: top_eigenpairs(X, 1), r"Tensor: .*MatrixOperator\(tensor"),
    "an array for an operator": (lambda: top_eigenpairs(np.eye(3), 1), "operator is a ndarray"),
    "NumPy's vector": (lambda: OPERATOR @ np.ones(3), "vector is a ndarray: .*to_scipy"),
    "a list to multiply": (lambda: OPERATOR.matvec([1.0, 2.0, 3.0]), "vector is a list"),
    "NumPy's columns": (lambda: OPERATOR.matmat(np.eye(3)), "vector is a ndarray"),
    "NumPy's for a matrix": (lambda: MatrixOperator(X).matmat(np.eye(3)), "vector is a ndarray"),
    "gradients not end to end": (
        lambda: DominantSubspace(OPERATOR, 1).alignment([X]),
        r"vector is a list: .*torch\.cat",
    ),
    "a list to project": (lambda: DominantSubspace(OPERATOR, 1).project([X]), "vector is a list"),
    "a class of models": (lambda: HessianOperator(nn.Linear, LOSS, X, X), "model is Linear: give"),
    "a function": (lambda: HessianOperator(len, LOSS, X, X), "model is len: give an instance"),
    "a class of losses": (
        lambda: HessianOperator(MODEL, nn.MSELoss, X, X),
        r"loss_fn is the class MSELoss: give an instance of it, MSELoss\(\)",
    ),
    "a loss's name": (lambda: HessianOperator(MODEL, "mse", X, X), "loss_fn is a str: give a"),
    "an operator for a subspace": (
        lambda: _project(SGD, OPERATOR),
        r"subspace is a HessianOperator: give a DominantSubspace\(operator, k\)",
    ),
    "the two the wrong way round": (
        lambda: _project(DominantSubspace(OPERATOR, 1), SGD),
        "subspace is a SGD: give a DominantSubspace.*, after the base optimizer",
    ),
    "parameters for an optimizer": (
        lambda: _project(MODEL.parameters(), DominantSubspace(OPERATOR, 1)),
        r"base_optimizer is or holds a Parameter: give an optimizer such as torch\.optim\.SGD",
    ),
    "a combination to track": (
        lambda: DominantSubspace(2 * OPERATOR, 1),
        "LinearCombination has no parameters",
    ),
    "a list to start from": (
        lambda: top_eigenpairs(OPERATOR, 1, initial=[[1.0]]),
        "vector is a list",
    ),
    "no optimizer": (
        lambda: _project(None, DominantSubspace(OPERATOR, 1)),
        "base_optimizer is or holds a NoneType",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_refuses_another_kind(name: str) -> None:
    ask, message = WRONG[name]
    with pytest.raises(TypeError, match=message):
        ask()


REFUSED = {
    "complex vectors to start from": (
        lambda: top_eigenpairs(OPERATOR, 1, initial=torch.ones(3, 1) * 1j),
        "initial is torch.complex64",
    ),
    "a limit that is no integer": (
        lambda: top_eigenpairs(OPERATOR, 1, max_matvecs=1e3),
        "max_matvecs is 1000.0; .*an integer",
    ),
    "products that are no integer": (
        lambda: trace(OPERATOR, num_matvecs=10.5),
        "num_matvecs is 10.5; .*an integer",
    ),
    "a sparse matrix": (
        lambda: MatrixOperator(torch.eye(3).to_sparse()),
        r"torch.sparse_coo .*to_dense\(\)",
    ),
    "an empty matrix": (lambda: MatrixOperator(torch.empty(0, 0)), "of size 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_another_value(name: str) -> None:
    ask, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        ask()


@pytest.mark.parametrize("name", ["model", "loss_fn", "inputs", "targets"])
def test_refuses_to_be_given_others_later(name: str) -> None:
    """Oracle: the documentation; its graphs would go on with those it was built with."""
    with pytest.raises(AttributeError, match=name):
        setattr(OPERATOR, name, getattr(OPERATOR, name))


@pytest.mark.parametrize("weight", ["0", torch.zeros(2), None, 1j])
def test_refuses_a_weight_that_is_no_number(weight: object) -> None:
    subspace = DominantSubspace(OPERATOR, 1)
    with pytest.raises(ValueError, match=r"dom_weight is .*; it must be a finite number"):
        ProjectedOptimizer(SGD, subspace, dom_weight=weight, bulk_weight=1.0)


@pytest.mark.parametrize("ask", [top_eigenpairs, DominantSubspace])
def test_a_truth_value_is_no_number_of_directions(ask) -> None:
    with pytest.raises(ValueError, match="k is True; "):
        ask(OPERATOR, True)


def test_inputs_alone_are_told_what_an_unsupervised_loss_takes() -> None:
    with pytest.raises(ValueError, match=r"targets are missing: .*the inputs again"):
        HessianOperator(MODEL, LOSS, X)


def test_pairs_print_in_a_few_lines() -> None:
    """Oracle: their P x k vectors are left out."""
    printed = repr(top_eigenpairs(MatrixOperator(torch.eye(500)), 2))
    assert "eigenvalues=tensor([1.0000" in printed and len(printed) < 400
