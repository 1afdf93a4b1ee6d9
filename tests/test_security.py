"""What the package must never do, read from its syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharpflat.closure import PACKAGE

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load"}
#: Arguments without which a call may run what a file says.
NEEDED_ARGUMENTS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "np.lib.format.read_array": ("allow_pickle", False),
}
#: The one file that holds a model and not its values: a process of the memory benchmark hands it to
#: its own child through a folder of their own.
HANDED_OVER = {"benchmarks/memory_child.py": ["calls torch.load without weights_only=True"]}
EXTRACTS = {"extractall", "extract", "unpack_archive"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def _problems(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names]
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from (f"imports {name}" for name in FORBIDDEN_MODULES & set(modules))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS:
                yield f"calls {name}"
            if name.rpartition(".")[2] in EXTRACTS:
                yield f"unpacks an archive to disk with {name}"
            arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if arguments.get("shell") == "True":
                yield f"calls {name} with a shell"
            if name in NEEDED_ARGUMENTS:
                argument, value = NEEDED_ARGUMENTS[name]
                if arguments.get(argument) != str(value):
                    yield f"calls {name} without {argument}={value}"
        elif isinstance(node, ast.Constant) and "http://" in str(node.value):
            yield f"names {node.value!r}, which is not https"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_is_unpickled_evaluated_or_fetched_in_the_open(path: Path) -> None:
    expected = HANDED_OVER.get(path.relative_to(PACKAGE).as_posix(), [])
    assert list(_problems(path.read_text())) == expected


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import pickle", "imports pickle"),
        ("from dill import loads", "imports dill"),
        ("eval('1')", "calls eval"),
        ("yaml.load(text)", "calls yaml.load"),
        ("torch.load(path)", "calls torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "calls torch.load without weights_only=True"),
        ("np.load(path)", "calls np.load without allow_pickle=False"),
        ("subprocess.run('ls', shell=True)", "calls subprocess.run with a shell"),
        ("archive.extractall(folder)", "unpacks an archive to disk with archive.extractall"),
        ("ADDRESS = 'http://example.org'", "names 'http://example.org', which is not https"),
    ],
)
def test_each_of_them_would_be_found(source: str, problem: str) -> None:
    assert list(_problems(source)) == [problem]


def test_what_torch_loads_and_numpy_reads_is_among_what_is_checked() -> None:
    """Else a renamed import would escape."""
    calls = {
        ast.unparse(node.func)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    assert {"torch.load", "np.lib.format.read_array"} <= calls
