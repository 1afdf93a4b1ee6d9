"""The list of runs: identity, sharing of prefixes, and jobs."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from sharpflat.config import TIERS, Config, parse_config, read_tier
from sharpflat.optimizers import parse_optimizer
from sharpflat.plan import (
    all_edges,
    all_prefixes,
    all_runs,
    edge_jobs,
    figure_edges,
    figure_runs,
    prefix_jobs,
    run_jobs,
    runs_csv,
    snapshots,
)
from sharpflat.settings import ConfigError, merge

ROOT = Path(__file__).parents[1]


RUNS = {"tasks": ["mnist_mlp"], "losses": ["mse"]}
FIGURES = {
    "dom_bulk": {**RUNS, "methods": ["sgd", "dom_sgd", "bulk_sgd", "sgd_to_bulk(0.5)"]},
    "alignment": {**RUNS, "methods": ["sgd"]},
}


def _config(**overrides: object) -> Config:
    """The smoke tier's settings with two figures of one task."""
    values = dict(read_tier("smoke", ROOT).raw) | {
        "seeds": [0, 1, 2],
        "steps_per_job": 1000,
        "figures": FIGURES,
    }
    return parse_config(merge(values, overrides), ROOT)


def test_a_run_that_two_figures_show_is_trained_once() -> None:
    config = _config()
    shown = [run for figure in config.figures.values() for run in figure_runs(config, figure)]
    assert len(all_runs(config)) == len({run.record for run in shown}) < len(shown)


def test_methods_of_a_seed_share_one_prefix() -> None:
    config = _config()
    assert len(all_prefixes(config)) == len(config.seeds)
    assert {run.prefix for run in all_runs(config)} == set(all_prefixes(config))


def test_two_names_of_one_point_are_one_run() -> None:
    """``convex(0.5)`` is SGD by definition."""
    config = _config(figures={"dom_bulk": {"methods": ["sgd", "convex(0.5)"]}})
    runs = figure_runs(config, config.figures["dom_bulk"])
    assert len({run.record.id for run in runs}) == len(config.seeds)
    assert len({run.method.name for run in runs}) == 2


FULL = {"optimizer": "sgd", "batch_size": "all"}


def test_an_optimizer_on_whole_batches_has_a_name_of_its_own() -> None:
    vary = {"optimizer": ["sgd", FULL, {**FULL, "optimizer": "adam"}]}
    figure = {**RUNS, "methods": ["sgd"], "vary": vary}
    config = _config(figures={"optimizers": figure})
    runs = figure_runs(config, config.figures["optimizers"])
    values = list(dict.fromkeys(run.value for run in runs))
    assert values == ["sgd", "sgd, full batch", "adam, full batch"]
    assert len({run.record for run in runs}) == 3 * len(config.seeds)


def test_two_optimizers_that_no_table_could_tell_apart_are_refused() -> None:
    vary = {"optimizer": ["sgd", {"optimizer": "sgd", "learning_rate": 0.5}]}
    figure = {**RUNS, "methods": ["sgd"], "vary": vary}
    config = _config(figures={"optimizers": figure})
    with pytest.raises(
        ConfigError, match=r"figures\.optimizers\.vary\.optimizer names 'sgd' twice"
    ):
        figure_runs(config, config.figures["optimizers"])


def test_a_new_seed_or_method_adds_runs_and_renames_none() -> None:
    before = {run.id for run in all_runs(_config())}
    seeds = {run.id for run in all_runs(_config(seeds=[0, 1, 2, 3]))}
    methods = ["sgd", "dom_sgd", "bulk_sgd", "sgd_to_bulk(0.5)", "convex(0.25)"]
    more = {run.id for run in all_runs(_config(figures={"dom_bulk": {"methods": methods}}))}
    assert before < seeds
    assert before < more
    assert len(more - before) == 3


def test_everything_that_decides_numbers_is_in_the_name_and_resources_are_not() -> None:
    run = all_runs(_config())[0]
    prefix = run.prefix
    changes = [
        replace(prefix, **{name: value})
        for name, value in {
            "dataset": "mnist5k",
            "model": "cnn",
            "sizes": (("depth", 3), ("width", 33)),
            "loss": "cross_entropy",
            "seed": 9,
            "optimizer": "sam",
            "optimizer_options": parse_optimizer({"name": "sgd", "momentum": 0.9})[1],
            "batch_size": 51,
            "learning_rate": 0.021,
            "k": 9,
            "hessian_samples": 501,
            "tolerance": 0.11,
            "tracking_samples": 250,
            "record_every": 11,
            "eigen_every": 11,
            "switch_alignment": None,
            "switch_ema_decay": 0.8,
            "switch_max_steps": 401,
            "divergence_factor": 9.0,
        }.items()
    ]
    runs = [replace(run, prefix=changed) for changed in changes]
    runs += [
        replace(run, dom_weight=0.9),
        replace(run, bulk_weight=0.9),
        replace(run, steps=301),
        replace(run, refresh=5),
        replace(run, learning_rate=0.021),
        replace(run, batch_size=51),
        replace(run, k=9),
        replace(run, hessian_samples=501),
        replace(run, record_every=7),
        replace(run, eigen_every=30),
    ]
    assert len({changed.id for changed in [run, *runs]}) == len(runs) + 1
    ids = [run.id for run in all_runs(_config())]
    assert ids == [run.id for run in all_runs(_config(threads=2, device="auto", data_mirror="x"))]


def test_jobs_hold_every_record_once_and_keep_to_their_steps() -> None:
    config = _config(seeds=list(range(7)))
    jobs = run_jobs(config)
    assert sorted(name for job in jobs for name in job.ids) == sorted(
        run.id for run in all_runs(config)
    )
    for job in jobs:
        assert len({(run.prefix.task, run.prefix.loss) for run in job.records}) == 1
        assert sum(run.steps for run in job.records) <= config.steps_per_job
    assert 1 < len(jobs) < len(all_runs(config))
    for prefixes in prefix_jobs(config):
        total = sum(prefix.switch_max_steps for prefix in prefixes.records)
        assert total <= config.steps_per_job


@pytest.mark.parametrize("tier", TIERS)
def test_a_figure_trains_no_run_that_it_does_not_show(tier: str) -> None:
    """A workflow makes whole jobs: those of a figure's records hold its records and no other."""
    config = read_tier(tier, ROOT)
    assert len(run_jobs(config)) < len(all_runs(config)) or config.steps_per_job == 1
    for figure in config.figures.values():
        shown = {run.record for run in figure_runs(config, figure)}
        jobs = [job.records for job in run_jobs(config) if shown & set(job.records)]
        assert {run for records in jobs for run in records} == shown
        prefixes = {run.prefix for run in shown}
        starts = [job.records for job in prefix_jobs(config) if prefixes & set(job.records)]
        assert {prefix for records in starts for prefix in records} == prefixes


def test_an_ablation_branches_from_the_checkpoint_of_the_default() -> None:
    """Unless what it varies holds from the start."""
    runs = {**RUNS, "methods": ["sgd", "bulk_sgd"], "steps": 20}
    after = {**runs, "vary": {"learning_rate": [0.01, 0.02, 0.04]}}
    config = _config(figures={"ablation_lr": after})
    shown = figure_runs(config, config.figures["ablation_lr"])
    assert {(run.varied, run.value, run.record.learning_rate) for run in shown} == {
        ("learning_rate", rate, rate) for rate in (0.01, 0.02, 0.04)
    }
    assert len({run.record.prefix for run in shown}) == len(config.seeds)
    assert {run.record.steps for run in shown} == {20}
    for vary in ({"width": [8, 16]}, {"switch_step": [50, 100]}):
        config = _config(figures={"ablation_width": {**runs, "vary": vary}})
        shown = figure_runs(config, config.figures["ablation_width"])
        assert len({run.record.prefix for run in shown}) == 2 * len(config.seeds)


def test_a_figures_own_rhythm_of_records_begins_at_the_switch() -> None:
    """So that its runs branch from the checkpoints of all others."""
    often = {**RUNS, "methods": ["sgd"], "record_every": 2, "eigen_every": 60}
    varied = {**often, "vary": {"learning_rate": [0.02, 0.04]}}
    config = _config(figures={"generalization": often, "ablation_lr": varied})
    for name in ("generalization", "ablation_lr"):
        records = [run.record for run in figure_runs(config, config.figures[name])]
        assert {(run.record_every, run.eigen_every) for run in records} == {(2, 60)}
        assert {run.after_switch.eigen_every for run in records} == {60}
    assert len(all_prefixes(config)) == len(config.seeds)


EDGE = {
    **RUNS,
    "methods": ["sgd", "bulk_sgd"],
    "steps": 20,
    "record_every": 2,
    "eigen_every": 10,
    "bisection": {"start": None, "factor": 2, "resolution": 1.1, "most_trials": 10},
}


def test_a_figure_searches_for_the_edge_of_every_method_and_seed() -> None:
    """From the task's own learning rate; its searches are no runs, but need their prefixes."""
    config = _config(figures={"stability_edge": EDGE})
    figure = config.figures["stability_edge"]
    edges = figure_edges(config, figure)
    assert len(edges) == len(all_edges(config)) == 2 * len(config.seeds)
    assert {edge.method.name for edge in edges} == {"sgd", "bulk_sgd"}
    assert {edge.record.start.learning_rate for edge in edges} == {0.02}
    assert {edge.record.start.eigen_every for edge in edges} == {10}
    assert figure_runs(config, figure) == ()
    assert all_runs(config) == all_runs(_config())
    searched = {edge.record.prefix for edge in edges}
    assert searched <= set(all_prefixes(config))
    jobs = [name for job in edge_jobs(config) for name in job.ids]
    assert sorted(jobs) == sorted(edge.id for edge in all_edges(config))
    trained = [name for job in prefix_jobs(config) for name in job.ids]
    assert sorted(trained) == sorted(prefix.id for prefix in all_prefixes(config))


def test_what_decides_a_search_is_in_its_name() -> None:
    edge = all_edges(_config(figures={"stability_edge": EDGE}))[0]
    changed = [
        replace(edge, factor=1.5),
        replace(edge, resolution=1.2),
        replace(edge, most_trials=11),
        replace(edge, start=edge.trial(0.3)),
        replace(edge, start=replace(edge.start, steps=21)),
    ]
    assert len({found.id for found in [edge, *changed]}) == len(changed) + 1


def test_a_task_may_have_seeds_of_its_own() -> None:
    """And every figure of it then has them."""
    tasks = {"mnist_mlp": {"seeds": [3, 4, 5, 6]}}
    config = _config(tasks=tasks, figures={"stability_edge": EDGE})
    assert {run.prefix.seed for run in all_runs(config)} == {3, 4, 5, 6}
    assert {edge.prefix.seed for edge in all_edges(config)} == {3, 4, 5, 6}
    assert config.seeds_of("digits_cnn") == config.seeds == (0, 1, 2)


def test_a_figure_may_have_seeds_of_its_own() -> None:
    """Fewer or more than its task's, runs and searches alike; those in common are shared."""
    figures = {
        "ablation_lr": {**RUNS, "methods": ["sgd"], "vary": {"k": [3]}, "seeds": [2, 7]},
        "transfer": EDGE | {"seeds": [1]},
    }
    config = _config(tasks={"mnist_mlp": {"seeds": [0, 1, 2]}}, figures=figures)
    shown = figure_runs(config, config.figures["ablation_lr"])
    assert {run.record.prefix.seed for run in shown} == {2, 7}
    edges = figure_edges(config, config.figures["transfer"])
    assert [edge.record.prefix.seed for edge in edges] == [1, 1]
    assert {run.prefix.seed for run in all_runs(config)} == {0, 1, 2, 7}
    assert len(all_prefixes(config)) == 4


def test_transfer_searches_each_task_and_loss_from_its_own_learning_rate() -> None:
    tasks = ["mnist_mlp", "digits_cnn"]
    request = EDGE | {"tasks": tasks, "losses": ["mse", "cross_entropy"], "seeds": [0]}
    config = _config(figures={"transfer": request})
    edges = [edge.record for edge in figure_edges(config, config.figures["transfer"])]
    starts = {(edge.prefix.task, edge.prefix.loss): edge.start.learning_rate for edge in edges}
    assert starts == {
        ("mnist_mlp", "mse"): 0.02,
        ("mnist_mlp", "cross_entropy"): 0.05,
        ("digits_cnn", "mse"): 0.02,
        ("digits_cnn", "cross_entropy"): 0.02,
    }


def test_free_weights_that_are_a_named_method_are_its_run() -> None:
    methods = ["sgd", "weights(1, 1)", "weights(0.5, 2)"]
    config = _config(figures={"dom_bulk": {"methods": methods, "seeds": [0]}})
    first, second, third = figure_runs(config, config.figures["dom_bulk"])
    assert first.record == second.record
    assert (third.record.dom_weight, third.record.bulk_weight) == (0.5, 2.0)


def test_a_varied_value_may_take_other_settings_along() -> None:
    """Before the switch too, where one of them holds from the start."""
    narrow = {"width": 8, "learning_rate": 0.3}
    vary = {"width": [narrow, 16]}
    config = _config(figures={"ablation_width": {**RUNS, "methods": ["sgd"], "vary": vary}})
    first, second = config.figures["ablation_width"].cells
    assert (first.varied, first.value, second.value) == ("width", 8, 16)
    assert (first.before.learning_rate, first.after.learning_rate) == (0.3, 0.3)
    assert second.before.learning_rate == 0.02


def test_snapshots_are_kept_by_the_runs_that_a_figure_measures() -> None:
    energy = {**RUNS, "methods": ["bulk_sgd"], "snapshots": 3, "probes": 9}
    config = _config(figures={"curvature_energy": energy})
    bulk = [run for run in all_runs(config) if (run.dom_weight, run.bulk_weight) == (0, 1)]
    kept = {run.id for run in bulk} | {run.prefix.id for run in bulk}
    assert snapshots(config) == dict.fromkeys(kept, 3)


def test_long_runs_have_a_process_each() -> None:
    config = _config(steps_per_job=1)
    assert all(len(job.records) == 1 for job in run_jobs(config) + prefix_jobs(config))


def test_the_list_of_runs_is_a_readable_table() -> None:
    config = _config()
    rows = list(csv.DictReader(io.StringIO(runs_csv(config))))
    assert [row["run"] for row in rows] == [run.id for run in all_runs(config)]
    assert rows[0]["figures"] == "dom_bulk alignment"
    assert (rows[0]["model_width"], rows[0]["learning_rate"]) == ("32", "0.02")
