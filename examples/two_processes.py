"""The Dominant subspace over data that two processes share.

Each process holds its own, unequal part of the samples; products, losses and gradients are added
up over the group, and every process goes on from the same bits. Nothing else changes in a program:
no process is the first among them, and no basis is sent.

    torchrun --nproc-per-node 2 examples/two_processes.py
"""

import argparse
import gc
import hashlib

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters

from sharpflat.curvature import DominantSubspace, HessianOperator, top_eigenpairs

K, LEARNING_RATE = 5, 0.2


def main(steps: int) -> None:
    """Between meeting the other processes and parting from them."""
    dist.init_process_group("gloo")
    train_and_compare(steps)
    gc.collect()  # operators hold the group, and it must not outlive its end
    dist.destroy_process_group()


def train_and_compare(steps: int) -> None:
    """Train by Bulk gradient descent; then compare the processes, and all with one alone."""
    rank, size = dist.get_rank(), dist.get_world_size()
    digits = load_digits()
    inputs = torch.tensor(digits.data / 16)
    targets = torch.tensor(digits.target)
    bounds = [len(inputs) * part**2 // size**2 for part in range(size + 1)]
    mine = slice(bounds[rank], bounds[rank + 1])

    torch.manual_seed(0)  # the same model everywhere; another one would be refused
    model = nn.Sequential(nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10)).double()
    hessian = HessianOperator(
        model, cross_entropy, inputs[mine], targets[mine], process_group=dist.group.WORLD
    )
    subspace = DominantSubspace(hessian, K)
    for _ in range(steps):
        subspace.update()
        loss, gradient = hessian.loss_and_gradient()
        step = LEARNING_RATE * (gradient - subspace.project(gradient))
        vector_to_parameters(hessian.theta() - step, model.parameters())

    together = top_eigenpairs(hessian, K, tol=1e-6)
    bits = hashlib.sha256(together.eigenvectors.numpy().tobytes()).hexdigest()
    says = [""] * size
    dist.all_gather_object(
        says, f"process {rank}: {bounds[rank + 1] - bounds[rank]:5d} samples, basis {bits[:16]}"
    )
    if rank == 0:
        print("\n".join(says))
        all_samples = HessianOperator(model, cross_entropy, inputs, targets)
        alone = top_eigenpairs(all_samples, K, tol=1e-6)
        for name, found in (("together", together), ("alone", alone)):
            print(f"{name:8s}", " ".join(f"{value:12.9f}" for value in found.eigenvalues.tolist()))
        print(
            f"loss {loss:.4f} over {hessian.num_samples} samples, "
            f"{subspace.num_matvecs} products to track it along {steps} steps"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
