"""At which steps a result keeps its parameters. Oracle: the steps of the snapshots that training
wrote, and of a training that nothing was there before."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sharpflat import layout
from sharpflat.cli import main
from sharpflat.config import read_tier
from sharpflat.plan import all_prefixes, snapshots
from sharpflat.records import PrefixRecord, RunRecord
from sharpflat.snapshots import kept_steps
from sharpflat.training.checkpoints import read_checkpoint
from sharpflat.training.state import TrainingState
from sharpflat.training.train import Keeping, train_prefix, train_run

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def _kept(folder: Path) -> list[int]:
    return list(read_checkpoint(folder / "snapshots.pt")["parameters"])


@pytest.mark.parametrize("count", [1, 4])
def test_they_follow_from_the_record_and_the_summary(
    count: int, prefix_record: PrefixRecord, digits: Path, tmp_path: Path
) -> None:
    """Of a prefix that ends early, a run that ends at its last step, and one that diverges."""
    keeping = Keeping(snapshots=count)
    prefix, run, diverged = (tmp_path / name for name in ("prefix", "run", "diverged"))
    train_prefix(prefix_record, data=digits, folder=prefix, device=CPU, keeping=keeping)
    settings = {"prefix": prefix_record, "dom_weight": 1.0, "bulk_weight": 1.0, "steps": 20}
    after = RunRecord(**settings, **_same(prefix_record))
    records = {prefix: prefix_record, run: after, diverged: replace(after, learning_rate=50.0)}
    for folder in (run, diverged):
        branch = {"data": digits, "prefix_folder": prefix, "device": CPU, "keeping": keeping}
        train_run(records[folder], folder=folder, **branch)
    states = []
    for folder, record in records.items():
        summary = json.loads((folder / "summary.json").read_text())
        assert _kept(folder) == kept_steps(record, summary, count)
        states.append(summary["status"])
    assert states[2] == "diverged"


def _same(prefix: PrefixRecord) -> dict[str, object]:
    names = ("learning_rate", "batch_size", "k", "hessian_samples", "record_every", "eigen_every")
    return {"refresh": "adaptive"} | {name: getattr(prefix, name) for name in names}


def test_a_result_that_kept_others_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A finished one, and one that was killed on the way and goes on from its checkpoint."""
    monkeypatch.chdir(tmp_path)
    Path("workflow").symlink_to(ROOT / "workflow")
    prefix, resolved = _asked(4)
    main(["data", prefix.dataset, str(layout.dataset(prefix.dataset))])
    folder = layout.prefix("smoke", prefix.id)
    main(["prefix", resolved, prefix.id])
    expected = _kept(folder)
    main(["prefix", resolved, prefix.id])
    assert "training again" not in caplog.text
    _asked(1)
    main(["prefix", resolved, prefix.id])
    assert "training again" in caplog.text
    assert _kept(folder) == [expected[0], expected[-1]]

    for file in folder.iterdir():
        file.unlink()
    batch_loss = TrainingState.batch_loss

    def killed(state: TrainingState, step: int) -> torch.Tensor:
        if step == expected[2] + 1:
            raise KeyboardInterrupt
        return batch_loss(state, step)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TrainingState, "batch_loss", killed)
        main(["prefix", resolved, prefix.id])
    assert (folder / "resume.pt").exists()
    _asked(4)
    main(["prefix", resolved, prefix.id])
    assert _kept(folder) == expected


def _asked(count: int) -> tuple[PrefixRecord, str]:
    """A prefix of the smoke tier that keeps its parameters, and the configuration, written down."""
    energy = {"tasks": ["cancer_mlp"], "losses": ["mse"], "methods": ["sgd"], "snapshots": count}
    changes = {"checkpoint_every": 5, "figures": {"curvature_energy": energy}}
    config = read_tier("smoke", Path.cwd(), changes)
    resolved = layout.resolved_config("smoke")
    resolved.parent.mkdir(parents=True, exist_ok=True)
    resolved.write_text(json.dumps(config.raw))
    kept = snapshots(config)
    return next(record for record in all_prefixes(config) if record.id in kept), str(resolved)
