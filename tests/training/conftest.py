"""A small data set on disk and a record that trains on it in a second."""

from pathlib import Path

import pytest

from sharpflat.optimizers import parse_optimizer
from sharpflat.records import PrefixRecord
from sharpflat.tasks.prepare import prepare


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The canonical file of scikit-learn's digits."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    prepare("digits", path)
    return path


@pytest.fixture
def prefix_record() -> PrefixRecord:
    """SGD on the digits, with a switch that comes by alignment within 60 steps."""
    return PrefixRecord(
        task="digits_mlp",
        dataset="digits",
        model="mlp",
        sizes=(("depth", 2), ("width", 8)),
        loss="mse",
        seed=0,
        optimizer="sgd",
        optimizer_options=parse_optimizer("sgd")[1],
        batch_size=50,
        learning_rate=0.02,
        k=3,
        hessian_samples=300,
        tolerance=0.05,
        tracking_samples=None,
        record_every=5,
        eigen_every=5,
        switch_alignment=0.5,
        switch_ema_decay=0.9,
        switch_max_steps=60,
        divergence_factor=100.0,
    )
