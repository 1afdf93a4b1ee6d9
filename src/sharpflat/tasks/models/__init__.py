"""Models: one file each, built by name."""

from collections.abc import Mapping

import torch
from torch import nn

from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.registry import MODELS, count_parameters, look_up, resolve


def build_model(
    name: str, dataset: DatasetEntry, sizes: Mapping[str, int], *, seed: int
) -> nn.Module:
    """Build model ``name`` for ``dataset`` on the CPU, initialised by torch's defaults [A].

    Args:
        name: A name in :data:`sharpflat.tasks.registry.MODELS`.
        dataset: The entry of the data set whose inputs it takes.
        sizes: Every size option of the model, by name.
        seed: Decides the initial parameters. The global random state is left as it was.

    Raises:
        ValueError: If the model, a size, or the two with the data set do not exist or go together.
    """
    expected = count_parameters(name, dataset, sizes)
    build = resolve(look_up(MODELS, name, what="model").build)
    # Only the CPU's generator is used, hence restored; torch.manual_seed reseeds all devices.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model: nn.Module = build(dataset, **sizes)
    found = sum(parameter.numel() for parameter in model.parameters())
    if found != expected:
        raise ValueError(
            f"model {name!r} with sizes {dict(sizes)} has {found} parameters, but its registry "
            f"entry counts {expected}: correct the entry's num_parameters"
        )
    return model
