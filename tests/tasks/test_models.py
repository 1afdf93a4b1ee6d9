from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sharpflat.tasks.data import Inputs
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.losses import load_loss
from sharpflat.tasks.models import build_model, count_parameters
from sharpflat.tasks.models.pooling import pooled_sides
from sharpflat.tasks.models.transformer import GROUP_SIZE
from sharpflat.tasks.registry import DATASETS

TinyDataset = Callable[[str], DatasetEntry]

TINY_MODELS: list[tuple[str, str, dict[str, int | str]]] = [
    ("mlp", "image", {"width": 5, "depth": 3}),
    ("mlp", "tabular", {"width": 5, "depth": 3, "activation": "gelu"}),
    ("mlp", "tabular", {"width": 5, "depth": 2, "activation": "relu"}),
    ("cnn", "image", {"width": 3, "depth": 2}),
    ("vgg", "image", {"width": 2, "depth": 2}),
    ("resnet", "image", {"width": 4, "blocks": 2, "groups": 2}),
    ("vit", "image", {"width": 6, "depth": 2, "heads": 3, "patch": 1}),
    ("gpt", "language", {"width": 6, "depth": 2, "heads": 3}),
    ("transformer", "sequence", {"width": 6, "depth": 2, "heads": 3}),
    ("transformer", "text", {"width": 6, "depth": 2, "heads": 3}),
]


def random_inputs(entry: DatasetEntry, count: int) -> Inputs:
    """Inputs of ``entry``'s kind in float64, with rows of different lengths where it has any."""
    generator = torch.Generator().manual_seed(0)
    if entry.kind == "language":
        return torch.randint(entry.num_classes, (count, *entry.input_shape), generator=generator)
    if entry.kind in ("image", "tabular"):
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


@pytest.mark.parametrize(
    ("name", "dataset", "sizes", "expected"),
    [
        # in·w + w, w·w + w, w·classes + classes: the P of Song et al.
        ("mlp", "mnist5k", {"width": 200, "depth": 3}, 199_210),
        # 3·9·4 + 4, 4·9·4 + 4 and the head on 4·8·8.
        ("cnn", "cifar10_5k", {"width": 4, "depth": 2}, 112 + 148 + 2570),
        # Pairs of convolutions, 3 → 2 → 2 and 2 → 4 → 4, and the head on 4·8·8.
        ("vgg", "cifar10_5k", {"width": 2, "depth": 2}, 56 + 38 + 76 + 148 + 2570),
        # First convolution and norm; two convolutions and norms; two and a 1×1 to twice the width.
        (
            "resnet",
            "cifar10_5k",
            {"width": 4, "blocks": 2, "groups": 2},
            (108 + 8) + 2 * (144 + 8) + (288 + 16) + (576 + 16) + (32 + 16) + 90,
        ),
        # Rows of 8 to 8; a layer: attention, feed-forward, norms; and the head.
        (
            "transformer",
            "digits_rows",
            {"width": 8, "depth": 1, "heads": 2},
            72 + 4 * 72 + (8 * 32 + 32 + 32 * 8 + 8) + 4 * 8 + 90,
        ),
        # Patches of 3·8·8, 16 positions, a layer as above, the last norm and the head.
        (
            "vit",
            "cifar10_5k",
            {"width": 8, "depth": 1, "heads": 2, "patch": 8},
            (192 * 8 + 8) + 16 * 8 + 4 * 72 + 552 + 4 * 8 + 16 + 90,
        ),
        # 36 characters, 32 positions, a layer as above, the last norm and a head for 36.
        (
            "gpt",
            "shakespeare5k",
            {"width": 8, "depth": 1, "heads": 2},
            (36 + 32) * 8 + 4 * 72 + 552 + 4 * 8 + 16 + (8 * 36 + 36),
        ),
    ],
)
def test_parameters_are_counted_without_building_them(
    name: str, dataset: str, sizes: dict[str, int | str], expected: int
) -> None:
    """Oracles: the layers added up by hand, and the model that is built."""
    entry = DATASETS[dataset]
    assert count_parameters(name, entry, sizes) == expected
    built = build_model(name, entry, sizes, seed=0)
    assert all(parameter.device.type == "cpu" for parameter in built.parameters())
    assert sum(parameter.numel() for parameter in built.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "dataset", "sizes", "message"),
    [
        ("transformer", "sst2_1k", {"width": 9, "depth": 1, "heads": 2}, "width 9.*heads 2"),
        ("gpt", "shakespeare5k", {"width": 9, "depth": 1, "heads": 2}, "gpt width 9.*heads 2"),
        ("resnet", "digits", {"width": 6, "blocks": 1, "groups": 4}, "width 6.*groups 4"),
        (
            "vit",
            "digits",
            {"width": 6, "depth": 1, "heads": 2, "patch": 3},
            "patch 3 does not divide.*8×8.*give a divisor of both",
        ),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(
    name: str, dataset: str, sizes: dict[str, int | str], message: str
) -> None:
    """Oracle: what each model's docstring says it takes."""
    with pytest.raises(ValueError, match=message):
        count_parameters(name, DATASETS[dataset], sizes)


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
    name: str, kind: str, sizes: dict[str, int | str], tiny_dataset: TinyDataset
) -> None:
    """Oracle: each sample evaluated on its own (no layer may mix samples)."""
    entry = tiny_dataset(kind)
    model = build_model(name, entry, sizes, seed=0).double()
    inputs = random_inputs(entry, 5)
    outputs = call(model, inputs)
    assert outputs.shape == (5, *entry.target_shape, 3)
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
    name: str, kind: str, sizes: dict[str, int | str], loss_name: str, tiny_dataset: TinyDataset
) -> None:
    """Oracles: central differences of the gradient in float64, and the Hessian's symmetry."""
    entry = tiny_dataset(kind)
    model = build_model(name, entry, sizes, seed=1).double()
    inputs, loss = random_inputs(entry, 6), load_loss(loss_name)
    targets = torch.arange(6 * prod(entry.target_shape)).reshape(6, *entry.target_shape) % 3
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

    def difference(vector: Tensor, step: float = 1e-6) -> Tensor:
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


def test_no_character_sees_one_that_follows(tiny_dataset: TinyDataset) -> None:
    """Oracle: a later character that is changed, which changes the scores from there on alone."""
    entry = tiny_dataset("language")
    sizes: dict[str, int | str] = {"width": 6, "depth": 2, "heads": 3}
    model = build_model("gpt", entry, sizes, seed=0).double()
    tokens = torch.tensor([[0, 1, 2, 0, 1]])
    before = model(tokens)
    tokens[0, 3] = 2
    after = model(tokens)
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).all()


def test_pooling_stops_before_a_side_falls_below_two_pixels() -> None:
    """Oracle: halving by hand."""
    assert pooled_sides(28, 28, depth=4) == [(14, 14), (7, 7), (3, 3), (3, 3)]
    assert pooled_sides(32, 32, depth=3) == [(16, 16), (8, 8), (4, 4)]
    assert pooled_sides(3, 40, depth=1) == [(3, 40)]
