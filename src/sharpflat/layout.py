"""Where every file of a tier lies, relative to the root of the repository.

A configuration with a name of its own has folders of that name in place of the tier's.
"""

from __future__ import annotations

from pathlib import Path


def dataset(name: str) -> Path:
    """Canonical file of a data set, shared by the tiers."""
    return Path("results/data") / f"{name}.npz"


def results(tier: str) -> Path:
    """Folder of a tier's results."""
    return Path("results") / tier


def resolved_config(tier: str) -> Path:
    """The configuration as it was resolved."""
    return results(tier) / "config.json"


def runs_list(tier: str) -> Path:
    """The list of runs."""
    return results(tier) / "runs.csv"


def prefix(tier: str, name: str) -> Path:
    """Folder of a prefix."""
    return results(tier) / "prefixes" / name


def run(tier: str, name: str) -> Path:
    """Folder of a run."""
    return results(tier) / "runs" / name


def edge(tier: str, name: str) -> Path:
    """Folder of a search for the edge of stability."""
    return results(tier) / "edges" / name


def benchmarks(tier: str) -> Path:
    """Folder of the benchmark's tables."""
    return results(tier) / "benchmarks"


def table(tier: str, figure: str) -> Path:
    """Table behind a figure."""
    return results(tier) / "figures" / f"{figure}.csv"


def claims(tier: str) -> Path:
    """Table of the claims."""
    return results(tier) / "claims.csv"


def report(tier: str) -> Path:
    """The page that holds everything."""
    return results(tier) / "report.html"


def figure(tier: str, name: str) -> tuple[Path, Path]:
    """PDF and PNG of a figure."""
    folder = Path("paper_figures") / tier
    return folder / f"{name}.pdf", folder / f"{name}.png"
