"""Models against references written out in plain tensor operations, in float64.

Oracle: the definitions of tanh, ReLU, maximum, softmax, layer norm and GELU, sample by sample and
head by head; nothing of ``torch.nn`` but the parameters themselves.
"""

import math
from collections.abc import Callable

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


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_mlp(depth: int, tiny_dataset: TinyDataset) -> None:
    """``W_d tanh(… tanh(W_1 x + b_1) …) + b_d``."""
    entry = tiny_dataset("image")
    model = build_model("mlp", entry, {"width": 5, "depth": depth}, seed=0).double()
    parameters = _parameters(model)
    layers = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in parameters))
    assert len(layers) == depth
    x = _images(entry)
    hidden = x.reshape(4, -1)
    for layer in layers[:-1]:
        z = _linear(parameters, layer, hidden)
        hidden = (z.exp() - (-z).exp()) / (z.exp() + (-z).exp())
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
        hidden = torch.where(z > 0, z, 0.0)
        hidden = _pool(hidden) if block < 2 else hidden
    torch.testing.assert_close(model(x), _linear(parameters, head, hidden.reshape(4, -1)))


def _softmax(scores: Tensor) -> Tensor:
    weights = (scores - scores.max()).exp()
    return weights / weights.sum()


def _normalise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / ((centred**2).mean() + 1e-5).sqrt() * weight + bias


def _encoder_layer(p: dict[str, Tensor], name: str, words: Tensor, heads: int) -> Tensor:
    """One sentence, ``(L, width)``: attention word by word and head by head, then GELU; each block
    is added to what came in, and the sum is normalised."""
    length, width = words.shape
    size = width // heads
    weight, bias = p[f"{name}.self_attn.in_proj_weight"], p[f"{name}.self_attn.in_proj_bias"]
    queries, keys, values = (words @ weight.T + bias).split(width, dim=1)
    attended = torch.empty_like(words)
    for word in range(length):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = keys[:, part] @ queries[word, part] / math.sqrt(size)
            attended[word, part] = _softmax(scores) @ values[:, part]
    attended = _linear(p, f"{name}.self_attn.out_proj", attended)
    norm = [(p[f"{name}.norm{i}.weight"], p[f"{name}.norm{i}.bias"]) for i in (1, 2)]
    hidden = torch.stack([_normalise(row, *norm[0]) for row in words + attended])
    z = _linear(p, f"{name}.linear1", hidden)
    gelu = z * (1 + torch.erf(z / math.sqrt(2))) / 2
    out = hidden + _linear(p, f"{name}.linear2", gelu)
    return torch.stack([_normalise(row, *norm[1]) for row in out])


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
