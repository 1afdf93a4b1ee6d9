"""Threads that do not get in each other's way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

#: Folders, somewhere above the libraries that the wheels of NumPy and SciPy bring along.
_THEIR_FOLDERS = {"numpy", "numpy.libs", "scipy", "scipy.libs"}


@contextmanager
def one_numpy_thread() -> Iterator[None]:
    """Let NumPy and SciPy compute on one thread; torch keeps its own.

    Their threads wait for work by spinning, on the cores that torch then wants. Measured on two
    cores: a solve by SciPy's ``eigsh`` takes twice as long with them. What they do beside the
    products is too little to gain from more than one.
    """
    libraries = ThreadpoolController().lib_controllers
    theirs = [lib for lib in libraries if _THEIR_FOLDERS.intersection(Path(lib.filepath).parts)]
    before = [library.num_threads for library in theirs]
    for library in theirs:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, threads in zip(theirs, before, strict=True):
            library.set_num_threads(threads)
