"""What a result depends on besides its settings and its data (free of torch).

That is the code that makes it, the registry's entries in use, and torch's version. A comment, a
docstring, another task's entry, a module that is never imported there: none of these is among it.
The workflow makes a result again when its hash changes, and training then takes none for complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Protocol

from sharpflat.closure import import_closure, source_path
from sharpflat.tasks.registry import DATASETS, LOSSES, MODELS, look_up

#: What trains a run, how torch computes there, and how a configuration becomes a run.
TRAINING = ("sharpflat.training.train", "sharpflat.training.numerics", "sharpflat.config")
EDGE = ("sharpflat.training.edge", "sharpflat.training.numerics", "sharpflat.config")
ENERGY = ("sharpflat.training.energy", "sharpflat.training.numerics", "sharpflat.config")
#: The last is a program that another of them starts.
BENCHMARK = (
    "sharpflat.benchmarks.run",
    "sharpflat.benchmarks.setting",
    "sharpflat.benchmarks.memory_child",
)
#: Of a data set's entry, what leads to its bytes and recognises them. The bytes themselves are in
#: the fingerprint that every run is recorded with.
ORIGIN = ("prepare", "fingerprints", "source_fingerprints", "variants")


class Task(Protocol):
    """Names in the registry; those of a prefix's record, or of a setting."""

    @property
    def dataset(self) -> str: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def loss(self) -> str: ...  # noqa: D102


def training_code_hash(task: Task) -> str:
    """sha256 of what the runs of a task depend on besides their records and the data."""
    return _hash(TRAINING, [task])


def edge_code_hash(task: Task) -> str:
    """sha256 of what a search for the edge of stability depends on besides its record and data."""
    return _hash(EDGE, [task])


def energy_code_hash(task: Task) -> str:
    """sha256 of what the curvature energy depends on besides the parameters that it is taken at."""
    return _hash(ENERGY, [task])


def benchmark_code_hash(tasks: Sequence[Task]) -> str:
    """sha256 of what the benchmark of tasks depends on besides its settings and the data."""
    return _hash(BENCHMARK, tasks)


def data_code_hash(dataset: str) -> str:
    """sha256 of what a data set's canonical file depends on besides what it is read from."""
    entry = look_up(DATASETS, dataset, what="data set")
    return _sha256(["sharpflat.tasks.prepare", _module(entry.prepare)], [repr(entry)])


def training_sources() -> tuple[Path, ...]:
    """Files of every module that training imports, with any of the registry's models and losses."""
    named = [*(model.build for model in MODELS.values()), *LOSSES.values()]
    modules = import_closure(*TRAINING, *map(_module, named))
    return tuple(path for module in sorted(modules) if (path := source_path(module)) is not None)


def _hash(roots: Sequence[str], tasks: Sequence[Task]) -> str:
    modules, values = list(roots), [f"torch {_installed('torch')}"]
    for task in tasks:
        entry = look_up(DATASETS, task.dataset, what="data set")
        model = look_up(MODELS, task.model, what="model")
        loss = look_up(LOSSES, task.loss, what="loss")
        modules += [_module(model.build), _module(loss)]
        names = [field.name for field in fields(entry) if field.name not in ORIGIN]
        values += [model.build, loss, *(f"{name} {getattr(entry, name)!r}" for name in names)]
    return _sha256(modules, values)


def _sha256(modules: Sequence[str], values: Sequence[str]) -> str:
    code = [f"{name}\n{code}" for name, code in sorted(import_closure(*modules).items())]
    return hashlib.sha256("\n\n".join([*code, *values]).encode()).hexdigest()


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # the workflow's jobs have an environment of their own
        return "none"


def _module(reference: str) -> str:
    return reference.partition(":")[0]
