"""A copy of the checkout, and what the real Snakemake says there."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


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


def snakemake(folder: Path, *arguments: str, fails: bool = False) -> str:
    """Run Snakemake with arguments in a folder, and return what it prints."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output
    return output


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
    """Let Snakemake believe that everything which is asked for is made."""
    summary = snakemake(folder, *asked, "--summary").splitlines()
    for output in (line.split("\t")[0] for line in summary if line.endswith("update pending")):
        (folder / output).parent.mkdir(parents=True, exist_ok=True)
        if Path(output).suffix:
            (folder / output).touch()
        else:
            (folder / output).mkdir()
    snakemake(folder, *asked, "--touch", "--forceall")
