"""Commands that train and measure: prefixes, runs, searches for the edge, curvature energy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sharpflat import layout, seals
from sharpflat.cli.shared import ROOT, prepare_torch
from sharpflat.config import Config, read_resolved
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord

Record = TypeVar("Record", PrefixRecord, RunRecord, EdgeRecord)


def train_prefixes(options: argparse.Namespace) -> None:
    """Train SGD up to the switch."""
    from sharpflat.plan import all_prefixes
    from sharpflat.training.train import train_prefix

    def train(record: PrefixRecord, config: Config, **shared: Any) -> None:
        train_prefix(record, data=layout.dataset(record.dataset), **shared)

    _train(options, all_prefixes, layout.prefix, seals.TRAINED, train)


def train_runs(options: argparse.Namespace) -> None:
    """Train runs from the switch on."""
    from sharpflat.plan import all_runs
    from sharpflat.training.train import train_run

    def train(record: RunRecord, config: Config, **shared: Any) -> None:
        train_run(record, **_branch(record.prefix, config), **shared)

    _train(options, all_runs, layout.run, seals.TRAINED, train)


def find_edges(options: argparse.Namespace) -> None:
    """Search for the edge of stability.

    Raises:
        ValueError: A search would start where training had diverged, where no edge is.
    """
    from sharpflat.plan import all_edges
    from sharpflat.training.edge import find_edge

    def train(record: EdgeRecord, config: Config, **shared: Any) -> None:
        find_edge(record, **_branch(record.prefix, config), **shared)

    _train(options, all_edges, layout.edge, seals.EDGE, train)


def _train(
    options: argparse.Namespace,
    records_of: Callable[[Config], Sequence[Record]],
    place: Callable[[str, str], Path],
    seal: str,
    train: Callable[..., None],
) -> None:
    """Train the records that were asked for, one after the other, each to its seal."""
    config = read_resolved(options.config, ROOT)
    records = {record.id: record for record in records_of(config)}
    device = prepare_torch(config)
    for name in options.ids:
        record = _chosen(records, name)
        folder = place(config.name, name)
        seals.discard_damaged(folder, seal)
        keeping = _keeping(config, name)
        train(record, config, folder=folder, device=device, keeping=keeping)
        seals.finish(folder, seal)


def _branch(prefix: PrefixRecord, config: Config) -> dict[str, Any]:
    """Where what branches from a prefix finds its data and its checkpoint."""
    return {
        "data": layout.dataset(prefix.dataset),
        "prefix_folder": layout.prefix(config.name, prefix.id),
    }


def measure_energies(options: argparse.Namespace) -> None:
    """Measure the curvature energy along runs."""
    from sharpflat.plan import all_prefixes, all_runs, probes
    from sharpflat.training.energy import measure_energy

    config = read_resolved(options.config, ROOT)
    prefixes = {record.id: record for record in all_prefixes(config)}
    runs = {record.id: record for record in all_runs(config)}
    device = prepare_torch(config)
    for name in options.ids:
        record = _chosen(prefixes | runs, name)
        settings = record if name in prefixes else record.after_switch
        place = layout.prefix if name in prefixes else layout.run
        folder = place(config.name, name)
        seals.check_seal(folder, seals.TRAINED)
        measure_energy(
            settings,
            data=layout.dataset(settings.dataset),
            folder=folder,
            device=device,
            probes=probes(config),
        )


def measure_eigensolvers(options: argparse.Namespace) -> None:
    """Measure eigensolvers beside each other."""
    from sharpflat.benchmarks.run import BenchmarkSettings, run
    from sharpflat.benchmarks.setting import benchmark_task

    config = read_resolved(options.config, ROOT)
    if config.benchmark is None:
        raise ValueError(
            f"the {config.tier} tier has no `benchmark` section in its configuration: add one, or "
            "take a tier that has (smoke, paper)"
        )
    measured = dict.fromkeys(setting.task for setting in config.benchmark.settings)
    for name in options.task or ():
        if name not in measured:
            raise ValueError(
                f"task {name!r} is not in the benchmark; allowed are {', '.join(measured)}"
            )
    device = prepare_torch(config)
    settings = BenchmarkSettings(**config.benchmark.options)
    tasks = [
        benchmark_task(
            setting,
            data=layout.dataset(setting.dataset),
            learning_rates=config.benchmark.learning_rates[setting.loss][setting.task],
            seed=settings.seed,
            device=device,
        )
        for setting in config.benchmark.settings
        if options.task is None or setting.task in options.task
    ]
    run(tasks, layout.benchmarks(config.name), settings=settings, parts=options.only)


def _chosen(records: dict[str, Any], name: str) -> Any:
    if name not in records:
        raise ValueError(
            f"{name!r} is not among the configuration's {len(records)} records; "
            "`python -m sharpflat plan` lists them"
        )
    return records[name]


def _keeping(config: Config, name: str) -> Any:
    from sharpflat.plan import snapshots
    from sharpflat.training.train import Keeping

    return Keeping(
        snapshots=snapshots(config).get(name, 0),
        checkpoint_every=config.checkpoint_every,
        alarms=config.alarms,
    )
