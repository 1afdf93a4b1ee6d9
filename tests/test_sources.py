"""What a result depends on besides its settings and its data."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from sharpflat import sources
from sharpflat.closure import PACKAGE
from sharpflat.sources import (
    benchmark_code_hash,
    data_code_hash,
    energy_code_hash,
    training_code_hash,
    training_sources,
)
from sharpflat.tasks.registry import DATASETS, LOSSES, MODELS

TASK = SimpleNamespace(dataset="digits", model="mlp", loss="mse")


def _hashes() -> tuple[str, ...]:
    return (
        training_code_hash(TASK),
        energy_code_hash(TASK),
        benchmark_code_hash([TASK]),
        data_code_hash(TASK.dataset),
    )


def test_every_file_that_training_reads_counts() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in training_sources()}
    assert {"optim.py", "curvature/subspace.py", "training/loop.py", "tasks/data.py"} <= names
    assert {"config.py", "settings.py", "training/numerics.py", "tasks/models/cnn.py"} <= names
    assert not {"plan.py", "curvature/energy.py", "analysis/tables.py", "figures/style.py"} & names
    assert len(training_code_hash(TASK)) == 64


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mean": (0.5,)}, (True, True, True, True)),
        ({"max_value": 255.0}, (True, True, True, True)),
        ({"num_train": 1000}, (True, True, True, True)),
        ({"fingerprints": {}}, (False, False, False, True)),
        ({"prepare": "sharpflat.tasks.sources.sst2:sst2"}, (False, False, False, True)),
    ],
)
def test_the_data_sets_entry_counts_where_it_decides(
    changes: dict[str, object], expected: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: what loads an array and what recognises it, by hand."""
    before = _hashes()
    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], **changes))
    after = _hashes()
    assert tuple(old != new for old, new in zip(before, after, strict=True)) == expected


def test_the_models_and_the_losss_entries_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _hashes()
    cnn = replace(MODELS["mlp"], build=MODELS["cnn"].build)
    monkeypatch.setitem(MODELS, "mlp", cnn)
    with_cnn = _hashes()
    monkeypatch.setitem(LOSSES, "mse", LOSSES["cross_entropy"])
    with_both = _hashes()
    for i in range(3):
        assert len({before[i], with_cnn[i], with_both[i]}) == 3
    assert before[3] == with_both[3]


def test_another_tasks_entries_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _hashes()
    monkeypatch.setitem(DATASETS, "more", replace(DATASETS["digits"], mean=(0.5,)))
    monkeypatch.setitem(MODELS, "cnn", MODELS["mlp"])
    monkeypatch.delitem(LOSSES, "cross_entropy")
    assert _hashes() == before


def test_torchs_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _hashes()
    monkeypatch.setattr(sources.metadata, "version", lambda package: f"{package} 9")
    assert [old != new for old, new in zip(before, _hashes(), strict=True)] == [*[True] * 3, False]
