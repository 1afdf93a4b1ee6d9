"""Models: one file each, built by name."""

import torch
from torch import nn

from sharpflat.tasks.entries import DatasetEntry, Sizes
from sharpflat.tasks.registry import MODELS, check_model, look_up, resolve


def count_parameters(name: str, dataset: DatasetEntry, sizes: Sizes) -> int:
    """Number of parameters P of model ``name``, built without memory on torch's meta device.

    Raises:
        ValueError: As :func:`build_model`.
    """
    with torch.device("meta"):
        model = _build(name, dataset, sizes)
    return sum(parameter.numel() for parameter in model.parameters())


def build_model(name: str, dataset: DatasetEntry, sizes: Sizes, *, seed: int) -> nn.Module:
    """Build model ``name`` for ``dataset`` on the CPU.

    What its file does not initialise otherwise starts from torch's defaults [A].

    Args:
        name: A name in :data:`sharpflat.tasks.registry.MODELS`.
        dataset: The entry of the data set whose inputs it takes.
        sizes: Every size option of the model, by name, and any of its choices.
        seed: Decides the initial parameters. The global random state is left as it was.

    Raises:
        ValueError: If the model, a size, or the two with the data set do not exist or go together.
    """
    # Only the CPU's generator is used, hence restored; torch.manual_seed reseeds all devices.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _build(name, dataset, sizes)


def _build(name: str, dataset: DatasetEntry, sizes: Sizes) -> nn.Module:
    check_model(name, dataset, sizes)
    model: nn.Module = resolve(look_up(MODELS, name, what="model").build)(dataset, **sizes)
    return model
