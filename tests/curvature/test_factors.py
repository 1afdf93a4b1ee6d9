"""What an operator may be multiplied by: single numbers.

Trusted is the dense matrix.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sharpflat.curvature import HessianOperator, MatrixOperator
from sharpflat.curvature.algebra import LinearCombination

from .dense import dense, relative_error


def operators() -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh()).double()
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    hessian_operator = HessianOperator(model, functional.mse_loss, x, y)
    matrix = torch.randn(6, 6, dtype=torch.float64)
    return {
        "Hessian": hessian_operator,
        "matrix": MatrixOperator(matrix + matrix.T),
        "combination": 2.0 * hessian_operator,
    }


FACTORS = {
    "vector": torch.linspace(0.1, 0.9, 6, dtype=torch.float64),
    "column": torch.ones(6, 1, dtype=torch.float64),
    "matrix": torch.eye(6, dtype=torch.float64),
}


@pytest.mark.parametrize("name", ["Hessian", "matrix", "combination"])
@pytest.mark.parametrize("factor", FACTORS.values(), ids=FACTORS)
def test_a_vector_is_no_factor(name, factor):
    """Oracle: the matrix would not be symmetric, and no product says so."""
    operator = operators()[name]
    with pytest.raises(TypeError, match="number"):
        factor * operator
    with pytest.raises(TypeError, match="number"):
        operator * factor


@pytest.mark.parametrize(
    "factor", [np.ones(6), [1.0] * 6, "2", None], ids=["array", "list", "text", "None"]
)
def test_what_is_no_number_is_no_factor(factor):
    """Oracle: the same."""
    operator = operators()["Hessian"]
    with pytest.raises(TypeError, match="number"):
        operator * factor
    with pytest.raises(TypeError, match="number"):
        factor * operator


NUMBERS = {
    "integer": 3,
    "float": 3.0,
    "of NumPy": np.float64(3.0),
    "integer of NumPy": np.int64(3),
    "of torch": torch.tensor(3.0, dtype=torch.float64),
}


@pytest.mark.parametrize("name", ["Hessian", "matrix", "combination"])
@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_factors(name, number):
    """Oracle: three times the dense matrix."""
    operator = operators()[name]
    for product in (number * operator, operator * number):
        assert isinstance(product, LinearCombination)
        assert relative_error(dense(product), 3 * dense(operator)) <= 1e-14
