"""Commands about a whole tier: all its steps, what of it is there, what it costs."""

from __future__ import annotations

import argparse
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpflat import layout
from sharpflat.archive import KINDS, has_archive, pack, unpack
from sharpflat.cli.shared import prepare_torch, tier_of
from sharpflat.config import Config
from sharpflat.files import write_whole

if TYPE_CHECKING:
    from sharpflat.verification.committed import Committed, Record
    from sharpflat.verification.older_code import OlderCode
    from sharpflat.verification.stretches import Verdict


def estimate_cost(options: argparse.Namespace) -> None:
    """Estimate the hours of a tier on this machine."""
    from sharpflat.cost import estimate
    from sharpflat.plan import all_edges, all_prefixes, all_runs

    config = tier_of(options)
    _restore(options.rates)
    device = prepare_torch(config)
    edges = len(all_edges(config))
    searches = f" and {edges} searches, whose trials count as runs" if edges else ""
    planned = f"{len(all_prefixes(config))} prefixes, {len(all_runs(config))} runs{searches}"
    print(f"{config.tier} tier on {device.type}, {config.threads} threads a process:")
    print(f"{planned}, one process after the other")
    runs, total, left_out = 0, 0.0, 0
    for cost in estimate(config, options.rates, device=device):
        runs += cost.runs
        duration = _duration(cost.hours)
        if cost.unknown:
            left_out += 1
            lacking = ", ".join(f"{model} on {loss} with {by}" for model, loss, by in cost.unknown)
            duration = f"  unknown: no finished run of {lacking} steps under {options.rates}"
        else:
            total += cost.hours
        print(f"  {cost.figure:26} {cost.runs:4} more runs {duration}", flush=True)
    without = f", without the {left_out} that are unknown: --rates takes a folder with such runs"
    print(f"  {'all':26} {runs:4} runs      {_duration(total)}{without if left_out else ''}")


def _duration(hours: float) -> str:
    return f"{hours:9.1f} h" if hours >= 1 else f"{60 * hours:9.1f} min"


def show_status(options: argparse.Namespace) -> None:
    """Say what of a tier is there, stale, missing or damaged."""
    from sharpflat.status import describe, tier_status

    config = tier_of(options)
    _restore(layout.results(config.name))
    for line in describe(config, tier_status(config)):
        print(line)


def pack_tier(options: argparse.Namespace) -> None:
    """Write the archive of a tier's results, those that only the one before holds among them.

    Raises:
        ValueError: None is there.
    """
    from sharpflat.status import records, stale_energies, state_of

    config = tier_of(options)
    results = layout.results(config.name)
    _restore(results)
    states = {folder: state_of(record, folder)[0] for record, folder in records(config)}
    there = [folder for folder, state in states.items() if state != "missing"]
    if not there:
        raise ValueError(
            f"nothing of the {config.name} tier's configuration is there to pack: train it first, "
            f"`snakemake --cores 2 --config tier={config.tier}`"
        )
    size = pack(results, there)
    stale = sum(state == "stale" for state in states.values())
    energies = len(stale_energies(config))
    print(
        f"{config.name} tier: {len(there)} of {len(states)} results packed into {size / 1e6:.2f} MB"
        f", {stale} of them stale" + (f"; {energies} energies are stale" if energies else "")
    )
    others = sum(folder not in states for kind in KINDS for folder in (results / kind).glob("*"))
    if others:
        print(f"{others} folders that its configuration does not plan are left out")


def unpack_tier(options: argparse.Namespace) -> None:
    """Write the folders of a tier's results that its archive holds and that are not there.

    Raises:
        ValueError: There is no archive.
    """
    config = tier_of(options)
    results = layout.results(config.name)
    if not has_archive(results):
        raise ValueError(
            f"{results} holds no archive: pack the tier's results first, "
            f"`python -m sharpflat pack --tier {config.tier}`"
        )
    restored, count = unpack(results)
    there = count - len(restored)
    print(f"{config.name} tier: {len(restored)} of {count} results restored, {there} were there")


def minutes(text: str) -> float:
    """A time that is more than none, for ``--minutes``.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0")
    return value


def verify_tier(options: argparse.Namespace, execute: Callable[[list[str]], None]) -> None:
    """Train stretches of committed results again, and say how far apart the numbers are.

    Args:
        options: Of the command.
        execute: Runs one command of this package.

    Raises:
        RuntimeError: A stretch differs by more than rounding.
    """
    from sharpflat.status import stale_energies
    from sharpflat.verification.committed import committed_results

    config = tier_of(options)
    _restore(layout.results(config.name))
    committed = committed_results(config)
    stale = sum(not found.fresh for found in committed.values())
    seed = _seed(options)
    print(f"{config.name} tier, seed {seed}: {len(committed)} results, {stale} stale")
    if energies := stale_energies(config):
        print(
            f"{len(energies)} curvature energies are stale, the first {energies[0]}: "
            f"`snakemake --config tier={config.tier}` measures them again"
        )
    verdicts = _verdicts(config, committed, seed, options, execute)
    if stale:
        print(
            f"{stale} of {len(committed)} committed results are stale: made by other code than "
            f"today's, or with another torch; `snakemake --config tier={config.tier}` makes them "
            f"again, and `sharpflat renew --tier {config.tier}` keeps those whose numbers are the "
            "same"
        )
    if differing := sum(verdict.differs for verdict in verdicts):
        raise RuntimeError(
            f"{differing} of {len(verdicts)} stretches differ from what is committed: compare the "
            "machine, torch and data that their summaries name with those here, and train them "
            "again where these are the same"
        )


def renew_tier(options: argparse.Namespace, execute: Callable[[list[str]], None]) -> None:
    """Keep the stale results whose numbers today's code makes again, digit for digit.

    Args:
        options: Of the command.
        execute: Runs one command of this package.

    Raises:
        ValueError: A stretch is not the same in every digit, or the checkout of the older code is
            none, or made nothing of what is stale.
    """
    from sharpflat.verification.committed import committed_results
    from sharpflat.verification.older_code import older_code
    from sharpflat.verification.renewal import made_by, one_of_each_setting, renew

    config = tier_of(options)
    _restore(layout.results(config.name))
    committed, older = committed_results(config), None
    if options.trained_by is not None:
        older = older_code(options.trained_by, config.raw)
        every, committed = len(committed), made_by(older, committed)
        if left_out := every - len(committed):
            print(f"{left_out} are left out: other code than that in {older.folder} made them")
    seed = _seed(options)
    stale = sum(not found.fresh for found in committed.values())
    energies = sum(found.energy_is_stale for found in committed.values())
    chosen = one_of_each_setting(committed, seed=seed)
    print(f"{config.name} tier, seed {seed}: {stale} stale results, {len(chosen)} stretches")
    if not stale and not energies:
        return
    verdicts = _verdicts(config, chosen, seed, options, execute, older)
    renewed, measured = renew(committed, verdicts, seed=seed, beside=older is not None)
    left = stale - len(renewed)
    print(
        f"{len(renewed)} results are today's, too"
        + (f", and {len(measured)} of {energies} energies" if energies else "")
        + (
            f"; {left} are still stale, as no whole stretch of their setting came out the same"
            if left
            else ""
        )
        + f"; put them into the archive by `sharpflat pack --tier {config.tier}`"
    )


def _verdicts(
    config: Config,
    committed: Mapping[Record, Committed],
    seed: int,
    options: argparse.Namespace,
    execute: Callable[[list[str]], None],
    older: OlderCode | None = None,
) -> list[Verdict]:
    """Of stretches that are drawn and trained again, each said as soon as it is known."""
    from sharpflat.verification.verify import verify

    logging.getLogger("sharpflat.training").setLevel(logging.WARNING)

    def data_of(dataset: str) -> Path:
        path = layout.dataset(dataset)
        if not path.exists():
            mirror = _mirror(options.data_mirror)
            execute(["data", dataset, str(path), *mirror])
        return path

    began, verdicts = time.perf_counter(), []
    for verdict in verify(
        config, committed, seed=seed, minutes=options.minutes, data_of=data_of, older=older
    ):
        verdicts.append(verdict)
        print(verdict.text, flush=True)
    differing = sum(verdict.differs for verdict in verdicts)
    took = time.perf_counter() - began
    print(f"{len(verdicts)} stretches in {took:.0f} s, {differing} of them differ")
    return verdicts


def _seed(options: argparse.Namespace) -> int:
    """The one that was given, or another each time."""
    return random.SystemRandom().randrange(10**6) if options.seed is None else int(options.seed)


def run_tier(options: argparse.Namespace, execute: Callable[[list[str]], None]) -> None:
    """Take all steps of a tier in turn.

    Args:
        options: Of the command.
        execute: Runs one command of this package.
    """
    overrides: dict[str, Any] = {}
    if options.data_mirror:
        overrides["data_mirror"] = str(options.data_mirror)
    if options.device:
        overrides["device"] = options.device
    config = tier_of(options, overrides)
    from sharpflat.plan import all_edges, all_prefixes, all_runs, resolved_json, snapshots

    resolved = layout.resolved_config(config.name)
    write_whole(resolved, f"{resolved_json(config)}\n".encode())
    for name in config.datasets:
        # A mirror's files may be others than those that were written before.
        if config.data_mirror is not None or not layout.dataset(name).exists():
            execute(["data", name, str(layout.dataset(name)), *_mirror(config.data_mirror)])
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


def _mirror(folder: Path | None) -> list[str]:
    return [] if folder is None else ["--data-mirror", str(folder)]


def _restore(results: Path) -> None:
    """Let a command that reads folders find what a clone holds in the archive alone."""
    if has_archive(results):
        restored, count = unpack(results)
        if restored:
            print(f"{len(restored)} of {count} results restored from the archive in {results}")
