"""A copy of the checkout, and what the real Snakemake says there."""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

ROOT = Path(__file__).parents[1]

# Each run is a process of its own, forked from one that has imported Snakemake and what it loads on
# its way, which takes as long as the rest of a dry run, and nothing of sharpflat, which is the
# checkout's.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    ["snakemake.cli", "snakemake.report.html_reporter", "jsonschema", "smart_open", "yte"]
)


def copy_checkout(folder: Path) -> Path:
    """What the workflow needs, in a folder."""
    for name in ("Snakefile", "workflow", "src", "envs"):
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


def snakemake(folder: Path, *arguments: str, cores: int = 2, fails: bool = False) -> str:
    """Run Snakemake with arguments in a folder, and return what it prints."""
    with NamedTemporaryFile("r") as printed:
        process = FORKED.Process(
            target=_snakemake, args=(folder, ["--cores", str(cores), *arguments], printed.name)
        )
        process.start()
        process.join()
        output = printed.read()
    assert (process.exitcode != 0) == fails, output
    return output


def _snakemake(folder: Path, arguments: Sequence[str], printed: str) -> None:
    file = os.open(printed, os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    os.chdir(folder)
    # As for most users: jobs leave compiled modules beside the code, which is no change of it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    from snakemake.cli import main

    main(arguments)


def jobs_of(dry_run: str) -> dict[str, int]:
    """Number of jobs by the stage of their rule, from a dry run's table."""
    table = dry_run.split("Job stats:")[-1].split("total")[0]
    counts: dict[str, int] = {}
    for line in table.splitlines()[3:]:
        if line.split():
            rule, count = line.split()
            numbered = rule.startswith(("prefix_", "train_", "energy_", "edge_"))
            stage = rule.split("_")[0] if numbered else rule
            counts[stage] = counts.get(stage, 0) + int(count)
    return counts


def touch_everything(folder: Path, *asked: str) -> None:
    """Let Snakemake believe that everything which is asked for is made, for its configuration."""
    snakemake(folder, "resolve_config", *asked[asked.index("--config") :])
    summary = snakemake(folder, *asked, "--summary").splitlines()
    for output in (line.split("\t")[0] for line in summary if line.endswith("update pending")):
        (folder / output).parent.mkdir(parents=True, exist_ok=True)
        if Path(output).suffix:
            (folder / output).touch()
        else:
            (folder / output).mkdir()
    snakemake(folder, *asked, "--touch", "--forceall")
