"""The multi-layer perceptron of the MNIST task [S], and of tables."""

from itertools import pairwise
from math import prod

from torch import nn

from sharpflat.tasks.entries import DatasetEntry

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}


def build(
    dataset: DatasetEntry, *, width: int, depth: int, activation: str = "tanh"
) -> nn.Sequential:
    """``depth`` linear layers, in → width → … → width → classes, an activation between them.

    Width 200 and depth 3 on 28×28 images are the P = 199,210 parameters of [S], as is tanh.
    """
    widths = [prod(dataset.input_shape), *[width] * (depth - 1)]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], dataset.num_classes))
