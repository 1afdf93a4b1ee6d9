"""The files of this package that decide a run's numbers (free of torch)."""

from __future__ import annotations

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent


def training_sources() -> tuple[Path, ...]:
    """Files whose change may change a training run; plotting and tables are not among them."""
    patterns = (
        "optim.py",
        "records.py",
        "curvature/*.py",
        "training/*.py",
        "tasks/data.py",
        "tasks/losses.py",
        "tasks/models/*.py",
    )
    return tuple(path for pattern in patterns for path in sorted(PACKAGE.glob(pattern)))


def training_code_hash() -> str:
    """sha256 over the contents of :func:`training_sources`."""
    digest = hashlib.sha256()
    for path in training_sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()
