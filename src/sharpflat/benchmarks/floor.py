"""The least that a product can cost: its floating-point operations at the machine's own rate."""

from __future__ import annotations

from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sharpflat.benchmarks.rows import ProductRow
from sharpflat.benchmarks.task import BenchmarkTask
from sharpflat.benchmarks.timing import timed
from sharpflat.curvature import HessianOperator

#: Side of the square matrices whose product sets the rate: large enough to run at full speed.
SIDE = 2048
#: Layers without a matrix product, which a multi-layer perceptron may have between its layers.
WITHOUT_PRODUCTS = (nn.Flatten, nn.Tanh, nn.ReLU, nn.GELU)


def measure_product(task: BenchmarkTask, *, repeats: int) -> ProductRow:
    """Time one Hessian-vector product and what bounds it from below.

    Args:
        task: Its model's parameters are left as they are.
        repeats: Of each timing; the median is taken, of the rate the best.
    """
    device = task.device
    v = torch.randn(task.num_parameters, device=device, dtype=task.parameters[0].dtype)
    _ = task.hessian() @ v  # the first of all products also loads and plans kernels
    operator = task.hessian()
    _, seconds_with_graph = timed(lambda: operator @ v, device)
    # Two products less one: with chunks, each call also records the graphs.
    flops = _flops(operator, torch.stack([v, v], dim=1)) - _flops(operator, v[:, None])
    measured: dict[str, list[float]] = {"product": [], "gradient": [], "rate": [], "replay": []}
    square = torch.randn(SIDE, SIDE, device=device, dtype=v.dtype)
    for _ in range(repeats):
        measured["product"].append(timed(lambda: operator @ v, device)[1])
        measured["gradient"].append(timed(lambda: _gradient(task), device)[1])
        measured["rate"].append(2 * SIDE**3 / timed(lambda: square @ square, device)[1])
        replay = _replay(task)
        if replay is not None:
            measured["replay"].append(replay)
    rate = max(measured["rate"])
    return ProductRow(
        task=task.name,
        seconds=median(measured["product"]),
        seconds_with_graph=seconds_with_graph,
        gradient_seconds=median(measured["gradient"]),
        flops=flops,
        matmul_flops_per_second=rate,
        floor_seconds=flops / rate,
        replay_seconds=median(measured["replay"]) if measured["replay"] else None,
    )


def _flops(operator: HessianOperator, vectors: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        _ = operator @ vectors
    flops: int = counter.get_total_flops()
    return flops


def _gradient(task: BenchmarkTask) -> tuple[Tensor, ...]:
    loss = task.loss(task.outputs(task.inputs), task.targets)
    return torch.autograd.grad(loss, task.parameters)


def _replay(task: BenchmarkTask) -> float | None:
    """Seconds of a product's matrix products alone; None unless the model is a perceptron.

    Differentiating a linear layer ``Z = X Wᵀ`` twice takes six products, two for each of ``Z``,
    ``∂Z/∂X`` and ``∂Z/∂W``; the first layer needs no derivative for ``X``, so two.
    """
    layers = list(task.model) if isinstance(task.model, nn.Sequential) else []
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if not linear or any(not isinstance(layer, (nn.Linear, *WITHOUT_PRODUCTS)) for layer in layers):
        return None
    products: list[tuple[Tensor, Tensor]] = []
    for index, layer in enumerate(linear):
        weight = layer.weight.detach()
        x = weight.new_ones(len(task.targets), layer.in_features)
        z = weight.new_ones(len(task.targets), layer.out_features)
        products += [(x, weight.T), (z.T, x)]
        if index > 0:
            products += [(x, weight.T), (z.T, x), (z, weight), (z, weight)]

    def multiply() -> None:
        for left, right in products:
            _ = left @ right

    return timed(multiply, task.device)[1]
