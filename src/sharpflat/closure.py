"""The code that modules import, as text: what a change of can change a number (free of torch)."""

from __future__ import annotations

import ast
import importlib.util
import io
import tokenize
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
#: Its entries are data, of which a result depends on those in use alone.
REGISTRY = f"{PACKAGE.name}.tasks.registry"


@cache  # a process trains for hours the code that it started with, while its files may be edited
def import_closure(*modules: str) -> Mapping[str, str]:
    """Code of modules and of every module of this package that they import, by the module's name.

    Imports count wherever they stand, in functions too. A package's ``__init__`` leads only to the
    modules of the names that are asked of it, and its ``__all__`` and ``__version__`` are no code;
    nor are the entries of the registry, which leads to nothing but what its functions use.

    Args:
        modules: Dotted names. One of another package counts itself, and what it imports from this.

    Raises:
        ValueError: One of them is not there.
    """
    if missing := [module for module in modules if source_path(module) is None]:
        raise ValueError(f"there is no module {missing[0]}, on which a result depends")
    found: dict[str, str] = {}
    wanted = [(module, "*") for module in modules]
    seen: set[tuple[str, str]] = set()
    while wanted:
        module, name = wanted.pop()
        if (path := source_path(module)) is None:
            continue
        in_part = path.name == "__init__.py" or module == REGISTRY
        asked = (module, name if in_part else "*")
        if asked in seen:
            continue
        seen.add(asked)
        if package := module.rpartition(".")[0]:
            wanted.append((package, ""))  # importing a module runs its package's __init__
        source, tree = _parsed(path)
        if not in_part:
            found[module] = _without_comments(source, tree)
            wanted += _imports(path)
            continue
        own = [node for node in tree.body if _is_own(node, entries=module == REGISTRY)]
        if own:
            found[module] = "\n".join(code_of(_text(source, node)) for node in own)
        everything = name == "*" and module != REGISTRY
        used = {node.id for part in own for node in ast.walk(part) if isinstance(node, ast.Name)}
        wanted += _imports(path) if everything else _imports(path, {name, *used})
    return found


def source_path(module: str) -> Path | None:
    """File of a module; ``None`` if it has none. Imports no module of this package."""
    if module.split(".")[0] == PACKAGE.name:
        place = PACKAGE.parent.joinpath(*module.split("."))
        paths = (place.with_suffix(".py"), place / "__init__.py")
        return next((path for path in paths if path.exists()), None)
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    origin = None if found is None else found.origin
    return Path(origin) if origin is not None and origin.endswith(".py") else None


@cache
def _parsed(path: Path) -> tuple[str, ast.Module]:
    source = path.read_text()
    return source, ast.parse(source)


def _imports(path: Path, names: Container[str] | None = None) -> list[tuple[str, str]]:
    """Module of this package and name there of what is imported, by these names or by any."""
    return [origin for bound, origin in _all_imports(path) if names is None or bound in names]


@cache
def _all_imports(path: Path) -> tuple[tuple[str, tuple[str, str]], ...]:
    """The name that each import binds, with the module and the name there that it comes from."""
    found = []
    for node in _statements(_parsed(path)[1].body):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            module = alias.name if isinstance(node, ast.Import) else node.module or ""
            if module.split(".")[0] != PACKAGE.name:
                continue
            name = "*" if isinstance(node, ast.Import) else alias.name
            is_module = source_path(f"{module}.{name}") is not None
            origin = (f"{module}.{name}", "*") if is_module else (module, name)
            found.append((alias.asname or alias.name, origin))
    return tuple(found)


def _is_own(node: ast.stmt, *, entries: bool) -> bool:
    """Whether a statement of an ``__init__``, or of the registry, is code of its own."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return False
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return False  # a docstring
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return True
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return not entries and not all(ast.unparse(target).startswith("__") for target in targets)


def _text(source: str, node: ast.stmt) -> str:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(source.splitlines()[first - 1 : node.end_lineno])


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Statements, and those within them, but no expressions, of which there are ten times more."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _statements(getattr(node, part, ()))


@cache
def code_of(source: str) -> str:
    """A module's source without comments, docstrings and blank lines: what can change a number."""
    return _without_comments(source, ast.parse(source))


def _without_comments(source: str, tree: ast.Module) -> str:
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    encoded = [line.encode() for line in lines]  # ast counts columns in bytes
    for node in [tree, *_statements(tree.body)]:
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
