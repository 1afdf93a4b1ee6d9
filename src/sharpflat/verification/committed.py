"""What is committed of a tier, and which stretches of it can be trained again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpflat import layout, seals
from sharpflat.config import Config
from sharpflat.energy_record import RECORD, TABLE, check_energy
from sharpflat.plan import all_edges, all_prefixes, all_runs
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.training.edge import EDGE
from sharpflat.training.train import SUMMARY, TRAJECTORY
from sharpflat.verification.comparison import read_rows
from sharpflat.verification.retraining import code_of, energy_code_of

Branch = RunRecord | EdgeRecord
Record = PrefixRecord | Branch


@dataclass(frozen=True, kw_only=True)
class Committed:
    """A prefix, a run or a search for the edge that is committed.

    Attributes:
        folder: Where it lies.
        summary: Its summary.
        code: Today's hash of the code that it depends on.
        energy: Record of the curvature energy along it, if it was measured.
        energy_code: Today's hash of the code that the energy depends on.
    """

    folder: Path
    summary: Mapping[str, Any]
    code: str
    energy: Mapping[str, Any] | None = None
    energy_code: str = ""

    @property
    def fresh(self) -> bool:
        """Whether today's code and torch made it."""
        return bool(self.summary["code"] == self.code)

    @property
    def energy_is_stale(self) -> bool:
        """Whether an energy was measured, by other code than today's."""
        return self.energy is not None and self.energy["code"] != self.energy_code

    def energy_rows(self) -> dict[int, dict[str, str]]:
        """The energy at the switch, a row a matrix.

        Raises:
            DamagedResultError: It is not what was sealed.
        """
        check_energy(self.folder)
        rows = read_rows(self.folder / TABLE, by=None)
        at_switch = [row for row in rows.values() if float(row["steps_after_switch"]) == 0]
        return dict(enumerate(at_switch))

    def rows(self) -> dict[int, dict[str, str]]:
        """Its trajectory; of a search, its trials.

        Raises:
            DamagedResultError: It is not what was sealed.
        """
        if (self.folder / EDGE).exists():
            seals.check_seal(self.folder, seals.EDGE)
            return read_rows(self.folder / EDGE, by="trial")
        seals.check_seal(self.folder, seals.TRAINED)
        return read_rows(self.folder / TRAJECTORY)


def committed_results(config: Config) -> dict[Record, Committed]:
    """What of a configuration's prefixes, runs and searches is finished in the tier's folders."""
    tier = config.name
    places: list[tuple[Record, Path]] = [
        *((record, layout.prefix(tier, record.id)) for record in all_prefixes(config)),
        *((record, layout.run(tier, record.id)) for record in all_runs(config)),
        *((record, layout.edge(tier, record.id)) for record in all_edges(config)),
    ]
    found = {}
    for record, folder in places:
        if not (folder / SUMMARY).exists():
            continue
        summary = json.loads((folder / SUMMARY).read_text())
        if summary.get("id") != record.id:
            continue
        energy = folder / RECORD
        found[record] = Committed(
            folder=folder,
            summary=summary,
            code=code_of(record),
            energy=json.loads(energy.read_text()) if energy.exists() else None,
            energy_code=energy_code_of(record),
        )
    return found


def stretches(
    committed: Mapping[Record, Committed],
) -> list[tuple[PrefixRecord, Branch | None]]:
    """Runs and searches with their prefixes, and the prefixes that neither is committed of."""
    finished = {
        record
        for record, found in committed.items()
        if isinstance(record, PrefixRecord) and found.summary["status"] == "finished"
    }
    branches = [record for record in committed if not isinstance(record, PrefixRecord)]
    found: list[tuple[PrefixRecord, Branch | None]] = [
        (branch.prefix, branch) for branch in branches if branch.prefix in finished
    ]
    alone = finished - {branch.prefix for branch in branches}
    return found + [(prefix, None) for prefix in sorted(alone, key=lambda record: record.id)]
