"""Two trajectories of the same stretch of training, number for number, as they were written."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: A record's columns as they are written, by step.
Rows = Mapping[int, Mapping[str, str]]

#: How far apart numbers may be on the same kind of machine, as a share of :func:`_scale`. Such
#: machines agree in every digit, but a processor's name may stand for several that round
#: differently. One thread against two, and AVX2 against AVX-512, were measured to differ by up to
#: 1.1e-6 within 450 steps of the MLP and the transformer, a few units of float32 (1.2e-7).
ROUNDING = 1e-5
#: How far apart elsewhere, for the losses and for gradients and eigenspace. Training at the edge of
#: stability lets rounding grow, so that this is a measure of training and no precision: 450 steps
#: of the CNN with AVX2 and with AVX-512 were measured to end 5e-4 and 1.1e-2 apart.
LOSS_BAND, CURVATURE_BAND = 0.01, 0.1
#: How far apart the alignment's moving average may be: what is trained again goes on at the switch
#: from the committed number, of 8 digits.
CONTINUED = 1e-7
#: What tells of the solver's path and residuals: another rounding may take another number of
#: products, so that these are compared where the digits are to be the same, and nowhere else.
PATH = (
    "eigen_residual",
    "subspace_error",
    "orthogonality",
    "eigen_converged",
    "preconditioned_converged",
    "num_matvecs",
)
LOSSES = (
    "batch_loss",
    "train_loss",
    "test_loss",
    "test_accuracy",
    "start_train_loss",
    "final_train_loss",
    "highest_train_loss",
)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A number that is not the one that was committed, digit for digit.

    Attributes:
        step: Of the record.
        column: Its name in the trajectory.
        committed: As it is written there.
        retrained: As it came now.
        size: How far apart they are, as a share of the number's scale.
    """

    step: int
    column: str
    committed: str
    retrained: str
    size: float

    @property
    def rounded(self) -> bool:
        """Whether rounding explains it on the same kind of machine."""
        return self.size <= ROUNDING

    @property
    def in_band(self) -> bool:
        """Whether another kind of machine explains it."""
        if self.column in PATH:
            return math.isfinite(self.size)
        return self.size <= (LOSS_BAND if self.column in LOSSES else CURVATURE_BAND)

    def __str__(self) -> str:
        return (
            f"{self.column} at step {self.step} is {self.committed} there and {self.retrained} "
            f"here, {self.size:.1e} apart"
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two trajectories compare.

    Attributes:
        steps: The records that were compared, in order.
        numbers: How many numbers.
        differences: Those that differ in a digit, by step.
    """

    steps: tuple[int, ...]
    numbers: int
    differences: tuple[Difference, ...]

    def altered(self, *, same_kind: bool) -> tuple[Difference, ...]:
        """The differences that neither rounding nor another kind of machine explains.

        Args:
            same_kind: Whether both were trained on the same kind of machine, as far as its name
                tells. Some names are shared by processors that round differently: from where they
                part, every record differs to the end. Such an end is judged by the bands. A number
                that differs where later records agree was altered.
        """
        parted = self._parted() if same_kind else -math.inf
        return tuple(
            found
            for found in self.differences
            if not (found.in_band if found.step >= parted else found.rounded)
        )

    def _parted(self) -> float:
        """First step of the unbroken end, two records at least, in which every record differs."""
        differing = {found.step for found in self.differences if not found.rounded}
        end: list[int] = []
        for step in reversed(self.steps):
            if step not in differing:
                break
            end.append(step)
        return end[-1] if len(end) > 1 else math.inf


def read_rows(path: Path, *, by: str | None = "step") -> dict[int, dict[str, str]]:
    """A table as it is written, without the empty cells.

    Args:
        path: A trajectory, the trials of a search, or an energy.
        by: The column that numbers the rows; ``None``: their places do.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        place if by is None else int(row[by]): {name: text for name, text in row.items() if text}
        for place, row in enumerate(rows)
    }


def compare(committed: Rows, retrained: Rows, *, continued: bool = False) -> Comparison:
    """Compare what was trained again with the committed records up to its last step.

    A record that only one of them has differs by infinity. Of the records that both have, the
    columns that both have are compared; products are left out where the committed record has no
    eigenspace, which the end of a shorter stretch adds.

    Args:
        committed: What is committed.
        retrained: What came now.
        continued: Whether it goes on from what is committed, see :data:`CONTINUED`.
    """
    last = max(retrained)
    numbers, differences = 0, []
    steps = sorted({step for step in committed if step <= last} | set(retrained))
    for step in steps:
        there, here = committed.get(step, {}), retrained.get(step, {})
        if not there or not here:
            texts = ("a record" if row else "no record" for row in (there, here))
            differences.append(_difference(step, "step", *texts, size=math.inf))
            continue
        for column in there.keys() & here.keys() - {"step"}:
            if column == "num_matvecs" and "step" in there and "alignment" not in there:
                continue
            numbers += 1
            if there[column] != here[column]:
                size = _apart(column, there, here)
                if continued and column == "alignment_ema" and size <= CONTINUED:
                    continue
                differences.append(
                    _difference(step, column, there[column], here[column], size=size)
                )
    differences.sort(key=lambda found: (found.step, found.column))
    return Comparison(steps=tuple(steps), numbers=numbers, differences=tuple(differences))


def _difference(
    step: int, column: str, committed: str, retrained: str, *, size: float
) -> Difference:
    return Difference(step=step, column=column, committed=committed, retrained=retrained, size=size)


def _apart(column: str, there: Mapping[str, str], here: Mapping[str, str]) -> float:
    """How far, as a share of the number's scale; words, as a trial's stability, by infinity."""
    if column == "stability":
        return math.inf
    if "_share" in column:
        error = f"{column.removesuffix('_se')}_se"
        if max(float(there[error]), float(here[error])) > 1:  # a share of what is nearly 0
            return 0.0
    size = abs(float(there[column]) - float(here[column])) / _scale(column, here)
    return math.inf if math.isnan(size) else size


def _scale(column: str, row: Mapping[str, str]) -> float:
    """What a number's difference is a share of: itself, or what it is a part of."""
    if "alignment" in column or column == "test_accuracy":
        return 1.0
    if "_share" in column or column == "overlap":
        return max(1.0, abs(float(row[column])))
    whole = column
    if column.startswith("eigenvalue_"):
        whole = "eigenvalue_1"
    elif column.endswith("gradient_norm"):
        whole = "gradient_norm"
    elif column.startswith(("rayleigh_quotient_", "trace")):  # of F they may be nearly 0
        whole = "frobenius_norm"
    return max(abs(float(row[whole])), 1e-30)
