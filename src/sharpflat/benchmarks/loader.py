"""Eigenpairs over a DataLoader that reads from a file, beside the same samples in one tensor.

Every case is solved in a process of its own, in float64, and its peak memory counted from before
the data are touched. The number of samples must not show in a DataLoader's.

    python -m sharpflat.benchmarks.loader results/benchmarks
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from sharpflat.benchmarks.memory_child import _resident_and_peak as resident_and_peak
from sharpflat.benchmarks.reference import largest_sine
from sharpflat.curvature import HessianOperator, top_eigenpairs

FEATURES, HIDDEN, CLASSES, K = 196, 16, 10, 5
NUM_SAMPLES, BLOCK, BATCH = (15_000, 60_000), 500, 2
TOLERANCE = 1e-7
#: By name: how the samples are given, and how many.
CASES = [*(("DataLoader", count) for count in NUM_SAMPLES), ("tensor", NUM_SAMPLES[-1])]


def write_samples(path: Path) -> None:
    """Samples of as many Gaussians as there are classes, a block of them after the other."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLASSES, FEATURES))
    with path.open("wb") as file:
        for _ in range(NUM_SAMPLES[-1] // BLOCK):
            noise = generator.normal(size=(BLOCK, FEATURES))
            (noise + centres[np.arange(BLOCK) % CLASSES]).tofile(file)


class Blocks(Dataset[tuple[Tensor, Tensor]]):
    """Blocks of samples, each read from the file when it is asked for."""

    def __init__(self, path: Path, num_samples: int) -> None:
        self.path, self.num_blocks = path, num_samples // BLOCK

    def __len__(self) -> int:
        return self.num_blocks

    def __getitem__(self, blocks: list[int]) -> tuple[Tensor, Tensor]:
        size = BLOCK * FEATURES
        parts = [
            np.fromfile(self.path, count=size, offset=8 * size * block).reshape(BLOCK, FEATURES)
            for block in blocks
        ]
        return torch.from_numpy(np.concatenate(parts)), torch.arange(len(blocks) * BLOCK) % CLASSES


def solve(path: Path, given: str, num_samples: int, out: Path) -> None:
    """Solve one case in this process; the eigenpairs go to a file."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))
    model.double()
    blocks = Blocks(path, num_samples)
    warm_up = HessianOperator(model, nn.functional.cross_entropy, *blocks[[0]])
    _ = top_eigenpairs(warm_up, K)  # loads the libraries, whose memory is no solve's
    before, _ = resident_and_peak(torch.device("cpu"))
    if given == "tensor":
        data = blocks[list(range(len(blocks)))]
        hessian = HessianOperator(model, nn.functional.cross_entropy, *data)
    else:
        sampler = BatchSampler(RandomSampler(blocks), BATCH, drop_last=False)
        loader = DataLoader(blocks, sampler=sampler, batch_size=None)
        hessian = HessianOperator(model, nn.functional.cross_entropy, loader, memory_limit=0)
    found = top_eigenpairs(hessian, K, tol=TOLERANCE)
    _, peak = resident_and_peak(torch.device("cpu"))
    report = {
        "num_parameters": hessian.shape[0],
        "products": found.num_matvecs,
        "converged": found.converged,
        "peak_mebibytes": (peak - before) / 2**20,
    }
    torch.save((report, found.eigenvalues, found.eigenvectors), out)


def main(folder: Path) -> None:
    """Solve every case and write ``loader.csv``."""
    rows, solved = [], []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory() as temporary:
        samples, out = Path(temporary) / "samples", Path(temporary) / "pairs.pt"
        write_samples(samples)
        for given, count in CASES:
            case = json.dumps([str(samples), given, count, str(out)])
            subprocess.run([sys.executable, __file__, "--case", case], check=True, env=environment)
            report, *pairs = torch.load(out, weights_only=True)
            solved.append(pairs)
            rows.append({"samples": given, "num_samples": count, "k": K, **report})
    for row, (values, vectors) in zip(rows, solved, strict=True):
        if row["num_samples"] == NUM_SAMPLES[-1]:
            true_values, true_vectors = solved[-1]
            row["eigenvalue_difference"] = float((values / true_values - 1).abs().max())
            row["sine_largest_angle"] = largest_sine(vectors, true_vectors)
    table = pd.DataFrame(rows)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "loader.csv", index=False, float_format="%.4g")
    print(table.to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        samples_path, how, number, target = json.loads(options.case)
        solve(Path(samples_path), how, number, Path(target))
    else:
        main(options.folder)
