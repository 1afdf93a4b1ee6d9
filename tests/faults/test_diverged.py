"""What branches from a prefix that diverged. Oracle: a learning rate that no network survives."""

import json
import shutil
from pathlib import Path

import pytest
from faults.outcomes import refusal, small_config
from faults.table import CONFIG, DATA

from sharpflat.cli import main
from sharpflat.config import read_resolved
from sharpflat.plan import all_edges

ROOT = Path(__file__).parents[2]


def test_no_edge_is_searched_for_where_training_has_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every trial from there would diverge, and the edge would lie below them all."""
    values = small_config("sgd")
    values["tasks"]["digits_mlp"]["losses"]["mse"]["learning_rate"] = 1e4
    searched = {name: values["figures"]["dom_bulk"][name] for name in ("tasks", "losses")}
    bisection = {"start": 0.1, "factor": 2, "resolution": 1.5, "most_trials": 4}
    searched |= {"methods": ["sgd"], "bisection": bisection}
    values["figures"] = {"stability_edge": searched}
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    monkeypatch.chdir(tmp_path)
    Path(CONFIG).parent.mkdir(parents=True)
    Path(CONFIG).write_text(json.dumps(values))
    (edge,) = all_edges(read_resolved(Path(CONFIG), ROOT))
    main(["data", "digits", DATA])
    main(["prefix", CONFIG, edge.prefix.id])
    message = refusal(["edge", CONFIG, edge.id])
    assert "diverged at step" in message
    assert "lower its learning_rate" in message
    assert not list(Path("results/smoke/edges").glob("*/*"))
