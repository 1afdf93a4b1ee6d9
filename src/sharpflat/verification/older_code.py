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

from sharpflat.config import parse_config
from sharpflat.plan import all_edges, all_prefixes, all_runs
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.sources import edge_code_hash, training_code_hash
from sharpflat.training.numerics import set_up
from sharpflat.verification import retraining

if TYPE_CHECKING:
    from collections.abc import Iterator

Trained = PrefixRecord | RunRecord | EdgeRecord


@dataclass(frozen=True)
class OlderCode:
    """A checkout of the code that trained what is stale today.

    Numbers of another kind of machine differ from today's by their rounding, whatever the code.
    Trained here by both codes, only the code is left to make a difference.

    Attributes:
        folder: Of the checkout; it holds ``src/sharpflat``.
        values: Of the configuration that plans the results.
    """

    folder: Path
    values: Mapping[str, Any]

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
        """Train a stretch by the older code, in a process of its own, while the block runs.

        Args:
            train: One of :mod:`sharpflat.verification.retraining`; the older function of its name
                is called.
            record: What it trains.
            summary: Of the result, which names its code, threads and precision.
            paths: Of its arguments those that are files or folders.
            arguments: The others, without the device.

        Raises:
            ValueError: The folder holds no such checkout, its code is not the one that the summary
                names, or its training failed.
        """
        source = self.folder.resolve() / "src"
        if not (source / "sharpflat").is_dir():
            raise ValueError(f"{self.folder} is no checkout of sharpflat: it has no src/sharpflat")
        asked = {
            "config": self.values,
            "id": record.id,
            "code": summary["code"],
            "train": train.__name__,
            "numerics": numerics_of(summary),
            "paths": {name: str(path.resolve()) for name, path in paths.items()},
            "arguments": arguments,
        }
        with subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(source)},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended, and says why
                process.stdin.write(json.dumps(asked).encode())
                process.stdin.close()
            process.stdin = None  # or communicate() would flush it
            try:
                yield
            except BaseException:
                process.kill()
                raise
            _, errors = process.communicate()
        if process.returncode != 0:
            reason = errors.decode().strip().splitlines()
            raise ValueError(
                f"the code in {self.folder} does not train {record.id} again: "
                f"{reason[-1] if reason else f'exit status {process.returncode}'}"
            )


def numerics_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """How torch computed for a result, of :func:`set_up`, as far as this machine can."""
    return {
        "device": "cpu" if summary["device"] == "cpu" else "auto",
        "threads": summary["threads"],
        "tf32": summary["tf32"],
        "deterministic": summary["deterministic_algorithms"],
    }


def todays_code(record: Trained) -> str:
    """This code's hash of what a result depends on."""
    hashed = edge_code_hash if isinstance(record, EdgeRecord) else training_code_hash
    return hashed(record if isinstance(record, PrefixRecord) else record.prefix)


def _train_as_asked() -> None:
    """What the process does, which runs this module of the older checkout."""
    asked = json.load(sys.stdin)
    config = parse_config(asked["config"], Path())
    planned: tuple[Trained, ...] = (
        *all_prefixes(config),
        *all_runs(config),
        *all_edges(config),
    )
    record = next((record for record in planned if record.id == asked["id"]), None)
    if record is None:
        raise SystemExit("its configuration does not plan it")
    if (found := todays_code(record)) != asked["code"]:
        raise SystemExit(f"its hash is {found:.10}, and {asked['code']:.10} trained the result")
    train = getattr(retraining, asked["train"])
    paths = {name: Path(path) for name, path in asked["paths"].items()}
    train(record, device=set_up(**asked["numerics"]), **paths, **asked["arguments"])


if __name__ == "__main__":
    _train_as_asked()
