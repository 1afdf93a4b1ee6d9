"""Writes a configuration as it was resolved, which every step of a tier reads."""

from __future__ import annotations

import json

from sharpflat import layout
from sharpflat.config import Config
from sharpflat.files import write_whole


def write_resolved(config: Config) -> None:
    """Write a configuration where its steps read it, unless just this stands there.

    What stands there keeps its time, so that the tables that came of it count as made from it.
    """
    path = layout.resolved_config(config.name)
    text = json.dumps(config.raw, indent=2, sort_keys=True) + "\n"
    if not path.exists() or path.read_text() != text:
        write_whole(path, text.encode())
