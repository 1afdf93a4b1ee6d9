"""A small network and few samples, and operators that are the same to rounding."""

import pytest
import torch
from torch import nn

from sharpflat.curvature import (
    CurvatureOperator,
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
)

KINDS = [HessianOperator, GGNOperator, FunctionalHessianOperator]
every_kind = pytest.mark.parametrize("kind", KINDS)
SAMPLES = 23


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def assert_same(found: CurvatureOperator, expected: CurvatureOperator) -> None:
    """Products with three random vectors agree to rounding."""
    generator = torch.Generator().manual_seed(7)
    V = torch.randn(expected.shape[0], 3, generator=generator, dtype=torch.float64)
    assert found.shape == expected.shape
    assert float((found @ V - expected @ V).norm() / (expected @ V).norm()) <= 1e-12
