"""Commands that make what is read: data, the list of runs, tables, figures, claims, the page."""

from __future__ import annotations

import argparse

from sharpflat import layout
from sharpflat.cli.shared import ROOT
from sharpflat.config import read_resolved
from sharpflat.files import write_whole


def write_data(options: argparse.Namespace) -> None:
    """Write a data set in its canonical form."""
    from sharpflat.tasks.prepare import prepare

    prepare(options.dataset, options.path, mirror=options.data_mirror)


def write_plan(options: argparse.Namespace) -> None:
    """Check the models of a configuration and list its runs."""
    from sharpflat.model_sizes import check_model_sizes
    from sharpflat.plan import runs_csv

    config = read_resolved(options.config, ROOT)
    check_model_sizes(config)
    write_whole(options.path, runs_csv(config).encode())


def write_figure_table(options: argparse.Namespace) -> None:
    """Collect the table behind a figure."""
    from sharpflat.analysis.edge_table import edge_table
    from sharpflat.analysis.finished import paths_left_out, seeds_left_out
    from sharpflat.analysis.tables import figure_table, write_table

    config = read_resolved(options.config, ROOT)
    if options.figure not in config.figures:
        raise ValueError(f"{options.figure!r} is not among the figures {', '.join(config.figures)}")
    searched = config.figures[options.figure].bisection is not None
    collect = edge_table if searched else figure_table
    results = layout.results(config.name)
    table = collect(config, options.figure, results, finished=options.finished)
    write_table(table, options.path)
    for task, loss, seed in seeds_left_out(config, options.figure, table):
        print(f"{options.figure}: left out {task}, {loss}, seed {seed}: not finished")
    for task, loss, path in paths_left_out(config, options.figure, table):
        print(f"{options.figure}: left out {task}, {loss}, path {path}: no seed has all of it")


def draw_figure(options: argparse.Namespace) -> None:
    """Draw a figure from its table."""
    import matplotlib

    from sharpflat.analysis.columns import refuse_wrong_table
    from sharpflat.analysis.tables import read_table
    from sharpflat.figures import FIGURES
    from sharpflat.figures.style import save
    from sharpflat.schema import kind_of

    kind = kind_of(options.figure, FIGURES)
    if kind is None:
        raise ValueError(
            f"{options.figure!r} neither is nor begins with a kind of figure that is drawn: "
            f"{', '.join(FIGURES)}"
        )
    matplotlib.use("Agg")
    table = read_table(options.table)
    refuse_wrong_table(table, kind, options.table)
    save(FIGURES[kind](table), *options.paths)


def write_claims(options: argparse.Namespace) -> None:
    """Test the claims on the figures' tables."""
    from sharpflat.analysis.claims import claims_table
    from sharpflat.analysis.columns import refuse_wrong_table
    from sharpflat.analysis.finished import paths_left_out, seeds_left_out
    from sharpflat.analysis.tables import read_table, write_table

    config = read_resolved(options.config, ROOT)
    paths = {name: layout.table(config.name, name) for name in config.figures}
    # By hand before every figure is made: what a claim lacks is then said to be not measured.
    tables = {name: read_table(path) for name, path in paths.items() if path.exists()}
    for name, table in tables.items():
        refuse_wrong_table(table, config.figures[name].kind, paths[name])
    unfinished = [
        name
        for name in config.figures
        if name not in tables
        or seeds_left_out(config, name, tables[name])
        or paths_left_out(config, name, tables[name])
    ]
    write_table(claims_table(tables, config.claims, unfinished=unfinished), options.path)


def write_readme_table(options: argparse.Namespace) -> None:
    """Put the table of claims into the README."""
    import pandas as pd

    from sharpflat.analysis.readme_table import readme_table, replace_between_markers

    readme = ROOT / "README.md"
    main, *others = options.claims
    beside = {path.parent.name: pd.read_csv(path) for path in others}
    table = readme_table(pd.read_csv(main), beside)
    readme.write_text(replace_between_markers(readme.read_text(), "claims", table))


def write_page(options: argparse.Namespace) -> None:
    """Write the page that holds everything."""
    from sharpflat.plan import all_prefixes, all_runs
    from sharpflat.report.page import write_report

    config = read_resolved(options.config, ROOT)
    name = config.name
    write_report(
        options.path,
        tier=config.tier,
        name=name,
        figures={
            figure.name: (
                figure.kind,
                layout.table(name, figure.name),
                layout.figure(name, figure.name)[1],
            )
            for figure in config.figures.values()
        },
        claims=layout.claims(name),
        folders=[
            *(layout.prefix(name, record.id) for record in all_prefixes(config)),
            *(layout.run(name, record.id) for record in all_runs(config)),
        ],
        config=config.raw,
    )
