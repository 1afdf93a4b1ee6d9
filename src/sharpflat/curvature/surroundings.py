"""What makes a curvature matrix beside the parameters that it is differentiated in."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from sharpflat.curvature.bound_model import BoundModel
from sharpflat.curvature.held import Held
from sharpflat.curvature.snapshot import Snapshot


class Surroundings:
    """The data, and the rest of model and loss, as they were.

    Running statistics of batches move with the parameters at every step of training, and turn an
    eigenspace as little: they are told apart from the rest, which somebody changed.

    Args:
        bound: The model.
        data: Inputs and targets.
        held: What model and loss hold besides.
    """

    def __init__(self, bound: BoundModel, data: Sequence[Tensor], held: Held) -> None:
        differentiated = set(map(id, bound.parameters))
        rest = {
            name: parameter
            for name, parameter in bound.model.named_parameters()
            if id(parameter) not in differentiated
        }
        statistics: dict[str, Tensor] = {}
        for path, layer in bound.model.named_modules():
            buffers = {f"{path}.{name}": b for name, b in layer._buffers.items() if b is not None}
            (statistics if isinstance(layer, _NormBase) else rest).update(buffers)
        self._fixed = Snapshot(
            sampled={f"data {number}": part for number, part in enumerate(data)} | rest, held=held
        )
        self._statistics = Snapshot(sampled=statistics)

    def changes(self, now: Surroundings, *, moved: bool) -> list[str]:
        """Names of what changed until now.

        Args:
            now: What there is now.
            moved: Whether the parameters moved too: running statistics may then.
        """
        fixed = self._fixed.changes(now._fixed)
        return fixed if moved else fixed + self._statistics.changes(now._statistics)
