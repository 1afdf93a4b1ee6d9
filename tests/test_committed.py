"""No committed result is stale. Oracle: today's plan and code, and the committed archives."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkouts import ROOT

from sharpflat import layout, sources
from sharpflat.analysis.finished import path_of, paths_left_out, seed_of, seeds_left_out
from sharpflat.analysis.tables import read_table
from sharpflat.archive import FILES, KINDS, SEAL, has_archive, pack, read, unpack
from sharpflat.config import TIERS, Config, read_tier
from sharpflat.energy_record import identity
from sharpflat.plan import figure_edges, figure_runs, probes
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.sources import edge_code_hash, training_code_hash
from sharpflat.status import records

SHORTENED = "paper_8000_steps"
#: Configurations of which results are or may be committed: the tiers, and one that differs from
#: the paper tier in steps.
STUDIES: Mapping[str, Config] = {
    **{tier: read_tier(tier, ROOT) for tier in TIERS},
    SHORTENED: read_tier(
        "paper", ROOT, yaml.safe_load((ROOT / f"workflow/config/{SHORTENED}.yaml").read_text())
    ),
}
#: Those whose tables hold every seed that is planned; others may still be in training.
WHOLE = ("smoke", "laptop", SHORTENED)
#: The whole laptop tier takes about a megabyte and a half.
MOST_BYTES = 5_000_000


@pytest.fixture(autouse=True)
def locked_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The torch of the lock counts, wherever this runs: 64-bit Arm Linux has an older one there."""
    lock = (ROOT / "envs/requirements.lock").read_text()
    locked = re.findall(r"^torch==(\S+) ; platform_machine != 'aarch64'", lock, re.MULTILINE)
    assert len(locked) == 1
    monkeypatch.setattr(sources, "_installed", lambda package: locked[0])


def _committed_tables(study: str) -> list[str]:
    """Names of the figures of which the repository holds the table."""
    folder = layout.table(study, "any").parent
    command = ["git", "ls-files", folder.as_posix()]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(path).stem for path in listed.stdout.splitlines()]


def _record(found: Mapping[str, Any]) -> PrefixRecord | RunRecord | EdgeRecord:
    """A summary's record, if today's settings are its settings."""
    values = dict(found)
    if "start" in values:
        return EdgeRecord(**values | {"start": _record(values["start"])})
    if "prefix" in values:
        return RunRecord(**values | {"prefix": _record(values["prefix"])})
    return PrefixRecord(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    """JSON has lists alone."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _prefix(record: PrefixRecord | RunRecord | EdgeRecord) -> PrefixRecord:
    return record if isinstance(record, PrefixRecord) else record.prefix


def _code(record: PrefixRecord | RunRecord | EdgeRecord) -> str:
    hashed = edge_code_hash if isinstance(record, EdgeRecord) else training_code_hash
    return hashed(_prefix(record))


@pytest.mark.parametrize("study", STUDIES)
def test_every_committed_table_is_of_fresh_results_that_are_committed(study: str) -> None:
    """Of a figure whose table is there, every prefix, run, search and energy of its seeds."""
    config = STUDIES[study]
    figures = [config.figures[name] for name in _committed_tables(study) if name in config.figures]
    stored = read(ROOT / layout.results(study)) if figures else {}
    for figure in figures:
        table = read_table(ROOT / layout.table(study, figure.name))
        left_out = seeds_left_out(config, figure.name, table)
        if study in WHOLE:
            assert not left_out, f"{figure.name}: {left_out}"
        without = paths_left_out(config, figure.name, table)
        assert not (without and study in WHOLE), f"{figure.name}: {without}"
        planned = [
            *(("runs", run) for run in figure_runs(config, figure)),
            *(("edges", edge) for edge in figure_edges(config, figure)),
        ]
        branches = [
            (kind, one.record)
            for kind, one in planned
            if seed_of(one) not in left_out and path_of(one) not in without
        ]
        prefixes = [("prefixes", record.prefix) for _, record in branches]
        for parent, record in [*prefixes, *branches]:
            place = f"{parent}/{record.id}"
            assert place in stored, f"{figure.name} was drawn from {place}, which is not committed"
            assert json.loads(stored[place]["summary.json"])["code"] == _code(record)
            if figure.snapshots and parent != "edges":
                assert "energy.csv" in stored[place], f"{place} has no energy"


@pytest.mark.parametrize("study", STUDIES)
def test_what_is_committed_is_of_todays_settings_and_code(study: str) -> None:
    if not has_archive(ROOT / layout.results(study)):
        pytest.skip(f"{study} has no archive")
    asked = probes(STUDIES[study])
    for place, files in read(ROOT / layout.results(study)).items():
        summary = json.loads(files["summary.json"])
        record = _record(summary["record"])
        assert place.endswith(f"/{record.id}"), f"{place} is of other settings than today's"
        assert summary["code"] == _code(record), f"{place} is stale"
        if "energy.csv" in files:
            energy = json.loads(files["energy.json"])
            today = identity(files["trajectory.csv"], _prefix(record), probes=asked)
            assert energy | today == energy, f"the energy of {place} is stale"


@pytest.mark.parametrize("study", STUDIES)
def test_a_committed_archive_is_lean_and_packs_to_itself(study: str, tmp_path: Path) -> None:
    """Texts are compared where the archive's bytes are another liblzma's."""
    results = ROOT / layout.results(study)
    if not has_archive(results):
        pytest.skip(f"{study} has no archive")
    for name in (*FILES, SEAL):
        shutil.copy(results / name, tmp_path / name)
    restored, count = unpack(tmp_path)
    assert len(restored) == count > 0
    assert pack(tmp_path, restored) < MOST_BYTES
    assert read(tmp_path) == read(results)


def test_no_folder_of_a_result_is_committed() -> None:
    folders = [f"results/*/{kind}/*" for kind in KINDS]
    listed = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert listed.stdout.splitlines()[:3] == []


@pytest.mark.parametrize("study", STUDIES)
def test_a_record_is_read_back_from_what_is_stored_of_it(study: str) -> None:
    """Else a fresh result would be called stale. Oracle: the plan's own records."""
    for record, _ in records(STUDIES[study]):
        assert _record(json.loads(json.dumps(asdict(record)))) == record
    older = json.loads(json.dumps(asdict(record)))
    older.pop(fields(record)[-1].name)
    with pytest.raises(TypeError):
        _record(older)
