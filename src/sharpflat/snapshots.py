"""Steps at which a run keeps its parameters, for the curvature energy (free of torch)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sharpflat.records import PrefixRecord, RunRecord


def planned_steps(record: PrefixRecord | RunRecord, switch_step: int, count: int) -> frozenset[int]:
    """The first step and ``count`` more, spread evenly up to the last; none for 0.

    Args:
        record: What is trained.
        switch_step: Where a run begins; a prefix begins at 0.
        count: Points, as :func:`sharpflat.plan.snapshots` names them.
    """
    if count == 0:
        return frozenset()
    start, length = (
        (0, record.switch_max_steps)
        if isinstance(record, PrefixRecord)
        else (switch_step, record.steps)
    )
    return frozenset(start + i * length // count for i in range(count + 1))


def kept_steps(
    record: PrefixRecord | RunRecord, summary: Mapping[str, Any], count: int
) -> list[int]:
    """Of the planned steps those that a finished result came to.

    Its last step is among them, unless it diverged there.

    Args:
        record: What trained.
        summary: Of the finished result.
        count: Points.
    """
    last = summary["last_step"]
    planned = planned_steps(record, summary["switch_step"], count)
    reached = {step for step in planned if step < last}
    return sorted(reached if summary["status"] == "diverged" else reached | {last})
