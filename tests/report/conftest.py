"""A small tier: two tasks, three methods, two seeds, losses that can be worked out by hand."""

import base64
import json
import math
from typing import Any

import pandas as pd
import pytest

#: One white pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
METHODS = {"sgd": (1.0, 1.0), "dom_sgd": (1.0, 0.0), "bulk_sgd": (0.0, 1.0)}
TASKS = ("mnist_mlp", "sst2_transformer")
STEPS, SWITCH = (0, 10, 20), 100
RATES = (0.01, 0.1)


def loss(task: str, method: str, seed: int, rate: float, step: int) -> float:
    """Training loss at a step after the switch: different for every run and step."""
    if method == "sgd" and rate == RATES[1] and seed == 1 and step:
        return 1e4 * step  # diverges
    speed = {"sgd": 0.01, "dom_sgd": 0.001, "bulk_sgd": 0.02}[method] * (1 + seed / 4)
    return (1 + TASKS.index(task)) * (1 + seed / 8) * math.exp(-speed * step * rate / RATES[0])


def ends_as(method: str, seed: int, rate: float) -> str:
    return "diverged" if (method, seed, rate) == ("sgd", 1, RATES[1]) else "finished"


def table(varied: bool) -> pd.DataFrame:
    """Of a figure of curves, or of an ablation of the learning rate."""
    rows = [
        {
            "task": task,
            "loss": "mse",
            "method": method,
            "dom_weight": weights[0],
            "bulk_weight": weights[1],
            "varied": "learning_rate" if varied else math.nan,
            "value": rate if varied else math.nan,
            "learning_rate": rate,
            "seed": seed,
            "status": ends_as(method, seed, rate),
            "step": SWITCH + step,
            "steps_after_switch": step,
            "train_loss": loss(task, method, seed, rate, step),
            "alignment": 0.9 + seed / 100 + step / 1000,
        }
        for task in TASKS
        for method, weights in METHODS.items()
        for rate in (RATES if varied else RATES[:1])
        for seed in (0, 1)
        for step in STEPS
    ]
    return pd.DataFrame(rows)


def summaries() -> list[dict[str, Any]]:
    return [
        {
            "id": f"{task}-{method}-lr{rate}-seed{seed}-{place}{rate_place}{seed}{task_place}",
            "prefix": "a-prefix",
            "record": {
                "prefix": {"task": task, "loss": "mse", "seed": seed, "learning_rate": RATES[0]},
                "dom_weight": METHODS[method][0],
                "bulk_weight": METHODS[method][1],
                "learning_rate": rate,
                "steps": STEPS[-1],
            },
            "switch_step": SWITCH,
            "last_step": SWITCH + STEPS[-1],
            "status": ends_as(method, seed, rate),
            "num_matvecs": 400,
            "seconds": 10.0,
            "alarms": {},
            "versions": {"torch": "2.9"},
            "hardware": {"processor": "a processor", "accelerator": None},
        }
        for task_place, task in enumerate(TASKS)
        for place, method in enumerate(METHODS)
        for rate_place, rate in enumerate(RATES)
        for seed in (0, 1)
    ]


@pytest.fixture(scope="session")
def small_tier(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The arguments of ``write_report`` for that tier, but for the page itself."""
    place = tmp_path_factory.mktemp("tier")
    (place / "picture.png").write_bytes(PNG)
    points = pd.DataFrame({"solver": ["a", "a", "b"], "size": [1, 2, 1], "seconds": [0.5, 1, 2]})
    tables = {"dom_bulk": table(False), "ablation_lr": table(True), "of_my_own": points}
    tables["words"] = pd.DataFrame({"answer": ["yes"]})
    for name, rows in tables.items():
        rows.to_csv(place / f"{name}.csv", index=False)
    folders = []
    for summary in summaries():
        folders.append(place / summary["id"])
        folders[-1].mkdir()
        (folders[-1] / "summary.json").write_text(json.dumps(summary))
    claims = pd.DataFrame(
        {
            "claim": ["C2", "C2", "C2"],
            "figure": "dom_bulk",
            "statistic": ["all: slope", "sst2_transformer, mse: slope", "mnist_mlp, mse: lacking"],
            "estimate": [0.1, 0.2, math.nan],
            "ci_low": [0.0, 0.1, math.nan],
            "ci_high": [0.2, 0.3, math.nan],
            "n": [2, 2, 0],
            "threshold": 0.1,
            "verdict": ["partly", "not reproduced", "inconclusive"],
            "decides": [False, True, True],
        }
    )
    claims.to_csv(place / "claims.csv", index=False)
    return {
        "tier": "smoke",
        "name": "smoke",
        "figures": {
            name: (name.partition("_lr")[0], place / f"{name}.csv", place / "picture.png")
            for name in tables
        },
        "claims": place / "claims.csv",
        "folders": folders,
        "config": {"seeds": [0, 1]},
    }
