"""The multi-layer perceptron of the MNIST task [S]."""

from itertools import pairwise
from math import prod

from torch import nn

from sharpflat.tasks.entries import DatasetEntry


def build(dataset: DatasetEntry, *, width: int, depth: int) -> nn.Sequential:
    """``depth`` linear layers with tanh between them, in → width → … → width → classes.

    Width 200 and depth 3 on 28×28 images are the P = 199,210 parameters of [S].
    """
    widths = [prod(dataset.input_shape), *[width] * (depth - 1)]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], dataset.num_classes))
