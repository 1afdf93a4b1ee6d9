"""Named random streams: each use of chance in a run has a seed of its own."""

from __future__ import annotations

import hashlib

#: What each stream decides.
STREAMS = {
    "initialisation": "the model's initial parameters",
    "batches": "the order of the training samples in every epoch",
    "eigensolver": "the start and search vectors of the eigensolver",
    "energy": "the probes that measure the curvature energy",
}


def stream_seed(seed: int, stream: str) -> int:
    """Seed of a named stream of the run with a given seed, the same on every machine.

    Raises:
        KeyError: The stream is not one of :data:`STREAMS`.
    """
    if stream not in STREAMS:
        raise KeyError(f"unknown random stream {stream!r}; allowed are {', '.join(STREAMS)}")
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:7])
