"""A checkout with a prefix and a run that can be trained again, as from a clone."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpflat import layout
from sharpflat.archive import FILES, SEAL
from sharpflat.cli import main
from sharpflat.config import Config, read_tier
from sharpflat.plan import all_runs
from sharpflat.records import RunRecord

ROOT = Path(__file__).parents[2]
TASK, LOSS = "cancer_mlp", "mse"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    """A checkout in which a prefix and a Bulk-SGD run are committed, without a checkpoint."""
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "workflow").symlink_to(ROOT / "workflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout)
        figure = {"figures": {"dom_bulk": {"tasks": [TASK], "losses": [LOSS]}}}
        config = read_tier("smoke", ROOT, figure)
        resolved = layout.resolved_config("smoke")
        resolved.parent.mkdir(parents=True)
        resolved.write_text(json.dumps(config.raw))
        (run,) = (
            record
            for record in all_runs(config)
            if record.prefix.task == TASK
            and record.prefix.seed == 0
            and (record.dom_weight, record.bulk_weight) == (0, 1)
        )
        main(["data", run.prefix.dataset, str(layout.dataset(run.prefix.dataset))])
        main(["prefix", str(resolved), run.prefix.id])
        main(["train", str(resolved), run.id])
        (layout.prefix("smoke", run.prefix.id) / "checkpoint.pt").unlink()
    return checkout, run


@pytest.fixture
def of_figures(
    trained: tuple[Path, RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any]], tuple[Config, str]]:
    """Makes a checkout with data alone, and says its configuration with figures, and where."""

    def make(figures: dict[str, Any]) -> tuple[Config, str]:
        shutil.copytree(trained[0], tmp_path / "checkout", symlinks=True)
        monkeypatch.chdir(tmp_path / "checkout")
        shutil.rmtree("results/smoke")
        Path("mine.yaml").write_text(json.dumps(figures))
        config = read_tier("smoke", ROOT, figures)
        resolved = layout.resolved_config("smoke")
        resolved.parent.mkdir(parents=True)
        resolved.write_text(json.dumps(config.raw))
        return config, str(resolved)

    return make


@pytest.fixture
def committed(
    trained: tuple[Path, RunRecord], monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunRecord]:
    """The run; what a test alters is put back."""
    checkout, run = trained
    monkeypatch.chdir(checkout)
    before = {path: path.read_bytes() for path in checkout.glob("results/smoke/*/*/*")}
    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)
    for name in (*FILES, SEAL):
        (layout.results("smoke") / name).unlink(missing_ok=True)
    for path, content in before.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture(autouse=True)
def figure(committed: RunRecord) -> None:
    """The configuration that the runs are of."""
    Path("figure.yaml").write_text(
        json.dumps({"figures": {"dom_bulk": {"tasks": [TASK], "losses": [LOSS]}}})
    )
