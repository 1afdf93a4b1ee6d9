"""How many parameters each model has, by formula (free of torch).

A configuration that asks for more eigenvectors than there are parameters is thus refused before
anything is built.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import prod

from sharpflat.tasks.entries import DatasetEntry

FEEDFORWARD_FACTOR = 4
"""Hidden width of a Transformer's feed-forward block over the model's width [A]."""


def mlp_parameters(dataset: DatasetEntry, sizes: Mapping[str, int]) -> int:
    """Weights and biases of ``depth`` linear layers, in → width → … → width → classes."""
    inner = [sizes["width"]] * (sizes["depth"] - 1)
    widths = [prod(dataset.input_shape), *inner, dataset.num_classes]
    return sum(fan_in * fan_out + fan_out for fan_in, fan_out in pairwise(widths))


def pooled_sides(height: int, width: int, *, depth: int) -> list[tuple[int, int]]:
    """Sides of the image after each of a CNN's ``depth`` blocks.

    A 2×2 max-pool halves both sides, rounding down. It is skipped where a side would fall below
    two pixels, so that small images leave deep models something to convolve.
    """
    sides = []
    for _ in range(depth):
        if min(height, width) // 2 >= 2:
            height, width = height // 2, width // 2
        sides.append((height, width))
    return sides


def cnn_parameters(dataset: DatasetEntry, sizes: Mapping[str, int]) -> int:
    """Weights and biases of ``depth`` 3×3 convolutions and the linear head."""
    width, depth = sizes["width"], sizes["depth"]
    channels, height, breadth = dataset.input_shape
    first = 9 * channels * width + width
    others = (depth - 1) * (9 * width * width + width)
    features = width * prod(pooled_sides(height, breadth, depth=depth)[-1])
    return first + others + features * dataset.num_classes + dataset.num_classes


def transformer_parameters(dataset: DatasetEntry, sizes: Mapping[str, int]) -> int:
    """Embedding or projection, ``depth`` encoder layers and the linear head.

    Raises:
        ValueError: If ``width`` is not a multiple of ``heads``.
    """
    width, depth, heads = sizes["width"], sizes["depth"], sizes["heads"]
    if width % heads:
        raise ValueError(
            f"transformer width {width} is not a multiple of heads {heads}: each head takes "
            "width / heads of it; change one of them"
        )
    if dataset.vocabulary_size is not None:
        embedding = dataset.vocabulary_size * width
    else:
        embedding = dataset.input_shape[-1] * width + width
    attention = 4 * (width * width + width)
    hidden = FEEDFORWARD_FACTOR * width
    feedforward = 2 * width * hidden + hidden + width
    norms = 2 * (2 * width)
    head = width * dataset.num_classes + dataset.num_classes
    return embedding + depth * (attention + feedforward + norms) + head
