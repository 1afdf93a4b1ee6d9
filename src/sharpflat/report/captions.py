"""Captions: how to read a figure, and what it says in numbers from the table behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.edges import stability_edges
from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.accuracy import chance_words, dataset_of, standard_error
from sharpflat.figures.architectures import row_title as architecture_title
from sharpflat.figures.optimizers import METHODS as PARTS
from sharpflat.figures.optimizers import row_title as optimizer_title
from sharpflat.figures.pairs import run_pairs, sgd_name
from sharpflat.figures.points import median
from sharpflat.figures.stability_plane import plane_cells
from sharpflat.figures.style import method_label, panel_title
from sharpflat.figures.value_axis import as_value, value_text

TITLES = {
    "alignment": "Gradients and the Dominant subspace",
    "dom_bulk": "Only sharp, only flat, or both",
    "generalization": "Test accuracy against training loss",
    "interpolation": "Between SGD, Dom-SGD and Bulk-SGD",
    "stability_map": "Where training is stable, and where a quadratic says it is",
    "stability_edge": "The edge of stability, predicted and observed",
    "stability_plane": "Dominant and Bulk weights at one learning rate",
    "transfer": "The predicted edge on other tasks",
    "curvature_energy": "Curvature energy in the Dominant subspace",
    "ablation_lr": "Learning rate",
    "ablation_batch_size": "Batch size",
    "ablation_k": "Dimension of the Dominant subspace",
    "ablation_refresh": "How often the Dominant subspace is computed anew",
    "ablation_hessian_samples": "Samples in the Hessian",
    "ablation_switch": "Step of the switch",
    "ablation_width": "Width of the model",
    "eigensolver_cost": "What the eigenspace costs",
    "optimizers": "Sharp and flat parts under other optimizers",
    "architectures": "Only sharp, only flat, or both, on other architectures and data",
}


def caption(kind: str, table: pd.DataFrame) -> list[str]:
    """How a figure is read and what its table says: a sentence or two, then one a setting.

    Args:
        kind: Of the figure.
        table: The table behind it.
    """
    describe = _DESCRIPTIONS.get(kind)
    return [] if describe is None else list(describe(table))


def _groups(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each task and loss, with its name."""
    for _, rows in table.groupby(SETTING, sort=False):
        yield panel_title(rows), rows


def _runs(table: pd.DataFrame) -> pd.DataFrame:
    return run_pairs(table[table["method"] != BEFORE_SWITCH])


def _alignment(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "Alignment χ_k of the full gradient, mean over the last tenth of SGD after the switch, and "
        "from the least to the greatest seed. Thin lines are seeds, thick ones their means. At the "
        "switch the eigenspace is computed anew: the last value before it and SGD's first after it "
        "differ by the eigensolver's tolerance."
    )
    for group, rows in _groups(table):
        text = f"{group}: {_spread(_runs(rows)['alignment'])}"
        if "num_parameters" in rows:
            random = np.sqrt(rows["k"].iloc[0] / rows["num_parameters"].iloc[0])
            text += f"; a random direction has {random:.3g}"
        yield text


def _endings(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "Thin lines are seeds, thick ones their geometric means, of accuracies their means. Final "
        "training loss over that of SGD with the same seed, median and from the least to the "
        "greatest seed:"
    )
    yield from _ratio_lines(table)


def _interpolation(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "Curves are geometric means over seeds of the ratio to SGD with the same seed, points are "
        "seeds, and lines between them join medians. Final training loss over SGD's, median and "
        "from the least to the greatest seed:"
    )
    yield from _ratio_lines(table)


def _ratio_lines(table: pd.DataFrame) -> Iterator[str]:
    for group, rows in _groups(table):
        runs = _runs(rows)
        name = sgd_name(runs)
        sgd = runs[runs["method"] == name]
        parts = [
            f"{method_label(str(method))} {_median(own['final_ratio'])}"
            for method, own in runs[runs["method"] != name].groupby("method", sort=False)
        ]
        change = _median(sgd["final_train_loss"] / sgd["start_train_loss"])
        own = f"; SGD ends at {change} of its loss at the switch" if name else ""
        yield f"{group}: {', '.join(parts)}{own}{_lost(runs)}"


def _generalization(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "Small marks are seeds, large ones their means; a line joins each run to SGD with the same "
        "seed. Test accuracy at the end, mean over the seeds that did not diverge:"
    )
    for group, rows in _groups(table):
        runs = _runs(rows)
        ended = runs[runs["stability"] != "diverged"]
        means = ended.groupby("method", sort=False)["final_test_accuracy"].mean()
        dataset = dataset_of(rows)
        parts = [f"{method_label(str(name))} {mean:.3f}" for name, mean in means.items()]
        if dataset is not None and len(means):
            error = float(standard_error(means.mean(), dataset.num_test))
            parts.append(f"each ± {error:.3f}, the binomial error on {dataset.num_test} samples")
        words = chance_words(ended["final_test_accuracy"], dataset)
        yield f"{group}: {', '.join(parts)}{words and f'; {words}'}{_lost(runs)}"


def _stability(table: pd.DataFrame) -> Iterator[str]:
    runs = _runs(table)
    counts = runs["stability"].value_counts()
    yield (
        f"Of {len(runs)} runs {counts.get('diverged', 0)} diverged and "
        f"{counts.get('unstable', 0)} more were unstable. Colours are means over seeds; cells "
        "where a seed diverged are grey."
    )


def _plane(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "Left, how the seeds' runs ended at every pair of weights; right, final training loss over "
        "that of SGD, the pair (1, 1), geometric mean over seeds, grey where a seed diverged."
    )
    for group, rows in _groups(table):
        cells = plane_cells(rows)
        foreseen = int((cells["predicted"] == cells["observed"]).sum())
        text = f"{group}, η = {cells['learning_rate'].iloc[0]:g}: "
        text += f"{foreseen} of {len(cells)} pairs as predicted"
        if cells["final_ratio"].notna().any():
            best = cells.sort_values("final_ratio").iloc[0]
            text += (
                f"; the lowest loss, {best['final_ratio']:.3f} of SGD's, at "
                f"a = {best['dom_weight']:g}, b = {best['bulk_weight']:g}"
            )
        yield text


def _edge(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "A mark a method and seed; above and below it the learning rates that were tried. Observed "
        "over predicted edge, median and from the least to the greatest seed:"
    )
    yield from _edge_lines(table)


def _transfer(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "A point a task and loss: large marks are geometric means over seeds, small ones seeds. A "
        "triangle is a seed whose edge lies beyond the trials; its task and loss then have no "
        "mean. Observed over predicted edge, median and from the least to the greatest seed:"
    )
    yield from _edge_lines(table)


def _edge_lines(table: pd.DataFrame) -> Iterator[str]:
    for group, rows in _groups(table):
        edges = stability_edges(rows)
        parts = []
        for method, own in edges.groupby("method", sort=False):
            known = own["observed_over_predicted"].dropna()
            beyond = len(own) - len(known)
            text = _median(known) if len(known) else "not found"
            lost = f" ({beyond} of {len(own)} seeds beyond the trials)" if beyond else ""
            parts.append(f"{method_label(str(method))} {text}{lost}")
        yield f"{group}: {', '.join(parts)}"


def _energy(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "Share of the squared Frobenius norm in the Hessian's Dominant subspace at the end of SGD, "
        "mean over seeds, and overlap of the top-k eigenspaces of H and G."
    )
    last = table.loc[table.groupby(["task", "loss", "method", "seed", "matrix"])["step"].idxmax()]
    for group, rows in _groups(last[last["method"] == "sgd"]):
        shares = rows.groupby("matrix")["frobenius_share"].mean()
        yield (
            f"{group}: {shares['hessian']:.2f} of H, {shares['ggn']:.2f} of G, "
            f"{shares['functional_hessian']:.2f} of F; overlap {rows['overlap'].mean():.2f}"
        )


def _ablation(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "Points are seeds, lines join their medians. Final training loss over that of SGD with the "
        "same seed and value, median and from the least to the greatest seed, by the varied value:"
    )
    for group, rows in _groups(table):
        runs = _runs(rows)
        others = runs[runs["method"] != sgd_name(runs)]
        for method, own in others.groupby("method", sort=False):
            by_value = own.groupby("value", sort=False)["final_ratio"]
            listed = ", ".join(
                f"{value_text(as_value(value))}: {_median(ratio)}" for value, ratio in by_value
            )
            yield f"{group}, {method_label(str(method))}: {listed}"
        yield f"{group}: {_classes(runs)}"


def _optimizers(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "Base is the optimizer itself, Dom and Bulk follow one part of its update. Thin lines "
        "are seeds, thick ones their geometric means, of alignments their means. A fixed switch is "
        "one at a step, without the alignment that brings the others. χ_k is that of the full "
        "gradient and of the update along Base. λ_1 is that of the Hessian as the second moments "
        "precondition it, or for SGD as it is. Final training loss over Base's with the same "
        "seed, median and from the least to the greatest seed:"
    )
    for (_, _, _), rows in table.groupby(["task", "loss", "value"], sort=False):
        runs = _runs(rows)
        base = runs[runs["method"] == "sgd"]
        parts = [
            f"{PARTS.get(str(method), method_label(str(method)))} {_median(own['final_ratio'])}"
            for method, own in runs[runs["method"] != "sgd"].groupby("method", sort=False)
        ]
        change = _median(base["final_train_loss"] / base["start_train_loss"])
        own = rows[rows["method"] == "sgd"]
        text = (
            f"{panel_title(rows)}, {optimizer_title(rows)}: {', '.join(parts)}; Base ends at "
            f"{change} of its loss at the switch; mean χ_k along it {own['alignment'].mean():.2f} "
            f"of the gradient, {own['update_alignment'].mean():.2f} of the update"
        )
        if bounds := int((rows.get("preconditioned_converged", pd.Series()) == 0).sum()):
            text += f"; {bounds} records of λ_1 are bounds from below"
        yield text + _lost(runs)


def _architectures(table: pd.DataFrame) -> Iterator[str]:
    yield (
        "A fixed switch is one at a step, without the alignment that brings the others. Thin lines "
        "are seeds, thick ones their geometric means, of alignments their means. Final training "
        "loss over that of SGD with the same seed, median and from the least to the greatest seed:"
    )
    for line, (_, rows) in zip(_ratio_lines(table), _groups(table), strict=True):
        chi = rows.loc[rows["method"] == "sgd", "alignment"].mean()
        text = line.replace(panel_title(rows), architecture_title(rows), 1)
        yield f"{text}; mean χ_k along SGD {chi:.2f}"


def _cost(table: pd.DataFrame) -> Iterator[str]:
    yield "A solve from nothing at equal accuracy, in seconds."
    cold = table[(table["mode"] == "cold") & table["reached"].astype(bool)]
    for task, rows in cold.groupby("task", sort=False):
        seconds = rows.set_index("method")["seconds"]
        yield f"{task}: " + ", ".join(f"{name} {value:.3g}" for name, value in seconds.items())


def _classes(runs: pd.DataFrame) -> str:
    """How many runs of each method were unstable or diverged, and at which values they did."""
    parts = []
    for method, own in runs.groupby("method", sort=False):
        counts = own["stability"].value_counts()
        unstable, diverged = counts.get("unstable", 0), counts.get("diverged", 0)
        label = method_label(str(method))
        text = f"{label} {unstable} unstable and {diverged} diverged of {len(own)}"
        if diverged:
            lost = (own["stability"] == "diverged").groupby(own["value"], sort=False)
            shares = [
                f"{seeds.sum()} of {len(seeds)} seeds at {value_text(as_value(value))}"
                for value, seeds in lost
                if seeds.any()
            ]
            text += f" ({', '.join(shares)})"
        parts.append(text)
    return "; ".join(parts)


def _lost(runs: pd.DataFrame) -> str:
    diverged = int((runs["stability"] == "diverged").sum())
    return f"; {diverged} of {len(runs)} runs diverged" if diverged else ""


def _median(values: pd.Series) -> str:
    """Median of ratios with the least and the greatest; diverged runs count as infinite."""
    known = values.dropna()
    if known.empty:
        return "not comparable"
    text = _ratio(median(known))
    return text if len(known) < 2 else f"{text} ({_ratio(known.min())} to {_ratio(known.max())})"


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.3g} ({values.min():.3g} to {values.max():.3g})"


def _ratio(value: float) -> str:
    """With as many digits as it takes to tell methods apart that follow the same mini-batches."""
    return f"{value:.3f}" if np.isfinite(value) else "diverged"


_DESCRIPTIONS: dict[str, Callable[[pd.DataFrame], Iterator[str]]] = {
    "alignment": _alignment,
    "dom_bulk": _endings,
    "generalization": _generalization,
    "interpolation": _interpolation,
    "ablation": _ablation,
    "stability_map": _stability,
    "stability_edge": _edge,
    "stability_plane": _plane,
    "transfer": _transfer,
    "curvature_energy": _energy,
    "eigensolver_cost": _cost,
    "optimizers": _optimizers,
    "architectures": _architectures,
}
