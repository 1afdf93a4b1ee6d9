"""Eigenvalues that rise from the bulk through λ_k, with nothing that is tracked turning."""

import pytest
import torch
from torch import Tensor

from sharpflat.curvature import DominantSubspace
from sharpflat.curvature.schedule import LONGEST_CHECK, LONGEST_SEARCH

SIZE, K = 60, 4
#: Steps that a rise takes, from far slower than a check to at once.
DURATIONS = [50, 20, 5, 1]


class RisingMatrix:
    """Four outliers above a bulk in [-1, 1], one of which rises with the first parameter."""

    def __init__(self, seed: int, duration: int, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(seed)
        draw = {"generator": generator, "dtype": torch.float64}
        self.vectors = torch.linalg.qr(torch.randn(SIZE, SIZE, **draw))[0]
        outliers = torch.tensor([6.0, 5, 4, 3], dtype=torch.float64)
        outliers = outliers * (0.7 + 0.6 * torch.rand(K, **draw))
        self.eigenvalues = torch.cat([outliers, 2 * torch.rand(SIZE - K, **draw) - 1])
        self.rising = K + int(torch.randint(SIZE - K, (1,), generator=generator))
        self.duration = duration
        self.parameters = (torch.zeros(SIZE, dtype=dtype),)
        self.shape, self.dtype, self.device = (SIZE, SIZE), dtype, torch.device("cpu")

    def theta(self) -> Tensor:
        return self.parameters[0].clone()

    def now(self) -> Tensor:
        values = self.eigenvalues.clone()
        risen = min(float(self.parameters[0][0]) / self.duration, 1.0)
        values[self.rising] += risen * (4.5 - values[self.rising])
        return values

    def matmat(self, V: Tensor) -> Tensor:
        return (self.vectors @ (self.now()[:, None] * (self.vectors.T @ V.double()))).to(V)

    def dominant(self) -> Tensor:
        return self.vectors[:, self.now().argsort(descending=True)[:K]]

    def step(self) -> None:
        self.parameters[0][0] += 1
        self.parameters[0][1] += 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("duration", DURATIONS)
def test_refresh_never_claims_what_it_missed(sine, dtype, duration):
    """Oracle: the eigenvectors. One that crosses just now may be on either side to rounding."""
    for seed in range(6):
        operator = RisingMatrix(seed, duration, dtype)
        subspace = DominantSubspace(operator, K, seed=seed)
        for _ in range(duration + 5):
            found = subspace.refresh()
            wrong = sine(operator.dominant(), subspace.basis.double()) > 2 * subspace.tol
            assert not (found.converged and wrong)
            operator.step()


@pytest.mark.parametrize("duration", DURATIONS)
def test_updates_find_it_within_a_check_and_a_search(sine, duration):
    """Oracle: the eigenvectors; until the next check that searches it is not looked for."""
    for seed in range(3):
        operator = RisingMatrix(seed, duration, torch.float64)
        subspace = DominantSubspace(operator, K, seed=seed)
        for _ in range(duration + LONGEST_CHECK + LONGEST_SEARCH):
            subspace.update()
            operator.step()
        assert sine(operator.dominant(), subspace.basis) <= subspace.tol


def test_what_rose_makes_the_next_checks_search():
    """Oracle: the state; after a miss every check searches, and the intervals grow anew."""
    operator = RisingMatrix(0, 1, torch.float64)
    subspace = DominantSubspace(operator, K)
    for _ in range(6):
        subspace.refresh()
    assert subspace.state_dict()["schedule"]["search_interval"] > 8
    operator.step()
    subspace.refresh()
    assert subspace.state_dict()["schedule"]["search_interval"] == 1
