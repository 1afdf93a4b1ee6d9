"""No committed result is stale. Oracle: today's plan and code, and the committed archives."""

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from checkouts import ROOT

from sharpflat import layout, sources
from sharpflat.archive import FILES, KINDS, SEAL, has_archive, pack, read, unpack
from sharpflat.config import TIERS, read_tier
from sharpflat.plan import all_runs, snapshots
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.sources import edge_code_hash, training_code_hash
from sharpflat.status import records

#: Of which every planned result is committed, and of which some are.
WHOLE, IN_PART = ("laptop",), ("paper",)
#: The whole laptop tier takes about a megabyte and a half.
MOST_BYTES = 5_000_000


@pytest.fixture(autouse=True)
def locked_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The torch of the lock counts, wherever this runs: 64-bit Arm Linux has an older one there."""
    lock = (ROOT / "envs/requirements.lock").read_text()
    locked = re.findall(r"^torch==(\S+) ; platform_machine != 'aarch64'", lock, re.MULTILINE)
    assert len(locked) == 1
    monkeypatch.setattr(sources, "_installed", lambda package: locked[0])


def _committed_list(tier: str) -> set[str]:
    """Names of the runs in the list that the repository holds, none where it holds no list."""
    path = layout.runs_list(tier).as_posix()
    shown = subprocess.run(["git", "show", f":{path}"], cwd=ROOT, capture_output=True, text=True)
    return {row["run"] for row in csv.DictReader(io.StringIO(shown.stdout))}


def _summaries(tier: str) -> dict[str, dict[str, Any]]:
    """The summaries in a tier's archive, by the result's folder; each is there once or refused."""
    stored = read(ROOT / layout.results(tier))
    return {place: json.loads(files["summary.json"]) for place, files in stored.items()}


def _record(found: Mapping[str, Any]) -> PrefixRecord | RunRecord | EdgeRecord:
    """A summary's record, if today's settings are its settings."""
    values = dict(found)
    if "start" in values:
        return EdgeRecord(**values | {"start": _record(values["start"])})
    if "prefix" in values:
        return RunRecord(**values | {"prefix": _record(values["prefix"])})
    lists = {name: tuple(map(tuple, values[name])) for name in ("sizes", "optimizer_options")}
    return PrefixRecord(**values | lists)


def _code(record: PrefixRecord | RunRecord | EdgeRecord) -> str:
    prefix = record if isinstance(record, PrefixRecord) else record.prefix
    return (edge_code_hash if isinstance(record, EdgeRecord) else training_code_hash)(prefix)


@pytest.mark.parametrize("tier", WHOLE)
def test_every_planned_result_is_committed_once_and_fresh(tier: str) -> None:
    """A tier is claimed by its archive, or by a committed list of runs that is today's plan's."""
    config = read_tier(tier, ROOT)
    claimed = _committed_list(tier) == {run.id for run in all_runs(config)}
    if not claimed and not has_archive(ROOT / layout.results(tier)):
        pytest.skip(f"the {tier} tier's results are not committed, and nothing says that they are")
    found = _summaries(tier)
    planned = {
        folder.relative_to(layout.results(tier)).as_posix(): record
        for record, folder in records(config)
    }
    assert sorted(planned.keys() - found.keys()) == []
    stale = [
        place
        for place, record in planned.items()
        if (found[place]["id"], found[place]["code"]) != (record.id, _code(record))
    ]
    assert stale == []


@pytest.mark.parametrize("tier", WHOLE)
def test_every_planned_energy_is_committed(tier: str) -> None:
    """Of which code measured them nothing is recorded."""
    if not has_archive(ROOT / layout.results(tier)):
        pytest.skip(f"the {tier} tier has no archive")
    stored = read(ROOT / layout.results(tier))
    measured = {place.rpartition("/")[2] for place in stored if "energy.csv" in stored[place]}
    assert sorted(snapshots(read_tier(tier, ROOT)).keys() - measured) == []


@pytest.mark.parametrize("tier", [*WHOLE, *IN_PART])
def test_what_is_committed_is_of_todays_settings_and_code(tier: str) -> None:
    if not has_archive(ROOT / layout.results(tier)):
        pytest.skip(f"the {tier} tier has no archive")
    for place, summary in _summaries(tier).items():
        record = _record(summary["record"])
        assert place.endswith(f"/{record.id}"), f"{place} is of other settings than today's"
        assert summary["code"] == _code(record), f"{place} is stale"


@pytest.mark.parametrize("tier", [*WHOLE, *IN_PART])
def test_a_committed_archive_is_lean_and_packs_to_itself(tier: str, tmp_path: Path) -> None:
    """Texts are compared where the archive's bytes are another liblzma's."""
    results = ROOT / layout.results(tier)
    if not has_archive(results):
        pytest.skip(f"the {tier} tier has no archive")
    names = (*FILES, SEAL)
    first, again = tmp_path / "first", tmp_path / "again"
    first.mkdir()
    for name in names:
        shutil.copy(results / name, first / name)
    restored, count = unpack(first)
    assert len(restored) == count > 0
    assert pack(first, restored) < MOST_BYTES
    assert read(first) == read(results)
    again.mkdir()
    for name in names:
        shutil.copy(first / name, again / name)
    pack(again, unpack(again)[0])
    assert [(again / name).read_bytes() for name in names] == [
        (first / name).read_bytes() for name in names
    ]


def test_no_folder_of_a_result_is_committed() -> None:
    folders = [f"results/*/{kind}/*" for kind in KINDS]
    listed = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert listed.stdout.splitlines()[:3] == []


@pytest.mark.parametrize("tier", TIERS)
def test_a_record_is_read_back_from_what_is_stored_of_it(tier: str) -> None:
    """Else a fresh result would be called stale. Oracle: the plan's own records."""
    for record, _ in records(read_tier(tier, ROOT)):
        assert _record(json.loads(json.dumps(asdict(record)))) == record
    older = json.loads(json.dumps(asdict(record)))
    older.pop(fields(record)[-1].name)
    with pytest.raises(TypeError):
        _record(older)
