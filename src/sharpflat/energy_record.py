"""The record beside a measured curvature energy, and the seal of both (free of torch)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sharpflat import seals
from sharpflat.checksums import sums
from sharpflat.files import write_whole
from sharpflat.sources import Task, energy_code_hash

TABLE, RECORD = "energy.csv", "energy.json"
#: What :data:`sharpflat.seals.ENERGY` vouches for. It is said here, and not in that module, on
#: whose code every search for the edge of stability depends.
SEALED = (TABLE, RECORD)


def identity(trajectory: bytes, task: Task, *, probes: int) -> dict[str, Any]:
    """What the record of an energy names that today's code measures.

    Args:
        trajectory: Content of the trajectory that it is measured along.
        task: What was trained.
        probes: Random probes of a measurement.
    """
    return {
        "code": energy_code_hash(task),
        "trajectory": hashlib.sha256(trajectory).hexdigest(),
        "probes": probes,
    }


def seal_energy(folder: Path) -> None:
    """Write the seal of a measured energy."""
    write_whole(folder / seals.ENERGY, _sums(folder))


def check_energy(folder: Path) -> None:
    """Refuse an energy whose bytes are not those that were sealed.

    Raises:
        DamagedResultError: The table, its record or their seal is missing or damaged; says what to
            do.
    """
    remedy = f"delete {folder}/energy.* and make it again"
    try:
        intact = (folder / seals.ENERGY).read_bytes() == _sums(folder)
    except FileNotFoundError as error:
        raise seals.DamagedResultError(f"{error.filename} is missing: {remedy}") from None
    if not intact:
        files = " or ".join(SEALED)
        raise seals.DamagedResultError(f"{files} in {folder} is not what was written: {remedy}")


def _sums(folder: Path) -> bytes:
    return sums({name: (folder / name).read_bytes() for name in SEALED})
