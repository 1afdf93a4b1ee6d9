"""What several commands need: the configuration that they are given, and torch as it says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from sharpflat.config import Config, read_tier
from sharpflat.settings import ConfigError, merge

ROOT = Path()


def tier_of(options: argparse.Namespace, overrides: dict[str, Any] | None = None) -> Config:
    """The tier that a command was given, with the changes of its files and then the overrides.

    Raises:
        ConfigError: A file is no configuration, or a value is not allowed.
    """
    changes: dict[str, Any] = {}
    for path in options.configfile:
        if not path.exists():
            raise ConfigError(f"config: there is no file {path} for --configfile: check the path")
        try:
            values = yaml.safe_load(path.read_text())
        except (ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"config: {path} cannot be read ({reason}): write it again") from None
        if not isinstance(values, dict):
            raise ConfigError(
                f"config: {path} holds {values!r:.40}, not settings by name: write `setting: value`"
            )
        changes = merge(changes, values)
    tier = options.tier or changes.get("tier", options.usual_tier)
    return read_tier(tier, ROOT, merge(merge(changes, {"tier": tier}), overrides or {}))


def prepare_torch(config: Config) -> Any:
    """The device of a configuration, with torch set up as it says."""
    from sharpflat.training.numerics import set_up

    return set_up(
        device=config.device,
        threads=config.threads,
        tf32=config.tf32,
        deterministic=config.deterministic,
    )
