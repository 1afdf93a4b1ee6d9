import numpy as np
import pytest
import torch

from sharpflat.tasks.losses import Loss, cross_entropy, load_loss, mse

OUTPUTS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], dtype=torch.float64)
TARGETS = torch.tensor([0, 2])


def test_mse_is_summed_over_classes_and_averaged_over_samples() -> None:
    """Oracle: ((0 + 4 + 0.25) + (0 + 9 + 0)) / 2 by hand."""
    assert mse(OUTPUTS, TARGETS).item() == pytest.approx(6.625, abs=1e-15)


def test_mse_has_twice_the_identity_over_n_as_hessian() -> None:
    """Oracle: ∇² of |f − y|² / N is 2 I / N."""
    hessian = torch.autograd.functional.hessian(lambda f: mse(f, TARGETS), OUTPUTS)
    torch.testing.assert_close(hessian.reshape(6, 6), torch.eye(6, dtype=torch.float64))


def test_cross_entropy_is_the_mean_of_minus_log_probabilities() -> None:
    """Oracle: NumPy."""
    f = OUTPUTS.numpy()
    log_probabilities = f - np.log(np.exp(f).sum(axis=1, keepdims=True))
    expected = -(log_probabilities[0, 0] + log_probabilities[1, 2]) / 2
    assert cross_entropy(OUTPUTS, TARGETS).item() == pytest.approx(expected, rel=1e-14)


def test_cross_entropy_has_the_softmax_covariance_as_hessian() -> None:
    """Oracle: ∇² of a sample is diag(p) − p pᵀ, whatever its class."""
    hessian = torch.autograd.functional.hessian(lambda f: cross_entropy(f, TARGETS), OUTPUTS)
    for row, f in enumerate(OUTPUTS):
        p = torch.softmax(f, dim=0)
        torch.testing.assert_close(hessian[row, :, row], (torch.diag(p) - torch.outer(p, p)) / 2)


def test_losses_are_loaded_by_name() -> None:
    """Oracle: the functions themselves."""
    assert load_loss("mse") is mse
    assert load_loss("cross_entropy") is cross_entropy
    with pytest.raises(ValueError, match="no loss 'hinge'"):
        load_loss("hinge")


@pytest.mark.parametrize("loss", [mse, cross_entropy])
def test_positions_of_a_sample_are_averaged(loss: Loss) -> None:
    """Oracle: the mean of the losses of each position by itself."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (4, 5), generator=generator)
    alone = [
        loss(outputs[n, i][None], targets[n, i][None]).item() for n in range(4) for i in range(5)
    ]
    assert loss(outputs, targets).item() == pytest.approx(np.mean(alone), rel=1e-14)
