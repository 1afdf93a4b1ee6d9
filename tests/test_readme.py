"""The README's example is run as it stands."""

import re
from pathlib import Path

import pandas as pd
import torch
from faults.table import sentence
from torch import nn

from sharpflat.analysis.readme_table import readme_table, replace_between_markers
from sharpflat.tasks.losses import mse

README = Path(__file__).parents[1] / "README.md"


def test_the_example_trains_and_prints_the_eigenvalues(capsys) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    torch.manual_seed(0)
    inputs, targets = torch.randn(40, 6), torch.arange(40) % 10
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 10))
    before = mse(model(inputs), targets).item()
    names = {
        "model": model,
        "loss_fn": mse,
        "inputs": inputs,
        "targets": targets,
        "batches": [(inputs, targets)] * 20,
    }
    exec(compile(example, "README.md", "exec"), names)
    assert mse(model(inputs), targets).item() < before
    assert capsys.readouterr().out.startswith("tensor([")


def test_every_path_that_the_readme_names_is_there() -> None:
    text = README.read_text()
    named = set(re.findall(r"`((?:src|workflow|envs)/[\w./]+)`", text))
    assert named
    assert [path for path in named if not (README.parent / path).exists()] == []


def test_the_table_of_claims_is_the_one_that_the_results_make() -> None:
    """`python -m sharpflat readme results/laptop/claims.csv` writes it; nobody types it."""
    claims = pd.read_csv(README.parent / "results/laptop/claims.csv")
    text = README.read_text()
    assert replace_between_markers(text, "claims", readme_table(claims)) == text


def test_the_faults_are_those_that_the_tests_inject() -> None:
    assert sentence() in " ".join(README.read_text().split())


def test_every_figure_that_the_readme_shows_is_there() -> None:
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text())
    assert shown
    assert [path for path in shown if not (README.parent / path).exists()] == []
