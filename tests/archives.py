"""Results and archives as tests need them: written like training's, forged, and sealed anew."""

import hashlib
import lzma
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sharpflat import seals
from sharpflat.archive import FILES, SEAL
from sharpflat.config import Config
from sharpflat.energy_record import RECORD, TABLE, identity, seal_energy
from sharpflat.plan import probes, snapshots
from sharpflat.records import EdgeRecord, PrefixRecord
from sharpflat.snapshots import kept_steps
from sharpflat.sources import edge_code_hash, training_code_hash
from sharpflat.status import records
from sharpflat.training.recorder import Trajectory, write_json


def write_results(config: Config) -> list[Path]:
    """Every result that a configuration plans, sealed, of today's code.

    They differ in their columns, and some have cells that are empty, as training's do.
    """
    folders, measured = [], snapshots(config)
    for count, (record, folder) in enumerate(records(config)):
        searched = isinstance(record, EdgeRecord)
        prefix = record if isinstance(record, PrefixRecord) else record.prefix
        code = edge_code_hash(prefix) if searched else training_code_hash(prefix)
        ended = {"status": "finished", "switch_step": 5, "last_step": 30}
        summary: dict[str, Any] = {"id": record.id, "record": asdict(record), "code": code}
        summary |= {**ended, "seconds": 0.1 + 1 / (1 + count)}
        write_json(
            folder / "summary.json",
            summary
            | {"alarms": {"subspace_error": {"steps": 1, "first": 5, "worst": 1e-17 * count}}},
        )
        if searched:
            trial = {"learning_rate": 0.1 / (1 + count), "stability": "stable"}
            Trajectory([trial, trial | {"stability": "unstable"}]).write(folder / "edge.csv")
            seals.seal(folder, seals.EDGE)
        else:
            values = {f"eigenvalue_{i}": 1 / (i + count) for i in range(1, 3 + count % 5)}
            rows = [{"step": 0, "batch_loss": 0.5}, {"step": 10, "batch_loss": 0.25, **values}]
            Trajectory([*rows, {"step": 20, "update_alignment": 1e-9}]).write(
                folder / "trajectory.csv"
            )
            seals.seal(folder, seals.TRAINED)
            if record.id in measured:
                row = {"step": 0, "matrix": "hessian", "trace": -1.5 * count}
                Trajectory([row, row | {"matrix": "ggn"}]).write(folder / TABLE)
                trajectory = (folder / "trajectory.csv").read_bytes()
                steps = kept_steps(record, summary, measured[record.id])
                energy = {"id": record.id, "steps": steps, "seconds": 0.1 + count}
                energy |= identity(trajectory, prefix, probes=probes(config))
                write_json(folder / RECORD, energy)
                seal_energy(folder)
        folders.append(folder)
    return folders


def contents(results: Path) -> dict[str, bytes]:
    """Bytes of every file of every result, by path below the tier's folder."""
    paths = [path for path in results.glob("*/*/*") if path.is_file()]
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in paths}


def archive_bytes(results: Path) -> dict[str, bytes]:
    """Bytes of the archive's files."""
    return {name: (results / name).read_bytes() for name in (*FILES, SEAL)}


def forge(results: Path, name: str, old: str, new: str) -> None:
    """Replace the first occurrence of a text in a file of an archive, and seal the archive anew."""
    text = lzma.decompress((results / name).read_bytes()).decode()
    assert old in text
    (results / name).write_bytes(lzma.compress(text.replace(old, new, 1).encode()))
    sums = {file: hashlib.sha256((results / file).read_bytes()).hexdigest() for file in FILES}
    (results / SEAL).write_text("".join(f"{digest}  {file}\n" for file, digest in sums.items()))
