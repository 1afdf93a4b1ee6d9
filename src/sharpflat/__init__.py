"""Training along the sharp and flat directions of the loss Hessian.

The package follows the data's way: :mod:`sharpflat.tasks` (what is trained),
:mod:`sharpflat.curvature` (its Hessian and the Dominant subspace), :mod:`sharpflat.optim` and
:mod:`sharpflat.training` (projected steps), :mod:`sharpflat.analysis` (tables) and
:mod:`sharpflat.figures`. Importing this module imports none of them, so that a Snakefile or a
plotting job never pays for torch.
"""

__version__ = "0.1.0"
