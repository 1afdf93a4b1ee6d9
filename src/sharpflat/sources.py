"""The files of this package that decide a run's numbers (free of torch)."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parent


def training_sources() -> tuple[Path, ...]:
    """Files whose change may change a training run; plotting and tables are not among them.

    Nor is the registry, to which every new task adds: what a data set holds and how it is
    normalised is in its fingerprint, and models and sizes are in a run's record.
    """
    patterns = (
        "optim.py",
        "records.py",
        "curvature/*.py",
        "training/*.py",
        "tasks/data.py",
        "tasks/losses.py",
        "tasks/text.py",
        "tasks/models/*.py",
    )
    return tuple(path for pattern in patterns for path in sorted(PACKAGE.glob(pattern)))


def training_code_hash() -> str:
    """sha256 over the code of :func:`training_sources`."""
    digest = hashlib.sha256()
    for path in training_sources():
        digest.update(code_of(path.read_text()).encode())
    return digest.hexdigest()


def edge_sources() -> tuple[Path, ...]:
    """Files besides :func:`training_sources` whose change may change a search for the edge."""
    return (PACKAGE / "stability.py", PACKAGE / "training/edge.py")


def edge_code_hash() -> str:
    """sha256 over the code that a search for the edge of stability depends on."""
    digest = hashlib.sha256(training_code_hash().encode())
    for path in edge_sources():
        digest.update(code_of(path.read_text()).encode())
    return digest.hexdigest()


def code_of(source: str) -> str:
    """A module's source without comments, docstrings and blank lines: what can change a number."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    encoded = [line.encode() for line in lines]  # ast counts columns in bytes
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        if ast.get_docstring(node) is not None:
            _cut(encoded, node.body[0])
    return "\n".join(line.decode().rstrip() for line in encoded if line.strip())


def _cut(lines: list[bytes], text: ast.stmt) -> None:
    """Empty a statement; what shares its lines stays, and the lines keep their numbers."""
    assert text.end_lineno is not None
    first, last = text.lineno - 1, text.end_lineno - 1
    before, after = lines[first][: text.col_offset], lines[last][text.end_col_offset :]
    lines[first : last + 1] = [before + after, *[b""] * (last - first)]
