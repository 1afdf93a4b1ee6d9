"""Write the canonical file of a data set, checked, or write nothing."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sharpflat.tasks.arrays import Prepared, check_arrays, sha256, write_arrays
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.errors import DataError
from sharpflat.tasks.registry import DATASETS, look_up, resolve


def prepare(name: str, path: Path, *, mirror: Path | None = None) -> None:
    """Write data set ``name`` to ``path`` and where it came from to ``<stem>.provenance.json``.

    Both files hold the same bytes whenever they are made from the same source. Nothing appears at
    ``path`` before everything was checked.

    Args:
        name: A name in :data:`sharpflat.tasks.registry.DATASETS`.
        path: The ``.npz`` to write; its folder is made.
        mirror: Folder of canonical files to read instead of the network. Data sets that an
            installed package ships need neither.

    Raises:
        ValueError: If there is no data set of that name.
        DataError: If it cannot be had, or is not the published one.
    """
    entry = look_up(DATASETS, name, what="data set")
    fetch = resolve(entry.prepare)
    try:
        prepared: Prepared = fetch(name, entry, mirror=mirror)
    except ModuleNotFoundError as error:
        raise DataError(
            f"data set {name!r} comes through the package {error.name!r}, which is not installed: "
            "pip install 'sharpflat[data]'"
        ) from error
    check_arrays(name, entry, prepared.arrays)
    provenance = json.dumps(_provenance(name, entry, prepared), indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_together(
        {
            path.with_suffix(".provenance.json"): lambda file: file.write_text(provenance),
            path: lambda file: write_arrays(file, prepared.arrays),
        }
    )


def _provenance(name: str, entry: DatasetEntry, prepared: Prepared) -> dict[str, Any]:
    """What is recorded beside the arrays: no time and no folder, so that it can be compared."""
    arrays = {
        key: {"dtype": array.dtype.str, "shape": array.shape, "sha256": sha256(array)}
        for key, array in sorted(prepared.arrays.items())
    }
    train = arrays[f"{entry.input_name}_train"]["sha256"]
    variants = [variant for variant, digest in entry.variants.items() if digest == train]
    return {
        "dataset": name,
        "source": prepared.source,
        "origin": prepared.origin,
        "variant": variants[0] if variants else None,
        "arrays": arrays,
    }


def _write_together(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """Let each writer fill a temporary file beside its path; move them there once all are whole."""
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in writers}
    try:
        for path, write in writers.items():
            write(temporaries[path])
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
