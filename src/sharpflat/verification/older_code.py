"""Trains stretches by the code of another checkout, beside today's on the same machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpflat.verification import retraining
from sharpflat.verification.retraining import Trained

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, kw_only=True)
class OlderCode:
    """A checkout of the code that trained what is stale today; made by :func:`older_code`.

    Numbers of another kind of machine differ from today's by their rounding, whatever the code.
    Trained here by both codes, they differ by the code alone; what it changes on other machines
    only, as the choice of a kernel may, is not seen.

    Attributes:
        folder: Of the checkout.
        values: Of the configuration that plans the results.
        codes: The checkout's hashes of what each result depends on, and the curvature energy
            along it, by the result's name.
    """

    folder: Path
    values: Mapping[str, Any]
    codes: Mapping[str, tuple[str, str]]

    @contextmanager
    def training(
        self,
        train: Callable[..., object],
        record: Trained,
        summary: Mapping[str, Any],
        *,
        paths: Mapping[str, Path],
        arguments: Mapping[str, Any],
    ) -> Iterator[None]:
        """Train a stretch by this code, in a process of its own, while the block runs.

        Args:
            train: One of :mod:`sharpflat.verification.retraining`; the older function of its name
                is called.
            record: What it trains.
            summary: Of the result, which names its threads and precision.
            paths: Of its arguments those that are files or folders.
            arguments: The others, without the device.

        Raises:
            ValueError: The training failed.
        """
        asked = {
            "config": self.values,
            "id": record.id,
            "train": train.__name__,
            "numerics": numerics_of(summary),
            "paths": {name: str(path.resolve()) for name, path in paths.items()},
            "arguments": arguments,
        }
        with _started(self.folder, asked) as process:
            try:
                yield
            except BaseException:
                process.kill()
                raise
            _result(process, self.folder, f"does not train {record.id} again")


def older_code(folder: Path, values: Mapping[str, Any]) -> OlderCode:
    """The code of a checkout.

    Args:
        folder: Of the checkout; it holds ``src/sharpflat``.
        values: Of the configuration that plans the results.

    Raises:
        ValueError: It holds none, or cannot read the configuration.
    """
    if not (folder / "src" / "sharpflat").is_dir():
        raise ValueError(
            f"{folder} is no checkout of sharpflat: it has no src/sharpflat; "
            "make one with `git worktree add FOLDER COMMIT`"
        )
    with _started(folder, {"config": values}) as process:
        codes = json.loads(_result(process, folder, "does not plan these results"))
    return OlderCode(folder=folder, values=values, codes=codes)


def numerics_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """How torch computed for a result, of :func:`set_up`, as far as this machine can."""
    return {
        "device": "cpu" if summary["device"] == "cpu" else "auto",
        "threads": summary["threads"],
        "tf32": summary["tf32"],
        "deterministic": summary["deterministic_algorithms"],
    }


def _started(folder: Path, asked: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """The training again as a program over a checkout's package, with what it is asked."""
    process = subprocess.Popen(
        [sys.executable, "-P", str(Path(retraining.__file__).resolve())],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder.resolve() / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended, and says why
        process.stdin.write(json.dumps(asked).encode())
        process.stdin.close()
    process.stdin = None  # or communicate() would flush it
    return process


def _result(process: subprocess.Popen[bytes], folder: Path, failure: str) -> bytes:
    """What the program prints.

    Raises:
        ValueError: It failed.
    """
    printed, errors = process.communicate()
    if process.returncode != 0:
        said = errors.decode().strip().splitlines() or [f"exit status {process.returncode}"]
        raise ValueError(f"the code in {folder} {failure}: {said[-1]}")
    return printed
