"""Checksums of several files in one text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def sums(files: Mapping[str, bytes]) -> bytes:
    """Checksums of files, by name and in their order, in the format of ``sha256sum``."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()
