import subprocess
import sys
from dataclasses import replace

import pytest

from sharpflat.tasks.registry import DATASETS, LOSSES, MODELS, check_model, look_up, resolve


def test_importing_the_registry_imports_no_heavy_package() -> None:
    """Oracle: the modules that a fresh interpreter has loaded afterwards."""
    code = (
        "import sys, sharpflat.tasks.registry\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'pandas', 'sklearn', 'mlxtend'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    assert loaded.decode().split() == []


def test_every_reference_resolves() -> None:
    """Oracle: Python's import system."""
    references = [entry.prepare for entry in DATASETS.values()]
    references += [entry.build for entry in MODELS.values()]
    references += LOSSES.values()
    assert all(callable(resolve(reference)) for reference in references)


def test_pinned_fingerprints_are_the_published_ones() -> None:
    """Oracle: sha256 of the official subsets, computed elsewhere from the official downloads."""
    published = {
        ("mnist5k", "x_train"): "a853ca5da5c224d531837eaa3fe56ac036778bb2fdfad445143b5b7d4ec1c739",
        ("mnist5k", "y_train"): "4263f048ea43702387ef1c8494b59e785853c0410e9770600d50f541a6fee264",
        ("cifar10_5k", "x_train[:4000]"): (
            "bac45b45504ed1289a3f437be4bfbefece248abbc094a428a0b4dfab00e776ae"
        ),
        ("cifar10_5k", "y_train"): (
            "0cbafd4dfb25472c7c0d137ea8e7920f0afa3475882651ef6f8825cb39e748fb"
        ),
    }
    for (name, key), digest in published.items():
        assert DATASETS[name].fingerprints[key] == digest


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """Oracle: the registry itself."""
    with pytest.raises(ValueError, match=r"no loss 'hinge'.*cross_entropy, mse"):
        look_up(LOSSES, "hinge", what="loss")


@pytest.mark.parametrize(
    ("model", "dataset", "sizes", "message"),
    [
        ("mlp", "sst2_1k", {"width": 4, "depth": 2}, "not take text data.*kind image or tabular"),
        ("gpt", "sst2_1k", {"width": 4, "depth": 1, "heads": 2}, "not take text.*kind language"),
        ("transformer", "digits", {"width": 8, "depth": 1, "heads": 2}, "kind sequence or text"),
        ("mlp", "digits", {"width": 4}, r"sizes \['width'\].*\['depth', 'width'\]"),
        ("cnn", "digits", {"width": 4, "depth": 1, "heads": 2}, "takes exactly"),
        ("mlp", "digits", {"width": 4, "depth": 0}, "depth is 0; give an integer of at least 1"),
        ("mlp", "digits", {"width": 4.0, "depth": 1}, "width is 4.0"),
        ("mlp", "digits", {"width": "4", "depth": 1}, "width is '4'; give an integer"),
        ("mlp", "digits", {"depth": 1, "activation": "relu"}, "exactly.*wanted, .'activation'"),
        ("mlp", "digits", {"width": 4, "depth": 1, "activation": 3}, "is 3; use one of tanh, relu"),
    ],
)
def test_sizes_that_a_model_does_not_take_are_refused(
    model: str, dataset: str, sizes: dict[str, int | str], message: str
) -> None:
    """Oracle: what each model's docstring says it takes."""
    with pytest.raises(ValueError, match=message):
        check_model(model, DATASETS[dataset], sizes)


def test_array_shapes_are_those_the_publishers_store() -> None:
    """Oracle: the shapes of the official arrays (MNIST without, CIFAR-10 with channels last)."""
    assert DATASETS["mnist5k"].array_shapes["x_train"] == (5000, 28, 28)
    assert DATASETS["cifar10_5k"].array_shapes["x_test"] == (1000, 32, 32, 3)
    assert DATASETS["sst2_1k"].array_shapes["tokens_test"] == (872, 51)
    assert DATASETS["breast_cancer"].array_shapes["x_test"] == (114, 30)
    assert DATASETS["shakespeare5k"].array_shapes["y_test"] == (1000, 32)
    gray_rows = replace(DATASETS["digits_rows"], num_test=3)
    assert gray_rows.array_shapes["x_test"] == (3, 8, 8)
