"""The list of planted faults itself; ``make mutants`` plants them."""

import re

import pytest
from mutants.faults import FAULTS, ROOT, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_still_applies(fault: Fault) -> None:
    """Oracle: the source, which holds the text once; the fault is Python, and a change."""
    source = (ROOT / fault.file).read_text()
    planted = fault.planted_in(source)
    assert planted != source
    compile(planted, fault.file, "exec")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_named_test_is_there(fault: Fault) -> None:
    """Oracle: the test's own file."""
    for test in fault.tests:
        file, _, function = test.partition("::")
        name = re.escape(function.partition("[")[0])
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), test


def test_names_are_distinct() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_a_text_that_is_not_found_once_is_an_error() -> None:
    fault = Fault("none", "a.py", "x = 1", "x = 2", ("tests/a.py::test_a",))
    for source in ("y = 1", "x = 1\nx = 1"):
        with pytest.raises(ValueError, match=r"fault 'none': its text is \d times in a.py, not"):
            fault.planted_in(source)
    assert fault.planted_in("x = 1") == "x = 2"
