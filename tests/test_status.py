"""What of a tier is there. Oracle: results that the test writes, one of each state."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sharpflat import layout, seals
from sharpflat.cli import main
from sharpflat.config import Config, read_tier
from sharpflat.energy_record import RECORD, TABLE, identity, seal_energy
from sharpflat.plan import all_edges, all_prefixes, all_runs, probes, snapshots
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.snapshots import kept_steps
from sharpflat.sources import edge_code_hash, training_code_hash
from sharpflat.status import Result, describe, records, stale_energies, tier_status

ROOT = Path(__file__).parents[1]
SECONDS_A_STEP = 0.5


def _write(folder: Path, seal: str, **summary: Any) -> None:
    folder.mkdir(parents=True)
    for name in seals.SEALED[seal]:
        (folder / name).write_text("step\n0\n")
    (folder / "summary.json").write_text(json.dumps(summary))
    seals.seal(folder, seal)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The smoke tier with everything trained, 0.5 s a step, in a folder of its own."""
    config = read_tier("smoke", ROOT)
    monkeypatch.chdir(tmp_path)
    for prefix in all_prefixes(config):
        steps = prefix.switch_max_steps // 2
        summary = {"id": prefix.id, "code": training_code_hash(prefix), "switch_step": steps}
        ended = {"status": "finished", "last_step": steps, "seconds": SECONDS_A_STEP * steps}
        folder = layout.prefix("smoke", prefix.id)
        _write(folder, seals.TRAINED, **summary, **ended)
        (folder / "checkpoint.pt").touch()
    for run in all_runs(config):
        summary = {"id": run.id, "code": training_code_hash(run.prefix), "switch_step": 7}
        ended = {"status": "finished", "last_step": 7 + run.steps}
        folder = layout.run("smoke", run.id)
        _write(folder, seals.TRAINED, **summary, **ended, seconds=SECONDS_A_STEP * run.steps)
    _search(all_edges(config))
    for record, folder in records(config):
        if record.id in snapshots(config):
            _measure(record, folder, points=snapshots(config)[record.id], probes=probes(config))
    return config


def _search(edges: Iterable[EdgeRecord]) -> None:
    for edge in edges:
        summary = {"id": edge.id, "code": edge_code_hash(edge.prefix), "seconds": 90.0}
        _write(layout.edge("smoke", edge.id), seals.EDGE, **summary)


def _measure(
    record: PrefixRecord | RunRecord, folder: Path, *, points: int = 1, probes: int
) -> None:
    """A second each."""
    task = record if isinstance(record, PrefixRecord) else record.prefix
    measured = identity((folder / "trajectory.csv").read_bytes(), task, probes=probes)
    (folder / TABLE).write_text("step\n0\n")
    summary = json.loads((folder / "summary.json").read_text())
    steps = kept_steps(record, summary, points)
    record_of_it = {**measured, "steps": steps, "seconds": float(len(steps))}
    (folder / RECORD).write_text(json.dumps(record_of_it))
    seal_energy(folder)


def _not_there(config: Config) -> dict[str, Result]:
    found = tier_status(config)
    assert all(result.seconds == 0 for result in found if result.state == "there")
    return {
        f"{result.path.parent.name}/energy"
        if result.kind == "energies"
        else result.path.name: result
        for result in found
        if result.state != "there"
    }


def test_what_is_whole_and_of_this_code_is_there(config: Config) -> None:
    assert _not_there(config) == {}
    lines = list(describe(config, tier_status(config)))
    assert lines[0] == "smoke tier:"
    assert f"{len(all_runs(config))} there, 0 stale, 0 missing, 0 damaged; 0.00 h left" in lines[2]
    assert lines[-1] == "  all       0.00 h left, one process after the other"


def test_each_other_state_is_told_apart_and_takes_as_long_as_its_kind(config: Config) -> None:
    """A second seed's searches tell how long the first's take."""
    searched = {"figures": {"stability_edge": {"seeds": [0, 1]}}}
    first, config = all_edges(config), read_tier("smoke", ROOT, searched)
    _search(edge for edge in all_edges(config) if edge not in first)
    prefix, edge = all_prefixes(config)[0], first[0]
    stale, damaged, missing = all_runs(config)[:3]
    path = layout.run("smoke", stale.id)
    summary = json.loads((path / "summary.json").read_text()) | {"code": "of last week"}
    (path / "summary.json").write_text(json.dumps(summary))
    seals.seal(path, seals.TRAINED)
    (layout.run("smoke", damaged.id) / "trajectory.csv").write_text("step\n1\n")
    for folder in (layout.run("smoke", missing.id), layout.prefix("smoke", prefix.id)):
        for file in folder.iterdir():
            file.unlink()
    (layout.edge("smoke", edge.id) / "edge.sha256").unlink()
    found = _not_there(config)
    assert {name: result.state for name, result in found.items()} == {
        stale.id: "stale",
        damaged.id: "damaged",
        missing.id: "missing",
        prefix.id: "missing",
        f"{prefix.id}/energy": "missing",
        edge.id: "damaged",
    }
    for run in (stale, damaged, missing):
        assert found[run.id].seconds == pytest.approx(SECONDS_A_STEP * run.steps)
    assert found[prefix.id].seconds == pytest.approx(SECONDS_A_STEP * prefix.switch_max_steps)
    assert found[edge.id].seconds == pytest.approx(90)


def test_a_prefix_without_its_checkpoint_is_missing_where_a_run_is(config: Config) -> None:
    """A clone holds no checkpoints, and needs none for what is there."""
    run = all_runs(config)[0]
    for prefix in all_prefixes(config):
        (layout.prefix("smoke", prefix.id) / "checkpoint.pt").unlink()
    assert _not_there(config) == {}
    (layout.run("smoke", run.id) / "summary.json").unlink()
    assert _not_there(config).keys() == {run.id, run.prefix.id}
    missing, damaged = list(describe(config, tier_status(config)))[-2:]
    assert missing.startswith("missing")
    assert missing.endswith(f"{run.prefix.id} (its checkpoint.pt alone)")
    assert damaged.endswith(run.id)


def test_an_energy_of_other_code_probes_points_or_trajectory_is_stale(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as many seconds a point as the whole ones; that of a lost table is damaged."""
    measured = [found for found in records(config) if found[0].id in snapshots(config)]
    (first, folder), (second, other) = measured[0], measured[-1]
    (folder / "snapshots.pt").touch()
    (other / "snapshots.pt").touch()
    _measure(first, folder, probes=probes(config) + 1)
    (other / TABLE).unlink()
    found = _not_there(config)
    assert {name: result.state for name, result in found.items()} == {
        f"{first.id}/energy": "stale",
        f"{second.id}/energy": "damaged",
    }
    points = snapshots(config)[first.id] + 1
    assert found[f"{first.id}/energy"].seconds == pytest.approx(points)
    assert stale_energies(config) == [folder / TABLE]
    _measure(first, folder, points=4, probes=probes(config))
    _measure(second, other, probes=probes(config))
    assert stale_energies(config) == [folder / TABLE]
    _measure(first, folder, probes=probes(config))
    (other / "trajectory.csv").write_text("step\n1\n")
    seals.seal(other, seals.TRAINED)
    assert stale_energies(config) == [other / TABLE]
    monkeypatch.setattr("sharpflat.energy_record.energy_code_hash", lambda task: "of tomorrow")
    assert len(stale_energies(config)) == len(measured)
    kinds = {result.kind for result in tier_status(config) if result.state != "there"}
    # The prefix kept its parameters.
    assert kinds == {"energies", "runs"}


def test_what_kept_no_parameters_is_missing_where_its_energy_is(config: Config) -> None:
    """As in a clone, whose archive has no energy that counts: training again keeps them."""
    measured = [found for found in records(config) if found[0].id in snapshots(config)]
    run, folder = measured[-1]
    assert isinstance(run, RunRecord)
    (folder / RECORD).unlink()
    assert _not_there(config).keys() == {f"{run.id}/energy", run.id}
    (layout.prefix("smoke", run.prefix.id) / "checkpoint.pt").unlink()
    assert _not_there(config).keys() == {f"{run.id}/energy", run.id, run.prefix.id}
    (folder / "snapshots.pt").touch()
    assert _not_there(config).keys() == {f"{run.id}/energy"}


def test_without_a_finished_result_of_a_kind_the_time_is_unknown(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "workflow").symlink_to(ROOT / "workflow")
    monkeypatch.chdir(empty)
    found = tier_status(config)
    assert {(result.state, result.seconds) for result in found} == {("missing", None)}
    main(["status", "--tier", "smoke"])
    lines = capsys.readouterr().out.splitlines()
    assert f"0.00 h left and {len(found)} of unknown length" in lines[5]
    assert lines[6].startswith("missing    unknown  results/smoke/prefixes/mnist_mlp")
    assert len(lines) == 6 + len(found)
