"""An operator whose eigenvectors turn in a known way with its parameters, and a walk of them."""

from collections.abc import Callable

import torch
from torch import Tensor

from sharpflat.curvature import DominantSubspace

OUTLIERS = torch.cat(
    [
        torch.tensor([20.0, 14.0, 11.0, 7.0, 5.0], dtype=torch.float64),
        torch.linspace(-0.5, 1, 55, dtype=torch.float64),
    ]
)
K = 5
Sine = Callable[[Tensor, Tensor], float]


class RotatingMatrix:
    """``H(θ) = U diag(λ) Uᵀ`` where ``U = exp(Σ_j θ_j A_j)`` with fixed skew-symmetric ``A_j``.

    Its eigenvectors are the columns of U: they turn by about ``‖Δθ‖`` in random directions.
    """

    def __init__(self, eigenvalues: Tensor = OUTLIERS) -> None:
        size = len(eigenvalues)
        self.eigenvalues = eigenvalues
        self.shape = (size, size)
        self.dtype, self.device = torch.float64, torch.device("cpu")
        generator = torch.Generator().manual_seed(7)
        noise = torch.randn(size, size, size, generator=generator, dtype=torch.float64)
        self.generators = (noise - noise.mT) / (2 * size) ** 0.5
        self.parameters = (torch.zeros(size, dtype=torch.float64),)
        self.products = 0

    def theta(self) -> Tensor:
        return self.parameters[0].clone()

    def vectors(self) -> Tensor:
        return torch.linalg.matrix_exp(torch.einsum("j,jab->ab", self.theta(), self.generators))

    def matmat(self, V: Tensor) -> Tensor:
        self.products += V.shape[1]
        U = self.vectors()
        return U @ (self.eigenvalues[:, None] * (U.T @ V))

    def move(self, distance: float) -> None:
        """A step of this length in a random direction."""
        step = torch.randn(self.shape[0], dtype=torch.float64)
        self.parameters[0].add_(distance * step / torch.linalg.vector_norm(step))

    def jump(self) -> None:
        """To parameters that have nothing to do with those before."""
        self.parameters[0].copy_(torch.randn(self.shape[0], dtype=torch.float64))


def walk(subspace: DominantSubspace, sine: Sine, steps: int, distance: float) -> list[list[float]]:
    """A random walk; a row (true error, estimate, products) for each update."""
    operator = subspace.operator
    rows = []
    for _ in range(steps):
        operator.move(distance)
        before = subspace.num_matvecs
        subspace.update()
        truth = sine(operator.vectors()[:, : subspace.k], subspace.basis)
        rows.append([truth, subspace.error_estimate, subspace.num_matvecs - before])
    return rows
