"""An operator stays the curvature of the model that was checked, or says what changed."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpflat.curvature import (
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    ModelChangedError,
    UnsupportedLossError,
    UnsupportedModelError,
    top_eigenpairs,
)
from sharpflat.tasks.losses import cross_entropy

from .small import every_kind

every_chunking = pytest.mark.parametrize("chunk_size", [None, 5])
SAMPLES = 12


def tanh_mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def with_layer(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), layer, nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 4, dtype=torch.float64), torch.arange(SAMPLES) % 3


def product(operator) -> Tensor:
    v = torch.linspace(-1, 1, operator.shape[0], dtype=operator.dtype)
    return operator @ v


class TestMode:
    """The mode that the layers were checked in is the one that they are evaluated in."""

    @every_kind
    @every_chunking
    @pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(5)], ids=["dropout", "norm"])
    def test_train_after_eval(self, data, kind, chunk_size, layer):
        """Oracle: the product while the model was in evaluation mode; flags and buffers after."""
        model = with_layer(layer).eval()
        operator = kind(model, cross_entropy, *data, chunk_size=chunk_size)
        expected = product(operator)
        model.train()
        model[2].eval()
        buffers = [b.clone() for b in model.buffers()]
        with torch.no_grad():
            model[0].weight.mul_(1.0)  # so that the graph is recorded again
        assert torch.equal(product(operator), expected)
        assert torch.equal(
            operator.sample_sizes(), kind(model.eval(), cross_entropy, *data).sample_sizes()
        )
        assert all(map(torch.equal, buffers, model.buffers()))

    def test_flags_are_put_back_one_by_one(self, data):
        """Oracle: the flags before the product, each layer's its own, after an error too."""
        model = with_layer(nn.Dropout(0.5)).eval()
        operator = HessianOperator(model, cross_entropy, *data)
        model.train()
        model[2].eval()
        flags = [layer.training for layer in model.modules()]
        product(operator)
        assert [layer.training for layer in model.modules()] == flags

        def fail(*_):
            raise RuntimeError("from a hook")

        model[3].register_forward_hook(fail)
        with torch.no_grad():
            model[0].weight.mul_(1.0)
        with pytest.raises(RuntimeError, match="from a hook"):
            product(operator)
        assert [layer.training for layer in model.modules()] == flags

    def test_eigenvalues_in_a_training_loop(self, data):
        """Oracle: the eigenvalues of the model in evaluation mode."""
        model = with_layer(nn.Dropout(0.5)).eval()
        operator = HessianOperator(model, cross_entropy, *data)
        expected = top_eigenpairs(operator, 3).eigenvalues
        model.train()
        with torch.no_grad():
            model[0].weight.mul_(1.0)
        assert torch.allclose(top_eigenpairs(operator, 3).eigenvalues, expected, rtol=1e-10)

    def test_dropout_turned_on_later_is_refused(self, data):
        """Oracle: a model in training mode with dropout is left to chance, whenever it gets it."""
        model = with_layer(nn.Dropout(0.0))
        operator = HessianOperator(model, cross_entropy, *data)
        product(operator)
        model[1].p = 0.5
        with torch.no_grad():
            model[0].weight.mul_(1.0)
        with pytest.raises(UnsupportedModelError, match=r"1 \(Dropout\)"):
            product(operator)

    def test_a_model_that_writes_buffers_is_refused_and_left_alone(self, data):
        """Oracle: the buffer's value before."""

        class Counting(nn.Sequential):
            def __init__(self):
                super().__init__(*tanh_mlp())
                self.register_buffer("calls", torch.zeros(()))

            def forward(self, x):
                self.calls += 1
                return super().forward(x)

        model = Counting()
        with pytest.raises(UnsupportedModelError, match="writes to its buffers calls"):
            HessianOperator(model, cross_entropy, *data)
        assert model.calls == 0

    def test_a_model_that_writes_its_inputs_is_refused(self, data):
        """Oracle: the inputs before."""
        x, y = data
        before = x.clone()
        model = nn.Sequential(nn.ReLU(inplace=True), tanh_mlp())
        with pytest.raises(UnsupportedModelError, match="writes into its inputs"):
            HessianOperator(model, cross_entropy, x, y)
        assert torch.equal(x, before)


class TestGradMode:
    """A graph is recorded whatever the caller's grad mode."""

    @every_kind
    @every_chunking
    @pytest.mark.parametrize("built_inside", [False, True])
    def test_inference_mode(self, data, kind, chunk_size, built_inside):
        """Oracle: the product outside; inside, and after leaving, it is the same."""
        model = tanh_mlp()
        expected = product(kind(model, cross_entropy, *data, chunk_size=chunk_size))
        with torch.inference_mode() if built_inside else nullcontext():
            operator = kind(model, cross_entropy, *data, chunk_size=chunk_size)
        with torch.inference_mode():
            assert torch.equal(product(operator), expected)
            assert operator.sample_sizes().isfinite().all()
            assert top_eigenpairs(operator, 2).eigenvalues.any()
        assert torch.equal(product(operator), expected)

    @every_kind
    def test_data_made_in_inference_mode(self, data, kind):
        """Oracle: the product over the same data, made outside."""
        model = tanh_mlp()
        expected = product(kind(model, cross_entropy, *data))
        with torch.inference_mode():
            copies = tuple(part.clone() for part in data)
        assert torch.equal(product(kind(model, cross_entropy, *copies)), expected)

    def test_parameters_made_in_inference_mode(self, data):
        """Oracle: autograd cannot record them, and torch's own message names no operator."""
        with torch.inference_mode():
            model = tanh_mlp()
        with pytest.raises(UnsupportedModelError, match=r"0\.weight was made inside torch\.infer"):
            HessianOperator(model, cross_entropy, *data)

    @every_kind
    def test_a_model_cut_off_from_its_parameters(self, data, kind):
        """Oracle: zeros are not the curvature of a model whose forward() detaches."""

        class Detached(nn.Sequential):
            def forward(self, x):
                return super().forward(x).detach()

        with pytest.raises(UnsupportedLossError, match="depends on none of the parameters"):
            product(kind(Detached(*tanh_mlp()), cross_entropy, *data))

    def test_inputs_that_require_gradients_are_not_parameters(self, data):
        """Oracle: as above, where the loss has a graph, to the inputs alone."""

        class Frozen(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(4, 3, dtype=torch.float64))

            def forward(self, x):
                return x @ self.weight.detach()

        x, y = data
        with pytest.raises(UnsupportedLossError, match="depends on none of the parameters"):
            product(HessianOperator(Frozen(), cross_entropy, x.requires_grad_(), y))


def cast(model: nn.Module) -> None:
    model.float()


def assign(model: nn.Module) -> None:
    model.load_state_dict({n: 2 * t for n, t in model.state_dict().items()}, assign=True)


def replace_a_layer(model: nn.Module) -> None:
    model[2] = nn.Linear(5, 3).double()


def take_a_layer_away(model: nn.Module) -> None:
    del model[2]


def freeze(model: nn.Module) -> None:
    model[0].bias.requires_grad_(False)


def thaw(model: nn.Module) -> None:
    model[3].weight.requires_grad_(True)


CHANGES = {
    "cast": (cast, r"0\.weight was cast from torch\.float64 to torch\.float32"),
    "assigned": (assign, r"0\.weight was replaced .*load_state_dict\(assign=True\)"),
    "replaced layer": (replace_a_layer, r"2\.weight was replaced"),
    "frozen": (freeze, r"0\.bias was frozen"),
    "thawed": (thaw, r"came to the model \(3\.weight\)"),
    "a layer less": (take_a_layer_away, r"."),
}
every_change = pytest.mark.parametrize("name", CHANGES)


def model_to_change() -> nn.Sequential:
    model = nn.Sequential(*tanh_mlp(), nn.Linear(3, 3).double())
    model[3].requires_grad_(False)
    return model


@every_kind
@every_chunking
@every_change
def test_a_changed_model_is_refused(data, kind, chunk_size, name):
    """Oracle: the operator has no curvature to give; every way to ask for it says so."""
    change, message = CHANGES[name]
    model = model_to_change()
    operator = kind(model, cross_entropy, *data, chunk_size=chunk_size)
    product(operator)
    change(model)
    for ask in (
        lambda: product(operator),
        operator.sample_sizes,
        lambda: product(operator.sampled(torch.tensor([1, 2]), torch.ones(2))),
    ):
        with pytest.raises(ModelChangedError, match=rf"{message}.*operator\.rebind\(\)"):
            ask()


@every_kind
@pytest.mark.parametrize("name", [name for name in CHANGES if name != "a layer less"])
def test_rebind(data, kind, name):
    """Oracle: an operator built over the changed model and its data, cast with it."""
    change, _ = CHANGES[name]
    model = model_to_change()
    operator = kind(model, cross_entropy, *data)
    sample = operator.sampled(torch.tensor([1, 2]), torch.ones(2))
    product(operator)
    change(model)
    operator.rebind()
    sample.rebind()
    x, y = data[0].to(model[0].weight.dtype), data[1]
    expected = kind(model, cross_entropy, x, y)
    assert (operator.shape, operator.dtype) == (expected.shape, expected.dtype)
    assert torch.equal(product(operator), product(expected))
    drawn = expected.sampled(torch.tensor([1, 2]), torch.ones(2))
    assert torch.equal(product(sample), product(drawn))


def test_rebind_keeps_the_mode_and_refuses_as_a_whole(data):
    """Oracle: the mode at construction; a refusal leaves the operator as it was."""
    model = with_layer(nn.Dropout(0.5)).eval()
    operator = HessianOperator(model, cross_entropy, *data)
    expected = product(operator)
    model.train().float()
    operator.rebind()
    assert torch.allclose(product(operator).double(), expected, atol=1e-5)
    model[1] = nn.Dropout(0.1)  # new, and in training mode
    model.double()
    with pytest.raises(UnsupportedModelError, match=r"1 \(Dropout\)"):
        operator.rebind()
    assert operator.dtype == torch.float32
    with pytest.raises(ModelChangedError, match="cast from"):
        product(operator)


def write_in_place(x: Tensor, array: np.ndarray) -> None:
    x.mul_(0.5)


def write_data(x: Tensor, array: np.ndarray) -> None:
    x.data.mul_(0.5)


def write_array(x: Tensor, array: np.ndarray) -> None:
    array *= 0.5


@every_kind
@every_chunking
@pytest.mark.parametrize("write", [write_in_place, write_data, write_array])
@pytest.mark.parametrize("which", ["inputs", "targets"])
def test_data_written_under_a_recorded_graph(kind, chunk_size, write, which):
    """Oracle: an operator built over the data as they are after the write."""
    arrays = {"inputs": np.random.default_rng(0).normal(size=(SAMPLES, 4))}
    arrays["targets"] = np.random.default_rng(1).normal(size=(SAMPLES, 3))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    arguments = (tanh_mlp(), functional.mse_loss, tensors["inputs"], tensors["targets"])
    operator = kind(*arguments, chunk_size=chunk_size)
    sample = operator.sampled(torch.tensor([3, 1]), torch.ones(2))
    before = product(operator), product(sample)
    write(tensors[which], arrays[which])
    anew = kind(*arguments, chunk_size=chunk_size)
    assert torch.equal(product(operator), product(anew))
    drawn = anew.sampled(torch.tensor([3, 1]), torch.ones(2))
    assert torch.equal(product(sample), product(drawn))
    assert which == "targets" or not torch.equal(product(operator), before[0])


@every_kind
@pytest.mark.parametrize("through_data", [False, True])
def test_buffers_written_under_a_recorded_graph(data, kind, through_data):
    """Oracle: an operator built after the write."""
    model = with_layer(nn.BatchNorm1d(5)).eval()
    operator = kind(model, cross_entropy, *data)
    before = product(operator)
    variance = model[1].running_var
    (variance.data if through_data else variance).mul_(4.0)
    assert torch.equal(product(operator), product(kind(model, cross_entropy, *data)))
    assert not torch.equal(product(operator), before)


@every_kind
def test_an_activation_replaced_under_a_recorded_graph(data, kind):
    """Oracle: an operator built over the model with the new activation."""
    model = tanh_mlp()
    operator = kind(model, cross_entropy, *data)
    product(operator)
    model[1] = nn.Sigmoid()
    assert torch.equal(product(operator), product(kind(model, cross_entropy, *data)))


@pytest.mark.parametrize("kind", [GGNOperator, FunctionalHessianOperator])
def test_a_penalty_on_the_parameters_has_no_decomposition(data, kind):
    """Oracle: H holds the penalty's second derivative, 2 for a sum of squares; G + F cannot."""
    model = tanh_mlp()

    def penalised(outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets) + sum(p.square().sum() for p in model.parameters())

    v = torch.ones(43, dtype=torch.float64)
    H = HessianOperator(model, cross_entropy, *data) @ v + 2 * v
    assert torch.allclose(HessianOperator(model, penalised, *data) @ v, H, rtol=1e-12)
    with pytest.raises(UnsupportedLossError, match=r"penalty on the weights.*take it out"):
        kind(model, penalised, *data) @ v


def hooked_parameter(model: nn.Sequential) -> None:
    model[0].weight.register_hook(lambda gradient: 3 * gradient)


def hooked_layer(model: nn.Sequential) -> None:
    model[2].register_full_backward_hook(lambda layer, inside, outside: (2 * inside[0],))


def hooked_before_a_layer(model: nn.Sequential) -> None:
    model[2].register_full_backward_pre_hook(lambda layer, outside: (2 * outside[0],))


@every_kind
@pytest.mark.parametrize("hook", [hooked_parameter, hooked_layer, hooked_before_a_layer])
def test_backward_hooks_change_no_loss(data, kind, hook):
    """Oracle: the product without the hook, which is there again for training."""
    model = tanh_mlp()
    expected = product(kind(model, cross_entropy, *data))
    parameter = model[0].weight
    (plain,) = torch.autograd.grad(cross_entropy(model(data[0]), data[1]), parameter)
    hook(model)
    assert torch.equal(product(kind(model, cross_entropy, *data)), expected)
    (hooked,) = torch.autograd.grad(cross_entropy(model(data[0]), data[1]), parameter)
    assert not torch.allclose(hooked, plain)


class Scaled(nn.Module):
    """An MLP times a number, a tensor and a function that are none of its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.factor, self.constant = tanh_mlp(), 1.0, torch.ones(3).double()
        self.function = torch.tanh

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.constant * self.function(self.mlp(x))


ATTRIBUTES = {
    "number": lambda model: setattr(model, "factor", 3.0),
    "function": lambda model: setattr(model, "function", torch.sigmoid),
    "tensor": lambda model: model.constant.mul_(2),
    "another tensor": lambda model: setattr(model, "constant", 2 * model.constant),
    "forward hook": lambda model: model.mlp.register_forward_hook(lambda m, x, f: 2 * f),
}


@every_kind
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_changed_under_a_recorded_graph(data, kind, name):
    """Oracle: an operator built after the change."""
    model = Scaled()
    operator = kind(model, cross_entropy, *data)
    before = product(operator)
    ATTRIBUTES[name](model)
    assert torch.equal(product(operator), product(kind(model, cross_entropy, *data)))
    assert not torch.equal(product(operator), before)


def test_a_loss_changed_after_it_was_looked_at(data):
    """Oracle: an operator built after the change, or its refusal."""
    model, loss = tanh_mlp(), nn.CrossEntropyLoss()
    operator = HessianOperator(model, loss, *data)
    product(operator)
    loss.label_smoothing = 0.3
    assert torch.equal(product(operator), product(HessianOperator(model, loss, *data)))
    for name, value in (("reduction", "sum"), ("weight", torch.tensor([1.0, 5.0, 9.0]).double())):
        changed = nn.CrossEntropyLoss()
        operator = HessianOperator(model, changed, *data)
        product(operator)
        setattr(changed, name, value)
        with pytest.raises(UnsupportedLossError, match="not a mean over samples"):
            product(operator)


def test_refuses_weights_that_a_parametrization_holds(data):
    """Oracle: what the cache holds was computed without a graph."""
    model = tanh_mlp()
    torch.nn.utils.parametrizations.orthogonal(model[0])
    operator = HessianOperator(model, cross_entropy, *data)
    with torch.nn.utils.parametrize.cached():
        with torch.no_grad():
            model(data[0])
        with pytest.raises(UnsupportedModelError, match=r"cached\(\) is on.*outside"):
            product(operator)


@every_change
def test_theta_of_a_changed_model_is_refused(name):
    """Oracle: the parameters that it would read are no longer the model's."""
    change, message = CHANGES[name]
    model = model_to_change()
    x, y = torch.randn(SAMPLES, 4, dtype=torch.float64), torch.arange(SAMPLES) % 3
    operator = HessianOperator(model, cross_entropy, x, y)
    change(model)
    with pytest.raises(ModelChangedError, match=rf"{message}.*operator\.rebind\(\)"):
        operator.theta()
