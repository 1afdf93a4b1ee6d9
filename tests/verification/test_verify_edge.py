"""Taking a search's first trial again. Oracle: a search that the test made by the workflow's
commands, and what it then altered in it."""

import csv
from collections.abc import Callable
from typing import Any

import pytest

from sharpflat import layout, seals
from sharpflat.cli import main
from sharpflat.config import Config
from sharpflat.plan import all_edges
from sharpflat.records import EdgeRecord

TASK, LOSS = "cancer_mlp", "mse"
BISECTION = {"start": 0.05, "factor": 2, "resolution": 1.5, "most_trials": 2}


@pytest.fixture
def searched(
    of_figures: Callable[[dict[str, Any]], tuple[Config, str]],
) -> EdgeRecord:
    """A checkout with a search from a prefix, without a checkpoint, as from a clone."""
    asked = {"tasks": [TASK], "losses": [LOSS], "methods": ["bulk_sgd"], "bisection": BISECTION}
    config, resolved = of_figures({"figures": {"stability_edge": asked}})
    edge = next(record for record in all_edges(config) if record.prefix.task == TASK)
    main(["prefix", resolved, edge.prefix.id])
    main(["edge", resolved, edge.id])
    (layout.prefix("smoke", edge.prefix.id) / "checkpoint.pt").unlink()
    return edge


def _verify() -> None:
    main(["verify", "--tier", "smoke", "--configfile", "mine.yaml", "--seed", "1"])


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
