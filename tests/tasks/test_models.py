from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sharpflat.tasks.data import Inputs
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.losses import load_loss
from sharpflat.tasks.models import build_model
from sharpflat.tasks.models.transformer import GROUP_SIZE
from sharpflat.tasks.parameter_counts import pooled_sides
from sharpflat.tasks.registry import DATASETS, MODELS, count_parameters

TinyDataset = Callable[[str], DatasetEntry]

TINY_MODELS = [
    ("mlp", "image", {"width": 5, "depth": 3}),
    ("cnn", "image", {"width": 3, "depth": 2}),
    ("transformer", "sequence", {"width": 6, "depth": 2, "heads": 3}),
    ("transformer", "text", {"width": 6, "depth": 2, "heads": 3}),
]


def random_inputs(entry: DatasetEntry, count: int) -> Inputs:
    """Inputs of ``entry``'s kind in float64, with rows of different lengths where it has any."""
    generator = torch.Generator().manual_seed(0)
    if entry.kind == "image":
        return torch.randn(count, *entry.input_shape, generator=generator, dtype=torch.float64)
    lengths = torch.arange(count) % entry.input_shape[0] + 1
    mask = torch.arange(entry.input_shape[0]) < lengths.unsqueeze(1)
    if entry.vocabulary_size is None:
        shape = (count, *entry.input_shape)
        return torch.randn(shape, generator=generator, dtype=torch.float64), mask
    tokens = torch.randint(1, entry.vocabulary_size, mask.shape, generator=generator)
    return tokens * mask, mask


def call(model: nn.Module, inputs: Inputs) -> Tensor:
    outputs: Tensor = model(inputs) if isinstance(inputs, Tensor) else model(*inputs)
    return outputs


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("dataset", ["mnist5k", "cifar10_5k", "sst2_1k", "digits", "digits_rows"])
def test_formula_counts_the_parameters_of_the_built_model(
    dataset: str, width: int, depth: int
) -> None:
    """Oracle: the parameters of the modules torch builds."""
    entry = DATASETS[dataset]
    for name, model_entry in MODELS.items():
        if entry.kind in model_entry.kinds:
            sizes = {"width": width, "depth": depth, "heads": 4}
            sizes = {size: sizes[size] for size in model_entry.sizes}
            model = build_model(name, entry, sizes, seed=0)
            built = sum(parameter.numel() for parameter in model.parameters())
            assert count_parameters(name, entry, sizes) == built


def test_a_formula_that_counts_wrongly_is_reported(
    monkeypatch: pytest.MonkeyPatch, tiny_dataset: TinyDataset
) -> None:
    """Oracle: a count that is wrong on purpose."""
    wrong = MODELS["mlp"].__class__(
        build=MODELS["mlp"].build,
        kinds=("image",),
        sizes=("width", "depth"),
        num_parameters=lambda dataset, sizes: 7,
    )
    monkeypatch.setitem(MODELS, "mlp", wrong)
    with pytest.raises(ValueError, match=r"counts 7: correct the entry's num_parameters"):
        build_model("mlp", tiny_dataset("image"), {"width": 2, "depth": 1}, seed=0)


def test_a_seed_decides_the_parameters_and_nothing_else_is_touched(
    tiny_dataset: TinyDataset,
) -> None:
    """Oracle: torch's global random state before and after."""
    sizes = {"width": 4, "depth": 2}
    before = torch.get_rng_state()
    vectors = [
        parameters_to_vector(
            build_model("cnn", tiny_dataset("image"), sizes, seed=seed).parameters()
        )
        for seed in (3, 3, 4)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


@pytest.mark.parametrize(("name", "kind", "sizes"), TINY_MODELS)
def test_outputs_are_one_row_a_sample(
    name: str, kind: str, sizes: dict[str, int], tiny_dataset: TinyDataset
) -> None:
    """Oracle: each sample evaluated on its own (no layer may mix samples)."""
    entry = tiny_dataset(kind)
    model = build_model(name, entry, sizes, seed=0).double()
    inputs = random_inputs(entry, 5)
    outputs = call(model, inputs)
    assert outputs.shape == (5, 3)
    for row in range(5):
        alone = (
            inputs[row : row + 1]
            if isinstance(inputs, Tensor)
            else tuple(part[row : row + 1] for part in inputs)
        )
        torch.testing.assert_close(call(model, alone), outputs[row : row + 1])


@pytest.mark.parametrize("loss_name", ["mse", "cross_entropy"])
@pytest.mark.parametrize(("name", "kind", "sizes"), TINY_MODELS)
def test_double_backward_is_the_hessian(
    name: str, kind: str, sizes: dict[str, int], loss_name: str, tiny_dataset: TinyDataset
) -> None:
    """Oracles: central differences of the gradient in float64, and the Hessian's symmetry."""
    entry = tiny_dataset(kind)
    model = build_model(name, entry, sizes, seed=1).double()
    inputs, targets, loss = random_inputs(entry, 6), torch.arange(6) % 3, load_loss(loss_name)
    parameters = list(model.parameters())
    start = parameters_to_vector(parameters).detach()

    def gradient(create_graph: bool = False) -> Tensor:
        grads = torch.autograd.grad(
            loss(call(model, inputs), targets), parameters, create_graph=create_graph
        )
        return torch.cat([grad.flatten() for grad in grads])

    def product(vector: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            grad = gradient(create_graph=True)
            rows = torch.autograd.grad(grad @ vector, parameters)
        return torch.cat([row.flatten() for row in rows])

    def difference(vector: Tensor, step: float = 1e-5) -> Tensor:
        ends = []
        for sign in (1.0, -1.0):
            vector_to_parameters(start + sign * step * vector, parameters)
            ends.append(gradient())
        vector_to_parameters(start, parameters)
        return (ends[0] - ends[1]) / (2 * step)

    generator = torch.Generator().manual_seed(2)
    u, v = torch.randn(2, start.numel(), generator=generator, dtype=torch.float64)
    product_u, product_v = product(u), product(v)
    torch.testing.assert_close(product_v, difference(v), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(u @ product_v, v @ product_u, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["sequence", "text"])
def test_transformer_output_does_not_depend_on_padding(
    kind: str, training: bool, tiny_dataset: TinyDataset
) -> None:
    """Oracle: the same rows without their padding; torch's fused inference path must agree too."""
    entry = tiny_dataset(kind)
    model = build_model("transformer", entry, {"width": 6, "depth": 2, "heads": 3}, seed=0)
    model = model.double().train(training)
    rows, mask = random_inputs(entry, 4)
    assert mask.sum(dim=1).tolist() == [1, 2, 3, 4]
    garbage = torch.where(
        mask if kind == "text" else mask.unsqueeze(-1), rows, torch.ones_like(rows)
    )
    with torch.set_grad_enabled(training):
        padded = model(rows, mask)
        torch.testing.assert_close(model(rows[:, :4], mask[:, :4]), padded)
        torch.testing.assert_close(model(garbage, mask), padded)


def test_groups_of_like_length_change_no_output(tiny_dataset: TinyDataset) -> None:
    """Oracle: every sequence alone, in float64."""
    entry = tiny_dataset("text")
    model = build_model("transformer", entry, {"width": 6, "depth": 2, "heads": 3}, seed=0).double()
    length, size = entry.input_shape[0], 2 * GROUP_SIZE + 3
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, entry.vocabulary_size or 0, (size, length), generator=generator)
    lengths = torch.randint(1, length + 1, (size, 1), generator=generator)
    mask = torch.arange(length) < lengths
    alone = [
        model(row[None, :n], kept[None, :n])
        for row, kept, n in zip(tokens, mask, lengths, strict=True)
    ]
    torch.testing.assert_close(model(tokens, mask), torch.cat(alone))


def test_transformer_sees_the_order_of_words(tiny_dataset: TinyDataset) -> None:
    """Oracle: a sentence read backwards is another sentence."""
    entry = tiny_dataset("text")
    model = build_model("transformer", entry, {"width": 6, "depth": 1, "heads": 2}, seed=0)
    tokens, mask = torch.tensor([[2, 3, 4]]), torch.ones(1, 3, dtype=torch.bool)
    assert not torch.allclose(model(tokens, mask), model(tokens.flip(1), mask), atol=1e-4)


def test_transformer_layers_start_from_different_parameters(tiny_dataset: TinyDataset) -> None:
    """Oracle: independent draws of the same distribution differ."""
    entry = tiny_dataset("text")
    model = build_model("transformer", entry, {"width": 6, "depth": 2, "heads": 2}, seed=0)
    first, second = (model.get_submodule(f"layers.{index}") for index in range(2))
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_pooling_stops_before_a_side_falls_below_two_pixels() -> None:
    """Oracle: halving by hand."""
    assert pooled_sides(28, 28, depth=4) == [(14, 14), (7, 7), (3, 3), (3, 3)]
    assert pooled_sides(32, 32, depth=3) == [(16, 16), (8, 8), (4, 4)]
    assert pooled_sides(3, 40, depth=1) == [(3, 40)]
