"""Every step of the workflow as a command; ``python -m sharpflat run`` takes them all in turn.

Each command imports only what it needs: tables and plotting never load torch, and training needs
neither Snakemake nor a plotting library.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharpflat import layout, seals
from sharpflat.config import TIERS, Config, read_resolved, read_tier
from sharpflat.files import write_whole

ROOT = Path()
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
    """Run one command; an expected failure is one line and exit status 1."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("sharpflat").setLevel(logging.INFO)
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"sharpflat: {error}")
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "")
        if error.errno == errno.ENOENT and Path(str(error.filename)).parts[:1] == ("workflow",):
            remedy = f"; {Path.cwd()} is not the root of a checkout of sharpflat: change to one"
        sys.exit(f"sharpflat: {error}{remedy}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sharpflat", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="write a data set in its canonical form")
    data.add_argument("dataset")
    data.add_argument("path", type=Path)
    data.add_argument("--mirror", type=Path, help="folder with the canonical files")
    data.set_defaults(command=_data)

    plan = commands.add_parser(
        "plan", help="check a resolved configuration's models and list its runs"
    )
    plan.add_argument("config", type=Path)
    plan.add_argument("path", type=Path)
    plan.set_defaults(command=_plan)

    for name, what in (("prefix", "SGD up to the switch"), ("train", "runs from the switch on")):
        train = commands.add_parser(name, help=f"train {what}")
        train.add_argument("config", type=Path)
        train.add_argument("ids", nargs="+", metavar="ID")
        train.set_defaults(command=_prefix if name == "prefix" else _train)

    energy = commands.add_parser("energy", help="measure the curvature energy along runs")
    energy.add_argument("config", type=Path)
    energy.add_argument("ids", nargs="+", metavar="ID")
    energy.set_defaults(command=_energy)

    edge = commands.add_parser("edge", help="search for the edge of stability by bisection")
    edge.add_argument("config", type=Path)
    edge.add_argument("ids", nargs="+", metavar="ID")
    edge.set_defaults(command=_edge)

    benchmark = commands.add_parser("benchmark", help="measure eigensolvers beside each other")
    benchmark.add_argument("config", type=Path)
    benchmark.add_argument("--only", nargs="+", metavar="PART", help="parts to measure")
    benchmark.add_argument("--task", nargs="+", metavar="TASK", help="tasks to measure")
    benchmark.set_defaults(command=_benchmark)

    table = commands.add_parser("table", help="collect the table behind a figure")
    table.add_argument("config", type=Path)
    table.add_argument("figure")
    table.add_argument("path", type=Path)
    table.set_defaults(command=_table)

    figure = commands.add_parser("figure", help="draw a figure from its table")
    figure.add_argument("figure")
    figure.add_argument("table", type=Path)
    figure.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    figure.set_defaults(command=_figure)

    claims = commands.add_parser("claims", help="test the claims on the figures' tables")
    claims.add_argument("config", type=Path)
    claims.add_argument("path", type=Path)
    claims.set_defaults(command=_claims)

    readme = commands.add_parser("readme", help="put the table of claims into the README")
    readme.add_argument("claims", type=Path)
    readme.set_defaults(command=_readme)

    report = commands.add_parser("report", help="write the page that holds everything")
    report.add_argument("config", type=Path)
    report.add_argument("path", type=Path)
    report.set_defaults(command=_report)

    cost = commands.add_parser("cost", help="estimate the hours of a tier on this machine")
    cost.add_argument("--tier", choices=TIERS, default="paper")
    cost.add_argument("--rates", type=Path, default=layout.results("laptop"), help="finished runs")
    cost.set_defaults(command=_cost)

    status = commands.add_parser("status", help="what of a tier is there, stale, missing, damaged")
    status.add_argument("--tier", choices=TIERS, default="laptop")
    status.set_defaults(command=_status)

    run = commands.add_parser("run", help="all of a tier, one step after the other")
    run.add_argument("--tier", choices=TIERS, default="laptop")
    run.add_argument("--data-mirror", help="folder with the canonical files")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"))
    run.set_defaults(command=_run)
    return parser


def _data(options: argparse.Namespace) -> None:
    from sharpflat.tasks.prepare import prepare

    prepare(options.dataset, options.path, mirror=options.mirror)


def _plan(options: argparse.Namespace) -> None:
    from sharpflat.model_sizes import check_model_sizes
    from sharpflat.plan import runs_csv

    config = read_resolved(options.config, ROOT)
    check_model_sizes(config)
    write_whole(options.path, runs_csv(config).encode())


def _prefix(options: argparse.Namespace) -> None:
    from sharpflat.plan import all_prefixes
    from sharpflat.training.train import train_prefix

    config = read_resolved(options.config, ROOT)
    records = {record.id: record for record in all_prefixes(config)}
    device = _prepare_torch(config)
    for name in options.ids:
        record = _chosen(records, name)
        folder = layout.prefix(config.tier, name)
        seals.discard_damaged(folder, seals.TRAINED)
        train_prefix(
            record,
            data=layout.dataset(record.dataset),
            folder=folder,
            device=device,
            keeping=_keeping(config, name),
        )
        seals.finish(folder, seals.TRAINED)


def _train(options: argparse.Namespace) -> None:
    from sharpflat.plan import all_runs
    from sharpflat.training.train import train_run

    config = read_resolved(options.config, ROOT)
    records = {record.id: record for record in all_runs(config)}
    device = _prepare_torch(config)
    for name in options.ids:
        record = _chosen(records, name)
        folder = layout.run(config.tier, name)
        seals.discard_damaged(folder, seals.TRAINED)
        train_run(
            record,
            data=layout.dataset(record.prefix.dataset),
            prefix_folder=layout.prefix(config.tier, record.prefix.id),
            folder=folder,
            device=device,
            keeping=_keeping(config, name),
        )
        seals.finish(folder, seals.TRAINED)


def _energy(options: argparse.Namespace) -> None:
    from sharpflat.plan import all_prefixes, all_runs
    from sharpflat.training.energy import measure_energy

    config = read_resolved(options.config, ROOT)
    prefixes = {record.id: record for record in all_prefixes(config)}
    runs = {record.id: record for record in all_runs(config)}
    device = _prepare_torch(config)
    for name in options.ids:
        record = _chosen(prefixes | runs, name)
        settings = record if name in prefixes else record.after_switch
        place = layout.prefix if name in prefixes else layout.run
        folder = place(config.tier, name)
        seals.check_seal(folder, seals.TRAINED)
        measure_energy(
            settings,
            data=layout.dataset(settings.dataset),
            folder=folder,
            device=device,
            probes=max(figure.probes for figure in config.figures.values()),
        )
        seals.seal(folder, seals.ENERGY)


def _edge(options: argparse.Namespace) -> None:
    from sharpflat.plan import all_edges
    from sharpflat.training.edge import find_edge

    config = read_resolved(options.config, ROOT)
    records = {record.id: record for record in all_edges(config)}
    device = _prepare_torch(config)
    for name in options.ids:
        record = _chosen(records, name)
        folder = layout.edge(config.tier, name)
        seals.discard_damaged(folder, seals.EDGE)
        find_edge(
            record,
            data=layout.dataset(record.prefix.dataset),
            prefix_folder=layout.prefix(config.tier, record.prefix.id),
            folder=folder,
            device=device,
            keeping=_keeping(config, name),
        )
        seals.finish(folder, seals.EDGE)


def _benchmark(options: argparse.Namespace) -> None:
    from sharpflat.benchmarks.run import BenchmarkSettings, run
    from sharpflat.benchmarks.setting import benchmark_task

    config = read_resolved(options.config, ROOT)
    if config.benchmark is None:
        raise ValueError(f"the {config.tier} tier has no benchmark section in its configuration")
    measured = dict.fromkeys(setting.task for setting in config.benchmark.settings)
    for name in options.task or ():
        if name not in measured:
            raise ValueError(
                f"task {name!r} is not in the benchmark; allowed are {', '.join(measured)}"
            )
    device = _prepare_torch(config)
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
    run(tasks, layout.benchmarks(config.tier), settings=settings, parts=options.only)


def _table(options: argparse.Namespace) -> None:
    from sharpflat.analysis.edge_table import edge_table
    from sharpflat.analysis.tables import figure_table, write_table

    config = read_resolved(options.config, ROOT)
    if options.figure not in config.figures:
        raise ValueError(f"{options.figure!r} is not among the figures {', '.join(config.figures)}")
    searched = config.figures[options.figure].bisection is not None
    collect = edge_table if searched else figure_table
    write_table(collect(config, options.figure, layout.results(config.tier)), options.path)


def _figure(options: argparse.Namespace) -> None:
    import matplotlib

    from sharpflat.analysis.columns import refuse_wrong_table
    from sharpflat.analysis.tables import read_table
    from sharpflat.figures import FIGURES
    from sharpflat.figures.style import save

    if options.figure not in FIGURES:
        raise ValueError(f"{options.figure!r} is not among the figures {', '.join(FIGURES)}")
    matplotlib.use("Agg")
    table = read_table(options.table)
    refuse_wrong_table(table, options.figure, options.table)
    save(FIGURES[options.figure](table), *options.paths)


def _claims(options: argparse.Namespace) -> None:
    from sharpflat.analysis.claims import claims_table
    from sharpflat.analysis.columns import refuse_wrong_table
    from sharpflat.analysis.tables import read_table, write_table

    config = read_resolved(options.config, ROOT)
    paths = {name: layout.table(config.tier, name) for name in config.figures}
    # By hand before every figure is made: what a claim lacks is then said to be not measured.
    tables = {name: read_table(path) for name, path in paths.items() if path.exists()}
    for name, table in tables.items():
        refuse_wrong_table(table, name, paths[name])
    write_table(claims_table(tables, config.claims), options.path)


def _readme(options: argparse.Namespace) -> None:
    import pandas as pd

    from sharpflat.analysis.readme_table import readme_table, replace_between_markers

    readme = ROOT / "README.md"
    table = readme_table(pd.read_csv(options.claims))
    readme.write_text(replace_between_markers(readme.read_text(), "claims", table))


def _report(options: argparse.Namespace) -> None:
    from sharpflat.plan import all_prefixes, all_runs
    from sharpflat.report.page import write_report

    config = read_resolved(options.config, ROOT)
    tier = config.tier
    write_report(
        options.path,
        tier=tier,
        figures={n: (layout.table(tier, n), layout.figure(tier, n)[1]) for n in config.figures},
        claims=layout.claims(tier),
        folders=[
            *(layout.prefix(tier, record.id) for record in all_prefixes(config)),
            *(layout.run(tier, record.id) for record in all_runs(config)),
        ],
        config=config.raw,
    )


def _cost(options: argparse.Namespace) -> None:
    from sharpflat.cost import count_runs, estimate

    config = read_tier(options.tier, ROOT)
    device = _prepare_torch(config)
    runs, prefixes = count_runs(config)
    print(f"{config.tier} tier on {device.type}, {config.threads} threads a process:")
    print(f"{prefixes} prefixes and {runs} runs, one process after the other")
    total = 0.0
    for cost in estimate(config, options.rates, device=device):
        total += cost.hours
        print(f"  {cost.figure:26} {cost.runs:4} more runs {cost.hours:9.2f} h", flush=True)
    print(f"  {'all':26} {runs:4} runs      {total:9.2f} h")


def _status(options: argparse.Namespace) -> None:
    from sharpflat.status import describe, tier_status

    config = read_tier(options.tier, ROOT)
    for line in describe(config, tier_status(config)):
        print(line)


def _run(options: argparse.Namespace) -> None:
    overrides: dict[str, Any] = {}
    if options.data_mirror:
        overrides["data_mirror"] = options.data_mirror
    if options.device:
        overrides["device"] = options.device
    config = read_tier(options.tier, ROOT, overrides)
    from sharpflat.plan import all_edges, all_prefixes, all_runs, snapshots

    resolved = layout.resolved_config(config.tier)
    write_whole(resolved, (json.dumps(config.raw, indent=2, sort_keys=True) + "\n").encode())
    for name in config.datasets:
        mirror = [] if config.data_mirror is None else ["--mirror", str(config.data_mirror)]
        if not layout.dataset(name).exists():
            main(["data", name, str(layout.dataset(name)), *mirror])
    main(["plan", str(resolved), str(layout.runs_list(config.tier))])
    main(["prefix", str(resolved), *(record.id for record in all_prefixes(config))])
    main(["train", str(resolved), *(record.id for record in all_runs(config))])
    if edges := all_edges(config):
        main(["edge", str(resolved), *(record.id for record in edges)])
    if measured := snapshots(config):
        main(["energy", str(resolved), *measured])
    for name in config.figures:
        table = layout.table(config.tier, name)
        main(["table", str(resolved), name, str(table)])
        main(["figure", name, str(table), *map(str, layout.figure(config.tier, name))])
    main(["claims", str(resolved), str(layout.claims(config.tier))])
    main(["report", str(resolved), str(layout.report(config.tier))])


def _chosen(records: dict[str, Any], name: str) -> Any:
    if name not in records:
        raise ValueError(f"{name!r} is not among the configuration's {len(records)} records")
    return records[name]


def _prepare_torch(config: Config) -> Any:
    from sharpflat.training.numerics import set_up

    return set_up(
        device=config.device,
        threads=config.threads,
        tf32=config.tf32,
        deterministic=config.deterministic,
    )


def _keeping(config: Config, name: str) -> Any:
    from sharpflat.plan import snapshots
    from sharpflat.training.train import Keeping

    return Keeping(
        snapshots=snapshots(config).get(name, 0),
        checkpoint_every=config.checkpoint_every,
        alarms=config.alarms,
    )
