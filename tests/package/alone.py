"""Use the library as it is installed: CI runs this file where the wheel, torch and SciPy are alone.

    python tests/package/alone.py

It prints where the package lies.
"""

import sys
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

import sharpflat
from sharpflat.curvature import DominantSubspace, HessianOperator, top_eigenpairs
from sharpflat.optim import ProjectedOptimizer

#: What the study around the library needs, by the names that Python imports.
STUDY = ("jinja2", "jsonschema", "matplotlib", "pandas", "seaborn", "snakemake", "yaml")


def train_along_flat_directions() -> None:
    """A tiny network under Bulk-SGD; the eigenvalues are SciPy's."""
    from scipy.sparse.linalg import eigsh

    torch.manual_seed(0)
    inputs, targets = torch.randn(40, 6, dtype=torch.float64), torch.arange(40) % 3
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    loss_fn = nn.CrossEntropyLoss()
    hessian = HessianOperator(model, loss_fn, inputs, targets)
    found = top_eigenpairs(hessian, 3, tol=1e-8).eigenvalues
    expected = eigsh(hessian.to_scipy(), k=3, which="LA", return_eigenvectors=False)[::-1]
    assert torch.allclose(found, torch.from_numpy(expected.copy())), (found, expected)

    before = loss_fn(model(inputs), targets).item()
    bulk_sgd = ProjectedOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.5),
        DominantSubspace(hessian, k=3),
        dom_weight=0.0,
        bulk_weight=1.0,
    )
    for _ in range(5):
        bulk_sgd.zero_grad()
        loss_fn(model(inputs), targets).backward()
        bulk_sgd.step()
    assert loss_fn(model(inputs), targets).item() < before


if __name__ == "__main__":
    train_along_flat_directions()
    folder = Path(sharpflat.__file__).parent
    assert (folder / "py.typed").exists()
    assert metadata.version("sharpflat") == sharpflat.__version__
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & set(STUDY), loaded & set(STUDY)
    print(folder)
