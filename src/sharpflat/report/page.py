"""Collects a tier's results and renders the page."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from sharpflat.files import write_whole
from sharpflat.report.captions import TITLES, caption
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

    Args:
        path: The page.
        tier: Name of the tier.
        name: Of the results, the tier's or their own.
        figures: For each figure, its kind, its table and its PNG.
        claims: Table of the claims.
        folders: Of every run and prefix.
        config: The resolved configuration.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sharpflat.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    rows = claim_rows(pd.read_csv(claims), list(figures))
    page = environment.get_template("page.html.j2").render(
        tier=tier if name == tier else f"{name}, {tier}",
        figures=[
            _figure(figure, *shown, [row for row in rows if row.anchor == figure])
            for figure, shown in figures.items()
        ],
        claims=rows,
        times=run_times(summaries),
        alarms=alarms(summaries),
        provenance=provenance(summaries),
        config=json.dumps(config, indent=2, sort_keys=True),
    )
    write_whole(path, page.encode())


def _figure(name: str, kind: str, table: Path, image: Path, rows: list[ClaimRow]) -> dict[str, Any]:
    """What the page shows of a figure: picture, caption, and the claims that rest on it."""
    return {
        "name": name,
        "title": TITLES.get(name, name),
        "caption": caption(kind, pd.read_csv(table)),
        "table": table.as_posix(),
        "image": base64.b64encode(image.read_bytes()).decode(),
        "claims": [row for row in rows if row.measured and not row.is_summary],
    }
