"""Dense matrices: of operators, and by double differentiation without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

from sharpflat.curvature.krylov import SymmetricOperator


def dense(operator: SymmetricOperator) -> Tensor:
    return operator.matmat(torch.eye(operator.shape[0], dtype=torch.float64))


def dense_hessian(
    model: nn.Module, loss: Callable[[Any, Tensor], Tensor], x: Tensor, y: Tensor
) -> Tensor:
    named = dict(model.named_parameters())

    def loss_at(theta: Tensor) -> Tensor:
        parts = torch.split(theta, [p.numel() for p in named.values()])
        views = {n: t.view_as(p) for (n, p), t in zip(named.items(), parts, strict=True)}
        return loss(functional_call(model, views, (x,)), y)

    return hessian(loss_at, torch.cat([p.detach().reshape(-1) for p in named.values()]))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.norm(found - expected) / torch.linalg.norm(expected))
