"""Collects a tier's results and renders the page."""

from __future__ import annotations

import base64
import gzip
import importlib.resources
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from PIL import Image

from sharpflat.files import write_whole
from sharpflat.report.captions import TITLES, caption
from sharpflat.report.explorer import Explorer
from sharpflat.report.run_index import RunIndex
from sharpflat.report.runs import alarms, provenance, run_times
from sharpflat.report.verdicts import ClaimRow, claim_rows


def write_report(
    path: Path,
    *,
    tier: str,
    name: str,
    figures: Mapping[str, tuple[str, Path, Path]],
    claims: Path,
    folders: Sequence[Path],
    config: Mapping[str, Any],
) -> None:
    """Write one HTML file that needs no other.

    Of a tier that is not finished the page names what is not there yet.

    Args:
        path: The page.
        tier: Name of the tier.
        name: Of the results, the tier's or their own.
        figures: For each figure that is planned, its kind, its table and its PNG.
        claims: Table of the claims.
        folders: Of every run and prefix that is planned.
        config: The resolved configuration.

    Raises:
        FileNotFoundError: No run or prefix is there, or no table of the claims.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sharpflat.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made = [folder for folder in folders if (folder / "summary.json").exists()]
    # Where nothing is there, the first that is planned is what the error names.
    summaries = [json.loads((each / "summary.json").read_text()) for each in made or folders[:1]]
    order = sorted(figures, key=_place)
    there = {name: figures[name] for name in order if all(f.exists() for f in figures[name][1:])}
    rows = claim_rows(pd.read_csv(claims), list(there))
    runs = RunIndex(summaries)
    explorer = Explorer(runs)
    shown = []
    for figure, paths in there.items():
        beside = [row for row in rows if row.anchor == figure]
        shown.append(_figure(figure, *paths, beside, explorer))
    drawn = {each["name"]: each["series"] for each in shown if each["series"]}
    varied, run_rows = runs.rows(explorer.endings)
    page = environment.get_template("page.html.j2").render(
        tier=tier if name == tier else f"{name}, {tier}",
        figures=shown,
        missing=[(figure, _title(figure)) for figure in order if figure not in there],
        num_planned=len(folders),
        claims=rows,
        times=run_times(summaries),
        varied=varied,
        runs=run_rows,
        alarms=alarms(summaries),
        provenance=provenance(summaries),
        config=json.dumps(config, indent=2, sort_keys=True),
        style=_source("page.css"),
        script=_source("page.js"),
        # The bundle that the Python package brings: zoom, hover, legends and logarithmic axes come
        # with it, it needs no network, and no build step of ours stands between it and the page.
        plotly=_packed(_bundle()),
        data=_packed(json.dumps({"figures": drawn, **explorer.data()}, separators=(",", ":"))),
    )
    write_whole(path, page.encode())


def _figure(
    name: str, kind: str, table: Path, image: Path, rows: list[ClaimRow], explorer: Explorer
) -> dict[str, Any]:
    """What the page shows of a figure: picture, caption, series and claims that rest on it."""
    numbers = pd.read_csv(table)
    try:
        lines = caption(kind, numbers)
    except KeyError as missing:  # a table that an earlier version wrote
        lines = [f"This table has no column {missing}, so there are no numbers in words here."]
    return {
        "name": name,
        "title": _title(name),
        "caption": lines,
        "table": table.as_posix(),
        "image": _picture(image),
        "series": explorer.add(kind, numbers),
        "claims": [row for row in rows if row.measured and not row.is_summary],
    }


def _place(figure: str) -> int:
    """Where a figure stands on the page; resolved configurations have theirs by the alphabet."""
    known = list(TITLES)
    return known.index(figure) if figure in known else len(known)


def _title(figure: str) -> str:
    return TITLES.get(figure, figure.replace("_", " "))


def _picture(path: Path) -> dict[str, Any]:
    """A PNG as lossless WebP, which takes less than half the room, and its size."""
    content = io.BytesIO()
    with Image.open(path) as image:
        image.save(content, "webp", lossless=True)
        width, height = image.size
    return {"data": base64.b64encode(content.getvalue()).decode(), "width": width, "height": height}


def _packed(text: str) -> str:
    """A text for a browser's ``DecompressionStream``, the same bytes for the same text."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _bundle() -> str:
    return (importlib.resources.files("plotly") / "package_data/plotly.min.js").read_text("utf-8")


def _source(name: str) -> Markup:
    """A file of ours that stands in the page as it is."""
    folder = importlib.resources.files("sharpflat.report") / "templates"
    return Markup((folder / name).read_text("utf-8"))
