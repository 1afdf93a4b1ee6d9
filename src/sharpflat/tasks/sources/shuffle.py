"""A split of data that come without one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHUFFLE_SEED = 0


def shuffled_split(
    inputs: NDArray[Any], labels: NDArray[Any], num_train: int
) -> dict[str, NDArray[Any]]:
    """Shuffle, then take the first ``num_train`` samples for training and the rest for testing."""
    # NEP 19 freezes the stream of RandomState, not that of the newer Generator.
    order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(labels))
    train, test = order[:num_train], order[num_train:]
    return {
        "x_train": inputs[train],
        "y_train": labels[train].astype(np.uint8),
        "x_test": inputs[test],
        "y_test": labels[test].astype(np.uint8),
    }
