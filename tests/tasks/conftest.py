"""Small data sets of our own, in the files a mirror would hold them in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sharpflat.tasks.arrays import sha256, write_arrays
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.registry import DATASETS
from sharpflat.tasks.sources.sst2 import MIRROR_FILES, Rows, rows_sha256


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """An empty folder for mirror files."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    return folder


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch, mirror: Path) -> dict[str, NDArray[Any]]:
    """Made-up images in place of mnist5k: the mirror holds them, the registry expects them."""
    random = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {
        "x_train": random.integers(0, 256, (12, 28, 28), dtype=np.uint8),
        "y_train": np.arange(12, dtype=np.uint8) % 10,
        "x_test": random.integers(0, 256, (6, 28, 28), dtype=np.uint8),
        "y_test": np.arange(6, dtype=np.uint8),
    }
    fingerprints = {name: sha256(array) for name, array in arrays.items()}
    fingerprints["x_train[:5]"] = sha256(arrays["x_train"][:5])
    entry = replace(
        DATASETS["mnist5k"],
        num_train=12,
        num_test=6,
        fingerprints=fingerprints,
        variants={"made up": fingerprints["x_train"]},
    )
    monkeypatch.setitem(DATASETS, "mnist5k", entry)
    write_arrays(mirror / "mnist5k.npz", arrays)
    return arrays


@pytest.fixture
def as_table() -> Callable[[Rows], bytes]:
    """Writes rows as GLUE writes them, with its blank before the tab."""

    def table(rows: Rows) -> bytes:
        lines = [f"{sentence} \t{label}\n" for sentence, label in rows]
        return ("sentence\tlabel\n" + "".join(lines)).encode()

    return table


@pytest.fixture
def sentences(
    monkeypatch: pytest.MonkeyPatch, mirror: Path, as_table: Callable[[Rows], bytes]
) -> dict[str, Rows]:
    """Made-up sentences in place of sst2_1k, likewise; the training file has a row too many."""
    rows: dict[str, Rows] = {
        "train": [("A good film .", 1), ("a film", 1), ("not good at ALL , no", 0)],
        "test": [("a bad film", 0), ("good , good , good , good , good", 1)],
    }
    entry = replace(
        DATASETS["sst2_1k"],
        input_shape=(6,),
        num_train=3,
        num_test=2,
        vocabulary_size=11,
        fingerprints={},
        source_fingerprints={f"{split}_rows": rows_sha256(rows[split]) for split in rows},
    )
    monkeypatch.setitem(DATASETS, "sst2_1k", entry)
    (mirror / MIRROR_FILES["train"]).write_bytes(as_table([*rows["train"], ("too many", 1)]))
    (mirror / MIRROR_FILES["test"]).write_bytes(as_table(rows["test"]))
    return rows


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name can be looked up, as on a machine without a network."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.fixture
def tiny_dataset() -> Callable[[str], DatasetEntry]:
    """Entries of small data sets by kind, for models that are built but never trained."""

    def entry(kind: str) -> DatasetEntry:
        source, shape = {
            "image": ("mnist5k", (2, 8, 9)),
            "tabular": ("breast_cancer", (4,)),
            "sequence": ("digits_rows", (7, 3)),
            "text": ("sst2_1k", (7,)),
            "language": ("shakespeare5k", (5,)),
        }[kind]
        scale = {} if kind in ("text", "language") else {"mean": (0.0,), "std": (1.0,)}
        return replace(
            DATASETS[source],
            input_shape=shape,
            num_classes=3,
            vocabulary_size={"text": 11, "language": 3}.get(kind),
            **scale,
        )

    return entry
