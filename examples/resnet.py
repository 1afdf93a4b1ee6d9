"""What the sharp and the flat part of SGD do for a ResNet with GroupNorm.

One short training run on digits, then three from the same point and on the same batches: SGD,
Dom-SGD, which follows only the part of each update in the Dominant subspace, and Bulk-SGD, which
follows only the rest. Nearly all of a gradient lies in the subspace; progress does not.

    python examples/resnet.py
"""

import argparse
import copy

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sharpflat.curvature import DominantSubspace, HessianOperator
from sharpflat.optim import ProjectedOptimizer

K, LEARNING_RATE, BATCH, WIDTH = 10, 0.02, 32, 8
METHODS = {"SGD": (1.0, 1.0), "Dom-SGD": (1.0, 0.0), "Bulk-SGD": (0.0, 1.0)}


class Block(nn.Module):
    """Two convolutions beside a shortcut. GroupNorm: BatchNorm makes a Hessian ill-defined."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False),
            nn.GroupNorm(4, outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            nn.GroupNorm(4, outside),
        )
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(m, channels, height, width)``, both halved by a stride of 2."""
        return torch.relu(self.main(x) + self.shortcut(x))


def resnet() -> nn.Module:
    """Two blocks for images of 8×8."""
    return nn.Sequential(
        Block(1, WIDTH, 1),
        Block(WIDTH, 2 * WIDTH, 2),
        nn.Flatten(),
        nn.Linear(32 * WIDTH, 10),
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: tuple[Tensor, ...]) -> None:
    """Over all of the data once, in the same batches for everyone."""
    order = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(0))
    for batch in order.split(BATCH):
        optimizer.zero_grad()
        cross_entropy(model(data[0][batch]), data[1][batch]).backward()
        optimizer.step()


def main(epochs: int, images: int) -> None:
    """Train together, then apart, and print how far each method came."""
    torch.manual_seed(0)
    digits = load_digits()
    data = (
        torch.tensor(digits.images[:images, None] / 16, dtype=torch.float32),
        torch.tensor(digits.target[:images]),
    )
    start = resnet()
    sgd = torch.optim.SGD(start.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        train(start, sgd, data)

    losses, notes = {}, {}
    for method, (dom_weight, bulk_weight) in METHODS.items():
        model = copy.deepcopy(start)
        hessian = HessianOperator(model, cross_entropy, *data)
        losses[method] = [hessian.loss_and_gradient()[0]]
        subspace = DominantSubspace(hessian, K, tol=0.1)
        optimizer = ProjectedOptimizer(
            torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
            subspace,
            dom_weight=dom_weight,
            bulk_weight=bulk_weight,
        )
        for _ in range(epochs):
            train(model, optimizer, data)
            losses[method].append(hessian.loss_and_gradient()[0])
        subspace.update()
        share = subspace.alignment(hessian.loss_and_gradient()[1])
        notes[method] = f"{float(subspace.eigenvalues[0]):7.1f} {share:12.2f}"

    print(f"{hessian.shape[0]:,} parameters, {len(data[0])} images, k = {K}, loss by epoch:")
    heads = " ".join(f"{epoch:6d}" for epoch in range(epochs + 1))
    print(f"{'':9s}{heads}     λ_1   gradient in the subspace, at the end")
    for method, found in losses.items():
        print(f"{method:9s}" + " ".join(f"{loss:6.3f}" for loss in found) + f" {notes[method]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=256)
    options = parser.parse_args()
    main(options.epochs, options.images)
