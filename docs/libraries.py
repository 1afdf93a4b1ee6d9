"""How each library is asked for what comparison.py compares; one class a library."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Batches = Any
#: Eigenvalues that are asked for.
K = 3
#: Products that random estimates may take, and steps of a Lanczos solve: with more than 50
#: hessian-eigenthings does not orthogonalise against all by default, and finds copies.
PROBES, STEPS = 120, 50


class Unavailable(Exception):
    """The library has no interface for a task."""


class Library:
    """What a library is asked for; what it does not define it has no interface for."""

    package: str

    def __getattr__(self, name: str) -> Any:
        raise Unavailable(name)


def trainable(model: nn.Module) -> list[Any]:
    """The parameters that require gradients."""
    return [p for p in model.parameters() if p.requires_grad]


def columns(multiply: Callable[[Tensor], Tensor], size: int, dtype: torch.dtype) -> Tensor:
    """A matrix from its products with unit vectors."""
    return torch.stack([multiply(e) for e in torch.eye(size, dtype=dtype)], dim=1)


def called(model: nn.Module, inputs: Any) -> Any:
    """The model's outputs of a tensor, a tuple or a dict."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


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
        return self.operator(model, loss, batches).to_scipy()

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
