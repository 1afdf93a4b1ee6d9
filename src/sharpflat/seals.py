"""Checksums beside results: a file that was cut or changed afterwards is never taken for whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sharpflat.files import write_whole

#: Of a run's or a prefix's folder, and of the energies measured there: what each seal vouches for.
TRAINED, ENERGY = "trajectory.sha256", "energy.sha256"
SEALED = {TRAINED: ("trajectory.csv", "summary.json"), ENERGY: ("energy.csv",)}


class DamagedResultError(RuntimeError):
    """A result that is not what was written."""


def seal(folder: Path, name: str) -> None:
    """Write the seal of a name in a folder, in the format of ``sha256sum``."""
    write_whole(folder / name, _content(folder, name))


def check_seal(folder: Path, name: str) -> None:
    """Refuse results whose bytes are not those that were sealed.

    Raises:
        DamagedResultError: A file or its seal is missing or damaged; says what to do.
    """
    remedy = f"delete {folder} and make it again"
    try:
        intact = (folder / name).read_bytes() == _content(folder, name)
    except FileNotFoundError as error:
        raise DamagedResultError(f"{error.filename} is missing: {remedy}") from None
    if not intact:
        files = " or ".join(SEALED[name])
        raise DamagedResultError(f"{files} in {folder} is not what was written: {remedy}")


def _content(folder: Path, name: str) -> bytes:
    digests = {file: hashlib.sha256((folder / file).read_bytes()) for file in SEALED[name]}
    return "".join(f"{digest.hexdigest()}  {file}\n" for file, digest in digests.items()).encode()
