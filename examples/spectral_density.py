"""The whole spectrum of a Hessian beside its outliers, drawn.

A trained network's Hessian has as many eigenvalues as parameters. The density of all of them comes
from stochastic Lanczos quadrature, with error bars over its probes, and the k largest from the
solver: nearly all lie at zero, and about as many as there are classes stand out.

    python examples/spectral_density.py  # draws spectral_density.png
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from sharpflat.curvature import HessianOperator, spectral_density, top_eigenpairs

K = 10


def main(picture: Path, epochs: int, probes: int) -> None:
    """Train a network, measure its spectrum and draw it."""
    torch.manual_seed(0)
    digits = load_digits()
    inputs = torch.tensor(digits.data / 16, dtype=torch.float32)
    targets = torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()

    hessian = HessianOperator(model, cross_entropy, inputs, targets)
    outliers = top_eigenpairs(hessian, K)
    density = spectral_density(hessian, probes=probes)
    # Narrow enough to tell the outliers apart.
    density = density.smoothed(width=0.004 * float(outliers.eigenvalues[0]))
    size = hessian.shape[0]
    step = float(density.points[1] - density.points[0])
    outside = density.points > outliers.eigenvalues[-1] - 2 * density.width
    count = size * step * float(density.values[outside].sum())
    print(f"{size:,} eigenvalues, {density.num_matvecs + outliers.num_matvecs} products")
    print("the largest:", " ".join(f"{value:.3g}" for value in outliers.eigenvalues.tolist()))
    print(f"from λ_{K} on the density counts {count:.1f} eigenvalues, the solver found {K}")

    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    low, high = (
        (size * (density.values + sign * 2 * density.standard_errors)).clamp_min(1e-3)
        for sign in (-1, 1)
    )
    axes.fill_between(density.points, low, high, alpha=0.3, linewidth=0)
    axes.plot(density.points, (size * density.values).clamp_min(1e-3), linewidth=1)
    axes.plot(outliers.eigenvalues, [2e-3] * K, "|", color="C3", markersize=14, label=f"top {K}")
    axes.set(yscale="log", xlabel="eigenvalue", ylabel="eigenvalues a unit", ylim=(1e-3, None))
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=150)
    print(f"drawn in {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", type=Path, default=Path("spectral_density.png"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--probes", type=int, default=10)
    options = parser.parse_args()
    main(options.picture, options.epochs, options.probes)
