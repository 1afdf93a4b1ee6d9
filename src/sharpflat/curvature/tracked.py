"""Approximate eigenvectors along training, and what is known of the error of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflat.curvature.inner import combine, inner
from sharpflat.curvature.krylov import NOT_FINITE, NonFiniteProductError, SymmetricOperator

#: Predicted error from which a prediction linear in distance is void: the solve starts afresh.
JUMP = 0.6
#: Share of all movement that must lie in the Dominant subspace for its slopes to be learned. The
#: gain goes with its square: below this share they would learn next to nothing, for k² vectors.
NEGLIGIBLE_MOVE = 0.1


@dataclass(kw_only=True)
class TrackedVectors:
    """Approximate eigenvectors with what is known of the error of each.

    Vector i was last multiplied at ``references[i]`` and had then the error ``start_errors[i]``.
    At θ it is predicted to have
    ``e_i² = start_errors[i]² + (turn_calibration rates[i] ‖θ - references[i]‖)²``.

    Movement inside the Dominant subspace turns it most, and its k directions are soon all known:
    ``slopes[j, i]`` is how vector i turns per unit of movement along vector j, learned from every
    correction by Broyden's update. The vectors follow it, and ``rates`` are those of what is left.
    Along Dom-SGD on the MNIST MLP at learning rate 0.01 a step turns the subspace by 0.09, of which
    0.03 is left after 10 steps of learning and 0.005 after 120.
    """

    block: Tensor  # (P, k + OVERSAMPLING)
    eigenvalues: Tensor  # (k,)
    next_eigenvalue: float
    smallest_eigenvalue: float
    references: list[Tensor]  # k times (P,), many of them the same tensor
    start_errors: Tensor  # (k,)
    error_estimate: float
    reached: float  # error estimate of the last full check
    moves: Tensor  # (k, k), movement along each vector j since vector i was last multiplied
    rates: Tensor | None = None  # (k,), None until they have been seen once
    slopes: Tensor | None = None  # (k, k, P), None while movement lies outside the subspace
    turn_calibration: float = 1.0  # found over predicted turns, from full checks
    left_calibration: float = 1.0  # found over worst possible errors left by a correction

    def distances(self, theta: Tensor) -> Tensor:
        """``‖θ - references[i]‖``, ``(k,)``."""
        distinct = {id(reference): reference for reference in self.references}
        norms = {
            key: torch.linalg.vector_norm(theta - reference).item()
            for key, reference in distinct.items()
        }
        return torch.tensor([norms[id(r)] for r in self.references], dtype=torch.float64)

    def errors_at(self, theta: Tensor) -> Tensor:
        """Predicted error of each vector, ``(k,)``."""
        rates = torch.zeros_like(self.start_errors) if self.rates is None else self.rates
        turned = self.turn_calibration * rates * self.distances(theta)
        return (self.start_errors**2 + turned**2).sqrt().clamp(max=1.0)

    def error_at(self, theta: Tensor) -> float:
        """Predicted ``‖sin Θ‖_F``."""
        return float(torch.linalg.vector_norm(self.errors_at(theta)))

    def jumped(self, theta: Tensor) -> bool:
        """Whether the curvature at θ has too little to do with that where it was last known.

        Beside a small gap vectors turn much where the curvature changes little, and the block holds
        both sides of that gap: each counts by its gap from the bulk's centre on, the widest whole.
        """
        gaps = 1 - self._left
        turned = self.errors_at(theta) * gaps / gaps.max().clamp_min(1e-12)
        # "not <=", so that parameters that are not numbers are not mistaken for near ones.
        return not torch.linalg.vector_norm(turned) <= JUMP

    def holds(self, found: TrackedVectors) -> bool:
        """Whether this block holds something of every eigenvector that a check found.

        If not, one came from outside: an eigenvalue rose there, or was missed before.
        """
        new = found.block[:, : len(found.eigenvalues)]
        inside = torch.linalg.vector_norm(inner(self.block, new), dim=0)
        return bool((1 - inside**2 <= JUMP**2).all())

    @property
    def _bulk(self) -> tuple[float, float]:
        """Centre and half width of the interval of the bulk eigenvalues."""
        centre = (self.next_eigenvalue + self.smallest_eigenvalue) / 2
        return centre, self.next_eigenvalue - centre

    @property
    def _left(self) -> Tensor:
        """Share of each vector's error that one correction may leave, ``(k,)``."""
        centre, half_width = self._bulk
        left = (half_width / (self.eigenvalues - centre).clamp_min(1e-12)).clamp(max=1.0)
        return left.nan_to_num(nan=0.0)  # k = P: there is no bulk

    def follow(self, step: Tensor) -> None:
        """Turn with the parameters' ``step``, ``(P,)``, as the slopes predict.

        A turn too large for that is left out, forgotten, and counts to what the vector turns.
        """
        k = len(self.eigenvalues)
        along = self.block[:, :k].T @ step
        self.moves = self.moves + along.to(self.moves)[:, None]
        if self.slopes is None:
            return
        turns = (along @ self.slopes.flatten(1)).view(k, -1).T
        norms = torch.linalg.vector_norm(turns, dim=0)
        void = ~(norms <= JUMP)  # or not a number
        if bool(void.any()):
            turns, self.slopes[:, void] = turns.masked_fill(void, 0.0), 0.0
            left_out = (norms / torch.linalg.vector_norm(step)).masked_fill(~void, 0.0)
            if self.rates is not None:
                self.rates = torch.hypot(self.rates, left_out.to(self.rates))
        self._replace(self.block[:, :k] + turns)

    def _replace(self, vectors: Tensor) -> None:
        """Put nearly orthonormal vectors ``(P, k)`` in place of the first k.

        The others give way: orthonormalised with them, they would hold back half of every turn
        towards them, and that is where the smallest gap lets the vectors turn most.
        """
        vectors = _orthonormalise(vectors)
        others = self.block[:, vectors.shape[1] :]
        others = _orthonormalise(others - vectors @ (vectors.T @ others))
        self.block = torch.cat([vectors, others], dim=1)

    def _learn_slopes(self, chosen: Tensor, corrections: Tensor, distances: Tensor) -> None:
        """Broyden's update of the slopes of chosen vectors, whose ``corrections`` are ``(P, m)``.

        The step's norm is that of all movement, so that what a step outside the subspace did is
        not laid to the little of it inside. Corrections too large to be linear teach nothing.
        """
        moves = self.moves[:, chosen]
        self.moves = self.moves.index_fill(1, chosen, 0.0)
        if self.slopes is None:
            inside = torch.linalg.vector_norm(moves) / torch.linalg.vector_norm(distances)
            if not inside > NEGLIGIBLE_MOVE:  # also where nothing moved
                return
            k, num_parameters = len(self.eigenvalues), len(self.block)
            self.slopes = self.block.new_zeros(k, k, num_parameters)
        squares = torch.maximum(distances**2, (moves**2).sum(0))
        small = torch.linalg.vector_norm(corrections, dim=0).to(moves) <= JUMP
        gains = torch.where(small & (distances > 0), moves / squares, 0.0).to(self.slopes)
        for column, index in enumerate(chosen.tolist()):
            self.slopes[:, index].addr_(gains[:, column], corrections[:, column])

    def take_over(self, before: TrackedVectors) -> None:
        """Keep what was learned of the vectors before, whose span is nearly that of these."""
        k = len(self.eigenvalues)
        overlap = before.block[:, :k].T @ self.block[:, :k]
        self.turn_calibration = before.turn_calibration
        self.left_calibration = before.left_calibration
        self.rates = None if before.rates is None else before.rates.clone()
        if before.slopes is not None:
            slopes = torch.einsum("ja,ib,jip->abp", overlap, overlap, before.slopes)
            # Laid out as `follow` reads them: it would copy all of them in every step, a third of
            # the time of a step of Dom-SGD at P = 200,000.
            self.slopes = slopes.contiguous()

    def learn_from(self, before: TrackedVectors, theta: Tensor, *, rates_too: bool) -> float:
        """Learn from how far the vectors before a check were from what it found.

        Args:
            before: The vectors that were tracked until this check.
            theta: Where it was made.
            rates_too: Whether the distance was small enough to tell the rates. If not, and if what
                was found is large, nothing that was learned is kept.

        Returns:
            Found over predicted error before the check.
        """
        k = len(self.eigenvalues)
        old, new = before.block[:, :k], self.block[:, :k]
        # What was found has an error too, at a right angle to the step towards it.
        found = torch.linalg.vector_norm(old - new @ (new.T @ old), dim=0).to("cpu", torch.float64)
        found = (found**2 + self.start_errors**2).sqrt()
        surprise = _ratio(found, before.errors_at(theta))
        distances = before.distances(theta)
        moved = distances > 0
        if not rates_too and torch.linalg.vector_norm(found) > JUMP:
            return surprise
        before._learn_slopes(torch.arange(k), new @ (old.T @ new).T - old, distances)
        self.take_over(before)
        turned = (found**2 - before.start_errors**2).clamp_min(0).sqrt()
        if before.rates is None:
            self.rates = turned / distances if bool(moved.all()) else None
            return surprise
        self.rates = before.rates.clone()
        self.rates[moved] = ((before.rates**2 + (turned / distances) ** 2) / 2).sqrt()[moved]
        if bool(moved.any()):
            ratio = _ratio(found[moved], before.errors_at(theta)[moved])
            self.turn_calibration = _clamp(self.turn_calibration * ratio**0.5)
        if not bool(moved.all()):
            ratio = _ratio(found[~moved], before.start_errors[~moved])
            self.left_calibration = min(_clamp(self.left_calibration * ratio**0.5), 1.0)
        return surprise

    def refresh_vectors(self, operator: SymmetricOperator, theta: Tensor, *, target: float) -> int:
        """Multiply the vectors that hold most error, correct them, and learn their rates.

        Vector v with Ritz value λ and residual r outside the basis is corrected to first order:
        the bulk eigenvalues lie in an interval with centre c, so ``v + r / (λ - c)`` leaves at
        most the share ``half width / (λ - c)`` of its error.

        Returns:
            Products used.
        """
        assert self.rates is not None
        k = len(self.eigenvalues)
        centre, half_width = self._bulk
        # At or below the bulk's edge nothing is gained: the caller then checks in full.
        left = self.left_calibration * self._left
        errors = self.errors_at(theta)
        order = torch.argsort(errors, descending=True)
        chosen = order[: _how_many(errors[order], left[order], target)]
        vectors, basis = self.block[:, chosen], self.block[:, :k]
        products = operator.matmat(vectors)
        if not bool(products.isfinite().all()):
            raise NonFiniteProductError(NOT_FINITE)
        values = (vectors * products).sum(0).to("cpu", torch.float64)
        residuals = products - basis @ (basis.T @ products)
        norms = torch.linalg.vector_norm(residuals, dim=0).to("cpu", torch.float64)
        found = (norms / (values - self.next_eigenvalue).clamp_min(1e-12)).clamp(max=1.0)
        ratio = _ratio(found, errors[chosen])
        self.left_calibration = min(_clamp(self.left_calibration * ratio**0.5), 1.0)
        turned = (found**2 - self.start_errors[chosen] ** 2).clamp_min(0).sqrt()
        distances = self.distances(theta)[chosen]
        rates = torch.where(distances > 0, turned / distances, self.rates[chosen])
        # New tensors, since those before may have been handed out.
        rates = ((self.rates[chosen] ** 2 + rates**2) / 2).sqrt()
        self.rates = self.rates.index_copy(0, chosen, rates)
        self.eigenvalues = self.eigenvalues.index_copy(0, chosen, values)
        self.start_errors = self.start_errors.index_copy(0, chosen, left[chosen] * found)
        step = residuals / (values - centre).clamp_min(max(half_width, 1e-12)).to(residuals)
        self._learn_slopes(chosen, step, distances)
        self._replace(basis.index_add(1, chosen.to(step.device), step))
        for index in chosen.tolist():
            self.references[index] = theta
        return len(chosen)


def _ratio(found: Tensor, predicted: Tensor) -> float:
    """Found over predicted errors, 1 where both are rounding."""
    floor = torch.finfo(torch.float32).eps
    return (float(torch.linalg.vector_norm(found)) + floor) / (
        float(torch.linalg.vector_norm(predicted)) + floor
    )


def _clamp(calibration: float) -> float:
    return min(max(calibration, 0.25), 2.0)


def _how_many(errors: Tensor, left: Tensor, target: float) -> int:
    """Vectors to refresh, the first of those given, until the total error meets the target."""
    squares = errors**2
    for count in range(len(squares)):
        if float(squares.sum()) <= target**2:
            return count
        squares[count] *= left[count] ** 2
    return len(squares)


def _orthonormalise(block: Tensor) -> Tensor:
    """The orthonormal block closest to a nearly orthonormal one (so vectors keep their names)."""
    values, vectors = torch.linalg.eigh(inner(block, block))
    return combine(block, (vectors * values.rsqrt()) @ vectors.T)
