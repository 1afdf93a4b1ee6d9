"""Results packed and unpacked. Oracle: the bytes of the folders, and pandas on what is written."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from archives import archive_bytes, contents, forge, write_results
from readme_numbers import fill

from sharpflat import cost, seals
from sharpflat.archive import FILES, SEAL, pack, read, summaries, unpack
from sharpflat.cli import main
from sharpflat.config import Config, read_tier
from sharpflat.energy_record import check_energy, seal_energy
from sharpflat.plan import all_runs
from sharpflat.status import tier_status
from sharpflat.training.recorder import write_json

ROOT = Path(__file__).parents[1]
RESULTS = Path("results/smoke")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The smoke tier, in a folder of its own."""
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    monkeypatch.chdir(tmp_path)
    return read_tier("smoke", ROOT)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """All of its results, prefixes, runs and searches, some with energies, and their archive."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        folders = write_results(read_tier("smoke", ROOT))
        pack(RESULTS, folders)
    return folder, folders


@pytest.fixture
def packed(config: Config, written: tuple[Path, list[Path]]) -> list[Path]:
    """A copy of them where the test runs."""
    folder, folders = written
    shutil.copytree(folder / RESULTS, RESULTS)
    return list(folders)


def _as_cloned(*kept: Path) -> None:
    """Remove the folders of all results but these: a clone holds the archive alone."""
    for folder in RESULTS.glob("*/*"):
        if folder not in kept:
            shutil.rmtree(folder)


def _refusal(*arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--tier", "smoke"])
    assert isinstance(end.value.code, str)  # which exits with status 1
    return end.value.code


def test_what_is_packed_comes_back_to_the_same_bytes_and_packs_to_the_same_bytes(
    packed: list[Path],
) -> None:
    before, archive = contents(RESULTS), archive_bytes(RESULTS)
    assert {path.name for path in RESULTS.iterdir() if path.is_file()} == {*FILES, SEAL}
    _as_cloned()
    assert contents(RESULTS) == {}
    restored, count = unpack(RESULTS)
    assert (sorted(restored), count) == (sorted(packed), len(packed))
    assert contents(RESULTS) == before
    for folder in packed:
        seals.check_seal(folder, seals.EDGE if folder.parent.name == "edges" else seals.TRAINED)
    measured = [path.parent for path in RESULTS.glob("*/*/energy.csv")]
    assert {folder.parent.name for folder in measured} == {"prefixes", "runs"}
    for folder in measured:
        check_energy(folder)
    pack(RESULTS, reversed(packed))
    assert archive_bytes(RESULTS) == archive
    assert unpack(RESULTS) == ([], len(packed))
    assert not list(RESULTS.glob(".*"))


def test_pandas_opens_each_file_in_one_line(packed: list[Path]) -> None:
    table = pd.read_csv("results/smoke/trajectories.csv.xz")
    assert list(table.columns[:2]) == ["id", "kind"]
    folder = next(folder for folder in packed if folder.parent.name == "runs")
    own = pd.read_csv(folder / "trajectory.csv")
    rows = table[(table["id"] == folder.name) & (table["kind"] == "run")]
    assert rows[own.columns].reset_index(drop=True).equals(own)
    named = {"prefix": "prefixes", "run": "runs", "edge": "edges"}
    summaries = pd.read_json("results/smoke/summaries.jsonl.xz", lines=True)
    assert sorted(RESULTS / named[k] / i for k, i in summaries[["kind", "id"]].to_numpy()) == (
        sorted(packed)
    )
    trained = summaries[summaries["kind"] != "edge"]["id"]
    assert sorted(table["id"].unique()) == sorted(trained)
    assert len(pd.read_csv("results/smoke/edges.csv.xz")) == 2 * (summaries["kind"] == "edge").sum()
    energies = pd.read_csv("results/smoke/energies.csv.xz")
    assert len(energies) == 2 * len(list(RESULTS.glob("*/*/energy.csv"))) > 0


def test_a_folder_that_is_there_wins_over_the_archive(
    packed: list[Path], capsys: pytest.CaptureFixture
) -> None:
    newer, begun, empty = (folder for folder in packed[-3:])
    table = newer / ("edge.csv" if newer.parent.name == "edges" else "trajectory.csv")
    table.write_text(table.read_text().replace("1", "2"))
    _as_cloned(newer)
    begun.mkdir()
    (begun / "resume.pt").touch()
    empty.mkdir()
    before = {path: path.read_bytes() for path in newer.iterdir()}
    main(["unpack", "--tier", "smoke"])
    said = f"{len(packed) - 2} of {len(packed)} results restored, 2 were there"
    assert said in capsys.readouterr().out
    assert {path: path.read_bytes() for path in newer.iterdir()} == before
    assert [path.name for path in begun.iterdir()] == ["resume.pt"]
    assert (empty / "summary.json").exists()


@pytest.mark.parametrize("file", [*FILES, SEAL])
@pytest.mark.parametrize("damage", ["missing", "cut", "a bit"])
def test_a_damaged_archive_is_refused_in_words_and_restores_nothing(
    packed: list[Path], file: str, damage: str
) -> None:
    path = RESULTS / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    altered = {"cut": path.read_bytes()[:-1], "a bit": bytes(content)}
    path.unlink() if damage == "missing" else path.write_bytes(altered[damage])
    _as_cloned()
    for command in ("unpack", "status", "verify", "pack"):
        message = _refusal(command)
        assert "is missing" in message if damage == "missing" else "is not what was" in message
        assert "`git checkout -- results/smoke`" in message
    assert contents(RESULTS) == {}


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("energies.csv.xz", "ggn", "gnn", "energy.sha256 is not of what stands there"),
        ("summaries.jsonl.xz", '"probes":', '"prods":', "energy.sha256 is not of what stands"),
        ("summaries.jsonl.xz", '"energy":', '"another":', "is not of what stands there"),
        ("trajectories.csv.xz", "0.25", "0.26", "trajectory.sha256 is not of what stands there"),
        ("summaries.jsonl.xz", '"last_step":30', '"last_step":31', "is not of what stands there"),
        ("summaries.jsonl.xz", '{"id":"', '{"id":"../', "is no name of a result"),
        ("summaries.jsonl.xz", '"kind":"edge"', '"kind":"runs"', "'runs'"),
        ("summaries.jsonl.xz", '"trajectory.sha256":', '"../../seal":', "'trajectory.sha256'"),
        ("edges.csv.xz", ",edge,", ",run,", "has rows and no summary"),
        ("summaries.jsonl.xz", "{", "[", "cannot be read"),
    ],
)
def test_what_was_altered_and_sealed_anew_is_refused_by_the_results_own_seals(
    packed: list[Path], file: str, old: str, new: str, said: str
) -> None:
    _as_cloned()
    forge(RESULTS, file, old, new)
    message = _refusal("unpack")
    assert said in message and "the archive in results/smoke cannot be read" in message
    assert contents(RESULTS) == {}
    assert not list(Path().glob("results/*/*/*")) and not list(Path().glob("results/*/seal"))


def test_a_result_stands_there_once_and_with_its_summary(packed: list[Path]) -> None:
    name = packed[0].name
    rows = pd.read_csv(RESULTS / "trajectories.csv.xz", dtype=str)
    line = pd.read_json(RESULTS / "summaries.jsonl.xz", lines=True).set_index("id").loc[name]
    assert (rows["id"] == name).sum() == 3 and line["kind"] == "prefix"
    forge(RESULTS, "trajectories.csv.xz", name, f"{name}0")
    with pytest.raises(seals.DamagedResultError, match=f"{name}"):
        read(RESULTS)
    pack(RESULTS, packed)
    first = sorted(folder for folder in packed if folder.parent.name == "runs")[0].name
    second = sorted(folder for folder in packed if folder.parent.name == "runs")[1].name
    forge(RESULTS, "summaries.jsonl.xz", f'{{"id":"{second}"', f'{{"id":"{first}"')
    with pytest.raises(seals.DamagedResultError, match=f"runs/{first} stands there twice"):
        read(RESULTS)


def test_what_is_damaged_or_would_not_come_back_is_not_packed(packed: list[Path]) -> None:
    archive = archive_bytes(RESULTS)
    table = packed[0] / "energy.csv"
    table.write_text(table.read_text() + "\n")
    with pytest.raises(seals.DamagedResultError, match=r"energy.json in .* is not what was writ"):
        pack(RESULTS, packed)
    for content in (f"{table.read_text()}1\n", '"step"\n0\n', "step\r\n0\r\n", "step\n0,1\n", ""):
        table.write_bytes(content.encode())
        seal_energy(packed[0])
        with pytest.raises(ValueError, match=r"energy.csv is not as this package writes it"):
            pack(RESULTS, packed)
    (packed[0] / seals.ENERGY).unlink()
    with pytest.raises(seals.DamagedResultError, match=r"energy.sha256 is missing"):
        pack(RESULTS, packed)
    assert archive_bytes(RESULTS) == archive


def test_a_clone_that_trains_one_run_packs_it_with_all_others(
    packed: list[Path], config: Config, capsys: pytest.CaptureFixture
) -> None:
    run = RESULTS / "runs" / all_runs(config)[3].id
    summary = json.loads((run / "summary.json").read_text()) | {"code": "of last week"}
    write_json(run / "summary.json", summary)
    seals.seal(run, seals.TRAINED)
    (RESULTS / "runs/another").mkdir()
    _as_cloned(run)
    (RESULTS / "runs/another").mkdir()
    main(["pack", "--tier", "smoke"])
    restored, done, others = capsys.readouterr().out.splitlines()
    count = len(packed)
    assert restored.startswith(f"{count - 1} of {count} results restored from the archive in ")
    assert done.startswith(f"smoke tier: {count} of {count} results packed into 0.0")
    assert done.endswith("1 of them stale")
    assert others == "1 folders that its configuration does not plan are left out"
    stored = read(RESULTS)
    assert len(stored) == count
    assert json.loads(stored[f"runs/{run.name}"]["summary.json"]) == summary


def test_pack_counts_the_energies_that_other_code_measured(
    packed: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sharpflat.energy_record.energy_code_hash", lambda task: "of tomorrow")
    main(["pack", "--tier", "smoke"])
    count = len(list(RESULTS.glob("*/*/energy.csv")))
    assert f"0 of them stale; {count} energies are stale" in capsys.readouterr().out


def test_nothing_is_packed_of_nothing_or_unpacked_from_nothing(config: Config) -> None:
    assert "nothing of the smoke tier's configuration is there to pack" in _refusal("pack")
    assert "results/smoke holds no archive: pack the tier's results first" in _refusal("unpack")
    assert not RESULTS.exists()


def test_the_status_of_a_clone_is_that_of_what_was_packed(
    packed: list[Path], config: Config, capsys: pytest.CaptureFixture
) -> None:
    _as_cloned()
    main(["status", "--tier", "smoke"])
    restored, *lines = capsys.readouterr().out.splitlines()
    count = len(packed)
    assert restored == f"{count} of {count} results restored from the archive in results/smoke"
    assert {result.state for result in tier_status(config)} == {"there"}
    main(["status", "--tier", "smoke"])
    assert capsys.readouterr().out.splitlines() == lines


def test_summaries_are_those_of_the_folders_and_else_of_the_archive(packed: list[Path]) -> None:
    """Sentences of the pages count them: in a clone as where they were trained."""
    before = summaries(RESULTS, "prefixes")
    folders = sorted(folder for folder in packed if folder.parent.name == "prefixes")
    assert list(before) == [folder.name for folder in folders]
    _as_cloned()
    assert summaries(RESULTS, "prefixes") == before
    here = {**before[folders[1].name], "alarms": {}}
    write_json(folders[1] / "summary.json", here)
    assert summaries(RESULTS, "prefixes") == before | {folders[1].name: here}
    named = {
        "from": "smoke/prefixes",
        "of": "summaries",
        "column": "id",
        "take": "count",
        "as": "d",
    }
    silent = {**named, "where": {"alarms": 0}}
    said = fill("{all}, {silent} without", {"all": named, "silent": silent}, RESULTS.parent)
    assert said == f"{len(folders)}, 1 without"


def test_the_cost_of_a_tier_is_learned_from_what_a_clone_holds(
    packed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Path] = []
    monkeypatch.setattr(
        cost, "estimate", lambda config, rates, device: found.extend(rates.glob("runs/*")) or ()
    )
    _as_cloned()
    main(["cost", "--tier", "smoke", "--rates", "results/smoke"])
    assert len(found) == sum(folder.parent.name == "runs" for folder in packed)
