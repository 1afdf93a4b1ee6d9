"""The leading eigenpairs of a symmetric operator, at either end or both, by a band Krylov method.

Chosen by measurement (`snakemake benchmarks`): on these spectra, a few outliers above a bulk, a
cold solve from one vector needs the fewest products (for k = 10 on the MNIST MLP 21, against 26,
36 and 40 with blocks of 2, 3 and 5), and a warm one starts from the block that is known and expands
only the directions that its error lies in. One vector cannot see a multiple eigenvalue, nor a block
what it is orthogonal to, so a solve ends with a search from another, random vector outside the
space that it has reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from sharpflat.curvature.algebra import combination
from sharpflat.curvature.checks import as_count, refuse_unless_operator, refuse_unless_tensor
from sharpflat.curvature.krylov import KrylovBasis, SymmetricOperator

#: Which eigenvalues lead.
Which: TypeAlias = Literal["largest", "smallest", "magnitude"]

#: Ritz vectors beyond k that a restart keeps.
OVERSAMPLING = 8
#: Accepted residual of pair k + 1, over the gap that it bounds: what the gaps may be wrong by.
GAP_TOLERANCE = 0.2
#: Residual of a vector that is right but for the rounding of its entries, over ``ε |λ|``: 0.5 to
#: 0.9 was measured for P of 3 and 11 million in float32.
ROUNDED_ENTRIES = 0.75
#: Columns beyond 2 (k + OVERSAMPLING) that the basis may grow to before it restarts.
RESTART_MARGIN = 8
#: A random vector holds about ``1/√P`` of any direction; a search ends once its own can hold only
#: so many times less of an eigenvector that it looks for. It does hold so little of one with a
#: chance of ``√(2/π)`` over the margin, 0.08 %. Of 1,000 solves on spectra with clusters and
#: multiples none missed a copy; at a margin of 200 one did, for a fifth of the products less.
SEARCH_MARGIN = 1000


@dataclass(frozen=True, kw_only=True)
class EigenResult:
    """The leading k eigenpairs, and how far to trust them.

    Attributes:
        eigenvalues: ``(k,)``, float64, the leading one first: descending, or ascending where the
            smallest lead, or by descending magnitude.
        eigenvectors: ``(P, k)`` orthonormal, in the operator's dtype or in float32 if that is less.
        residuals: ``(k,)``, ``‖H v_i - λ_i v_i‖``, float64. Where products are exact they are
            true within a factor of 2 at any P; a curvature product in float32 is known to about
            ``16 ε ‖H‖``, and so are residuals.
        next_eigenvalue: Estimate of the first eigenvalue that is left out, ``λ_{k+1}``. It errs
            away from the leading ones: a lower bound, where the smallest lead an upper one, and
            of the magnitude a lower one. If k = P it is ``-inf``, ``inf`` and NaN.
        errors: ``(k,)``, the estimated sine of each eigenvector's angle to the true eigenspace.
        error_estimate: ``‖sin Θ‖_F`` between the eigenvectors and the true eigenspace, to first
            order: the norm of the residuals, each over its gap to ``next_eigenvalue``.
        converged: Whether ``error_estimate`` is at most the tolerance, or the residuals are at
            rounding level, and a search found no eigenvalue missing; it overlooks a hidden one
            with a chance of 0.08 %. Where ``λ_k = λ_{k+1}`` pairs converge by their residuals, and
            ``error_estimate``, then about 1 or more, says that they span one of many such spaces.
            Never for products in half precision, whose rounding hides what both would have to
            show.
        num_matvecs: Products used.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor = field(repr=False)
    residuals: Tensor
    next_eigenvalue: float
    errors: Tensor
    error_estimate: float
    converged: bool
    num_matvecs: int


def top_eigenpairs(
    operator: SymmetricOperator,
    k: int,
    *,
    which: Which = "largest",
    tol: float = 1e-3,
    initial: Tensor | None = None,
    seed: int = 0,
    max_matvecs: int | None = None,
) -> EigenResult:
    """Compute the k leading eigenvalues and their eigenvectors.

    The smallest are the largest of ``-A``. For those of largest magnitude one basis serves both
    ends of the spectrum, and their gap is that in magnitude, the least that it can be: where
    ``λ`` and ``-λ`` lie on both sides of the cut it is 0, and only residuals at rounding level
    are accepted. On spectra of 5 to 10 outliers around a bulk the one basis took 14 to 21
    products, and two solves took 27 to 38 even if told how many to look for at which end.

    Args:
        operator: Anything with ``shape``, ``dtype``, ``device`` and ``matmat``.
        k: Number of pairs, 1 to P.
        which: ``"largest"`` (algebraic), ``"smallest"`` (algebraic, the most negative first), or
            ``"magnitude"`` (largest absolute value). Default: largest, as in the paper.
        tol: Largest accepted ``‖sin Θ‖_F`` between the returned and the true eigenspace
            (estimated), so residuals count relative to their gap.
        initial: ``(P, m)`` start, such as the eigenvectors at nearby parameters. Default: one
            random vector.
        seed: Seeds every random direction.
        max_matvecs: Limit on products. Default: ``20 (k + 20)``.

    Returns:
        The pairs; ``converged`` is False if the limit came first.

    Raises:
        TypeError: What is given is no operator.
        ValueError: k, which, tol, initial or max_matvecs outside what is allowed, or an operator
            that is not symmetric.
        NonFiniteProductError: A product is not finite.

    Example:
        >>> import torch
        >>> from sharpflat.curvature import top_eigenpairs, MatrixOperator
        >>> matrix = torch.diag(torch.tensor([3.0, -9.0, 5.0, 1.0], dtype=torch.float64))
        >>> top_eigenpairs(MatrixOperator(matrix), 2).eigenvalues.round(decimals=6)
        tensor([5., 3.], dtype=torch.float64)
        >>> pairs = top_eigenpairs(MatrixOperator(matrix), 2, which="magnitude")
        >>> pairs.eigenvalues.round(decimals=6)
        tensor([-9.,  5.], dtype=torch.float64)
    """
    if which not in get_args(Which):
        raise ValueError(f"which is {which!r}; allowed are {', '.join(get_args(Which))}")
    refuse_unless_operator(operator)
    num_parameters = operator.shape[0]
    _check(k, tol, initial, max_matvecs, num_parameters)
    k = as_count(k)
    limit = 20 * (k + 20) if max_matvecs is None else as_count(max_matvecs)
    if initial is not None:
        initial = initial[:, :limit]
    if which == "smallest":
        operator = combination((-1.0, operator))
    basis = start(operator, initial, seed=seed, both_ends=which == "magnitude")
    found = result(basis, k, converged=solve(basis, k, tol, limit))
    if which == "smallest":
        found = replace(
            found, eigenvalues=-found.eigenvalues, next_eigenvalue=-found.next_eigenvalue
        )
    return found


class _BothEnds(KrylovBasis):
    """A basis whose Ritz pairs are ordered by magnitude."""

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        values, coordinates, residuals = super().ritz()
        order = values.abs().argsort(descending=True)
        return values[order], coordinates[:, order], residuals[:, order]


def _heights(basis: KrylovBasis, values: Tensor) -> Tensor:
    """What Ritz values are ranked by."""
    return values.abs() if isinstance(basis, _BothEnds) else values


def start(
    operator: SymmetricOperator, initial: Tensor | None, *, seed: int, both_ends: bool = False
) -> KrylovBasis:
    """A Krylov basis of one random vector, or of a ``(P, m)`` block, already multiplied."""
    basis = (_BothEnds if both_ends else KrylovBasis)(operator, torch.Generator().manual_seed(seed))
    if initial is None:
        basis.add_random()
    else:
        basis.add_pending(initial)
        basis.expand(basis.num_pending)
    return basis


def _check(
    k: int, tol: float, initial: Tensor | None, max_matvecs: int | None, num_parameters: int
) -> None:
    if not 1 <= as_count(k) <= num_parameters:
        raise ValueError(
            f"k is {k!r}; a {num_parameters}-dimensional matrix allows the integers 1 to that many"
        )
    if not 0 < tol < 1:
        raise ValueError(f"tol is {tol}, the sine of an angle; it must lie between 0 and 1")
    if initial is not None:
        refuse_unless_tensor(initial)
    if initial is not None and (initial.ndim != 2 or initial.shape[0] != num_parameters):
        raise ValueError(
            f"initial has shape {tuple(initial.shape)}; it must be ({num_parameters}, m)"
        )
    if initial is not None and initial.is_complex():
        raise ValueError(f"initial is {initial.dtype}; give real vectors")
    if initial is not None and not (initial.any() and initial.isfinite().all()):
        raise ValueError("initial must be finite and have a column that is not 0")
    if max_matvecs is not None and as_count(max_matvecs) < min(k + 1, num_parameters):
        raise ValueError(
            f"max_matvecs is {max_matvecs!r}; k = {k} needs at least k + 1 products, an integer"
        )


@dataclass(frozen=True, kw_only=True)
class _RitzPairs:
    """The k leading Ritz pairs of a Krylov basis, as coordinates in it."""

    values: Tensor  # (j,) all Ritz values
    coordinates: Tensor  # (j, k)
    residuals: Tensor  # (f, k) coordinates in the pending columns
    scaled_residuals: Tensor  # (f, k) the same, each over its pair's gap
    next_residual: Tensor  # (f, 0 or 1) residual of pair k + 1 over the gap that it bounds
    errors: Tensor  # (k,) sine of each vector's angle to the eigenspace, to first order
    at_rounding: bool

    @property
    def error_estimate(self) -> float:
        """``‖sin Θ‖_F`` to the eigenspace."""
        return float(torch.linalg.vector_norm(self.errors))

    def accepted(self, tol: float) -> bool:
        """Whether the estimate keeps to a tolerance, and the gap that it rests on is known."""
        if self.at_rounding or tol == math.inf:
            return True
        gap_error = float(torch.linalg.vector_norm(self.next_residual))
        return self.error_estimate <= tol and gap_error <= GAP_TOLERANCE


def _ritz_pairs(basis: KrylovBasis, k: int) -> _RitzPairs:
    values, coordinates, residuals = basis.ritz()
    heights = _heights(basis, values)
    next_height = float(heights[k]) if len(values) > k else -math.inf
    gaps = (heights[:k] - next_height).clamp_min(
        max(basis.rounding, torch.finfo(torch.float64).tiny)
    )
    norms = torch.linalg.vector_norm(residuals[:, :k], dim=0)
    return _RitzPairs(
        values=values,
        coordinates=coordinates[:, :k],
        residuals=residuals[:, :k],
        scaled_residuals=residuals[:, :k] / gaps,
        next_residual=residuals[:, k : k + 1] / gaps[-1],
        # Davis-Kahan; residuals are known to rounding, and a gap of that size tells nothing.
        errors=((norms**2 + basis.rounding**2).sqrt() / gaps).clamp(max=1.0),
        at_rounding=bool((norms <= basis.rounding).all()),
    )


def solve(basis: KrylovBasis, k: int, tol: float, limit: int) -> bool:
    """Iterate until the pairs are accepted and a search finds none missing; False at the limit."""
    while iterate(basis, k, tol, limit):
        grown = _search(basis, k, tol, limit)
        if grown is None:
            return False
        # A pair that rose to just beside another is not accepted with it.
        if not grown and _ritz_pairs(basis, k).accepted(tol):
            return True
    return False


def iterate(basis: KrylovBasis, k: int, tol: float, limit: int) -> bool:
    """Expand the basis until its k leading pairs are accepted; False at the limit."""
    wanted = min(k + 1, basis.operator.shape[0])  # one more than k, to know the gap
    capacity = 2 * (k + OVERSAMPLING) + RESTART_MARGIN
    while True:
        if basis.num_expanded >= wanted:
            pairs = _ritz_pairs(basis, k)
            if pairs.accepted(tol):
                # Products in half precision cannot show that two eigenvalues are not one.
                return torch.finfo(basis.operator.dtype).bits >= 32
            if basis.num_pending > 1:
                basis.rotate_pending(_error_directions(pairs, tol))
        if basis.num_matvecs >= limit:
            return False
        if basis.num_pending == 0:
            basis.add_random()
        if basis.num_expanded >= capacity:
            basis.restart(k + OVERSAMPLING)
        basis.expand(1)


def _error_directions(pairs: _RitzPairs, tol: float) -> Tensor:
    """Rotation ``(f, f)`` of the pending columns: first the direction that holds most error."""
    errors = torch.cat([pairs.scaled_residuals / tol, pairs.next_residual / GAP_TOLERANCE], dim=1)
    rotation: Tensor = torch.linalg.svd(errors, full_matrices=True)[0]
    return rotation


def _search(basis: KrylovBasis, k: int, tol: float, limit: int) -> bool | None:
    """Search from a random vector outside the basis for pairs that it cannot see.

    Returns:
        Whether one of the k leading values grew; None if the limit came first.
    """
    num_parameters = basis.operator.shape[0]
    values, _, residuals = basis.ritz()
    # A true eigenvalue lies within the residual norm of each Ritz value.
    heights = _heights(basis, values)
    highest = heights[:k] + torch.linalg.vector_norm(residuals[:, :k], dim=0) + basis.rounding
    level = float(heights[k - 1])
    if _ritz_pairs(basis, k).error_estimate > tol:
        # Accepted at rounding level, λ_k and λ_{k+1} are equal to it: the eigenspace is not unique,
        # and an eigenvalue that is off by tol² is as right as eigenvectors off by tol make it.
        level += tol**2 * float(values.max() - values.min())
    start = basis.num_expanded
    outside = basis.num_expanded + basis.num_pending < num_parameters
    if outside:
        basis.add_random()
    while basis.num_pending > 0:
        if basis.num_matvecs >= limit:
            return None
        basis.expand(1)
        if bool((_heights(basis, basis.ritz()[0])[:k] > highest).any()):
            return True
        if outside:
            basis.follow_last()
            if _unseen(basis, k, start, level) <= 1 / (SEARCH_MARGIN * math.sqrt(num_parameters)):
                return False
    return False


def _unseen(basis: KrylovBasis, k: int, start: int, level: float) -> float:
    """Most that the search's first vector can hold of an eigenvector as high as ``level``.

    Let u be an eigenvector with eigenvalue μ, orthogonal to those known. The relation gives its
    components along the other Ritz vectors, ``x_i = s_i f / (μ - θ_i)``, from its component f along
    the vector that the search is to expand next, where ``s_i`` are those of the Ritz residuals; and
    ``‖x‖² + f² <= 1``. That bounds its component along any vector of the basis; the lowest μ is
    the worst. For Lanczos from one vector this is the bound ``1 / √(Σ_j p_j(μ)²)`` by the Lanczos
    polynomials of J. L. M. van Dorsselaer, M. E. Hochstenbach and H. A. van der Vorst, *Computing
    probabilistic bounds for extreme eigenvalues of symmetric matrices with the Lanczos method*,
    SIAM J. Matrix Anal. Appl. 22 (2001), 837-852, doi:10.1137/S0895479800366859. It needs no
    knowledge of the bulk, and shrinks the faster the less of the bulk lies near the level.
    """
    if basis.num_pending == 0:
        return 0.0
    values, coordinates, residuals = basis.ritz()
    unknown = torch.linalg.vector_norm(residuals[:, k:], dim=0) > basis.rounding
    held = []
    for end in (1, -1) if isinstance(basis, _BothEnds) else (1,):
        gaps = level - end * values[k:]
        gaps = gaps.clamp_min(max(basis.rounding, torch.finfo(torch.float64).tiny))
        components = (residuals[0, k:] / gaps)[unknown]
        along = float(components @ coordinates[start, k:][unknown])
        held.append(abs(along) / math.hypot(1.0, float(torch.linalg.vector_norm(components))))
    return max(held)


def result(basis: KrylovBasis, k: int, *, converged: bool) -> EigenResult:
    """The leading k pairs of a basis with what its residuals tell of them."""
    pairs = _ritz_pairs(basis, k)
    representation = ROUNDED_ENTRIES * torch.finfo(basis.operator.dtype).eps * pairs.values[:k]
    nothing_left = math.nan if isinstance(basis, _BothEnds) else -math.inf
    return EigenResult(
        eigenvalues=pairs.values[:k],
        eigenvectors=basis.vectors(pairs.coordinates),
        residuals=torch.hypot(torch.linalg.vector_norm(pairs.residuals, dim=0), representation),
        next_eigenvalue=float(pairs.values[k]) if len(pairs.values) > k else nothing_left,
        errors=pairs.errors,
        error_estimate=pairs.error_estimate,
        converged=converged,
        num_matvecs=basis.num_matvecs,
    )
