r"""
Your training loop, along flat directions
=========================================

This page starts from a plain PyTorch training loop and changes it in three steps: look at the
curvature where training ends, follow it along training, and keep the optimizer out of the sharp
directions. Every line runs when the site is built, and what it prints stands below it.
"""

# %%
# The loop as it was
# ------------------
# A small network on handwritten digits, full of habits that you may recognise: a data set in two
# tensors, shuffled mini-batches, ``zero_grad``, ``backward``, ``step``.

import copy

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)

digits = load_digits()
inputs = torch.tensor(digits.data, dtype=torch.float32) / 16
targets = torch.tensor(digits.target)
model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
loss_fn = nn.CrossEntropyLoss()


def batches(steps, seed):
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (50,), generator=order)
        yield inputs[chosen], targets[chosen]


optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for x, y in batches(400, seed=1):
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    optimizer.step()
print(f"training loss {loss_fn(model(inputs), targets).item():.3f}")

# %%
# What the loss looks like from here
# ----------------------------------
# :class:`~sharpflat.curvature.HessianOperator` takes what the loop already has: the model, a loss
# that is the mean over samples, and the data that the Hessian is meant to be of. It holds no
# matrix. It multiplies, and reads the parameters as they are at each product.

from sharpflat.curvature import HessianOperator, top_eigenpairs

hessian = HessianOperator(model, loss_fn, inputs, targets)
top = top_eigenpairs(hessian, k=12)
print(f"{hessian.shape[0]:,} parameters, {top.num_matvecs} products, converged: {top.converged}")
print("eigenvalues ", [round(value, 2) for value in top.eigenvalues.tolist()])
print("‖Hv - λv‖ at most", f"{top.residuals.max().item():.1e}")

# %%
# A result says how far to trust it: ``residuals`` are those of the pairs, ``converged`` also
# means that a search from another start found no eigenvalue that the first one had overlooked.
#
# The whole spectrum costs a few dozen products more. Nine eigenvalues stand apart on the right, one
# fewer than there are classes since a softmax does not see what is added to all of its inputs; the
# other two thousand crowd around zero.

from sharpflat.curvature import spectral_density

density = spectral_density(hessian, seed=0)
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.semilogy(density.points, density.values.clip(min=1e-6))
axes.plot(top.eigenvalues, torch.full((12,), 2e-6), "|", color="black", markersize=12)
axes.set(xlabel="eigenvalue", ylabel="density", title="Spectrum of the Hessian; marks: the top 12")
plt.show()

# %%
# The sharp part of the gradient
# ------------------------------
# Call the span of the top nine eigenvectors the Dominant subspace: k belongs where the spectrum has
# a gap. Solving for it in every step would cost more than the training.
# :class:`~sharpflat.curvature.DominantSubspace` tracks it instead: it knows how fast each vector
# turned, predicts what it has lost since, and multiplies only the vectors that would pass the
# tolerance.

from sharpflat.curvature import DominantSubspace

model_at_switch = copy.deepcopy(model)
subspace = DominantSubspace(hessian, k=9, tol=0.05)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
alignments, products = [], []
for x, y in batches(150, seed=2):
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    subspace.update()
    alignments.append(float(subspace.alignment(gradient)))
    products.append(subspace.num_matvecs)
    optimizer.step()
print(f"{subspace.num_matvecs / 150:.1f} products a step")

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.plot(alignments)
left.set(xlabel="step", title="alignment of the mini-batch gradient", ylim=(0, 1))
right.plot(products)
right.set(xlabel="step", title="products used so far")
plt.show()

# %%
# Without it
# ----------
# :class:`~sharpflat.optim.ProjectedOptimizer` goes around the optimizer that the loop already
# has. The base optimizer computes its update; the wrapper weighs the part of it inside the
# Dominant subspace with ``dom_weight`` and the rest with ``bulk_weight``. Three weights, three
# methods, one checkpoint, the same mini-batches:

from sharpflat.optim import ProjectedOptimizer

WEIGHTS = {"SGD": (1.0, 1.0), "Dom-SGD": (1.0, 0.0), "Bulk-SGD": (0.0, 1.0)}


def train(dom_weight, bulk_weight):
    model = copy.deepcopy(model_at_switch)
    hessian = HessianOperator(model, loss_fn, inputs, targets)
    optimizer = ProjectedOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.05),
        DominantSubspace(hessian, k=9, tol=0.05),
        dom_weight=dom_weight,
        bulk_weight=bulk_weight,
    )
    losses = []
    for x, y in batches(150, seed=2):
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
        with torch.no_grad():
            losses.append(loss_fn(model(inputs), targets).item())
    return losses


figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for method, weights in WEIGHTS.items():
    axes.semilogy(train(*weights), label=method)
axes.set(xlabel="step from the checkpoint", ylabel="training loss")
axes.legend()
plt.show()

# %%
# What to mind in your own loop
# -----------------------------
# - The Hessian is that of the data given to the operator, whatever the mini-batches are. Give it
#   all training samples where you can, a fixed subset where you cannot.
# - Call ``model.eval()`` before building the operator if the model has dropout or batch
#   normalisation: in training mode both make the Hessian depend on chance or on the batch, and
#   the operator refuses.
# - A schedule, gradient clipping or another optimizer needs no change here: the projection comes
#   after them.
# - For a large model take ``parameters=[...]`` (a block), ``samples="auto"`` (tracking from a
#   sample), or both; see the page on tracking.
