"""The two ways to reach a file: a mirror's folder, or the network within limits."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sharpflat.tasks.errors import DataError

_TIMEOUT_SECONDS = 30.0
"""Silence after which a connection counts as dead; torchvision sets no limit of its own."""


def mirror_file(name: str, mirror: Path, filename: str) -> Path:
    """The file ``filename`` of the folder ``mirror``, which data set ``name`` needs.

    Raises:
        DataError: If it is not there.
    """
    path = mirror / filename
    if not path.is_file():
        raise DataError(
            f"data set {name!r}: data_mirror {str(mirror)!r} has no file {filename}; put it there, "
            "or leave data_mirror out to download it"
        )
    return path


@contextmanager
def downloading(name: str, address: str) -> Iterator[None]:
    """Bound how long the block may wait for the network, and report its failures in one line.

    Raises:
        DataError: If the block fails to download data set ``name`` from ``address``.
    """
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        yield
    # torchvision reports both a dead network and a wrong checksum as RuntimeError.
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"cannot download data set {name!r} from {address} ({reason}); without a network, give "
            "a folder of canonical files: --config data_mirror=DIR to snakemake, --data-mirror DIR "
            "to a command"
        ) from error
    finally:
        socket.setdefaulttimeout(previous)
