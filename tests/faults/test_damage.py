"""Every damaged file is refused with one line, or made good to the same bytes."""

from pathlib import Path

import pytest
from faults.outcomes import content, refusal, words
from faults.table import CONFIG, FAULTS, Fault

from sharpflat.cli import main


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_damaged_file_is_refused_or_made_good(checkout: Path, fault: Fault) -> None:
    """Oracle: the checkout before the fault."""
    whole = content(checkout)
    if fault.untrained:  # a run that is complete needs no checkpoint
        next(checkout.glob("results/smoke/runs/*/summary.json")).unlink()
    (damaged,) = checkout.glob(fault.file)
    fault.damage(damaged)
    before = content(checkout)
    if fault.outcome == "refused":
        assert fault.says in refusal(words(checkout, fault.command))
        assert content(checkout) == before
        return
    main(words(checkout, fault.command))
    after = content(checkout)
    names = ("summary.json", "trajectory.sha256", "energy.json", "energy.sha256")
    timed = {path for path in whole if path.name in names}
    assert {path: after[path] for path in whole if path not in timed} == {
        path: whole[path] for path in whole if path not in timed
    }
    for figure in ("dom_bulk", "curvature_energy"):
        main(["table", CONFIG, figure, "again.csv"])  # seals hold again


def test_no_fault_stands_twice_in_the_table() -> None:
    assert len({(fault.file, fault.name) for fault in FAULTS}) == len(FAULTS)
