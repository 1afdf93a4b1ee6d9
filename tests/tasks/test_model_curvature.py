"""The curvature operators on every model.

Oracle: the loss written out over plain tensors in float64, and the dense Hessian and Jacobian of
``torch.autograd.functional``, samples all at once.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector

from sharpflat.curvature import GGNOperator, HessianOperator
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.losses import load_loss
from sharpflat.tasks.models import build_model

TinyDataset = Callable[[str], DatasetEntry]

SAMPLES = 5

MODELS: list[tuple[str, str, dict[str, int | str]]] = [
    ("mlp", "tabular", {"width": 4, "depth": 2, "activation": "relu"}),
    ("mlp", "tabular", {"width": 4, "depth": 2, "activation": "gelu"}),
    ("vgg", "image", {"width": 1, "depth": 2}),
    ("resnet", "image", {"width": 2, "blocks": 2, "groups": 1}),
    ("vit", "image", {"width": 4, "depth": 1, "heads": 2, "patch": 1}),
    ("gpt", "language", {"width": 4, "depth": 1, "heads": 2}),
]


def _samples(entry: DatasetEntry) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape, classes = (SAMPLES, *entry.input_shape), entry.num_classes
    targets = torch.randint(classes, (SAMPLES, *entry.target_shape), generator=generator)
    if entry.kind == "language":
        return torch.randint(classes, shape, generator=generator), targets
    return torch.randn(shape, generator=generator, dtype=torch.float64), targets


def _loss(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over samples, and over their positions where they have any."""
    rows, classes = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
    own = rows[torch.arange(len(rows)), classes]
    if name == "mse":  # Σ_c (f_c - y_c)² = Σ_c f_c² - 2 f_y + 1
        return ((rows**2).sum() - 2 * own.sum()) / len(rows) + 1
    return (torch.logsumexp(rows, dim=1) - own).mean()


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize(("name", "kind", "sizes"), MODELS)
def test_operators_are_the_dense_matrices(
    name: str, kind: str, sizes: dict[str, int | str], loss: str, tiny_dataset: TinyDataset
) -> None:
    entry = tiny_dataset(kind)
    model = build_model(name, entry, sizes, seed=0).double()
    inputs, targets = _samples(entry)
    named = {key: value.detach() for key, value in model.named_parameters()}
    theta = parameters_to_vector(named.values())

    def outputs_at(vector: Tensor) -> Tensor:
        parts = torch.split(vector, [value.numel() for value in named.values()])
        pairs = zip(named.items(), parts, strict=True)
        point = {key: part.view_as(value) for (key, value), part in pairs}
        outputs: Tensor = functional_call(model, point, (inputs,))
        return outputs

    with sdpa_kernel(SDPBackend.MATH):
        dense = hessian(lambda vector: _loss(loss, outputs_at(vector), targets), theta)
        slopes = jacobian(outputs_at, theta).flatten(end_dim=-2)
    outputs = outputs_at(theta).detach()
    curvature = hessian(lambda f: _loss(loss, f, targets), outputs)
    curvature = curvature.reshape(outputs.numel(), outputs.numel())
    generator = torch.Generator().manual_seed(1)
    V = torch.randn(len(theta), 4, generator=generator, dtype=torch.float64)
    for chunk_size in (None, 2):
        options = (model, load_loss(loss), inputs, targets)
        full = HessianOperator(*options, chunk_size=chunk_size) @ V
        torch.testing.assert_close(full, dense @ V, rtol=1e-9, atol=1e-9)
        ggn = GGNOperator(*options, chunk_size=chunk_size) @ V
        expected = slopes.T @ (curvature @ (slopes @ V))
        torch.testing.assert_close(ggn, expected, rtol=1e-9, atol=1e-9)
