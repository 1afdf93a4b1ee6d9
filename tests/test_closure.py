"""What of a source file counts as its code, and which files count."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharpflat import closure
from sharpflat.closure import PACKAGE, code_of, import_closure
from sharpflat.sources import ENERGY, TRAINING

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


FILES = {
    "__init__": "__version__ = '1'",
    "main": "from pack.tools import used\n\ndef f():\n    import pack.lazy\n    import json",
    "lazy": "VALUE = 1",
    "tools/__init__": (
        '"""Tools."""\nfrom pack.tools.one import used\nfrom pack.tools.two import unused\n'
        'from pack.base import helper\n__all__ = ["unused", "used"]\n\ndef own():\n    helper()'
    ),
    "tools/one": "from pack import third\n\nused = 1",
    "tools/two": "unused = 2",
    "third": "# nothing\nthird = 3",
    "base": "helper = len",
    "alone": "from pack.main import f",
}


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in place of this one."""
    for name, source in FILES.items():
        path = tmp_path / "pack" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.setattr(closure, "PACKAGE", tmp_path / "pack")
    import_closure.cache_clear()
    yield tmp_path / "pack"
    import_closure.cache_clear()


def test_the_closure_holds_what_is_imported_and_no_more(pack: Path) -> None:
    """Oracle: followed by hand. Of a package, what it defines, and the module of what is asked."""
    code = import_closure("pack.main")
    assert set(code) == {
        *("pack.main", "pack.lazy", "pack.third", "pack.base"),
        *("pack.tools", "pack.tools.one"),
    }
    assert code["pack.tools"] == "def own():\n    helper()"
    assert code["pack.third"] == "third = 3"
    assert "pack.tools.two" in import_closure("pack.tools")


def test_a_module_that_is_not_there_is_named(pack: Path) -> None:
    with pytest.raises(ValueError, match=r"no module pack\.missing"):
        import_closure("pack.main", "pack.missing")


@pytest.mark.parametrize("roots", [TRAINING, ENERGY], ids=["training", "energy"])
def test_every_module_that_training_loads_counts(roots: tuple[str, ...]) -> None:
    """Oracle: Python's own imports in a new process, but for packages that hold only imports."""
    program = f"import sys, {', '.join(roots)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name for name in done.stdout.split() if name.startswith("sharpflat.")}
    found = set(import_closure(*roots))
    # A package loads what it offers to others.
    offered = {
        f"sharpflat.curvature.{name}" for name in ("energy", "spectrum", "trace_and_diagonal")
    }
    unasked = offered - found
    packages = {name for name in loaded if (closure.source_path(name) or Path()).stem == "__init__"}
    assert loaded - found - packages == unasked
    assert found <= loaded
