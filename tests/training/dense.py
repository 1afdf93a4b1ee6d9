"""A run's loss in float64 as a plain function of θ, and its dense derivatives.

Nothing of sharpflat but the data and the initialised module: losses are written out, derivatives
are ``torch.autograd.functional``'s, and the eigenvectors LAPACK's.
"""

from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Dense:
    """A model and samples of its data, its parameters at one point.

    Args:
        model: Any module that takes one tensor; cast to float64 in place.
        loss: ``"mse"`` or ``"cross_entropy"``.
        inputs: float64.
        targets: Classes.
        theta: ``(P,)``.
    """

    def __init__(
        self, model: nn.Module, loss: str, inputs: Tensor, targets: Tensor, theta: Tensor
    ) -> None:
        self.model = model.double()
        self.loss_name = loss
        self.inputs = inputs
        self.targets = targets
        self.theta = theta.double()

    def outputs_at(self, theta: Tensor) -> Tensor:
        named = dict(self.model.named_parameters())
        parts = torch.split(theta, [p.numel() for p in named.values()])
        values = {
            name: part.view_as(p) for (name, p), part in zip(named.items(), parts, strict=True)
        }
        outputs: Tensor = functional_call(self.model, values, (self.inputs,))
        return outputs

    def loss_of(self, outputs: Tensor) -> Tensor:
        count = len(outputs)
        own = outputs[torch.arange(count), self.targets]
        if self.loss_name == "mse":  # Σ_c (f_c - y_c)² = Σ_c f_c² - 2 f_y + 1
            return ((outputs**2).sum() - 2 * own.sum()) / count + 1
        return (torch.logsumexp(outputs, dim=1) - own).mean()

    def loss_at(self, theta: Tensor) -> Tensor:
        return self.loss_of(self.outputs_at(theta))

    @property
    def loss(self) -> float:
        return self.loss_at(self.theta).item()

    @property
    def accuracy(self) -> float:
        right = self.outputs_at(self.theta).argmax(dim=1) == self.targets
        return int(right.sum()) / len(right)

    @cached_property
    def gradient(self) -> Tensor:
        theta = self.theta.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss_at(theta), theta)
        return gradient

    @cached_property
    def hessian(self) -> Tensor:
        return torch.autograd.functional.hessian(self.loss_at, self.theta, vectorize=True)

    @cached_property
    def ggn(self) -> Tensor:
        """``Σ Jᵀ ∇²L J`` over all outputs, of which ``∇²L`` couples those of one sample."""
        jacobian = torch.autograd.functional.jacobian(self.outputs_at, self.theta, vectorize=True)
        outputs = self.outputs_at(self.theta).detach()
        curvature = torch.autograd.functional.hessian(self.loss_of, outputs, vectorize=True)
        return torch.einsum("ncp,ncmd,mdq->pq", jacobian, curvature, jacobian)


def descending_eigenpairs(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues from the largest down, and their eigenvectors, by LAPACK."""
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0), vectors.flip(1)
