"""The claim about the curvature energy, C7. Oracle: tables planted with a known answer."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from planted import CONFIGURED

from sharpflat.analysis.claims import claims_table

CONCENTRATED = {"hessian": 0.9, "ggn": 0.95, "functional_hessian": 0.05}
SPREAD = {"hessian": 0.1, "ggn": 0.2, "functional_hessian": 0.8}


def _table(
    shares: Mapping[str, float], overlap: float, *, spread: float = 0.01, loss: str = "mse"
) -> pd.DataFrame:
    """Three seeds around the shares at the end; at the start, and in Bulk-SGD, other shares."""
    rows = [
        {
            "task": "mnist_mlp",
            "loss": loss,
            "method": method,
            "varied": math.nan,
            "value": math.nan,
            "seed": seed,
            "status": "finished",
            "step": step,
            "matrix": matrix,
            "overlap": overlap + (seed - 1) * spread if (method, step) == ("sgd", 200) else 0.3,
            "frobenius_share": share + (seed - 1) * spread
            if (method, step) == ("sgd", 200)
            else 0.3,
        }
        for method in ("before_switch", "sgd", "bulk_sgd")
        for seed in range(3)
        for step in (200, 100)
        for matrix, share in shares.items()
    ]
    return pd.DataFrame(rows)


def _claim(table: pd.DataFrame) -> pd.DataFrame:
    claims = claims_table({"curvature_energy": table}, CONFIGURED)
    return claims[claims["claim"] == "C7"].reset_index(drop=True)


def test_energy_is_concentrated() -> None:
    rows = _claim(_table(CONCENTRATED, 0.97))
    assert rows["verdict"].tolist() == ["reproduced"] * 5
    expected = [0.9, 0.9, 0.95, 0.05, 0.97]
    assert rows["estimate"].tolist() == pytest.approx(expected, abs=0.002)
    logits = np.log([0.89, 0.9, 0.91]) - np.log([0.11, 0.1, 0.09])
    half = 4.30265 * logits.std(ddof=1) / math.sqrt(3)  # t(0.975, 2)
    low = 1 / (1 + math.exp(half - logits.mean()))
    assert rows["ci_low"][1] == pytest.approx(low, rel=1e-5)
    assert rows["ci_high"].between(0.0, 1.0).all()
    assert rows["n"].tolist() == [3] * 5
    assert rows["statistic"][0].startswith("all: Frobenius share of H")


def test_energy_is_spread() -> None:
    assert _claim(_table(SPREAD, 0.2))["verdict"].tolist() == ["not reproduced"] * 5


def test_seeds_that_disagree_are_inconclusive() -> None:
    middle = {"hessian": 0.5, "ggn": 0.5, "functional_hessian": 0.5}
    assert set(_claim(_table(middle, 0.9, spread=0.05))["verdict"]) == {"inconclusive"}


@pytest.mark.parametrize(
    ("ggn", "functional", "verdict"), [(0.2, 0.9, "not reproduced"), (0.95, 0.9, "partly")]
)
def test_energy_that_other_parts_do_not_share(ggn: float, functional: float, verdict: str) -> None:
    rows = _claim(_table({"hessian": 0.9, "ggn": ggn, "functional_hessian": functional}, 0.1))
    assert (rows["verdict"][0], rows["verdict"][1]) == (verdict, "reproduced")
    assert rows["verdict"][3] == "not reproduced"


def test_each_loss_has_its_rows() -> None:
    table = pd.concat([_table(CONCENTRATED, 0.97), _table(SPREAD, 0.2, loss="cross_entropy")])
    rows = _claim(table)
    assert len(rows) == 9
    assert rows["verdict"][0] == "partly"
    assert rows["estimate"][0] == pytest.approx(0.5, abs=0.01)


def test_a_diverged_run_and_a_share_without_value_count_against_the_claim() -> None:
    table = _table(CONCENTRATED, 0.97)
    table.loc[table["seed"] == 0, "status"] = "diverged"
    table.loc[(table["seed"] == 1) & (table["matrix"] == "ggn"), "frobenius_share"] = math.nan
    rows = _claim(table)
    assert rows["n"].tolist() == [3] * 5
    # The middle one of three, of which one is beyond any share, or two.
    assert rows["estimate"].tolist()[1:] == pytest.approx([0.9, -math.inf, 0.06, 0.97])
    assert set(rows["verdict"]) == {"inconclusive"}
    assert set(rows["interval"]) == {"too few seeds"}


def test_a_table_without_sgd_is_inconclusive() -> None:
    table = _table(CONCENTRATED, 0.97)
    rows = _claim(table[table["method"] == "bulk_sgd"])
    assert rows["verdict"].tolist() == ["inconclusive"] * 5
    assert (rows["n"] == 0).all()
