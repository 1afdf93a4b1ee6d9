"""The table of the searches for the edge of stability, from made-up searches on disk."""

import json
import math
from pathlib import Path

import pytest

from sharpflat.analysis.edge_table import COLUMNS, edge_table
from sharpflat.analysis.tables import read_table, write_table
from sharpflat.config import Config, read_tier
from sharpflat.plan import all_edges, figure_edges
from sharpflat.seals import EDGE, DamagedResultError, seal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config() -> Config:
    return read_tier("smoke", ROOT)


@pytest.fixture
def results(config: Config, tmp_path: Path) -> Path:
    """Two trials a search; λ_1 = 40 + the seed, and no λ_{k+1} for seed 1."""
    for edge in all_edges(config):
        folder = tmp_path / "edges" / edge.id
        folder.mkdir(parents=True)
        (folder / "edge.csv").write_text(
            "trial,learning_rate,stability,steps,start_train_loss,final_train_loss,"
            "highest_train_loss,num_matvecs\n"
            "1,0.1,stable,40,1,0.5,1.01,70\n2,0.2,diverged,7,1,inf,900,35\n"
        )
        seed = edge.prefix.seed
        eigenvalues = {"eigenvalue_dominant": 40 + seed, "eigenvalue_bulk": None if seed else 8.5}
        (folder / "summary.json").write_text(json.dumps(eigenvalues))
        seal(folder, EDGE)
    return tmp_path


def test_one_row_a_trial_of_each_method_and_seed(
    config: Config, results: Path, tmp_path: Path
) -> None:
    write_table(edge_table(config, "stability_edge", results), tmp_path / "table.csv")
    table = read_table(tmp_path / "table.csv")
    assert tuple(table.columns) == COLUMNS
    edges = figure_edges(config, config.figures["stability_edge"])
    assert len(table) == 2 * len(edges)
    assert set(table["method"]) == {"sgd", "bulk_sgd"}
    assert (table.loc[table["method"] == "bulk_sgd", "dom_weight"] == 0).all()
    assert (table["eigenvalue_dominant"] == 40 + table["seed"]).all()
    assert (table["eigenvalue_bulk"].isna() == (table["seed"] == 1)).all()
    diverged = table[table["stability"] == "diverged"]
    assert set(diverged["learning_rate"]) == {0.2}
    assert set(diverged["final_train_loss"]) == {math.inf}


def test_a_changed_search_is_refused(config: Config, results: Path) -> None:
    edge = all_edges(config)[0]
    file = results / "edges" / edge.id / "edge.csv"
    file.write_text(file.read_text().replace("0.5", "0.4"))
    with pytest.raises(DamagedResultError, match=r"edge.csv or summary.json .* is not what"):
        edge_table(config, "stability_edge", results)
