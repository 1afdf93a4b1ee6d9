"""The check of every model before anything trains. Oracle: layers added up by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from faults.configs import task

from sharpflat.cli import main
from sharpflat.config import parse_config, read_tier
from sharpflat.model_sizes import check_model_sizes
from sharpflat.settings import ConfigError, merge

ROOT = Path(__file__).parents[1]
#: 784 → 2 → 10.
SMALL = {"sizes": {"width": 2, "depth": 2}}
P = 784 * 2 + 2 + 2 * 10 + 10


def _values(**changes: Any) -> dict[str, Any]:
    runs = {"tasks": ["mnist_mlp"], "losses": ["mse"], "methods": ["sgd"]}
    values = dict(read_tier("smoke", ROOT).raw) | {"figures": {"dom_bulk": runs}}
    del values["benchmark"]
    return merge(values, changes)


def _check(values: dict[str, Any]) -> None:
    check_model_sizes(parse_config(values, ROOT))


def test_k_may_be_as_large_as_the_model() -> None:
    _check(_values(**task(k=P, **SMALL)))
    with pytest.raises(
        ConfigError,
        match=rf"^config: tasks.mnist_mlp.k = {P + 1} exceeds its 1,600 parameters \(model mlp, "
        rf"depth 2, width 2\): give k from 1 to {P}, or larger sizes$",
    ):
        _check(_values(**task(k=P + 1, **SMALL)))


@pytest.mark.parametrize("vary", [{"k": [10, 10**7]}, {"width": [8, 1]}])
def test_values_that_a_figure_varies_are_checked_too(vary: dict[str, list[int]]) -> None:
    runs = {"tasks": ["mnist_mlp"], "losses": ["mse"], "methods": ["sgd"], "vary": vary}
    values = _values(**task(k=810, sizes={"width": 32, "depth": 2})) | {
        "figures": {"ablation_k": runs}
    }
    with pytest.raises(ConfigError, match=r"tasks.mnist_mlp.k = \d+ exceeds its"):
        _check(values)


def test_the_model_of_a_benchmark_is_checked_too() -> None:
    values = read_tier("smoke", ROOT, {"figures": {}}).raw
    with pytest.raises(ConfigError, match=r"tasks.mnist_mlp.k = 10000000 exceeds its"):
        _check(merge(merge(values, {"figures": {}}), task(k=10**7)))


def test_sizes_that_do_not_go_together_name_the_task() -> None:
    model = {"dataset": "digits", "model": "resnet", "k": 2}
    sizes = {"width": 6, "blocks": 1, "groups": 4}
    values = _values(**task(**model))
    values["tasks"]["mnist_mlp"]["sizes"] = sizes
    with pytest.raises(ConfigError, match=r"^config: tasks.mnist_mlp: resnet width 6 .* groups 4"):
        _check(values)


def test_the_plan_is_not_written_where_k_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command that the workflow runs before it trains."""
    monkeypatch.chdir(ROOT)
    config, plan = tmp_path / "config.json", tmp_path / "runs.csv"
    config.write_text(json.dumps(_values(**task(k=10**7))))
    with pytest.raises(
        SystemExit, match=r"^sharpflat: config: tasks.mnist_mlp.k = 10000000 exceed"
    ):
        main(["plan", str(config), str(plan)])
    assert not plan.exists()


@pytest.mark.parametrize("tier", ["smoke", "laptop", "paper"])
def test_every_tier_has_models_that_are_large_enough(tier: str) -> None:
    check_model_sizes(read_tier(tier, ROOT))
