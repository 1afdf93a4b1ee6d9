"""Models against references written out in plain tensor operations, in float64.

Oracle: the definitions of tanh, ReLU, maximum, softmax, layer and group norm and GELU, sample by
sample and head by head; nothing of ``torch.nn`` but the parameters themselves.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.models import build_model

TinyDataset = Callable[[str], DatasetEntry]


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    """By name, spread out: fresh biases and layer norms would hide what they do."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(0.5 * noise)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _images(entry: DatasetEntry) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(4, *entry.input_shape, generator=generator, dtype=torch.float64)


def _linear(parameters: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]


def _gelu(z: Tensor) -> Tensor:
    return z * (1 + torch.erf(z / math.sqrt(2))) / 2


def _relu(z: Tensor) -> Tensor:
    return torch.where(z > 0, z, 0.0)


ACTIVATIONS = {
    "tanh": lambda z: (z.exp() - (-z).exp()) / (z.exp() + (-z).exp()),
    "relu": _relu,
    "gelu": _gelu,
}


@pytest.mark.parametrize("kind", ["image", "tabular"])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_mlp(depth: int, activation: str | None, kind: str, tiny_dataset: TinyDataset) -> None:
    """``W_d φ(… φ(W_1 x + b_1) …) + b_d``, φ = tanh where none is given."""
    entry = tiny_dataset(kind)
    sizes: dict[str, int | str] = {"width": 5, "depth": depth}
    if activation is not None:
        sizes["activation"] = activation
    model = build_model("mlp", entry, sizes, seed=0).double()
    parameters = _parameters(model)
    layers = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in parameters))
    assert len(layers) == depth
    x = _images(entry)
    hidden = x.reshape(4, -1)
    for layer in layers[:-1]:
        hidden = ACTIVATIONS[activation or "tanh"](_linear(parameters, layer, hidden))
    torch.testing.assert_close(model(x), _linear(parameters, layers[-1], hidden))


def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3×3 with a border of zeros, pixel by pixel: ``(N, C, H, W)`` to ``(N, D, H, W)``."""
    n, _, height, width = x.shape
    bordered = torch.zeros(n, x.shape[1], height + 2, width + 2, dtype=x.dtype)
    bordered[:, :, 1:-1, 1:-1] = x
    result = torch.empty(n, len(weight), height, width, dtype=x.dtype)
    for i in range(height):
        for j in range(width):
            patch = bordered[:, None, :, i : i + 3, j : j + 3]
            result[:, :, i, j] = (patch * weight).sum((2, 3, 4)) + bias
    return result


def _pool(x: Tensor) -> Tensor:
    """Largest of every 2×2 pixels; an odd row or column is left out."""
    height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    x = x[:, :, :height, :width]
    corners = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return torch.stack(corners).max(dim=0).values


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_cnn(depth: int, tiny_dataset: TinyDataset) -> None:
    """8×9 images: two blocks pool, to 4×4 and 2×2; the third would fall below two pixels."""
    entry = tiny_dataset("image")
    model = build_model("cnn", entry, {"width": 3, "depth": depth}, seed=0).double()
    parameters = _parameters(model)
    *convolutions, head = dict.fromkeys(name.rsplit(".", 1)[0] for name in parameters)
    assert len(convolutions) == depth
    x = _images(entry)
    hidden = x
    for block, layer in enumerate(convolutions):
        z = _convolve(hidden, parameters[f"{layer}.weight"], parameters[f"{layer}.bias"])
        hidden = _pool(_relu(z)) if block < 2 else _relu(z)
    torch.testing.assert_close(model(x), _linear(parameters, head, hidden.reshape(4, -1)))


@pytest.mark.parametrize("depth", [1, 3])
def test_vgg(depth: int, tiny_dataset: TinyDataset) -> None:
    """Pairs of convolutions of width 2, 4 and 8; of 8×9 images two blocks pool."""
    entry = tiny_dataset("image")
    model = build_model("vgg", entry, {"width": 2, "depth": depth}, seed=0).double()
    parameters = _parameters(model)
    *convolutions, head = dict.fromkeys(name.rsplit(".", 1)[0] for name in parameters)
    widths = [len(parameters[f"{layer}.weight"]) for layer in convolutions]
    assert widths == [2, 2, 4, 4, 8, 8][: 2 * depth]
    x = _images(entry)
    hidden = x
    for index, layer in enumerate(convolutions):
        z = _convolve(hidden, parameters[f"{layer}.weight"], parameters[f"{layer}.bias"])
        hidden = _pool(_relu(z)) if index in (1, 3) else _relu(z)
    torch.testing.assert_close(model(x), _linear(parameters, head, hidden.reshape(4, -1)))


def _normalise_groups(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """Sample by sample and group by group: mean 0 and variance 1 over its channels and pixels."""
    out = torch.empty_like(x)
    size = x.shape[1] // groups
    for n in range(len(x)):
        for group in range(groups):
            part = x[n, group * size : (group + 1) * size]
            centred = part - part.mean()
            out[n, group * size : (group + 1) * size] = (
                centred / ((centred**2).mean() + 1e-5).sqrt()
            )
    return out * weight[:, None, None] + bias[:, None, None]


def test_resnet(tiny_dataset: TinyDataset) -> None:
    """One block that keeps its sides, and one that halves them and doubles the width."""
    entry = tiny_dataset("image")
    sizes = {"width": 4, "blocks": 2, "groups": 2}
    model = build_model("resnet", entry, sizes, seed=0).double()
    p = _parameters(model)

    def convolve(x: Tensor, name: str, stride: int) -> Tensor:
        weight = p[f"{name}.weight"]
        if weight.shape[-1] == 1:
            return torch.einsum("nchw,dc->ndhw", x, weight[:, :, 0, 0])[..., ::stride, ::stride]
        return _convolve(x, weight, torch.zeros(len(weight)))[..., ::stride, ::stride]

    def normalise(x: Tensor, name: str) -> Tensor:
        return _normalise_groups(x, p[f"{name}.weight"], p[f"{name}.bias"], groups=2)

    x = _images(entry)
    hidden = _relu(normalise(convolve(x, "0", 2), "1"))
    for block, stride in ((3, 1), (4, 2)):
        inner = _relu(
            normalise(convolve(hidden, f"{block}.residual.0", stride), f"{block}.residual.1")
        )
        added = normalise(convolve(inner, f"{block}.residual.3", 1), f"{block}.residual.4")
        if stride == 2:
            hidden = normalise(convolve(hidden, f"{block}.skip.0", 2), f"{block}.skip.1")
        hidden = _relu(hidden + added)
    assert hidden.shape == (4, 8, 2, 3)
    torch.testing.assert_close(model(x), _linear(p, "7", hidden.mean((2, 3))))


def _softmax(scores: Tensor) -> Tensor:
    weights = (scores - scores.max()).exp()
    return weights / weights.sum()


def _normalise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / ((centred**2).mean() + 1e-5).sqrt() * weight + bias


def _attend(
    p: dict[str, Tensor], name: str, words: Tensor, heads: int, *, causal: bool = False
) -> Tensor:
    """One sentence, ``(L, width)``, word by word and head by head."""
    length, width = words.shape
    size = width // heads
    weight, bias = p[f"{name}.self_attn.in_proj_weight"], p[f"{name}.self_attn.in_proj_bias"]
    queries, keys, values = (words @ weight.T + bias).split(width, dim=1)
    attended = torch.empty_like(words)
    for word in range(length):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            seen = word + 1 if causal else length
            scores = keys[:seen, part] @ queries[word, part] / math.sqrt(size)
            attended[word, part] = _softmax(scores) @ values[:seen, part]
    return _linear(p, f"{name}.self_attn.out_proj", attended)


def _encoder_layer(p: dict[str, Tensor], name: str, words: Tensor, heads: int) -> Tensor:
    """Attention, then GELU; each block is added to what came in, and the sum is normalised."""
    attended = _attend(p, name, words, heads)
    norm = [(p[f"{name}.norm{i}.weight"], p[f"{name}.norm{i}.bias"]) for i in (1, 2)]
    hidden = torch.stack([_normalise(row, *norm[0]) for row in words + attended])
    gelu = _gelu(_linear(p, f"{name}.linear1", hidden))
    out = hidden + _linear(p, f"{name}.linear2", gelu)
    return torch.stack([_normalise(row, *norm[1]) for row in out])


def _normalise_rows(p: dict[str, Tensor], name: str, rows: Tensor) -> Tensor:
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    return torch.stack([_normalise(row, weight, bias) for row in rows])


def _layer_normalised_first(
    p: dict[str, Tensor], name: str, rows: Tensor, heads: int, *, causal: bool
) -> Tensor:
    """What comes in is normalised for each block, whose result is added to it."""
    normed = _normalise_rows(p, f"{name}.norm1", rows)
    hidden = rows + _attend(p, name, normed, heads, causal=causal)
    normed = _normalise_rows(p, f"{name}.norm2", hidden)
    return hidden + _linear(p, f"{name}.linear2", _gelu(_linear(p, f"{name}.linear1", normed)))


def test_vit(tiny_dataset: TinyDataset) -> None:
    """Patches of 3×3 pixels from the upper left, row by row."""
    entry = replace(tiny_dataset("image"), input_shape=(2, 6, 9))
    sizes = {"width": 6, "depth": 2, "heads": 3, "patch": 3}
    model = build_model("vit", entry, sizes, seed=0).double()
    p, images = _parameters(model), _images(entry)
    weight = p["patches.weight"].reshape(6, -1)
    expected = []
    for image in images:
        corners = [(i, j) for i in (0, 3) for j in (0, 3, 6)]
        patches = [image[:, i : i + 3, j : j + 3].reshape(-1) for i, j in corners]
        hidden = torch.stack(patches) @ weight.T + p["patches.bias"] + p["positions"]
        for layer in range(2):
            hidden = _layer_normalised_first(p, f"layers.{layer}", hidden, 3, causal=False)
        expected.append(_linear(p, "head", _normalise_rows(p, "norm", hidden).mean(dim=0)))
    torch.testing.assert_close(model(images), torch.stack(expected))


def test_gpt(tiny_dataset: TinyDataset) -> None:
    """Each character attends to itself and to those before it."""
    entry = tiny_dataset("language")
    model = build_model("gpt", entry, {"width": 6, "depth": 2, "heads": 2}, seed=0).double()
    p = _parameters(model)
    tokens = torch.tensor([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]])
    expected = []
    for row in tokens:
        hidden = p["embedding.weight"][row] + p["positions.weight"]
        for layer in range(2):
            hidden = _layer_normalised_first(p, f"layers.{layer}", hidden, 2, causal=True)
        expected.append(_linear(p, "head", _normalise_rows(p, "norm", hidden)))
    torch.testing.assert_close(model(tokens), torch.stack(expected))


def _position(index: int, width: int) -> Tensor:
    """``sin(i / 10000^(2j / width))`` and its cosine in turn [Vaswani et al., section 3.5]."""
    code = [
        (math.sin, math.cos)[column % 2](index / 10_000 ** (column // 2 * 2 / width))
        for column in range(width)
    ]
    return torch.tensor(code, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "heads", "depth"), [("text", 2, 2), ("sequence", 3, 1)])
def test_transformer(kind: str, heads: int, depth: int, tiny_dataset: TinyDataset) -> None:
    """The words of each sentence alone, encoded, averaged and scored."""
    entry, width = tiny_dataset(kind), 6
    sizes = {"width": width, "depth": depth, "heads": heads}
    model = build_model("transformer", entry, sizes, seed=0).double()
    p = _parameters(model)
    generator = torch.Generator().manual_seed(2)
    lengths = [3, 1, 7]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    if kind == "text":
        rows = torch.randint(1, 11, (3, 7), generator=generator) * mask
    else:
        rows = torch.randn(3, *entry.input_shape, generator=generator, dtype=torch.float64)
    expected = []
    for row, length in zip(rows, lengths, strict=True):
        words = row[:length]
        embedded = (
            p["embedding.weight"][words] if kind == "text" else _linear(p, "embedding", words)
        )
        hidden = embedded + torch.stack([_position(i, width) for i in range(length)])
        for layer in range(depth):
            hidden = _encoder_layer(p, f"layers.{layer}", hidden, heads)
        expected.append(_linear(p, "head", hidden.sum(dim=0) / length))
    # Positions are made in float32, to 1e-7.
    torch.testing.assert_close(model(rows, mask), torch.stack(expected), rtol=0, atol=1e-6)
