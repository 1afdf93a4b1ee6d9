"""Each figure from one tidy table; no figure trains or imports torch."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from sharpflat.figures.ablation import plot_ablation
from sharpflat.figures.alignment import plot_alignment
from sharpflat.figures.architectures import plot_architectures
from sharpflat.figures.curvature_energy import plot_curvature_energy
from sharpflat.figures.dom_bulk import plot_dom_bulk
from sharpflat.figures.eigensolver_cost import plot_eigensolver_cost
from sharpflat.figures.generalization import plot_generalization
from sharpflat.figures.interpolation import plot_interpolation
from sharpflat.figures.optimizers import plot_optimizers
from sharpflat.figures.stability_edge import plot_stability_edge
from sharpflat.figures.stability_map import plot_stability_map
from sharpflat.figures.stability_plane import plot_stability_plane
from sharpflat.figures.transfer import plot_transfer

#: A figure's kind and how it is drawn from its table.
FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "alignment": plot_alignment,
    "dom_bulk": plot_dom_bulk,
    "ablation": plot_ablation,
    "interpolation": plot_interpolation,
    "stability_map": plot_stability_map,
    "stability_edge": plot_stability_edge,
    "stability_plane": plot_stability_plane,
    "transfer": plot_transfer,
    "curvature_energy": plot_curvature_energy,
    "generalization": plot_generalization,
    "eigensolver_cost": plot_eigensolver_cost,
    "optimizers": plot_optimizers,
    "architectures": plot_architectures,
}
