"""Graphs of the data's chunks are kept while they fit, and products do not depend on it."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from sharpflat.curvature import (
    CurvatureOperator,
    HessianOperator,
)
from sharpflat.tasks.losses import cross_entropy

from .conftest import evaluated
from .small import every_kind

SAMPLES, WIDTH = 600, 32
ROOMY = 2**40


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 3)).double()


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 8, dtype=torch.float64), torch.arange(SAMPLES) % 3


def evaluations(operator: CurvatureOperator, products: int = 1) -> list[int]:
    """Numbers of samples that the model was evaluated on for some products."""
    with evaluated(operator.model) as sizes:
        for _ in range(products):
            operator @ torch.ones(operator.shape[0], dtype=torch.float64)
    return sizes


@every_kind
def test_graphs_of_all_chunks_are_kept(data, kind):
    """Oracle: evaluations of the model: each chunk once per θ, however many products."""
    operator = kind(network(), cross_entropy, *data, chunk_size=250, memory_limit=ROOMY)
    assert evaluations(operator, products=3) == [250, 250, 100]
    with torch.no_grad():
        operator.model[0].bias.add_(0.1)
    assert evaluations(operator, products=2) == [250, 250, 100]


@every_kind
def test_no_memory_for_graphs(data, kind):
    """Oracle: with a limit of 0 every product evaluates every chunk; one chunk is always kept."""
    arguments = (network(), cross_entropy, *data)
    operator = kind(*arguments, chunk_size=250, memory_limit=0)
    assert evaluations(operator, products=2) == 2 * [250, 250, 100]
    assert evaluations(kind(*arguments, memory_limit=0), products=2) == [SAMPLES]


@every_kind
def test_some_graphs_are_kept(data, kind):
    """Oracle: the tensors of this network that a graph must hold, at least its activations.

    A sample has two activations of the hidden layer, 8 bytes an entry, so that three of twelve
    graphs of 50 samples cannot fit in twice their bytes, and all fit in a hundred times as much.
    """
    least = 50 * 2 * WIDTH * 8
    arguments = (network(), cross_entropy, *data)
    tight = kind(*arguments, chunk_size=50, memory_limit=2 * least)
    roomy = kind(*arguments, chunk_size=50, memory_limit=100 * least)
    assert len(evaluations(tight, products=2)) >= 12 + 10
    assert len(evaluations(roomy, products=2)) == 12
    between = [
        len(evaluations(kind(*arguments, chunk_size=50, memory_limit=m * least), products=2))
        for m in (5, 10)
    ]
    assert 24 >= between[0] > between[1] > 12


@every_kind
@pytest.mark.parametrize("chunk_size", [None, 50, 250])
def test_products_do_not_depend_on_what_is_kept(data, kind, chunk_size):
    """Oracle: no memory for graphs, to the bit; one graph of all samples, to rounding."""
    arguments = (network(), cross_entropy, *data)
    V = torch.randn(kind(*arguments).shape[0], 3, dtype=torch.float64)
    without = kind(*arguments, chunk_size=chunk_size, memory_limit=0) @ V
    for limit in (50_000, 500_000, ROOMY, None):
        operator = kind(*arguments, chunk_size=chunk_size, memory_limit=limit)
        assert torch.equal(operator @ V, without)
        assert torch.equal(operator @ V, without)
    whole = kind(*arguments, chunk_size=SAMPLES) @ V
    assert torch.allclose(without, whole, rtol=1e-10, atol=1e-12 * float(whole.abs().max()))


def test_a_sample_is_chunked_like_the_data(data):
    """Oracle: evaluations of the model over a sample of 300, in chunks of 250."""
    operator = HessianOperator(network(), cross_entropy, *data, chunk_size=250)
    sample = operator.sampled(torch.arange(300), torch.ones(300))
    assert evaluations(sample, products=2) == [250, 50]


def test_default_chunks():
    """Oracle: 128 MiB. A wide layer's activations pass it over 2,000 samples, a narrow one's not.

    The wide layer has 8,192 outputs a sample, 32 KiB in single precision, held at least twice;
    more than eight times would be more than double backward needs.
    """
    x, y = torch.randn(2_000, 2), torch.arange(2_000) % 3

    def sizes(width: int) -> list[int]:
        model = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 3))
        operator = HessianOperator(model, cross_entropy, x, y, memory_limit=0)
        with evaluated(model) as found:
            operator @ torch.ones(operator.shape[0])
        return found

    assert sizes(16) == [2_000]
    wide = sizes(8_192)
    assert sum(wide) == 2_000
    assert max(wide) - min(wide) < len(wide)
    assert 128 * 2**20 / (8 * 32 * 2**10) <= max(wide) <= 128 * 2**20 / (2 * 32 * 2**10)


def test_refuses_a_negative_limit(data):
    """Oracle: the constructor's documentation."""
    with pytest.raises(ValueError, match="memory_limit is -1 bytes; it must be at least 0"):
        HessianOperator(network(), cross_entropy, *data, memory_limit=-1)


@every_kind
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda whole: pickle.loads(pickle.dumps(whole))], ids=["deep", "sent"]
)
def test_a_copy_keeps_no_graphs(data, kind, copied):
    """Oracles: products of the original, and of an operator of the copy's model where it moved."""
    operator = kind(network(), cross_entropy, *data)
    v = torch.ones(operator.shape[0], dtype=torch.float64)
    before = operator @ v
    other = copied(operator)
    assert torch.equal(other @ v, before)
    with torch.no_grad():
        other.model[0].bias.add_(0.1)
    assert torch.equal(other @ v, kind(other.model, cross_entropy, *data) @ v)
    assert torch.equal(operator @ v, before)


def test_a_loss_that_reads_what_cannot_be_copied(data):
    """Oracle: the product of the original. The function goes on with the module that it reads."""
    operator = HessianOperator(
        network(), lambda outputs, y: nn.functional.cross_entropy(outputs, y), *data
    )
    v = torch.ones(operator.shape[0], dtype=torch.float64)
    before = operator @ v
    assert torch.equal(copy.deepcopy(operator) @ v, before)
