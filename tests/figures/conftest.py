"""Made-up tables in the schema of the figures', small enough to compute what is drawn by hand."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from sharpflat.analysis.tables import write_table
from sharpflat.methods import parse_method

Make = Callable[..., pd.DataFrame]

RECORD_EVERY = 10
SWITCH = 40


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def trajectory() -> Make:
    """Makes one run's rows from its training losses; other columns follow or can be given."""

    def make(method: str, losses: Sequence[float], **changes: Any) -> pd.DataFrame:
        before = method == "before_switch"
        weights = (1.0, 1.0)
        if not before:
            parsed = parse_method(method)
            weights = (parsed.dom_weight, parsed.bulk_weight)
        steps = [RECORD_EVERY * i for i in range(len(losses))]
        after = [step - steps[-1] for step in steps] if before else steps
        rows: dict[str, Any] = {
            "task": "mnist_mlp",
            "loss": "mse",
            "method": method,
            "dom_weight": weights[0],
            "bulk_weight": weights[1],
            "varied": None,
            "value": None,
            "learning_rate": 0.01,
            "batch_size": 50,
            "k": 2,
            "refresh": "adaptive",
            "hessian_samples": 100,
            "seed": 0,
            "status": "finished",
            "step": [SWITCH + step for step in after],
            "steps_after_switch": after,
            "train_loss": list(losses),
            "test_loss": list(losses),
            "test_accuracy": 0.5,
            "alignment": 0.9,
            "batch_alignment": 0.5,
            "eigenvalue_1": 4.0,
            "eigenvalue_2": 3.0,
            "eigenvalue_3": 1.0,
        }
        return pd.DataFrame(rows | changes)

    return make


@pytest.fixture
def as_read(tmp_path: Path) -> Make:
    """Puts runs together as the workflow does: written as CSV and read again."""

    def read(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
        write_table(pd.concat(runs, ignore_index=True), tmp_path / "table.csv")
        return pd.read_csv(tmp_path / "table.csv")

    return read
