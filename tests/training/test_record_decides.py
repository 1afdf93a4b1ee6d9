"""What a record says is what a run does: its seeds, its tolerance, its limit of divergence."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from planted import run_record
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from training.dense import descending_eigenpairs

from sharpflat.records import PrefixRecord
from sharpflat.tasks.models import build_model
from sharpflat.tasks.registry import DATASETS
from sharpflat.training.batches import BatchOrder
from sharpflat.training.checkpoints import read_checkpoint
from sharpflat.training.energy import energy_at
from sharpflat.training.randomness import stream_seed
from sharpflat.training.state import TrainingState, initial_state, subspace_of
from sharpflat.training.train import Keeping, train_prefix, train_run

CPU = torch.device("cpu")


def _theta(state: TrainingState) -> Tensor:
    return parameters_to_vector(state.model.parameters()).detach()


def _order(state: TrainingState) -> list[list[int]]:
    """Of the batches of two epochs."""
    return [state.order.indices(step).tolist() for step in range(58)]


def test_the_seed_decides_initialisation_and_batches(
    prefix_record: PrefixRecord, digits: Path
) -> None:
    """Oracles: another seed, and the same seed under another state of torch's own generator."""
    states = {}
    for name, seed, chance in (("first", 0, 5), ("again", 0, 6), ("other", 1, 5)):
        torch.manual_seed(chance)
        states[name] = initial_state(replace(prefix_record, seed=seed), digits, device=CPU)
    first, again, other = states.values()
    assert torch.equal(_theta(first), _theta(again))
    assert not torch.isclose(_theta(first), _theta(other)).all()
    assert _order(first) == _order(again)
    assert _order(first) != _order(other)
    # Not merely shifted by an epoch, as of seeds that are added to the epoch's number.
    assert not any(_order(first)[i : i + 29] == _order(other)[:29] for i in (0, 29))


@pytest.mark.parametrize("seed", [0, 7])
def test_each_use_of_chance_has_the_stream_of_its_name(
    prefix_record: PrefixRecord, digits: Path, seed: int
) -> None:
    """Oracle: the parts built with the stream's seed by hand."""
    record = replace(prefix_record, seed=seed)
    state = initial_state(record, digits, device=CPU)
    sizes = dict(record.sizes)
    model = build_model(
        record.model, DATASETS[record.dataset], sizes, seed=stream_seed(seed, "initialisation")
    )
    assert torch.equal(_theta(state), parameters_to_vector(model.parameters()))
    order = BatchOrder(1437, record.batch_size, seed=stream_seed(seed, "batches"))
    assert _order(state) == [order.indices(step).tolist() for step in range(58)]
    assert subspace_of(state, record, refresh="adaptive").seed == stream_seed(seed, "eigensolver")


def test_the_seed_decides_the_eigensolvers_vectors(
    prefix_record: PrefixRecord, digits: Path
) -> None:
    """Oracle: the same subspace to its tolerance, from another start; the same seed, same bits."""
    state = initial_state(prefix_record, digits, device=CPU)
    bases = []
    for seed in (0, 0, 1):
        subspace = subspace_of(state, replace(prefix_record, seed=seed), refresh="adaptive")
        subspace.refresh()
        bases.append(subspace.basis)
    assert torch.equal(bases[0], bases[1])
    assert not torch.equal(bases[0], bases[2])
    overlap = (bases[0].T @ bases[2]).square().sum().item()
    assert overlap == pytest.approx(prefix_record.k, abs=2 * prefix_record.tolerance**2)


def test_the_seed_decides_the_energys_probes(prefix_record: PrefixRecord, digits: Path) -> None:
    """Oracle: estimates from other probes differ; the same seed gives the same numbers."""
    state = initial_state(replace(prefix_record, hessian_samples=50), digits, device=CPU)
    shares = [
        energy_at(state, replace(prefix_record, seed=seed), probes=2)[0]["frobenius_norm"]
        for seed in (0, 0, 1)
    ]
    assert shares[0] == shares[1] != shares[2]


def test_the_tolerance_is_the_records(prefix_record: PrefixRecord, digits: Path) -> None:
    """Oracle: the true angle to the dense Hessian's eigenvectors; what is looser costs less.

    The costs are those of keeping up with ten steps: a solve's own lie mostly in its search for
    missed eigenvalues, which goes on until none can be hidden, whatever the tolerance.
    """
    state = initial_state(prefix_record, digits, device=CPU)
    hessian = state.hessian @ torch.eye(state.hessian.shape[0])
    dominant = descending_eigenpairs(hessian.double())[1][:, : prefix_record.k]
    products = []
    for tolerance in (0.4, 0.05, 0.002):
        record = replace(prefix_record, tolerance=tolerance)
        subspace = subspace_of(state, record, refresh="adaptive")
        estimate = subspace.refresh().error_estimate
        basis = subspace.basis.double()
        sine = (basis - dominant @ (dominant.T @ basis)).norm().item()
        assert sine <= tolerance
        assert estimate <= tolerance
        products.append(_products_of_ten_steps(record, digits))
    assert products[0] < products[1] < products[2]


def _products_of_ten_steps(record: PrefixRecord, digits: Path) -> int:
    state = initial_state(record, digits, device=CPU)
    subspace = subspace_of(state, record, refresh="adaptive")
    subspace.refresh()
    before = subspace.num_matvecs
    optimizer = torch.optim.SGD(state.model.parameters(), lr=record.learning_rate)
    for step in range(10):
        optimizer.zero_grad()
        state.batch_loss(step).backward()
        optimizer.step()
        subspace.update()
    return subspace.num_matvecs - before


@pytest.mark.filterwarnings("ignore:the Dominant subspace is known")
@pytest.mark.parametrize(("factor", "step"), [(1.5, 1), (4.0, 3), (20.0, 6), (1e6, None)])
def test_a_run_diverges_where_its_loss_passes_the_records_factor(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path, factor: float, step: int | None
) -> None:
    """Oracle: the batch losses of plain SGD, far beyond its stable step size of 2 / λ_1."""
    record = replace(
        prefix_record,
        learning_rate=0.2,
        switch_alignment=None,
        switch_max_steps=9,
        divergence_factor=factor,
    )
    state = initial_state(record, digits, device=CPU)
    limit = factor * state.full_gradient()[0]
    optimizer = torch.optim.SGD(state.model.parameters(), lr=record.learning_rate)
    losses = []
    for number in range(record.switch_max_steps + 1):
        optimizer.zero_grad()
        loss = state.batch_loss(number)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    passed = [number for number, loss in enumerate(losses) if loss > limit]
    assert (passed[0] if passed else None) == step
    train_prefix(record, data=digits, folder=tmp_path, device=CPU)
    summary = json.loads((tmp_path / "summary.json").read_text())
    expected = ("finished", record.switch_max_steps) if step is None else ("diverged", step)
    assert (summary["status"], summary["last_step"]) == expected


@pytest.mark.parametrize("weights", [(0.3, 1.7), (1.0, 0.0), (0.0, 1.0)])
def test_a_step_weighs_the_parts_of_the_gradient_as_the_record_says(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path, weights: tuple[float, float]
) -> None:
    """Oracle: ``θ - η (a P g + b (g - P g))`` with P of the dense Hessian at the switch."""
    prefix = replace(prefix_record, switch_alignment=None, switch_max_steps=1, tolerance=0.001)
    train_prefix(prefix, data=digits, folder=tmp_path / "prefix", device=CPU)
    a, b = weights
    train_run(
        run_record(prefix, dom_weight=a, bulk_weight=b, steps=1, learning_rate=0.1),
        data=digits,
        prefix_folder=tmp_path / "prefix",
        folder=tmp_path / "run",
        device=CPU,
        keeping=Keeping(snapshots=1),
    )
    snapshots = read_checkpoint(tmp_path / "run" / "snapshots.pt")["parameters"]
    before, after = (snapshots[step].double() for step in (1, 2))
    state = initial_state(prefix, digits, device=CPU)
    vector_to_parameters(snapshots[1], state.model.parameters())
    gradient = torch.cat(
        [g.flatten() for g in torch.autograd.grad(state.batch_loss(1), state.hessian.parameters)]
    ).double()
    hessian = state.hessian @ torch.eye(state.hessian.shape[0])
    V = descending_eigenpairs(hessian.double())[1][:, : prefix.k]
    dominant = V @ (V.T @ gradient)
    expected = -0.1 * (a * dominant + b * (gradient - dominant))
    assert (after - before - expected).norm() < 0.01 * expected.norm()
    assert 0.2 < dominant.norm() / gradient.norm() < 0.95  # else the weights would not show


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trajectory.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_goes_on_from_the_average_of_its_prefix(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Oracle: the prefix that goes on in place of the run; the switch's record counts once."""
    short = replace(prefix_record, switch_alignment=None, switch_max_steps=10)
    for name, steps in (("prefix", 10), ("whole", 20)):
        record = replace(short, switch_max_steps=steps)
        train_prefix(record, data=digits, folder=tmp_path / name, device=CPU)
    train_run(
        run_record(short, steps=10),
        data=digits,
        prefix_folder=tmp_path / "prefix",
        folder=tmp_path / "run",
        device=CPU,
    )
    whole, run = (
        {int(row["step"]): float(row["alignment_ema"]) for row in _rows(tmp_path / name)}
        for name in ("whole", "run")
    )
    assert list(run) == [10, 15, 20]
    # The run's solver starts afresh, so that its alignments agree to the solver's tolerance.
    for step, average in run.items():
        assert average == pytest.approx(whole[step], abs=0.01)
    assert (
        _rows(tmp_path / "prefix")[-1]["alignment_ema"]
        == _rows(tmp_path / "run")[0]["alignment_ema"]
    )


def test_recording_changes_no_step_of_an_interval(
    prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Oracle: the run that records at its ends only. What the steps are projected on drifts for an
    interval, and a measurement, which converges, must not bring it up to date."""
    losses = []
    for every in (1, 9):
        prefix = replace(
            prefix_record,
            switch_alignment=None,
            switch_max_steps=9,
            record_every=every,
            eigen_every=every,
        )
        folder = tmp_path / str(every)
        train_prefix(prefix, data=digits, folder=folder / "prefix", device=CPU)
        record = run_record(prefix, dom_weight=0.0, steps=9, refresh=4, learning_rate=0.1)
        train_run(
            record, data=digits, prefix_folder=folder / "prefix", folder=folder / "run", device=CPU
        )
        losses.append(_rows(folder / "run")[-1]["train_loss"])
    assert losses[0] == losses[1]
