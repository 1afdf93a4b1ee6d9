"""The README's example is run as it stands."""

import re
from pathlib import Path

import torch
from torch import nn

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
