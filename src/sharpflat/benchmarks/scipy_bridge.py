"""This package's operators for SciPy's solvers, and SciPy's vectors back as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from sharpflat.benchmarks.timing import ProductCounter
from sharpflat.curvature.krylov import SymmetricOperator

Array = NDArray[Any]


def as_scipy(operator: SymmetricOperator, counter: ProductCounter) -> LinearOperator:
    """A float64 SciPy operator; products are made in the operator's own dtype, and counted.

    SciPy's solvers do their own arithmetic in the dtype that they see. Float64 costs next to
    nothing beside the products, and keeps their rounding out of the comparison.
    """

    def multiply(vectors: Array) -> Array:
        block = torch.from_numpy(np.ascontiguousarray(vectors.reshape(operator.shape[0], -1)))
        counter.add(block.shape[1])
        products = operator.matmat(block.to(operator.device, operator.dtype))
        return products.to("cpu", torch.float64).numpy().reshape(vectors.shape)

    return LinearOperator(operator.shape, matvec=multiply, matmat=multiply, dtype=np.float64)


def starting_vectors(num_parameters: int, count: int, *, seed: int) -> Array:
    """Random ``(P, count)``, float64."""
    return np.random.default_rng(seed).standard_normal((num_parameters, count))


def as_columns(vectors: Array, device: torch.device) -> Tensor:
    """Eigenvectors from SciPy as a tensor on a device."""
    return torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
