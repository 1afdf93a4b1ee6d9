"""Curvature of a loss without its matrix: operators, top eigenpairs, the tracked subspace."""

from sharpflat.curvature.checks import UnsupportedLossError, UnsupportedModelError
from sharpflat.curvature.eigen import EigenResult, top_eigenpairs
from sharpflat.curvature.krylov import NonFiniteProductError
from sharpflat.curvature.operators import (
    CurvatureOperator,
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    MatrixOperator,
)
from sharpflat.curvature.subspace import DominantSubspace

__all__ = [
    "CurvatureOperator",
    "DominantSubspace",
    "EigenResult",
    "FunctionalHessianOperator",
    "GGNOperator",
    "HessianOperator",
    "MatrixOperator",
    "NonFiniteProductError",
    "UnsupportedLossError",
    "UnsupportedModelError",
    "top_eigenpairs",
]
