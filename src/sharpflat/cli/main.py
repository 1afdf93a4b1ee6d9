"""Every step of the workflow as a command; ``python -m sharpflat run`` takes them all in turn.

Each command imports only what it needs: tables and plotting never load torch, and training needs
neither Snakemake nor a plotting library.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sharpflat import __version__, layout
from sharpflat.cli import results, tiers, training
from sharpflat.config import TIERS

#: What to do where the system refuses a file.
REMEDIES = {
    errno.ENOSPC: "; free some space and run the same command again: what is done is kept",
    errno.EDQUOT: "; free some of your quota and run the same command again: what is done is kept",
    errno.ENOENT: "; make it first: `python -m sharpflat run` takes all steps in turn",
    errno.EROFS: "; make the folder writable, or work in a copy of the checkout",
    errno.EACCES: "; make the folder writable, or work in a copy of the checkout",
}
logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an expected failure is one line and exit status 1.

    With ``--debug`` it is raised instead, with its traceback. Where who reads the output has gone,
    as ``head`` does, the command ends without a word and with status 141: that is what a shell
    says of other programs then, which SIGPIPE ends, and a script can tell it from a whole output.
    """
    try:
        try:
            _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer has nowhere to go, and Python writes it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _run(arguments: Sequence[str] | None) -> None:
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("sharpflat").setLevel(logging.INFO)
    options = _parser().parse_args(arguments)
    if options.debug:
        options.command(options)
        return
    try:
        options.command(options)
    except BrokenPipeError:
        raise
    except (ValueError, RuntimeError) as error:
        sys.exit(f"sharpflat: {error}")
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "")
        if error.errno == errno.ENOENT and Path(str(error.filename)).parts[:1] == ("workflow",):
            remedy = f"; {Path.cwd()} is not the root of a checkout of sharpflat: change to one"
        sys.exit(f"sharpflat: {error}{remedy}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sharpflat", description=__doc__)
    parser.add_argument("--version", action="version", version=f"sharpflat {__version__}")
    parser.add_argument("--debug", action="store_true", help="show an error's whole traceback")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="write a data set in its canonical form")
    data.add_argument("dataset", help="its name in the registry")
    data.add_argument("path", type=Path, help="file to write, .npz")
    _mirrored(data)
    data.set_defaults(command=results.write_data)

    plan = _resolved(commands, "plan", "check a resolved configuration's models and list its runs")
    plan.add_argument("path", type=Path, help="file to write, .csv")
    plan.set_defaults(command=results.write_plan)

    for name, what, command in (
        ("prefix", "train SGD up to the switch", training.train_prefixes),
        ("train", "train runs from the switch on", training.train_runs),
        ("energy", "measure the curvature energy along runs", training.measure_energies),
        ("edge", "search for the edge of stability by bisection", training.find_edges),
    ):
        train = _resolved(commands, name, what)
        train.add_argument("ids", nargs="+", metavar="ID", help="name of a record, as in runs.csv")
        train.set_defaults(command=command)

    benchmark = _resolved(commands, "benchmark", "measure eigensolvers beside each other")
    benchmark.add_argument("--only", nargs="+", metavar="PART", help="parts to measure")
    benchmark.add_argument("--task", nargs="+", metavar="TASK", help="tasks to measure")
    benchmark.set_defaults(command=training.measure_eigensolvers)

    table = _resolved(commands, "table", "collect the table behind a figure")
    table.add_argument("figure", help="its name in the configuration")
    table.add_argument("path", type=Path, help="file to write, .csv")
    table.add_argument(
        "--finished",
        action="store_true",
        help="leave out the seeds of a task and loss of which a run is not there yet",
    )
    table.set_defaults(command=results.write_figure_table)

    figure = commands.add_parser("figure", help="draw a figure from its table")
    figure.add_argument("figure", help="its kind, or a name that begins with it: ablation_lr")
    figure.add_argument("table", type=Path, help="the table, .csv")
    paths = "files to write; the endings are the formats"
    figure.add_argument("paths", type=Path, nargs="+", metavar="PATH", help=paths)
    figure.set_defaults(command=results.draw_figure)

    claims = _resolved(commands, "claims", "test the claims on the figures' tables")
    claims.add_argument("path", type=Path, help="file to write, .csv")
    claims.set_defaults(command=results.write_claims)

    readme = commands.add_parser("readme", help="put the table of claims into the README")
    readme.add_argument(
        "claims",
        type=Path,
        nargs="+",
        help="the tables of claims, .csv: of the tier that is shown, and of others for verdicts",
    )
    readme.set_defaults(command=results.write_readme_table)

    report = _resolved(commands, "report", "write the page that holds everything")
    report.add_argument("path", type=Path, help="file to write, .html")
    report.set_defaults(command=results.write_page)

    cost = _tier(commands, "cost", "estimate the hours of a tier on this machine", usual="paper")
    rates = "folder with finished runs, to learn products from; default results/laptop"
    cost.add_argument("--rates", type=Path, default=layout.results("laptop"), help=rates)
    cost.set_defaults(command=tiers.estimate_cost)

    status = _tier(commands, "status", "what of a tier is there, stale, missing, damaged")
    status.set_defaults(command=tiers.show_status)

    for name, what, command_of_tier, usual_minutes in (
        ("verify", "train stretches of committed results again", tiers.verify_tier, 3.0),
        ("renew", "keep stale results that today's code makes again", tiers.renew_tier, 30.0),
    ):
        again = _tier(commands, name, what)
        again.add_argument(
            "--minutes",
            type=tiers.minutes,
            default=usual_minutes,
            help=f"for training; default {usual_minutes:g}",
        )
        drawn = "decides which are drawn; default: another each time"
        again.add_argument("--seed", type=int, help=drawn)
        _mirrored(again)
        again.set_defaults(command=partial(command_of_tier, execute=_execute))
        if name == "renew":
            older = "checkout of the code that trained them, to train beside today's: where another"
            again.add_argument("--trained-by", type=Path, help=f"{older} kind of machine did")

    pack = _tier(commands, "pack", "put a tier's results into the archive that is committed")
    pack.set_defaults(command=tiers.pack_tier)

    unpack = _tier(commands, "unpack", "restore from it the results whose folders are not there")
    unpack.set_defaults(command=tiers.unpack_tier)

    run = _tier(commands, "run", "all of a tier, one step after the other")
    _mirrored(run)
    devices = "where to train, in place of the tier's"
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), help=devices)
    run.set_defaults(command=lambda options: tiers.run_tier(options, _execute))
    return parser


def _resolved(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    """A command that reads a resolved configuration."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what)
    parser.add_argument("config", type=Path, help="resolved configuration, results/.../config.json")
    return parser


def _tier(commands: Any, name: str, what: str, *, usual: str = "laptop") -> argparse.ArgumentParser:
    """A command that reads a tier, and files that change it."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what)
    parser.add_argument("--tier", choices=TIERS, help=f"default {usual}")
    changes = "YAML with what differs from the tier"
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help=changes)
    parser.set_defaults(usual_tier=usual)
    return parser


def _mirrored(parser: argparse.ArgumentParser) -> None:
    """A command that prepares data; ``--mirror`` is what the option was called before."""
    folder = "folder with the canonical files; no download"
    parser.add_argument("--data-mirror", "--mirror", type=Path, help=folder)


def _execute(arguments: list[str]) -> None:
    """Run a command inside another, which explains its failures."""
    options = _parser().parse_args(arguments)
    options.command(options)
