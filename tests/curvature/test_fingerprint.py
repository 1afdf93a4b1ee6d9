"""Two passes over batches are told apart by their samples alone."""

import pytest
import torch
from torch import Tensor

from sharpflat.curvature.fingerprint import Fingerprint


def fingerprint_of(
    *batches: tuple[object, Tensor], first: Fingerprint | None = None
) -> Fingerprint:
    found = Fingerprint(first)
    for batch in batches:
        found.add(*batch)
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.uint8, torch.complex64])
def test_order_and_batches_do_not_matter(dtype):
    """Oracle: the same samples, permuted and cut otherwise; then one changed in one value."""
    x, y = (100 * torch.rand(50, 3, 40)).to(dtype), torch.arange(50)
    order = torch.randperm(50)
    first = fingerprint_of(({"a": (x, y)}, y))
    cut = [({"a": (x[i], y[i])}, y[i]) for i in order.split(7)]
    assert fingerprint_of(*cut, first=first).difference() is None
    other = x.clone()
    other[13, 2, 20] += 1
    found = fingerprint_of(({"a": (other, y)}, y), first=first).difference()
    assert found == "other values in inputs['a'][0] than the first pass had"
    found = fingerprint_of(({"a": (x, y)}, y.roll(1)), first=first).difference()
    assert found == "other pairs of inputs and targets than the first pass had"


@pytest.mark.parametrize("padding", [0, -100])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bfloat16])
def test_padding_alone_may_differ(dtype, padding):
    """Oracle: rows of token ids or features cut at other lengths; then one changed."""
    tokens = torch.randint(1, 1000, (20, 6)).to(dtype)
    tokens[:, 4:] = padding
    first = fingerprint_of((tokens[:10, :4], tokens[:10]), (tokens[10:], tokens[10:]))
    again = fingerprint_of((tokens[5:], tokens[5:]), (tokens[:5, :4], tokens[:5]), first=first)
    assert again.difference() is None
    tokens[3, 0] = 3 if tokens[3, 0] != 3 else 5
    assert fingerprint_of((tokens, tokens), first=first).difference()


def test_noise_in_samples_of_several_lengths():
    """Oracle: no two features are the same as before."""
    batches = [(torch.randn(8, 3 + i, 4), torch.arange(8)) for i in range(4)]
    first = fingerprint_of(*batches)
    assert fingerprint_of(*batches[::-1], first=first).difference() is None
    noisy = [(x + 0.01 * torch.randn(x.shape), y) for x, y in batches]
    found = fingerprint_of(*noisy, first=first).difference()
    assert found == "other values in inputs than the first pass had"
