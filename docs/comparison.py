"""What the libraries for a loss's curvature can do, found by running them; writes comparison.md.

Every cell is one small task, whose answer is compared with a dense matrix in float64. Libraries
that are not installed are left out with a note.

    pip install curvlinops-for-pytorch 'hessian-eigenthings>=1.0.0a5' pyhessian backpack-for-pytorch
    python docs/comparison.py
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from libraries import LIBRARIES, STEPS, Batches, K, PyHessian, Unavailable, called, trainable
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

#: Accepted relative error of what is exact, and of random estimates.
EXACT, ESTIMATE = 1e-6, 0.3


def dense(loss_at: Callable[[], Tensor], parameters: list[Tensor]) -> Tensor:
    """The Hessian of a loss by differentiating every entry of its gradient."""
    first = torch.autograd.grad(loss_at(), parameters, create_graph=True)
    gradient = torch.cat([part.reshape(-1) for part in first])
    rows = [
        torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True)
        for entry in gradient
    ]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


class TwoInputs(nn.Module):
    """Takes two inputs by place or by name; may return a dict."""

    def __init__(self, *, named_outputs: bool = False) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)
        self.named_outputs = named_outputs

    def forward(self, left: Tensor, right: Tensor | None = None) -> Any:
        hidden = torch.tanh(self.layer(left) * (1 if right is None else right))
        scores = self.head(hidden)
        return {"scores": scores} if self.named_outputs else scores


class Tokens(nn.Module):
    """Scores of every token, for losses that leave padding out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(6, 4), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(tokens))).transpose(1, 2)


class Tied(nn.Module):
    """The same matrix twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


def network(*middle: nn.Module, width: int = 4) -> nn.Sequential:
    """A small network in float64."""
    middle = middle or (nn.Tanh(),)
    return nn.Sequential(nn.Linear(4, width), *middle, nn.Linear(width, 3)).double()


def samples(count: int = 24) -> tuple[Tensor, Tensor]:
    """Inputs and classes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.arange(count) % 3


def compared(found: Tensor, expected: Tensor, tolerance: float = EXACT) -> str:
    """A cell: right, or by how much it is wrong."""
    error = float((found - expected).norm() / expected.norm())
    return "yes" if error <= tolerance else f"**wrong** by {error:.1%}"


def product(
    model: nn.Module, batches: Batches, *, loss: Any = cross_entropy, joined: Any = None
) -> Callable[[Any], str]:
    """The Hessian over some batches, beside that of all samples at once."""

    def task(library: Any) -> str:
        inputs, targets = joined or next(iter(batches))
        parameters = trainable(model)
        expected = dense(lambda: loss(called(model, inputs), targets), parameters)
        return compared(library.matrix(copy.deepcopy(model), loss, batches), expected)

    return task


def batched(size: int) -> Callable[[Any], str]:
    """A DataLoader with batches of a size."""
    data = samples()
    return product(network(), DataLoader(TensorDataset(*data), size), joined=data)


def nested(kind: str) -> Callable[[Any], str]:
    """Inputs in a tuple or dict, or outputs in a dict."""
    inputs, targets = samples()
    left, right = inputs, inputs.flip(0)
    if kind == "outputs":
        model = TwoInputs(named_outputs=True).double()

        def loss(outputs: Any, targets: Tensor) -> Tensor:
            return cross_entropy(outputs["scores"], targets)

        return product(model, [(inputs, targets)], loss=loss)
    both: Any = (left, right) if kind == "tuple" else {"left": left, "right": right}
    return product(TwoInputs().double(), [(both, targets)])


def padding(library: Any) -> str:
    """The mean over tokens that are not padding, in batches with more and less of it."""
    model = Tokens().double()
    tokens, targets = torch.arange(48).view(8, 6) % 6, torch.arange(48).view(8, 6) % 3
    targets[:4, 2:] = -1
    expected = dense(
        lambda: cross_entropy(model(tokens), targets, ignore_index=-1), trainable(model)
    )
    batches = [(tokens[:4], targets[:4]), (tokens[4:], targets[4:])]
    return compared(library.padded(model, batches), expected)


def layer(library: Any) -> str:
    """One layer's block."""
    model, (inputs, targets) = network(), samples()
    parameters = list(model[2].parameters())
    expected = dense(lambda: cross_entropy(model(inputs), targets), parameters)
    return compared(library.block(model, cross_entropy, [(inputs, targets)], "2"), expected)


def frozen() -> Callable[[Any], str]:
    """A layer without gradients."""
    model = network()
    model[0].requires_grad_(False)
    return product(model, [samples()])


def half_precision(library: Any) -> str:
    """Products at parameters in bfloat16, beside float64 at the same ones."""
    model, (inputs, targets) = network().bfloat16(), samples()
    exact, inputs = copy.deepcopy(model).double(), inputs.bfloat16()
    expected = dense(lambda: cross_entropy(exact(inputs.double()), targets), trainable(exact))
    found = library.matrix(model, cross_entropy, [(inputs, targets)])
    return compared(found.double(), expected, 1e-4)


def refused(model: nn.Module) -> Callable[[Any], str]:
    """A model in training mode whose Hessian over all samples is ill-defined."""

    def task(library: Any) -> str:
        model.train()
        try:
            library.matrix(copy.deepcopy(model), cross_entropy, [samples()])
        except Exception as error:
            return f"yes ({type(error).__name__})"
        return "no: goes on" if not isinstance(library, PyHessian) else "no: calls eval() itself"

    return task


def leading(which: str) -> Callable[[Any], str]:
    """The k leading eigenvalues."""

    def task(library: Any) -> str:
        model, data = spread_out()
        values = torch.linalg.eigvalsh(hessian_of(model, data))
        keys = {"largest": -values, "smallest": values, "magnitude": -values.abs()}[which]
        expected = values[keys.argsort()[:K]].sort().values
        found = library.eigenvalues(model, cross_entropy, [data], which)
        return compared(found.double().sort().values, expected, 1e-4)

    return task


def spread_out() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A network at large weights, whose Hessian has eigenvalues of both signs."""
    model, data = network(width=16), samples()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model, data


def hessian_of(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    """Dense."""
    return dense(lambda: cross_entropy(model(data[0]), data[1]), trainable(model))


def gauss_newton(library: Any) -> str:
    """``G = (1/n) Σ Jᵀ (diag p - p pᵀ) J``, written out."""
    model, (inputs, targets) = network(), samples()
    expected: Any = 0
    for x in inputs:
        outputs = model(x[None])[0]
        rows = [
            torch.cat(
                [g.reshape(-1) for g in torch.autograd.grad(f, trainable(model), retain_graph=True)]
            )
            for f in outputs
        ]
        p, jacobian = outputs.detach().softmax(0), torch.stack(rows)
        expected = expected + jacobian.T @ (p.diag() - p.outer(p)) @ jacobian / len(inputs)
    return compared(library.ggn(model, cross_entropy, [(inputs, targets)]), expected)


def traced(library: Any) -> str:
    """The trace, to a fifth."""
    model, data = spread_out()
    found = library.trace(model, cross_entropy, [data])
    return compared(torch.tensor(found), hessian_of(model, data).trace(), ESTIMATE)


def on_diagonal(library: Any) -> str:
    """The diagonal, to a fifth of its norm."""
    model, data = spread_out()
    found = library.diagonal(model, cross_entropy, [data])
    return compared(found, hessian_of(model, data).diagonal(), ESTIMATE)


def density(library: Any) -> str:
    """The mean of the density, ``tr H / P``, to a fifth of the spectrum's width."""
    model, data = spread_out()
    points, values = library.density(model, cross_entropy, [data])
    matrix = hessian_of(model, data)
    points, values = points.double(), values.double()
    mass = torch.trapezoid(values, points)
    mean = torch.trapezoid(points * values, points) / mass
    off = abs(float(mean - matrix.trace() / len(matrix))) / float(
        torch.linalg.eigvalsh(matrix).std()
    )
    return "yes" if off <= ESTIMATE and abs(float(mass) - 1) <= ESTIMATE else "**wrong**"


def preconditioned(library: Any) -> str:
    """``D^{-1/2} H D^{-1/2}``."""
    model, data = spread_out()
    matrix = hessian_of(model, data)
    scale = torch.linspace(1, 2, len(matrix), dtype=torch.float64)
    expected = matrix / (scale.sqrt()[:, None] * scale.sqrt())
    return compared(library.preconditioned(model, cross_entropy, [data], scale), expected)


def scipy(library: Any) -> str:
    """A SciPy operator's product."""
    model, data = spread_out()
    matrix = hessian_of(model, data)
    found = library.scipy(model, cross_entropy, [data]) @ torch.ones(len(matrix)).double().numpy()
    return compared(torch.tensor(found), matrix.sum(1))


def converged(library: Any) -> str:
    """Whether a solve that was cut off says so, and one that was not says that it is done."""
    model, data = spread_out()
    cut, whole = (
        library.converged(model, cross_entropy, [data], steps) for steps in (K + 1, STEPS)
    )
    return {(False, True): "yes"}.get((cut, whole), "**wrong**")


def tracked(library: Any) -> str:
    """The eigenspace kept up while the parameters move."""
    model, data = spread_out()
    follow = library.tracked(model, cross_entropy, [data])
    for _ in range(10):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.002 * torch.randn_like(parameter))
        basis = follow()
    true = torch.linalg.eigh(hessian_of(model, data))[1][:, -K:]
    return compared(basis @ (basis.T @ true), true, 0.02)


def processes(*sizes: int) -> Callable[[Any], str]:
    """Shares of so many samples, each in a process."""

    def task(library: Any) -> str:
        _ = library.shared
        with tempfile.TemporaryDirectory() as folder:
            running = []
            for rank in range(len(sizes)):
                case = json.dumps([type(library).__name__, rank, sizes, folder])
                running.append(subprocess.Popen([sys.executable, __file__, "--share", case]))
            if any([process.wait() for process in running]):
                return "fails"
            return (Path(folder) / "cell").read_text()

    return task


def share(name: str, rank: int, sizes: list[int], folder: str) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=len(sizes)
    )
    torch.manual_seed(0)
    model, data = network(), samples(sum(sizes))
    mine = tuple(part.split(sizes)[rank] for part in data)
    library = next(kind for kind in LIBRARIES if kind.__name__ == name)
    found = library().shared(model, cross_entropy, [mine])
    if rank == 0:
        (Path(folder) / "cell").write_text(compared(found, hessian_of(model, data)))
    torch.distributed.barrier()
    os._exit(0)  # without the destructors of what still holds the group


#: By row of the table: what is asked for.
TASKS: dict[str, Callable[[], Callable[[Any], str]]] = {
    "one batch of tensors": lambda: product(network(), [samples()]),
    "a tuple of inputs": lambda: nested("tuple"),
    "a dict of inputs": lambda: nested("dict"),
    "a dict of outputs": lambda: nested("outputs"),
    "a DataLoader": lambda: batched(8),
    "a ragged last batch": lambda: batched(9),
    "a mean over tokens without padding, over batches": lambda: padding,
    "two processes with equal shares": lambda: processes(12, 12),
    "two processes with shares of unequal size": lambda: processes(8, 16),
    "one layer's block": lambda: layer,
    "tied parameters": lambda: product(Tied().double(), [samples()]),
    "frozen parameters": frozen,
    "LayerNorm": lambda: product(network(nn.LayerNorm(4), nn.Tanh()), [samples()]),
    "GroupNorm": lambda: product(network(nn.GroupNorm(2, 4), nn.Tanh()), [samples()]),
    "parameters in bfloat16": lambda: half_precision,
    "refuses dropout in training mode": lambda: refused(network(nn.Tanh(), nn.Dropout(0.5))),
    "refuses BatchNorm in training mode": lambda: refused(network(nn.BatchNorm1d(4), nn.Tanh())),
    "largest eigenvalues": lambda: leading("largest"),
    "smallest eigenvalues": lambda: leading("smallest"),
    "largest in magnitude": lambda: leading("magnitude"),
    "says whether a solve has converged": lambda: converged,
    "Gauss-Newton matrix": lambda: gauss_newton,
    "spectral density": lambda: density,
    "trace": lambda: traced,
    "diagonal": lambda: on_diagonal,
    "preconditioned Hessian": lambda: preconditioned,
    "SciPy operator": lambda: scipy,
    "the eigenspace tracked along training": lambda: tracked,
}


def cell(task: Callable[[], Callable[[Any], str]], library: Any) -> str:
    """What a library makes of a task."""
    torch.manual_seed(0)
    try:
        return task()(library)
    except Unavailable:
        return "–"
    except Exception as error:
        print(f"{library.package}: {error!r}"[:300], file=sys.stderr)
        return f"fails ({type(error).__name__})"


def main() -> None:
    """Run all tasks and write the table beside this file."""
    torch.set_num_threads(1)
    libraries, heads = [], []
    for kind in LIBRARIES:
        try:
            version = metadata.version(kind.package)
        except metadata.PackageNotFoundError:
            print(f"{kind.package} is not installed", file=sys.stderr)
            continue
        libraries.append(kind())
        heads.append(f"{kind.package} {version}")
    lines = [f"| | {' | '.join(heads)} |", f"|{' --- |' * (len(heads) + 1)}"]
    for name, task in TASKS.items():
        cells = [cell(task, library) for library in libraries]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1])
    Path(__file__).with_suffix(".md").write_text(HEADER + "\n".join(lines) + "\n")


HEADER = """# Libraries for a loss's curvature, compared by running them

Written by `python docs/comparison.py`, which gives each library the same small tasks and compares
its answer with a dense matrix in float64. *yes*: right, to a relative error of 1e-6 where the
answer is exact, to three tenths where it is a random estimate. **wrong**: an answer without a word
of warning, and how far off. *fails*: an error. *–*: no interface for it. Each library is used as
its documentation shows; SciPy's `eigsh` and sparse algebra count for curvlinops, which is made to
be handed to SciPy.

"""

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--share"]:
        share(*json.loads(sys.argv[2]))
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        main()
