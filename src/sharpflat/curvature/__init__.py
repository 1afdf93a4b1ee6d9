"""Curvature of a loss without its matrix: operators, eigenpairs, the tracked subspace, energy."""

from sharpflat.curvature.algebra import PreconditionedOperator, combination, to_scipy
from sharpflat.curvature.base import CurvatureOperator
from sharpflat.curvature.checks import (
    ModelChangedError,
    UnsupportedLossError,
    UnsupportedModelError,
)
from sharpflat.curvature.eigen import EigenResult, top_eigenpairs
from sharpflat.curvature.energy import (
    CurvatureEnergy,
    Estimate,
    curvature_energy,
    subspace_overlap,
)
from sharpflat.curvature.krylov import NonFiniteProductError
from sharpflat.curvature.operators import (
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    MatrixOperator,
)
from sharpflat.curvature.subspace import DominantSubspace

__all__ = [
    "CurvatureEnergy",
    "CurvatureOperator",
    "DominantSubspace",
    "EigenResult",
    "Estimate",
    "FunctionalHessianOperator",
    "GGNOperator",
    "HessianOperator",
    "MatrixOperator",
    "ModelChangedError",
    "NonFiniteProductError",
    "PreconditionedOperator",
    "UnsupportedLossError",
    "UnsupportedModelError",
    "combination",
    "curvature_energy",
    "subspace_overlap",
    "to_scipy",
    "top_eigenpairs",
]
