"""The convolutional network of the CIFAR-10 task: three layers and ReLU [S], the rest [A]."""

from itertools import pairwise
from math import prod

from torch import nn

from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.models.pooling import pooled_sides


def build(dataset: DatasetEntry, *, width: int, depth: int) -> nn.Sequential:
    """``depth`` blocks of 3×3 convolution, ReLU and 2×2 max-pool, then a linear head.

    Convolutions keep the sides by padding with 1. Pooling is skipped where
    :func:`~sharpflat.tasks.models.pooling.pooled_sides` says so.
    """
    channels, *before = dataset.input_shape
    sides = [(before[0], before[1]), *pooled_sides(*before, depth=depth)]
    layers: list[nn.Module] = []
    for old, new in pairwise(sides):
        layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU()]
        if new != old:
            layers.append(nn.MaxPool2d(2))
        channels = width
    head = nn.Linear(width * prod(sides[-1]), dataset.num_classes)
    return nn.Sequential(*layers, nn.Flatten(), head)
