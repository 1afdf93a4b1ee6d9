"""What of a source file counts as its code."""

import pytest

from sharpflat.sources import PACKAGE, code_of, training_code_hash, training_sources

SOURCE = '''"""What it is."""

import math  # for pi


def area(radius: float) -> float:
    """Of a disc."""
    # in the plane
    name = "# no comment"
    return math.pi * radius**2
'''


def test_comments_docstrings_and_blank_lines_are_no_code() -> None:
    assert code_of(SOURCE) == (
        "import math\n"
        "def area(radius: float) -> float:\n"
        '    name = "# no comment"\n'
        "    return math.pi * radius**2"
    )


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# in the plane", "# of the plane", True),
        ("Of a disc.", "Of a disc.\n\n    In the plane.\n    ", True),
        ("radius**2", "radius**3", False),
        ('"# no comment"', '"# a text"', False),
    ],
)
def test_only_a_change_of_code_changes_it(old: str, new: str, same: bool) -> None:
    changed = SOURCE.replace(old, new)
    assert changed != SOURCE
    assert (code_of(changed) == code_of(SOURCE)) == same


def test_what_shares_a_line_with_a_docstring_is_code() -> None:
    """A class on the line of its docstring, with a letter of two bytes before the code."""
    source = 'class Angle: """Θ."""; right = 90  # degrees\n'
    assert code_of(source) == "class Angle: ; right = 90"


def test_every_file_that_training_reads_counts() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in training_sources()}
    assert {"optim.py", "curvature/subspace.py", "training/loop.py", "tasks/data.py"} <= names
    assert len(training_code_hash()) == 64
