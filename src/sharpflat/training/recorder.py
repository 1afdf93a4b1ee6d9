"""A run's trajectory: one row a recorded step, written as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpflat.files import write_whole

#: Significant digits of a recorded number: what float32 training can tell apart.
DIGITS = 8


class Trajectory:
    """Rows of equal columns, collected in memory."""

    def __init__(self, rows: Sequence[Mapping[str, float | str]] = ()) -> None:
        self.rows = [dict(row) for row in rows]

    def add(self, row: Mapping[str, float | str]) -> None:
        """Append the row of a step."""
        self.rows.append(dict(row))

    def __contains__(self, step: int) -> bool:
        return any(row["step"] == step for row in self.rows[-1:])

    def write(self, path: Path) -> None:
        """Write all rows as CSV, replacing the file at once."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: _format(value) for name, value in row.items()})
        write_whole(path, text.getvalue().encode())


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON, replacing the file at once."""
    write_whole(path, (json.dumps(values, indent=2) + "\n").encode())


def _format(value: float | str) -> str:
    return str(value) if isinstance(value, int | str) else f"{value:.{DIGITS}g}"
