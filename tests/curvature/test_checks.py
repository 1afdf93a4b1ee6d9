"""Models, losses and arguments for which the full-batch Hessian is not defined are refused."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import mse_loss
from torch.utils.checkpoint import checkpoint

from sharpflat.curvature import (
    DominantSubspace,
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    NonFiniteProductError,
    UnsupportedLossError,
    UnsupportedModelError,
    top_eigenpairs,
)

SAMPLES = 20
X = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(SAMPLES) % 3


def in_front_of_a_head(layer: nn.Module, width: int = 4) -> nn.Module:
    return nn.Sequential(layer, nn.Linear(width, 3))


REFUSED_MODELS = {
    "batch norm": (in_front_of_a_head(nn.BatchNorm1d(4)), r"0 \(BatchNorm1d\)"),
    "batch norm alone": (nn.BatchNorm1d(4), r"BatchNorm1d \(BatchNorm1d\)"),
    "batch norm without running statistics": (
        in_front_of_a_head(nn.BatchNorm1d(4, track_running_stats=False)).eval(),
        r"0 \(BatchNorm1d\)",
    ),
    "batch norm, nested": (
        in_front_of_a_head(nn.Sequential(nn.Tanh(), nn.BatchNorm1d(4))),
        r"0\.1 \(BatchNorm1d\)",
    ),
    "dropout": (in_front_of_a_head(nn.Dropout(0.1)), r"0 \(Dropout\)"),
    "alpha dropout": (in_front_of_a_head(nn.AlphaDropout(0.1)), r"0 \(AlphaDropout\)"),
    "attention": (nn.MultiheadAttention(4, 2, dropout=0.1), r"\(MultiheadAttention\)"),
    "encoder layer": (
        nn.TransformerEncoderLayer(4, 2, 8),
        r"self_attn \(MultiheadAttention\), dropout \(Dropout\), dropout1 .*, dropout2 ",
    ),
    "lstm": (nn.LSTM(4, 4, num_layers=2, dropout=0.1), r"\(LSTM\)"),
}


@pytest.mark.parametrize("name", REFUSED_MODELS)
def test_refuses_a_model_by_naming_its_layers_and_the_remedy(name):
    """Oracle: these layers' outputs depend on the batch or on chance."""
    model, layers = REFUSED_MODELS[name]
    remedy = r"model\.eval\(\), set dropout to 0, or use a normalisation without batch stat"
    with pytest.raises(UnsupportedModelError, match=f"{layers}.*{remedy}"):
        HessianOperator(model, functional.cross_entropy, X, Y)


ALLOWED_MODELS = {
    "dropout of 0": in_front_of_a_head(nn.Dropout(0.0)),
    "dropout, evaluated": in_front_of_a_head(nn.Dropout(0.5)).eval(),
    "batch norm, evaluated": in_front_of_a_head(nn.BatchNorm1d(4)).eval(),
    "layer norm": in_front_of_a_head(nn.LayerNorm(4)),
    "group norm": in_front_of_a_head(nn.GroupNorm(2, 4)),
}


@pytest.mark.parametrize("name", ALLOWED_MODELS)
def test_allows_layers_that_treat_each_sample_alone(name):
    """Oracle: each sample is treated alone, so the mean over chunks is the whole."""
    arguments = (ALLOWED_MODELS[name], functional.cross_entropy, X, Y)
    v = torch.ones(HessianOperator(*arguments).shape[0])
    chunked = HessianOperator(*arguments, chunk_size=7) @ v
    assert torch.allclose(HessianOperator(*arguments) @ v, chunked, rtol=1e-4, atol=1e-6)


def test_allows_recurrent_and_attention_layers_without_dropout():
    """Oracle: without dropout nothing in them is left to chance, in training mode too."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 3, num_layers=2, batch_first=True)

        def forward(self, x):
            return self.lstm(x[:, None])[1][0][-1]

    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x[:, None], x[:, None], x[:, None])[0][:, 0]

    for model in (Recurrent(), Attentive()):
        operator = GGNOperator(model, functional.cross_entropy, X, Y)
        assert (operator @ torch.ones(operator.shape[0])).isfinite().all()


def random_loss(outputs, targets):
    return functional.cross_entropy(outputs + torch.randn_like(outputs), targets)


CLASS_WEIGHTS = torch.tensor([1.0, 2.0, 5.0])
REFUSED_LOSSES = {
    "sum": (nn.CrossEntropyLoss(reduction="sum"), "not a mean over samples.*reduction='mean'"),
    "class weights": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), "not a mean.*class weights"),
    "one value a sample": (nn.CrossEntropyLoss(reduction="none"), r"shape \(16,\), not a scalar"),
    "random": (random_loss, r"differ: call model\.eval\(\).*remove the randomness"),
}


@pytest.mark.parametrize("name", REFUSED_LOSSES)
def test_refuses_a_loss_that_is_not_a_mean(name):
    """Oracle: chunks of these losses do not add up to the loss of the whole."""
    loss, message = REFUSED_LOSSES[name]
    with pytest.raises(UnsupportedLossError, match=message):
        HessianOperator(nn.Linear(4, 3), loss, X, Y)


def test_padding_at_the_first_sample_is_told_the_remedy():
    """Oracle: alone it has no finite loss, as a statistic of the batch has none."""
    padded = Y.clone()
    padded[0] = -100
    with pytest.raises(UnsupportedLossError, match=r"alone .*nan.*the pair \(sum, count\)"):
        HessianOperator(nn.Linear(4, 3), functional.cross_entropy, X, padded)


def test_refuses_class_weights_when_the_data_are_sorted_by_class():
    """Oracle: as above; the first samples, all of one class, do not show it."""
    with pytest.raises(UnsupportedLossError, match="class weights"):
        HessianOperator(
            nn.Linear(4, 3),
            nn.CrossEntropyLoss(weight=CLASS_WEIGHTS),
            X.repeat(3, 1),
            torch.arange(3).repeat_interleave(SAMPLES),
        )


def test_refuses_a_model_with_dropout_outside_a_layer():
    """Oracle: two evaluations differ, though no layer says so."""

    class Noisy(nn.Linear):
        def forward(self, x):
            return functional.dropout(super().forward(x))

    with pytest.raises(UnsupportedLossError, match="differ"):
        HessianOperator(Noisy(4, 3), functional.cross_entropy, X, Y)


@pytest.mark.parametrize("samples", [1, 2])
def test_allows_few_samples(samples):
    """Oracle: the dense Hessian of a linear model's MSE, (2/C) xxᵀ averaged, bias included."""
    x, y = X[:samples].double(), torch.zeros(samples, 1, dtype=torch.float64)
    operator = HessianOperator(nn.Linear(4, 1).double(), functional.mse_loss, x, y)
    padded = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    H = operator @ torch.eye(5, dtype=torch.float64)
    assert torch.allclose(H, 2 * padded.T @ padded / samples)


def test_diverged_parameters_are_no_reason_to_refuse():
    """Oracle: the loss at parameters that are not numbers is not one either."""
    model = nn.Linear(4, 3)
    nn.init.constant_(model.weight, float("nan"))
    operator = HessianOperator(model, functional.cross_entropy, X, Y)
    assert (operator @ torch.ones(15)).isnan().any()


BAD_ARGUMENTS = {
    "no samples": ({"x": X[:0], "y": Y[:0]}, r"\[0\] samples"),
    "lengths that differ": ({"y": Y[:-1]}, r"\[19, 20\] samples"),
    "a tuple of lengths that differ": ({"x": (X, X[1:])}, r"\[19, 20\] samples"),
    "nothing to train": (
        {"model": nn.Linear(4, 3).requires_grad_(False)},
        "Linear has no parameter that requires_grad",
    ),
    "chunks of 0": ({"chunk_size": 0}, "chunk_size is 0; it must be an integer, at least 1"),
    "chunks of 8.0": ({"chunk_size": 8.0}, "chunk_size is 8.0; it must be an integer"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_refuses_bad_arguments(name):
    """Oracle: the constructor's documentation."""
    changed, message = BAD_ARGUMENTS[name]
    arguments = {"model": nn.Linear(4, 3), "x": X, "y": Y, "chunk_size": None} | changed
    with pytest.raises(ValueError, match=message):
        HessianOperator(
            arguments["model"],
            functional.cross_entropy,
            arguments["x"],
            arguments["y"],
            chunk_size=arguments["chunk_size"],
        )


def test_parameters_of_two_precisions():
    """Oracle: the model cast to float64. A basis has one precision: tracking refuses, in words."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 2), nn.Linear(2, 3).double()

        def forward(self, x):
            return self.last(self.first(x).double())

    model = Mixed()
    operator = HessianOperator(model, functional.cross_entropy, X, Y)
    whole = copy.deepcopy(model).double()
    expected = HessianOperator(whole, functional.cross_entropy, X.double(), Y)
    V = torch.randn(19, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(operator @ V, expected @ V, atol=1e-5)
    with pytest.raises(ValueError, match=r"are torch.float32 and torch.float64, and a basis has"):
        DominantSubspace(operator, 2)
    block = HessianOperator(model, functional.cross_entropy, X, Y, parameters=["last.*"])
    assert DominantSubspace(block, 2).basis.dtype == torch.float64


def _compiled_model():
    return nn.Sequential(torch.compile(nn.Linear(4, 3))), functional.cross_entropy


def _compiled_forward():
    layer = nn.Linear(4, 3)
    layer.forward = torch.compile(layer.forward)
    return nn.Sequential(layer), functional.cross_entropy


def _compiled_loss():
    return nn.Linear(4, 3), torch.compile(functional.cross_entropy)


@pytest.mark.parametrize("make", [_compiled_model, _compiled_forward, _compiled_loss])
def test_refuses_what_torch_compile_made(make):
    """Oracle: torch, which differentiates what it compiled once."""
    model, loss = make()
    with pytest.raises(UnsupportedModelError, match=r"(0|cross_entropy) is made by torch.compile"):
        HessianOperator(model, loss, X, Y)


@pytest.mark.parametrize("before", [True, False])
def test_what_was_compiled_in_place_is_evaluated_as_it_was(before):
    """Oracle: the same layer, not compiled; it stays compiled."""
    layer = nn.Linear(4, 3)
    expected = HessianOperator(layer, functional.cross_entropy, X, Y) @ torch.eye(15)
    if before:
        layer.compile()
    operator = HessianOperator(layer, functional.cross_entropy, X, Y)
    if not before:
        layer.compile()
    assert torch.equal(operator @ torch.eye(15), expected)
    assert layer._compiled_call_impl is not None


EMBEDDINGS = {
    "max_norm": {"max_norm": 0.5},
    "scale_grad_by_freq": {"scale_grad_by_freq": True},
    "sparse": {"sparse": True},
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_refuses_embeddings_whose_gradient_is_not_the_losss(name):
    """Oracle: torch's documentation of these options; the weight stays as it was."""
    model = nn.Sequential(nn.Embedding(5, 4, **EMBEDDINGS[name]), nn.Flatten(), nn.Linear(4, 3))
    before = model[0].weight.detach().clone()
    with pytest.raises(UnsupportedModelError, match=rf"0 \(Embedding with {name}=.*without that"):
        HessianOperator(model, functional.cross_entropy, Y[:, None], Y)
    assert torch.equal(model[0].weight, before)


def test_refuses_a_model_that_writes_to_its_parameters():
    """Oracle: a weight that is clipped in forward() is another one afterwards."""

    class Clipped(nn.Linear):
        def forward(self, x):
            self.weight.data.clamp_(-0.1, 0.1)
            return super().forward(x)

    with pytest.raises(UnsupportedModelError, match=r"writes to its parameters weight.*after the"):
        HessianOperator(Clipped(4, 3), functional.cross_entropy, X, Y)


def test_refuses_a_loss_that_writes_into_its_targets():
    """Oracle: the targets are as they were."""

    def clipped(outputs, targets):
        return functional.mse_loss(outputs, targets.clamp_(-0.1, 0.1))

    targets = torch.randn(SAMPLES, 3)
    before = targets.clone()
    with pytest.raises(UnsupportedLossError, match=r"writes into its targets.*clone\(\)"):
        HessianOperator(nn.Linear(4, 3), clipped, X, targets)
    assert torch.equal(targets, before)


@pytest.mark.parametrize("draw", [random.random, np.random.random, lambda: float(torch.rand(()))])
def test_refuses_chance_that_two_evaluations_do_not_show(draw):
    """Oracle: a branch that is skipped about once in 10,000 times depends on chance."""

    class Skipping(nn.Linear):
        def forward(self, x):
            return super().forward(x) if draw() > 1e-4 else x[:, :3]

    with pytest.raises(UnsupportedModelError, match=r"draws random numbers.*stochastic depth"):
        HessianOperator(Skipping(4, 3), functional.cross_entropy, X, Y)


def test_refuses_complex_parameters():
    """Oracle: their curvature is no matrix in real numbers of that size."""

    class Spectral(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3, dtype=torch.complex64))

        def forward(self, x):
            return (x.to(torch.complex64) @ self.weight).abs()

    with pytest.raises(UnsupportedModelError, match=r"weight is torch\.complex64.*view_as_complex"):
        HessianOperator(Spectral(), functional.cross_entropy, X, Y)


@pytest.mark.parametrize("kind", [HessianOperator, GGNOperator, FunctionalHessianOperator])
def test_weight_norm(kind):
    """Oracle: the same layer written out; torch's own double backward is off by half of H."""

    class Norm(nn.Module):
        def forward(self, g, v):
            return v * (g / torch.linalg.vector_norm(v, dim=1, keepdim=True))

        def right_inverse(self, w):
            return torch.linalg.vector_norm(w, dim=1, keepdim=True), w

    torch.manual_seed(0)
    fused, own = (nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)) for _ in range(2))
    own.load_state_dict(fused.state_dict())
    nn.utils.parametrizations.weight_norm(fused[0])
    nn.utils.parametrize.register_parametrization(own[0], "weight", Norm())
    written_out = kind(own, functional.cross_entropy, X, Y)
    symmetric = written_out @ torch.eye(48)
    assert torch.allclose(symmetric, symmetric.T, atol=1e-6)
    if kind is GGNOperator:
        products = kind(fused, functional.cross_entropy, X, Y) @ torch.eye(48)
        assert torch.allclose(products, symmetric, atol=1e-6)
        return
    with pytest.raises(UnsupportedModelError, match="wrong through torch's weight_norm: register"):
        kind(fused, functional.cross_entropy, X, Y)


def test_a_loss_that_was_infinite_is_looked_at_once_it_is_not():
    """Oracle: chunks of a sum are no mean, wherever the parameters were when it was built."""
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.bias[0] = float("inf")
    operator = HessianOperator(model, nn.CrossEntropyLoss(reduction="sum"), X, Y)
    with torch.no_grad():
        model.bias[0] = 0.0
    with pytest.raises(UnsupportedLossError, match="not a mean over samples"):
        operator @ torch.ones(15)


def test_no_curvature_where_the_loss_is_not_finite():
    """Oracle: the loss; the absolute error's derivative there is one, and H looks like a number."""
    targets = torch.randn(SAMPLES, 3)
    targets[7, 1] = float("inf")
    operator = HessianOperator(nn.Linear(4, 3), functional.huber_loss, X, targets)
    with pytest.raises(NonFiniteProductError, match="the loss or the data are not finite"):
        top_eigenpairs(operator, 1)


class Checkpointed(nn.Module):
    """Recomputes its first layer, behind inputs that require a gradient as adapters have them."""

    def __init__(self, use_reentrant: bool | None) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5).double(), nn.Linear(5, 3).double()
        self.use_reentrant = use_reentrant

    def part(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x))

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        if self.use_reentrant is None:
            return self.second(self.part(x))
        return self.second(checkpoint(self.part, x, use_reentrant=self.use_reentrant))


@pytest.mark.parametrize("kind", [HessianOperator, GGNOperator, FunctionalHessianOperator])
def test_recomputed_activations(kind):
    """Oracle: the same model without; reentrant, its first layer's gradient would be zeros."""
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    plain, recomputed = Checkpointed(None), Checkpointed(False)
    recomputed.load_state_dict(plain.state_dict())
    v = torch.ones(43, dtype=torch.float64)
    expected = kind(plain, mse_loss, x, y) @ v
    assert torch.allclose(kind(recomputed, mse_loss, x, y) @ v, expected, atol=1e-13)
    with pytest.raises(UnsupportedModelError, match="use_reentrant=False"):
        kind(Checkpointed(True), mse_loss, x, y)
