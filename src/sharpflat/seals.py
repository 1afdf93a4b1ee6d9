"""Checksums beside results: a file that was cut or changed afterwards is never taken for whole."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from sharpflat.files import write_whole

#: Of a run's or a prefix's folder, of the energies measured there, and of a search for the edge of
#: stability: what each seal vouches for. That of the energies vouches for their record too, see
#: :mod:`sharpflat.energy_record`: another line here would make every search for the edge stale.
TRAINED, ENERGY, EDGE = "trajectory.sha256", "energy.sha256", "edge.sha256"
SEALED = {
    TRAINED: ("trajectory.csv", "summary.json"),
    ENERGY: ("energy.csv",),
    EDGE: ("edge.csv", "summary.json"),
}
logger = logging.getLogger(__name__)


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


def discard_damaged(folder: Path, name: str) -> None:
    """Remove what a killed process left half written, and let a damaged result be made again.

    A readable result without a seal is trusted: a process may be killed between the two.
    """
    for file in (*SEALED[name], *SEALED, "resume.pt", "snapshots.pt"):
        for half_written in folder.glob(f".{file}.*"):
            half_written.unlink()
    summary = folder / "summary.json"
    if not summary.exists():
        return
    try:
        if (folder / name).exists():
            check_seal(folder, name)
        json.loads(summary.read_text())
        for file in SEALED[name]:
            (folder / file).stat()
    except (DamagedResultError, ValueError, FileNotFoundError) as error:
        logger.warning("%s; training again", error)
        summary.unlink(missing_ok=True)


def finish(folder: Path, name: str) -> None:
    """Seal a complete result."""
    (folder / "resume.pt").unlink(missing_ok=True)  # left by a kill after the summary was written
    seal(folder, name)


def _content(folder: Path, name: str) -> bytes:
    digests = {file: hashlib.sha256((folder / file).read_bytes()) for file in SEALED[name]}
    return "".join(f"{digest.hexdigest()}  {file}\n" for file, digest in digests.items()).encode()
