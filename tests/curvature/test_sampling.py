"""What a sample is drawn by, and the matrix that it is corrected to."""

import pytest
import torch
from torch import nn

from sharpflat.curvature import HessianOperator
from sharpflat.curvature.sampling import SampledCurvature, draw, inclusion_probabilities
from sharpflat.tasks.losses import cross_entropy

SIZES = torch.tensor([0.0, 1.0, 2.0, 3.0, 40.0, 5.0, 6.0, 0.5])


def test_probabilities_are_proportional_and_sum_to_the_count():
    """Oracle: the definition, the largest for certain and the others sharing the rest."""
    sizes = torch.tensor([1.0, 2.0, 3.0, 94.0], dtype=torch.float64)
    found = inclusion_probabilities(sizes, 2)
    assert found.tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6, 1])


@pytest.mark.parametrize("count", [1, 3, 8])
def test_draws_are_of_the_count_unbiased_and_seeded(count):
    """Oracle: the mean over all samples, within four standard errors of many draws."""
    values = torch.arange(8, dtype=torch.float64) + 1
    sums = []
    for seed in range(2000):
        sample = draw(SIZES, count, seed=seed)
        assert len(sample.indices) == len(set(sample.indices.tolist())) == count
        sums.append(float(sample.weights @ values[sample.indices]))
    sums = torch.tensor(sums)
    error = float(sums.mean() - values.mean())
    assert abs(error) <= 4 * float(sums.std()) / 2000**0.5 + 1e-12
    assert torch.equal(draw(SIZES, count, seed=3).indices, draw(SIZES, count, seed=3).indices)
    if count == 3:
        assert len({tuple(draw(SIZES, count, seed=s).indices.tolist()) for s in range(20)}) > 3


def test_sizes_of_zero_are_drawn_alike():
    """Oracle: equal weights; a loss that is linear in the outputs has no curvature there."""
    sample = draw(torch.zeros(10), 5, seed=0)
    assert sample.weights.tolist() == pytest.approx([1 / 5] * 5)


def test_corrected_matrix():
    """Oracle: dense matrices of all samples and of the sample; exact on the block, symmetric."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = torch.randn(40, 4, dtype=torch.float64), torch.arange(40) % 3
    operator = HessianOperator(model, cross_entropy, x, y)
    eye = torch.eye(operator.shape[0], dtype=torch.float64)
    H = operator @ eye
    block = torch.linalg.qr(torch.randn(len(eye), 4, dtype=torch.float64))[0]
    sample = draw(operator.sample_sizes(), 10, seed=0)
    sampled = SampledCurvature.exact_on(operator, sample, block, H @ block)
    assert sampled.num_matvecs == 4
    dense = sampled.matmat(eye)
    assert torch.allclose(dense @ block, H @ block, atol=1e-10)
    assert torch.allclose(dense, dense.T, atol=1e-10)
    outside = eye - block @ block.T
    raw = operator.sampled(sample.indices, sample.weights) @ eye
    assert torch.allclose(outside @ dense @ outside, outside @ raw @ outside, atol=1e-10)
    assert not torch.allclose(raw @ block, H @ block, atol=1e-2)
