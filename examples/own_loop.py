"""A training loop of one's own, with the sharpest directions of the loss tracked along it.

Full-batch gradient descent on 8×8 digits. The sharpness λ_1 climbs until it meets 2/η, where
gradient descent on a quadratic would diverge, and stays there: the edge of stability (Cohen et al.
2021). Meanwhile nearly all of the gradient lies in ten directions of thousands.

    python examples/own_loop.py
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import one_hot
from torch.nn.utils import vector_to_parameters

from sharpflat.curvature import DominantSubspace, HessianOperator

K, LEARNING_RATE = 10, 1.0


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean over samples of half the squared distance to the one-hot class."""
    return (outputs - one_hot(targets, 10)).square().sum(dim=1).mean() / 2


def main(steps: int) -> None:
    """Train, and print what happens in the Dominant subspace."""
    torch.manual_seed(0)
    digits = load_digits()
    inputs = torch.tensor(digits.data / 16, dtype=torch.float32)
    inputs = inputs - inputs.mean(dim=0)
    targets = torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 10))

    hessian = HessianOperator(model, squared_error, inputs, targets)
    subspace = DominantSubspace(hessian, K)

    print(f"{hessian.shape[0]:,} parameters, {len(inputs):,} images; 2/η = {2 / LEARNING_RATE:g}")
    print("  step     loss    λ_1   of the gradient in the subspace   products a step")
    for step in range(steps + 1):
        loss, gradient = hessian.loss_and_gradient()
        subspace.update()  # the parameters moved; it decides what that costs
        if step % max(1, steps // 15) == 0:
            sharpness, share = float(subspace.eigenvalues[0]), subspace.alignment(gradient)
            cost = subspace.num_matvecs / (step + 1)
            bar = "#" * round(30 * share)
            print(f"{step:6d} {loss:8.4f} {sharpness:6.2f}   {bar:30s} {share:4.2f} {cost:6.1f}")
        theta = hessian.theta() - LEARNING_RATE * gradient
        vector_to_parameters(theta, model.parameters())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    main(parser.parse_args().steps)
