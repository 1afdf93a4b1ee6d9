"""Each figure from one tidy table; no figure trains or imports torch."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from sharpflat.figures.alignment import plot_alignment
from sharpflat.figures.dom_bulk import plot_dom_bulk
from sharpflat.figures.eigensolver_cost import plot_eigensolver_cost

#: A figure's name and how it is drawn from its table.
FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "dom_bulk": plot_dom_bulk,
    "alignment": plot_alignment,
    "eigensolver_cost": plot_eigensolver_cost,
}
