"""Whether the models that a configuration asks for can be built and are large enough (with torch).

A configuration is read without torch, so this check is a step of its own before anything trains.
"""

from __future__ import annotations

from collections.abc import Iterator

from sharpflat.config import Config
from sharpflat.settings import ConfigError, Setting
from sharpflat.tasks.models import count_parameters
from sharpflat.tasks.registry import DATASETS


def check_model_sizes(config: Config) -> None:
    """Build every model without memory; refuse sizes that do not go together, and too large a k.

    Raises:
        ConfigError: Names the task, the value, what is allowed, and the remedy.
    """
    counts: dict[tuple[object, ...], int] = {}
    for setting in _settings(config):
        where = f"config: tasks.{setting.task}"
        key = (setting.model, setting.dataset, setting.sizes)
        if key not in counts:
            try:
                counts[key] = count_parameters(
                    setting.model, DATASETS[setting.dataset], dict(setting.sizes)
                )
            except ValueError as error:
                raise ConfigError(f"{where}: {error}") from None
        if setting.k > counts[key]:
            sizes = ", ".join(f"{name} {size}" for name, size in setting.sizes)
            raise ConfigError(
                f"{where}.k = {setting.k} exceeds its {counts[key]:,} parameters (model "
                f"{setting.model}, {sizes}): give k from 1 to {counts[key]}, or larger sizes"
            )


def _settings(config: Config) -> Iterator[Setting]:
    for figure in config.figures.values():
        for cell in figure.cells:
            yield from (cell.before, cell.after)
    if config.benchmark is not None:
        yield from config.benchmark.settings
