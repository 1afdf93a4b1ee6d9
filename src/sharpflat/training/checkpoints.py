"""Checkpoints that are whole or refused: written at once, with a checksum, and never unpickled."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from sharpflat.files import write_whole

#: Bytes of the sha256 that a file begins with.
DIGEST_BYTES = 32


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged or does not belong to the run."""


def write_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write tensors and plain values, replacing the file at once."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    content = buffer.getvalue()
    write_whole(path, hashlib.sha256(content).digest() + content)


def read_checkpoint(path: Path, *, map_location: str | None = None) -> dict[str, Any]:
    """Read what :func:`write_checkpoint` wrote.

    Args:
        path: The file.
        map_location: Device of the tensors. Default: where each was.

    Raises:
        CheckpointError: The file is missing or damaged; says what to do.
    """
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: train its run again") from None
    digest, content = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise CheckpointError(f"{path} is damaged: delete it and train its run again")
    values: dict[str, Any] = torch.load(
        io.BytesIO(content), map_location=map_location, weights_only=True
    )
    return values
