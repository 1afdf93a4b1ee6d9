"""Samples spread over two processes. Oracle: one process with all of them, in float64."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from curvature.share import SHARES, computed

Found = dict[str, Any]


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each of two processes computed and was told."""
    folder = tmp_path_factory.mktemp("processes")
    script = str(Path(__file__).with_name("share.py"))
    running = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(folder)], stderr=subprocess.PIPE, text=True
        )
        for rank in range(len(SHARES))
    ]
    said = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(SHARES))]


@pytest.fixture(scope="module")
def alone() -> Found:
    """The same over all samples in this process."""
    return computed(slice(None))


@pytest.mark.parametrize(
    "name",
    [
        "HessianOperator",
        "GGNOperator",
        "FunctionalHessianOperator",
        "pairs",
        "gradient",
        "gradient of pairs",
        "trained",
    ],
)
def test_equal_to_one_process(shares, alone, name):
    assert torch.allclose(shares[0][name], alone[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["loss", "loss of pairs"])
def test_losses(shares, alone, name):
    assert shares[0][name] == pytest.approx(alone[name], abs=1e-12)


@pytest.mark.parametrize("name", ["solved", "basis"])
def test_subspaces(shares, alone, sine, name):
    """The tracked one within what rounding leaves open: decisions could fall otherwise."""
    assert sine(shares[0][name], alone[name]) < 1e-8
    assert shares[0]["products"] == alone["products"]


def test_every_process_has_the_same_bits(shares):
    first, second = shares
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name
        elif name != "refusals":
            assert value == second[name], name


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("other_model", "UnequalProcessesError: parameters or buffers of the model differ"),
        ("drifted", "loss_and_gradient"),
        ("other_vectors", "vectors to be multiplied differ between processes 0 and 1 of 2"),
        ("other_kind", "kinds of operator and loss differ"),
        ("sampled", "ValueError: samples is 'auto'"),
        ("chosen", "spread over processes"),
    ],
)
def test_refused_in_every_process(shares, mistake, words):
    for share in shares:
        assert words in share["refusals"][mistake]


@pytest.mark.parametrize("mistake", ["no_samples", "failing_product"])
def test_an_error_in_one_process_stops_the_other(shares, mistake):
    first, second = (share["refusals"][mistake] for share in shares)
    assert first.startswith("UnequalProcessesError: process 1 of 2 raised an error")
    assert not second.startswith("UnequalProcessesError")
