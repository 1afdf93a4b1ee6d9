"""A VGG network without normalisation: pairs of convolutions, then a max-pool, wider every time."""

from itertools import pairwise
from math import prod

from torch import nn

from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.models.pooling import pooled_sides

#: Convolutions of a block.
CONVOLUTIONS = 2


def build(dataset: DatasetEntry, *, width: int, depth: int) -> nn.Sequential:
    """``depth`` blocks of two 3×3 convolutions with ReLU and a 2×2 max-pool, then a linear head.

    Block i has ``width · 2^i`` channels, from i = 0. Pooling is skipped where
    :func:`~sharpflat.tasks.models.pooling.pooled_sides` says so. Convolutions start from He's
    normal distribution and zero biases: with torch's defaults the signal fades by a factor of
    about 2.4 a layer, and nothing here normalises it again.

    Source: Simonyan & Zisserman (2015), "Very deep convolutional networks for large-scale image
    recognition", configuration B, cut to ``depth`` blocks and one linear layer [A].
    """
    channels, *before = dataset.input_shape
    sides = [(before[0], before[1]), *pooled_sides(*before, depth=depth)]
    layers: list[nn.Module] = []
    for block, (old, new) in enumerate(pairwise(sides)):
        for _ in range(CONVOLUTIONS):
            layers += [_convolution(channels, width * 2**block), nn.ReLU()]
            channels = width * 2**block
        if new != old:
            layers.append(nn.MaxPool2d(2))
    head = nn.Linear(channels * prod(sides[-1]), dataset.num_classes)
    return nn.Sequential(*layers, nn.Flatten(), head)


def _convolution(channels: int, width: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
