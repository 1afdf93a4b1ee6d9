"""Curvature of a loss without its matrix: operators, eigenpairs, spectra, the tracked subspace."""

from sharpflat.curvature.algebra import PreconditionedOperator, combination
from sharpflat.curvature.base import CurvatureOperator
from sharpflat.curvature.checks import (
    ModelChangedError,
    UnequalProcessesError,
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
from sharpflat.curvature.spectrum import SpectralDensity, spectral_density
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.curvature.trace_and_diagonal import DiagonalEstimate, diagonal, trace

__all__ = [
    "CurvatureEnergy",
    "CurvatureOperator",
    "DiagonalEstimate",
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
    "SpectralDensity",
    "UnequalProcessesError",
    "UnsupportedLossError",
    "UnsupportedModelError",
    "combination",
    "curvature_energy",
    "diagonal",
    "spectral_density",
    "subspace_overlap",
    "top_eigenpairs",
    "trace",
]
