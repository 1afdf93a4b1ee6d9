"""Commands about a whole tier: all its steps, what of it is there, what it costs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from sharpflat import layout
from sharpflat.cli.shared import prepare_torch, tier_of
from sharpflat.files import write_whole


def estimate_cost(options: argparse.Namespace) -> None:
    """Estimate the hours of a tier on this machine."""
    from sharpflat.cost import count_runs, estimate

    config = tier_of(options)
    device = prepare_torch(config)
    runs, prefixes = count_runs(config)
    print(f"{config.tier} tier on {device.type}, {config.threads} threads a process:")
    print(f"{prefixes} prefixes and {runs} runs, one process after the other")
    total = 0.0
    for cost in estimate(config, options.rates, device=device):
        total += cost.hours
        print(f"  {cost.figure:26} {cost.runs:4} more runs {cost.hours:9.2f} h", flush=True)
    print(f"  {'all':26} {runs:4} runs      {total:9.2f} h")


def show_status(options: argparse.Namespace) -> None:
    """Say what of a tier is there, stale, missing or damaged."""
    from sharpflat.status import describe, tier_status

    config = tier_of(options)
    for line in describe(config, tier_status(config)):
        print(line)


def run_tier(options: argparse.Namespace, execute: Callable[[list[str]], None]) -> None:
    """Take all steps of a tier in turn.

    Args:
        options: Of the command.
        execute: Runs one command of this package.
    """
    overrides: dict[str, Any] = {}
    if options.data_mirror:
        overrides["data_mirror"] = options.data_mirror
    if options.device:
        overrides["device"] = options.device
    config = tier_of(options, overrides)
    from sharpflat.plan import all_edges, all_prefixes, all_runs, snapshots

    resolved = layout.resolved_config(config.name)
    write_whole(resolved, (json.dumps(config.raw, indent=2, sort_keys=True) + "\n").encode())
    for name in config.datasets:
        mirror = [] if config.data_mirror is None else ["--mirror", str(config.data_mirror)]
        if not layout.dataset(name).exists():
            execute(["data", name, str(layout.dataset(name)), *mirror])
    execute(["plan", str(resolved), str(layout.runs_list(config.name))])
    execute(["prefix", str(resolved), *(record.id for record in all_prefixes(config))])
    execute(["train", str(resolved), *(record.id for record in all_runs(config))])
    if edges := all_edges(config):
        execute(["edge", str(resolved), *(record.id for record in edges)])
    if measured := snapshots(config):
        execute(["energy", str(resolved), *measured])
    for name, figure in config.figures.items():
        table = layout.table(config.name, name)
        execute(["table", str(resolved), name, str(table)])
        images = map(str, layout.figure(config.name, name))
        execute(["figure", figure.kind, str(table), *images])
    execute(["claims", str(resolved), str(layout.claims(config.name))])
    execute(["report", str(resolved), str(layout.report(config.name))])
