"""What a configuration accepts, and the messages of what it refuses."""

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults.configs import REFUSED, task

from sharpflat.config import SCHEMA_PATH, TIERS, parse_config, read_resolved, read_tier
from sharpflat.plan import figure_runs
from sharpflat.settings import ConfigError
from sharpflat.tasks.models import count_parameters
from sharpflat.tasks.registry import DATASETS

ROOT = Path(__file__).parents[1]


def _bisection(**options: Any) -> dict[str, Any]:
    return {"figures": {"stability_edge": {"bisection": options}}}


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_is_valid_and_compares_several_seeds(tier: str) -> None:
    config = read_tier(tier, ROOT)
    assert len(config.seeds) >= (2 if tier == "smoke" else 3)
    assert {"dom_bulk", "alignment"} <= set(config.figures)
    methods = {method.name for method in config.figures["dom_bulk"].methods}
    assert {"sgd", "dom_sgd", "bulk_sgd"} <= methods


def test_the_paper_tier_is_the_full_protocol() -> None:
    """Oracle: the study's own setting, P = 199,210 at width 200 [Song et al.]."""
    cells = read_tier("paper", ROOT).figures["dom_bulk"].cells
    setting = cells[0].before
    assert (setting.batch_size, setting.k, setting.hessian_samples) == (50, 10, 5000)
    assert (setting.learning_rate, setting.steps) == (0.01, 20_000)
    sizes = dict(setting.sizes)
    assert count_parameters(setting.model, DATASETS[setting.dataset], sizes) == 199_210


def test_the_laptop_tier_has_the_seeds_that_its_intervals_need() -> None:
    """At least eight on MNIST and five on the other tasks, in every figure."""
    config = read_tier("laptop", ROOT)
    seeds = {task: len(config.seeds_of(task)) for task in config.raw["tasks"]}
    assert {"mnist_mlp", "cifar10_cnn", "sst2_transformer"} <= set(seeds)
    assert seeds == {task: 8 if task.startswith("mnist") else 5 for task in seeds}


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_sees_excursions_and_finds_the_edge(tier: str) -> None:
    """Where it searches for the edge, and over learning rates, at least 20 records a run."""
    figures = read_tier(tier, ROOT).figures
    for name in ("stability_edge", "ablation_lr"):
        for cell in figures[name].cells:
            assert cell.after.steps / cell.after.record_every >= (8 if tier == "smoke" else 20)
    bisection = figures["stability_edge"].bisection
    assert bisection is not None
    assert bisection.resolution <= (2.5 if tier == "smoke" else 1.1)


def test_the_shortened_paper_tier_differs_from_it_in_steps_alone() -> None:
    changes = yaml.safe_load((ROOT / "workflow/config/paper_8000_steps.yaml").read_text())
    short, full = read_tier("paper", ROOT, changes), read_tier("paper", ROOT)
    for name in ("dom_bulk", "generalization"):
        runs = [run.record for run in figure_runs(short, short.figures[name])]
        assert {run.steps for run in runs} == {8000}
        assert {run.prefix.seed for run in runs} == {0, 1, 2, 3, 4}
        longer = {run.record for run in figure_runs(full, full.figures[name])}
        assert {replace(run, steps=20000) for run in runs} < longer


def test_the_resolved_configuration_reads_back_equal(tmp_path: Path) -> None:
    import json

    config = read_tier("smoke", ROOT, {"seeds": [3, 4]})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.raw))
    assert read_resolved(path, ROOT) == config


def test_settings_of_a_loss_override_those_of_its_task_and_the_defaults() -> None:
    losses = {"mse": {"learning_rate": 0.5, "steps": 7}}
    config = read_tier("smoke", ROOT, {"tasks": {"mnist_mlp": {"steps": 9, "losses": losses}}})
    setting = config.figures["dom_bulk"].cells[0].after
    assert (setting.learning_rate, setting.steps, setting.batch_size) == (0.5, 7, 50)


@pytest.mark.parametrize(("overrides", "fragments"), REFUSED, ids=lambda case: str(case)[:60])
def test_refusals_name_the_key_the_value_and_what_is_allowed(
    overrides: dict[str, Any], fragments: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        read_tier("smoke", ROOT, overrides)
    message = str(refusal.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            task(record_every=3, eigen_every=10),
            "tasks.mnist_mlp.eigen_every = 10 is not a multiple of record_every = 3: give both",
        ),
        (
            {"figures": {"dom_bulk": {"record_every": 3}}},
            r"tasks.mnist_mlp.eigen_every = \d+ is not a multiple of record_every = 3: give both",
        ),
        (task(tracking_samples=501), "tracking_samples = 501 exceeds its 500 Hessian samples"),
        (task(tracking_samples="some"), "tracking_samples = 'some'"),
        (task(eigen_every=0), "eigen_every = 0: 0 is less than the minimum of 1"),
        (task(seeds=[]), r"tasks.mnist_mlp.seeds = \[\]"),
        (task(seeds=[0, 0]), r"tasks.mnist_mlp.seeds = \[0, 0\]: .* non-unique"),
        (_bisection(resolution=1), "bisection.resolution = 1: 1 is less than or equal to"),
        (_bisection(factor=1.2), "bisection.resolution = 2.5 exceeds factor = 1.2"),
        (_bisection(start=0), "bisection.start = 0: "),
        (_bisection(most_trials=1), "bisection.most_trials = 1: 1 is less than the minimum of 2"),
        (_bisection(first=0.1), "'first' was unexpected.*allowed are start, factor, resolution"),
    ],
    ids=lambda case: str(case)[:60],
)
def test_rhythms_samples_seeds_and_searches_that_do_not_fit_are_refused_in_words(
    overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_tier("smoke", ROOT, overrides)


@pytest.mark.parametrize(
    ("key", "missing"),
    [("steps", "steps"), ("hessian_samples", "hessian_samples"), ("switch", "switch.alignment")],
)
def test_a_setting_that_nothing_gives_is_missing(key: str, missing: str) -> None:
    values = copy.deepcopy(dict(read_tier("smoke", ROOT).raw))
    values["defaults"].pop(key, None)
    for settings in values["tasks"].values():
        settings.pop(key, None)
    with pytest.raises(ConfigError, match=rf"tasks\.\w+\.{missing} is missing"):
        parse_config(values, ROOT)


def test_a_task_changes_one_part_of_the_switch() -> None:
    config = read_tier("smoke", ROOT, task(switch={"max_steps": 7}))
    setting = config.figures["dom_bulk"].cells[0].after
    assert (setting.switch_max_steps, setting.switch_alignment) == (7, 0.95)
    del (values := copy.deepcopy(dict(config.raw)))["defaults"]["switch"]["alignment"]
    with pytest.raises(ConfigError, match=r"switch\.alignment is missing"):
        parse_config(values, ROOT)


def _mine(name: str = "mine", **request: Any) -> dict[str, Any]:
    """A figure of one's own."""
    return {"figures": {name: {"tasks": ["mnist_mlp"], "losses": ["mse"], **request}}}


RATES = {"methods": ["sgd", "bulk_sgd"], "vary": {"learning_rate": [0.02, 0.1]}}
GRID = {"dom_weight": [0, 0.5], "bulk_weight": [0, 1, 4]}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (_mine(**RATES), "'mine' begins with none: give `kind`; allowed are dom_bulk"),
        (_mine(kind="ablate", **RATES), "figures.mine.kind = 'ablate' is unknown; allowed are"),
        (_mine(kind=3, **RATES), "figures.mine.kind = 3 is unknown"),
        (_mine("alignment_2", kind="ablation", **RATES), "by its name it is of the kind 'align"),
        (_mine(kind="ablation", methods=["sgd"]), "figures.mine.* 'vary' is a required property"),
        (_mine(kind="dom_bulk", **RATES), "config: figures.mine: .*'vary' was unexpected"),
        (_mine("all", kind="ablation", **RATES), "'all'.*not that of another target"),
        (_mine("report", kind="ablation", **RATES), "'report'.*not that of another target"),
        (_mine("My figure", kind="ablation", **RATES), "'My figure'.*small letters"),
        (_mine("x/../y", kind="ablation", **RATES), "'x/../y'.*small letters"),
        (
            _mine(kind="ablation", **RATES | {"methods": ["weights(1, 2)", "weights(1,2.0)"]}),
            r"figures.mine.methods names weights\(1, 2\) twice",
        ),
        (
            _mine(kind="ablation", **RATES | {"methods": ["weights(0.5", "2)"]}),
            "needs quotes",
        ),
        (
            _mine(kind="interpolation", methods=["sgd", "weights(1, 2)"]),
            r"methods.1 = 'weights\(1, 2\)': free weights lie on no path",
        ),
        (_mine(kind="stability_plane", methods=["sgd"], grid=GRID), "mine.methods = .*of its grid"),
        (
            _mine(kind="stability_plane", grid={"dom_weight": [0], "bulk_weight": [-1]}),
            "grid.bulk_weight.0 = -1",
        ),
        (
            _mine(kind="stability_plane", grid={"dom_weight": [0], "bulk_weight": [0]}),
            "figures.mine.grid has no pair but",
        ),
        (_mine(kind="ablation", seeds=[], **RATES), r"figures.mine.seeds = \[\]"),
        (_mine(kind="transfer", methods=["sgd"]), "'bisection' is a required property"),
        (_mine(kind="optimizers", **RATES), "vary: .*'learning_rate'.* allowed are optimizer"),
        ({"name": "laptop"}, "name = 'laptop' is the folder of others, and tier = 'smoke'"),
        ({"name": "data"}, "name = 'data' is the folder of others"),
        ({"name": "../x"}, "name = '../x'"),
    ],
    ids=lambda case: str(case)[:60],
)
def test_a_question_of_ones_own_that_does_not_fit_is_refused_in_words(
    overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        read_tier("smoke", ROOT, overrides)
    assert "\n" not in str(refusal.value)


def test_a_figure_has_the_kind_that_it_names_or_that_its_name_begins_with() -> None:
    figures = read_tier("smoke", ROOT, _mine(kind="ablation", **RATES)).figures
    kinds = {name: figures[name].kind for name in ("mine", "ablation_lr", "dom_bulk")}
    assert kinds == {"mine": "ablation", "ablation_lr": "ablation", "dom_bulk": "dom_bulk"}


def test_no_figure_can_have_the_name_of_a_rule() -> None:
    """Oracle: the rules as they are written in the workflow's files."""
    files = [ROOT / "workflow/Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    rules = {rule for file in files for rule in re.findall(r"\brule (\w+):", file.read_text())}
    schema = yaml.safe_load((ROOT / SCHEMA_PATH).read_text())
    names = schema["properties"]["figures"]["propertyNames"]["not"]["enum"]
    assert set(names) == rules | {"eigensolver_cost"}


def test_a_name_is_the_tiers_unless_given() -> None:
    assert read_tier("smoke", ROOT).name == read_tier("smoke", ROOT, {"name": "smoke"}).name
    assert read_tier("smoke", ROOT, {"name": "my_study"}).name == "my_study"


def test_a_plane_holds_every_pair_of_weights_at_one_learning_rate() -> None:
    plane = _mine("stability_plane", grid=GRID, learning_rate=0.07, seeds=[5])
    figure = read_tier("smoke", ROOT, plane).figures["stability_plane"]
    pairs = {(method.dom_weight, method.bulk_weight) for method in figure.methods}
    assert pairs == {(0, 1), (0, 4), (0.5, 0), (0.5, 1), (0.5, 4)}
    (cell,) = figure.cells
    assert (cell.before.learning_rate, cell.after.learning_rate) == (0.02, 0.07)
    assert figure.seeds == (5,)


def test_an_unknown_tier_is_refused() -> None:
    with pytest.raises(ConfigError, match="'desktop' is unknown; allowed are smoke, laptop, paper"):
        read_tier("desktop", ROOT)
