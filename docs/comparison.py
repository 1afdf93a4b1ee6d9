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
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

Batches = Any
Matrix = Callable[..., Tensor]
#: Accepted relative error of what is exact, and of random estimates.
EXACT, ESTIMATE = 1e-6, 0.3
K = 3


class Unavailable(Exception):
    """The library has no interface for a task."""


class Library:
    """What a library is asked for; what it does not define it has no interface for."""

    package: str

    def __getattr__(self, name: str) -> Any:
        raise Unavailable(name)


def dense(loss_at: Callable[[], Tensor], parameters: list[Tensor]) -> Tensor:
    """The Hessian of a loss by differentiating every entry of its gradient."""
    first = torch.autograd.grad(loss_at(), parameters, create_graph=True)
    gradient = torch.cat([part.reshape(-1) for part in first])
    rows = [
        torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True)
        for entry in gradient
    ]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


def trainable(model: nn.Module) -> list[Any]:
    """The parameters that require gradients."""
    return [p for p in model.parameters() if p.requires_grad]


def columns(multiply: Callable[[Tensor], Tensor], size: int, dtype: torch.dtype) -> Tensor:
    """A matrix from its products with unit vectors."""
    return torch.stack([multiply(e) for e in torch.eye(size, dtype=dtype)], dim=1)


class Sharpflat(Library):
    """This library."""

    package = "sharpflat"

    def operator(self, model: nn.Module, loss: Any, batches: Batches, **options: Any) -> Any:
        from sharpflat.curvature import HessianOperator

        return HessianOperator(model, loss, batches, **options)

    def matrix(self, model: nn.Module, loss: Any, batches: Batches, **options: Any) -> Tensor:
        operator = self.operator(model, loss, batches, **options)
        return operator @ torch.eye(operator.shape[0], dtype=operator.dtype)

    def block(self, model: nn.Module, loss: Any, batches: Batches, name: str) -> Tensor:
        return self.matrix(model, loss, batches, parameters=[f"{name}.*"])

    def padded(self, model: nn.Module, batches: Batches) -> Tensor:
        def loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            total = cross_entropy(outputs, targets, ignore_index=-1, reduction="sum")
            return total, (targets != -1).sum()

        return self.matrix(model, loss, batches)

    def shared(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        return self.matrix(model, loss, batches, process_group=torch.distributed.group.WORLD)

    def ggn(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        from sharpflat.curvature import GGNOperator

        operator = GGNOperator(model, loss, batches)
        return operator @ torch.eye(operator.shape[0], dtype=operator.dtype)

    def eigenvalues(self, model: nn.Module, loss: Any, batches: Batches, which: str) -> Tensor:
        from sharpflat.curvature import top_eigenpairs

        return top_eigenpairs(
            self.operator(model, loss, batches), K, which=which, tol=1e-6
        ).eigenvalues

    def converged(self, model: nn.Module, loss: Any, batches: Batches, steps: int) -> bool:
        from sharpflat.curvature import top_eigenpairs

        operator = self.operator(model, loss, batches)
        return top_eigenpairs(operator, K, tol=1e-4, max_matvecs=steps).converged

    def trace(self, model: nn.Module, loss: Any, batches: Batches) -> float:
        from sharpflat.curvature import trace

        return trace(self.operator(model, loss, batches)).value

    def diagonal(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        from sharpflat.curvature import diagonal

        return diagonal(self.operator(model, loss, batches), num_matvecs=PROBES).values

    def density(self, model: nn.Module, loss: Any, batches: Batches) -> tuple[Tensor, Tensor]:
        from sharpflat.curvature import spectral_density

        found = spectral_density(self.operator(model, loss, batches), steps=20)
        return found.points, found.values

    def preconditioned(
        self, model: nn.Module, loss: Any, batches: Batches, diagonal: Tensor
    ) -> Tensor:
        from sharpflat.curvature import PreconditionedOperator

        operator = PreconditionedOperator(self.operator(model, loss, batches), diagonal)
        return operator.matmat(torch.eye(len(diagonal), dtype=diagonal.dtype))

    def scipy(self, model: nn.Module, loss: Any, batches: Batches) -> Any:
        from sharpflat.curvature import to_scipy

        return to_scipy(self.operator(model, loss, batches))

    def tracked(self, model: nn.Module, loss: Any, batches: Batches) -> Any:
        from sharpflat.curvature import DominantSubspace

        subspace = DominantSubspace(self.operator(model, loss, batches), K, tol=0.01)
        return lambda: (subspace.update(), subspace.basis)[1]


class Curvlinops(Library):
    """curvlinops."""

    package = "curvlinops-for-pytorch"

    def operator(
        self, model: Any, loss: Any, batches: Batches, parameters: Any = None, **options: Any
    ) -> Any:
        from curvlinops import HessianLinearOperator

        parameters = trainable(model) if parameters is None else parameters
        loss = nn.CrossEntropyLoss() if loss is cross_entropy else loss
        if not isinstance(loss, nn.Module):  # it asks a loss how it reduces
            loss = MeanLoss(loss)
        return HessianLinearOperator(model, loss, parameters, batches, **options)

    def matrix(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        options: dict[str, Any] = {}
        if isinstance(next(iter(batches))[0], dict):  # handed over whole, as it documents
            model = Unpacking(model)
            options["batch_size_fn"] = lambda inputs: len(next(iter(inputs.values())))
        operator = self.operator(model, loss, batches, **options)
        return operator @ torch.eye(operator.shape[0], dtype=operator.dtype)

    def block(self, model: nn.Module, loss: Any, batches: Batches, name: str) -> Tensor:
        chosen = list(model.get_submodule(name).parameters())
        operator = self.operator(model, loss, batches, chosen)
        return operator @ torch.eye(operator.shape[0], dtype=operator.dtype)

    def padded(self, model: nn.Module, batches: Batches) -> Tensor:
        return self.matrix(model, nn.CrossEntropyLoss(ignore_index=-1), batches)

    def ggn(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        from curvlinops import GGNLinearOperator

        operator = GGNLinearOperator(model, nn.CrossEntropyLoss(), trainable(model), batches)
        return operator @ torch.eye(operator.shape[0], dtype=operator.dtype)

    def eigenvalues(self, model: nn.Module, loss: Any, batches: Batches, which: str) -> Tensor:
        from scipy.sparse.linalg import eigsh

        which = {"largest": "LA", "smallest": "SA", "magnitude": "LM"}[which]
        return torch.tensor(eigsh(self.scipy(model, loss, batches), k=K, which=which)[0])

    def trace(self, model: nn.Module, loss: Any, batches: Batches) -> float:
        from curvlinops import hutchpp_trace

        return float(hutchpp_trace(self.operator(model, loss, batches), PROBES))

    def diagonal(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        from curvlinops import hutchinson_diag

        return hutchinson_diag(self.operator(model, loss, batches), PROBES)

    def density(self, model: nn.Module, loss: Any, batches: Batches) -> tuple[Tensor, Tensor]:
        from curvlinops import lanczos_approximate_spectrum

        return lanczos_approximate_spectrum(
            self.operator(model, loss, batches), 20, num_repeats=10, kappa=10.0, margin=0.3
        )

    def preconditioned(
        self, model: nn.Module, loss: Any, batches: Batches, diagonal: Tensor
    ) -> Tensor:
        from scipy.sparse import diags

        scale = diags(diagonal.rsqrt().numpy())
        operator = scale @ (self.scipy(model, loss, batches) @ scale.toarray())
        return torch.tensor(operator)

    def scipy(self, model: nn.Module, loss: Any, batches: Batches) -> Any:
        return self.operator(model, loss, batches).to_scipy()


class HessianEigenthings(Library):
    """hessian-eigenthings."""

    package = "hessian-eigenthings"

    def operator(self, model: nn.Module, loss: Any, batches: Batches, **options: Any) -> Any:
        from hessian_eigenthings import HessianOperator

        def loss_of(model: nn.Module, batch: Any) -> Tensor:
            return loss(called(model, batch[0]), batch[1])

        return HessianOperator(model, batches, loss_of, **options)

    def matrix(self, model: nn.Module, loss: Any, batches: Batches, **options: Any) -> Tensor:
        operator = self.operator(model, loss, batches, **options)
        return columns(operator.matvec, operator.size, operator.dtype)

    def block(self, model: nn.Module, loss: Any, batches: Batches, name: str) -> Tensor:
        from hessian_eigenthings import match_names

        return self.matrix(model, loss, batches, param_filter=match_names(f"{name}.*"))

    def padded(self, model: nn.Module, batches: Batches) -> Tensor:
        return self.matrix(model, nn.CrossEntropyLoss(ignore_index=-1), batches)

    def shared(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        from hessian_eigenthings import DDPHessianOperator, supervised_loss

        operator = DDPHessianOperator(model, batches, supervised_loss(loss))
        return columns(operator.matvec, operator.size, operator.dtype)

    def ggn(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        from hessian_eigenthings import (
            GGNOperator,
            supervised_forward,
            supervised_loss_of_output,
        )

        operator = GGNOperator(model, batches, supervised_forward, supervised_loss_of_output(loss))
        return columns(operator.matvec, operator.size, operator.dtype)

    def eigenvalues(self, model: nn.Module, loss: Any, batches: Batches, which: str) -> Tensor:
        from hessian_eigenthings import lanczos

        which = {"largest": "LA", "smallest": "SA", "magnitude": "LM"}[which]
        operator = self.operator(model, loss, batches)
        return lanczos(operator, k=K, max_iter=STEPS, which=which).eigenvalues

    def converged(self, model: nn.Module, loss: Any, batches: Batches, steps: int) -> bool:
        from hessian_eigenthings import lanczos

        operator = self.operator(model, loss, batches)
        return bool(lanczos(operator, k=K, max_iter=steps, tol=1e-4, which="LA").converged.all())

    def trace(self, model: nn.Module, loss: Any, batches: Batches) -> float:
        from hessian_eigenthings import trace

        return float(trace(self.operator(model, loss, batches), num_matvecs=PROBES).estimate)

    def density(self, model: nn.Module, loss: Any, batches: Batches) -> tuple[Tensor, Tensor]:
        from hessian_eigenthings import spectral_density

        found = spectral_density(self.operator(model, loss, batches), lanczos_steps=20)
        return found.grid, found.density


class PyHessian(Library):
    """PyHessian."""

    package = "pyhessian"

    def solver(self, model: nn.Module, loss: Any, batches: Batches) -> Any:
        from pyhessian import hessian

        batches = list(batches)
        data = {"data": batches[0]} if len(batches) == 1 else {"dataloader": batches}
        return hessian(model, loss, cuda=False, **data)

    def matrix(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        from pyhessian.utils import hessian_vector_product

        solver = self.solver(model, loss, batches)

        def multiply(v: Tensor) -> Tensor:
            parts = torch.split(v, [p.numel() for p in solver.params])
            parts = [part.view_as(p) for part, p in zip(parts, solver.params, strict=True)]
            if solver.full_dataset:
                product = solver.dataloader_hv_product(parts)[1]
            else:
                product = hessian_vector_product(solver.gradsH, solver.params, parts)
            return torch.cat([part.reshape(-1) for part in product]).detach()

        return columns(multiply, sum(p.numel() for p in solver.params), solver.params[0].dtype)

    def padded(self, model: nn.Module, batches: Batches) -> Tensor:
        return self.matrix(model, nn.CrossEntropyLoss(ignore_index=-1), batches)

    def eigenvalues(self, model: nn.Module, loss: Any, batches: Batches, which: str) -> Tensor:
        if which != "magnitude":
            raise Unavailable
        solver = self.solver(model, loss, batches)
        return torch.tensor(solver.eigenvalues(maxIter=3000, tol=1e-9, top_n=K)[0])

    def trace(self, model: nn.Module, loss: Any, batches: Batches) -> float:
        samples = self.solver(model, loss, batches).trace(maxIter=PROBES, tol=0)
        return float(torch.tensor(samples).mean())

    def density(self, model: nn.Module, loss: Any, batches: Batches) -> tuple[Tensor, Tensor]:
        nodes, weights = self.solver(model, loss, batches).density(iter=20, n_v=10)
        nodes, weights = torch.tensor(nodes), torch.tensor(weights)
        width = 0.02 * float(nodes.max() - nodes.min())
        points = torch.linspace(
            float(nodes.min()) - 5 * width, float(nodes.max()) + 5 * width, 2000
        ).to(nodes)
        kernel = torch.exp(-(((points[:, None] - nodes.flatten()) / width) ** 2) / 2)
        values = kernel @ weights.flatten() / (width * (2 * torch.pi) ** 0.5 * len(nodes))
        return points, values


class BackPACK(Library):
    """BackPACK."""

    package = "backpack-for-pytorch"

    def matrix(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        from backpack.hessianfree.hvp import hessian_vector_product

        batches = list(batches)
        if len(batches) > 1:
            raise Unavailable  # a product is with the loss of one graph
        value = loss(called(model, batches[0][0]), batches[0][1])
        return self._multiplied(
            lambda parts: hessian_vector_product(value, trainable(model), parts), model
        )

    def _multiplied(self, product: Callable[[list[Tensor]], Any], model: nn.Module) -> Tensor:
        parameters = trainable(model)
        sizes = [p.numel() for p in parameters]

        def multiply(v: Tensor) -> Tensor:
            parts = zip(torch.split(v, sizes), parameters, strict=True)
            found = product([part.view_as(p) for part, p in parts])
            return torch.cat([part.reshape(-1) for part in found])

        return columns(multiply, sum(sizes), parameters[0].dtype)

    def block(self, model: nn.Module, loss: Any, batches: Batches, name: str) -> Tensor:
        from backpack.hessianfree.hvp import hessian_vector_product

        ((inputs, targets),) = list(batches)
        value, chosen = loss(model(inputs), targets), model.get_submodule(name)
        parameters = list(chosen.parameters())
        return self._multiplied(
            lambda parts: hessian_vector_product(value, parameters, parts), chosen
        )

    def ggn(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        from backpack.hessianfree.ggnvp import ggn_vector_product

        ((inputs, targets),) = list(batches)
        outputs = model(inputs)
        value = loss(outputs, targets)
        return self._multiplied(
            lambda parts: ggn_vector_product(value, outputs, model, parts), model
        )

    def diagonal(self, model: nn.Module, loss: Any, batches: Batches) -> Tensor:
        from backpack import backpack, extend
        from backpack.extensions import DiagHessian

        ((inputs, targets),) = list(batches)
        model = extend(copy.deepcopy(model))
        value = extend(nn.CrossEntropyLoss())(model(inputs), targets)
        with backpack(DiagHessian()):
            value.backward()
        return torch.cat([p.diag_h.reshape(-1) for p in model.parameters()])


LIBRARIES = (Sharpflat, Curvlinops, HessianEigenthings, PyHessian, BackPACK)
#: Products that random estimates may take, and steps of a Lanczos solve: with more than 50
#: hessian-eigenthings does not orthogonalise against all by default, and finds copies.
PROBES, STEPS = 120, 50


def called(model: nn.Module, inputs: Any) -> Any:
    """The model's outputs of a tensor, a tuple or a dict."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


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


class MeanLoss(nn.Module):
    """A function that gives a mean, as a module."""

    reduction = "mean"

    def __init__(self, loss: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Any, targets: Tensor) -> Tensor:
        return self.loss(outputs, targets)


class Unpacking(nn.Module):
    """A model of named inputs that takes them as one dict."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.model(**inputs)


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
        return "no: goes on" if library is not PyHessian else "no: calls eval() itself"

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
    found = globals()[name]().shared(model, cross_entropy, [mine])
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
    else:
        main()
