"""Keeping curvature energies. Oracle: energies that the test measured by the workflow's commands,
and what it then altered in them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharpflat import layout
from sharpflat.cli import main
from sharpflat.config import Config, read_tier
from sharpflat.energy_record import check_energy, seal_energy
from sharpflat.plan import all_prefixes, snapshots
from sharpflat.records import PrefixRecord
from sharpflat.status import stale_energies
from sharpflat.verification.comparison import compare

ROOT = Path(__file__).parents[2]
OLDER = "of last week"
FIGURE = {"tasks": ["cancer_mlp"], "losses": ["mse"], "methods": ["sgd"], "snapshots": 2}
FIGURES = {"figures": {"curvature_energy": FIGURE}}


@pytest.fixture
def measured(
    of_figures: Callable[[dict[str, Any]], tuple[Config, str]],
) -> PrefixRecord:
    """A checkout with a prefix and the energy along it, without a checkpoint, as from a clone."""
    config, resolved = of_figures(FIGURES)
    prefix = next(
        record
        for record in all_prefixes(config)
        if record.task == "cancer_mlp" and record.id in snapshots(config)
    )
    main(["prefix", resolved, prefix.id])
    main(["energy", resolved, prefix.id])
    for name in ("checkpoint.pt", "snapshots.pt"):
        (layout.prefix("smoke", prefix.id) / name).unlink()
    return prefix


def _make_stale(folder: Path, scale: float = 1.0) -> None:
    record = json.loads((folder / "energy.json").read_text()) | {"code": OLDER}
    (folder / "energy.json").write_text(json.dumps(record))
    rows = list(csv.DictReader((folder / "energy.csv").open()))
    for row in rows:
        row["frobenius_norm"] = repr(scale * float(row["frobenius_norm"]))
    with (folder / "energy.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    seal_energy(folder)


def _renew() -> None:
    options = ("--configfile", "mine.yaml", "--seed", "3", "--minutes", "1")
    main(["renew", "--tier", "smoke", *options])


def _stale() -> list[Path]:
    return stale_energies(read_tier("smoke", ROOT, FIGURES))


def test_a_stale_energy_that_comes_out_the_same_is_todays(
    measured: PrefixRecord, capsys: pytest.CaptureFixture
) -> None:
    folder = layout.prefix("smoke", measured.id)
    code = json.loads((folder / "energy.json").read_text())["code"]
    _make_stale(folder)
    assert _stale() == [folder / "energy.csv"]
    _renew()
    printed = capsys.readouterr().out
    assert f"same: {measured.id}, energy at the switch: " in printed
    assert "0 results are today's, too, and 1 of 1 energies" in printed
    check_energy(folder)
    found = json.loads((folder / "energy.json").read_text())
    assert found["code"] == code
    assert found["renewed"][0]["code"] == OLDER
    assert _stale() == []


def test_an_altered_energy_stays_stale(
    measured: PrefixRecord, capsys: pytest.CaptureFixture
) -> None:
    folder = layout.prefix("smoke", measured.id)
    _make_stale(folder, scale=1 + 1e-6)
    with pytest.raises(SystemExit, match=r"nothing is renewed: 1 of 2 .* frobenius_norm"):
        _renew()
    assert _stale() == [folder / "energy.csv"]


@pytest.mark.parametrize(("error", "altered"), [(66.0, 0), (0.1, 1)])
def test_a_share_of_what_is_nearly_zero_is_not_compared(error: float, altered: int) -> None:
    """Oracle: its standard error. A share that is known, and has changed, was altered."""
    there, here = (
        {0: {"trace_share": share, "trace_share_se": str(error)}} for share in ("4.3", "2.4")
    )
    assert len(compare(there, here).altered(same_kind=False)) == altered
