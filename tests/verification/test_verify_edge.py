"""Taking a search's first trial again. Oracle: a search that the test made by the workflow's
commands, and what it then altered in it."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from sharpflat import layout, seals
from sharpflat.cli import main
from sharpflat.config import read_tier
from sharpflat.plan import all_edges
from sharpflat.records import EdgeRecord, RunRecord

ROOT = Path(__file__).parents[2]
TASK, LOSS = "cancer_mlp", "mse"
BISECTION = {"start": 0.05, "factor": 2, "resolution": 1.5, "most_trials": 2}


@pytest.fixture
def searched(
    trained: tuple[Path, RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> EdgeRecord:
    """A checkout with a search from a prefix, without a checkpoint, as from a clone."""
    checkout, _ = trained
    shutil.copytree(checkout, tmp_path / "checkout", symlinks=True)
    monkeypatch.chdir(tmp_path / "checkout")
    shutil.rmtree("results/smoke")
    asked = {"tasks": [TASK], "losses": [LOSS], "methods": ["bulk_sgd"], "bisection": BISECTION}
    figures = {"figures": {"stability_edge": asked}}
    Path("searched.yaml").write_text(json.dumps(figures))
    config = read_tier("smoke", ROOT, figures)
    resolved = layout.resolved_config("smoke")
    resolved.parent.mkdir(parents=True)
    resolved.write_text(json.dumps(config.raw))
    edge = next(record for record in all_edges(config) if record.prefix.task == TASK)
    main(["prefix", str(resolved), edge.prefix.id])
    main(["edge", str(resolved), edge.id])
    (layout.prefix("smoke", edge.prefix.id) / "checkpoint.pt").unlink()
    return edge


def _verify() -> None:
    main(["verify", "--tier", "smoke", "--configfile", "searched.yaml", "--seed", "1"])


def test_a_search_made_here_agrees_and_an_altered_loss_is_caught(
    searched: EdgeRecord, capsys: pytest.CaptureFixture
) -> None:
    _verify()
    _, prefix, edge, count = capsys.readouterr().out.splitlines()
    assert prefix.startswith(f"same: {searched.prefix.id}, steps 0 to ")
    assert edge.startswith(f"same: {searched.id}, trial 1: ")
    assert "agree in every digit" in edge
    assert "0 of them differ" in count
    folder = layout.edge("smoke", searched.id)
    rows = list(csv.DictReader((folder / "edge.csv").open()))
    rows[0]["final_train_loss"] = repr(1.1 * float(rows[0]["final_train_loss"]))
    with (folder / "edge.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    seals.seal(folder, seals.EDGE)
    with pytest.raises(SystemExit, match="1 of 2 stretches differ"):
        _verify()
    assert f"DIFFERS: {searched.id}, trial 1: " in capsys.readouterr().out
