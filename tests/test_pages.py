"""The README's and the site's examples run as they stand: Python, commands, configuration.

`make docs` builds the site, with the scripts of its gallery and all links.
"""

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from checkouts import ROOT, copy_checkout, jobs_of, snakemake
from faults.table import sentence
from pages import PAGES, README, blocks, text
from torch import nn

from sharpflat import curvature, layout
from sharpflat.analysis.readme_table import readme_table, replace_between_markers
from sharpflat.cli import main
from sharpflat.cli.main import _parser
from sharpflat.config import parse_config, read_tier
from sharpflat.plan import all_prefixes, all_runs, figure_edges, figure_runs
from sharpflat.settings import merge
from sharpflat.tasks.losses import mse


def _shell_lines() -> list[str]:
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return list(dict.fromkeys(" ".join(line.partition("#")[0].split()) for line in lines))


MINE = "mine.yaml"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, with the pages' configuration."""
    folder = copy_checkout(tmp_path_factory.mktemp("checkout"))
    (example,) = blocks("yaml")
    assert example.startswith(f"# {MINE}\n")
    (folder / MINE).write_text(example)
    return folder


@pytest.mark.parametrize("line", _shell_lines())
def test_every_shell_line_does_what_it_says(line: str, checkout: Path) -> None:
    """As a dry run. The commands after a kill run as they stand in the tests of faults."""
    program, *words = shlex.split(line)
    if program == "make":
        done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True)
        assert done.returncode == 0, done.stderr
    elif program == "pip":
        _check_install(words)
    elif "--unlock" in words:
        assert line.startswith("snakemake --unlock --config tier=laptop && snakemake --cores 2 ")
    else:
        assert program == "snakemake"
        if "workflow/profiles/slurm" in words:
            # Its plugin is installed on clusters alone; the paper tier is another line's.
            words = [word.replace("tier=paper", "tier=smoke") for word in words]
            words += ["--executor", "local"]
        # Apptainer is not everywhere.
        words = [word for word in words if word not in ("--sdm", "apptainer")]
        output = snakemake(checkout, *words, "--dry-run")
        _check_dag(output, words)


def _check_install(words: list[str]) -> None:
    """The package with extras that it has, or a lock with hashes."""
    assert words[0] == "install"
    if words[1] == "-r":
        assert "--hash=sha256:" in (ROOT / words[2]).read_text()
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.fullmatch(r"\.(?:\[(\w+)\])?", words[1])
    assert extras is not None
    assert extras[1] is None or extras[1] in project["optional-dependencies"]


def _check_dag(output: str, words: list[str]) -> None:
    """The jobs are those of everything, or of the figure that was asked for."""
    jobs = jobs_of(output)
    tier = next((word[5:] for word in words if word.startswith("tier=")), "laptop")
    changes = yaml.safe_load(blocks("yaml")[0]) if MINE in words else {}
    study = parse_config(merge(read_tier(tier, ROOT).raw, changes), ROOT)
    figures = [name for name in study.figures if name in words] or list(study.figures)
    assert jobs["collect_table"] == jobs["draw_figure"] == len(figures)
    assert jobs["list_runs"] == 1
    for part in ("decide_claims", "write_report"):
        assert jobs.get(part, 0) == (len(figures) > 1)
    asked = [study.figures[name] for name in figures]
    shown = {run.record for figure in asked for run in figure_runs(study, figure)}
    searched = {edge.record.prefix.id for figure in asked for edge in figure_edges(study, figure)}
    for folder, expected in (
        ("runs", {run.id for run in shown}),
        ("prefixes", {run.prefix.id for run in shown} | searched),
    ):
        trained = re.findall(
            rf"results/{study.name}/{folder}/(\S+)/trajectory.csv \(update\)", output
        )
        assert sorted(trained) == sorted(expected)


@pytest.mark.parametrize("line", re.findall(r"`python -m sharpflat ([^`]+)`", text()), ids=str)
def test_every_plain_command_is_one(line: str, tmp_path: Path) -> None:
    words = shlex.split(line)
    if words == ["--help"]:
        with pytest.raises(SystemExit, match=r"^0$"):
            main(words)
        return
    options = _parser().parse_args(words)
    if words[0] == "figure":  # the others take hours
        image = tmp_path / options.paths[-1]
        main([*words[:2], str(ROOT / options.table), str(image)])
        assert image.stat().st_size > 10_000


def test_the_question_of_ones_own_is_answered(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the smoke tier and a size of seconds, by the commands that the workflow runs."""
    small = {
        "tasks": {
            "mnist_mlp": {
                **{"k": 2, "hessian_samples": 50, "record_every": 4, "eigen_every": 4},
                "steps": 4,
                "sizes": {"width": 4, "depth": 2},
                "switch": {"alignment": None, "max_steps": 4},
            }
        },
        "figures": {"stretched_bulk": {"steps": 4, "seeds": [0]}},
    }
    mine = yaml.safe_load((checkout / MINE).read_text())
    values = merge(merge(read_tier("smoke", ROOT).raw, mine), small)
    values["figures"] = {"stretched_bulk": values["figures"]["stretched_bulk"]}
    deterministic = torch.are_deterministic_algorithms_enabled()
    monkeypatch.chdir(checkout)
    resolved, table, image = tmp_path / "config.json", tmp_path / "lr.csv", tmp_path / "lr.png"
    resolved.write_text(json.dumps(values))
    config = parse_config(values, ROOT)
    (dataset,) = config.datasets
    main(["data", dataset, str(layout.dataset(dataset))])
    main(["prefix", str(resolved), *(prefix.id for prefix in all_prefixes(config))])
    main(["train", str(resolved), *(run.id for run in all_runs(config))])
    torch.use_deterministic_algorithms(deterministic)
    main(["table", str(resolved), "stretched_bulk", str(table)])
    shown = set(pd.read_csv(table)["method"]) - {"before_switch"}
    assert shown == set(mine["figures"]["stretched_bulk"]["methods"])
    assert len(list(Path("results/my_study/runs").iterdir())) == 12
    assert not list(Path("results/smoke").glob("*/*"))
    main(["figure", config.figures["stretched_bulk"].kind, str(table), str(image)])
    assert image.stat().st_size > 10_000


@pytest.fixture
def names() -> dict[str, object]:
    """What the pages' Python takes for given, small."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(40, 6), torch.arange(40) % 10
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 10)).eval()
    return {
        "model": model,
        "loss_fn": mse,
        "inputs": inputs,
        "targets": targets,
        "batches": [(inputs, targets)] * 20,
    }


def test_the_first_example_trains_and_prints_the_eigenvalues(capsys, names) -> None:
    model, inputs, targets = names["model"], names["inputs"], names["targets"]
    before = mse(model(inputs), targets).item()
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    assert mse(model(inputs), targets).item() < before
    assert capsys.readouterr().out.startswith("tensor([")


def test_the_second_example_holds_the_mode_and_the_buffers(names) -> None:
    """Oracle: the product in eval mode, and the model's flags and buffers before."""
    first, second = blocks("python")
    exec(compile(first, "README.md", "exec"), names)
    model = names["model"]
    names["v"] = torch.ones(names["hessian"].shape[0])
    expected = names["hessian"] @ names["v"]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    exec(compile(f"found = None\n{second}\nfound = hessian @ v", "README.md", "exec"), names)
    assert torch.allclose(names["found"], expected)
    assert all(layer.training for layer in model.modules())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())


def test_the_table_of_claims_is_the_one_that_the_results_make() -> None:
    """`python -m sharpflat readme results/{laptop,paper}/claims.csv` writes it; nobody types it."""
    laptop, paper = (
        pd.read_csv(ROOT / f"results/{tier}/claims.csv") for tier in ("laptop", "paper")
    )
    page = README.read_text()
    table = readme_table(laptop, {"paper": paper})
    assert replace_between_markers(page, "claims", table) == page


def test_the_faults_are_those_that_the_tests_inject() -> None:
    assert sentence() in " ".join(text().split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_everything_that_a_page_names_is_there(page: Path) -> None:
    """Paths of the checkout, and what links and pictures lead to; sites of others are not asked."""
    content = page.read_text()
    made = {"envs/sharpflat.sif"}  # by `make container`
    named = set(re.findall(r"`((?:src|workflow|envs|tests|config|docs)/[\w./]+)`", content)) - made
    linked = re.findall(r"\]\(([^)#\s]+)[^)]*\)", content)
    files = [ROOT / path for path in named]
    files += [
        page.parent / link
        for link in linked
        # The site makes these when it is built, and checks links to them itself.
        if not link.startswith(("https://", "generated/"))
    ]
    assert [str(file) for file in files if not file.exists()] == []


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs/api/curvature.md").read_text()
    shown = re.findall(r"^\.\. auto\w+:: (\w+)$", page, flags=re.MULTILINE)
    assert sorted(shown) == sorted(curvature.__all__)
