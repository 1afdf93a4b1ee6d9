"""Plants every fault of the list, one at a time, and says which tests let it pass.

``make mutants``, or ``PYTHONPATH=tests python -m mutants.run [NAME ...]`` from the root for some of
them. Each fault is planted in a copy of the tree; a fault that no named test catches is printed as
``SURVIVED``, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mutants.faults import FAULTS, ROOT, Fault

#: What the named tests need of the tree.
COPIED = ("src", "tests", "workflow", "pyproject.toml")
#: Imported once and handed on to the process of each fault, which would spend most of its time on
#: them; nothing of sharpflat, which changes.
PRELOADED = (
    "_hypothesis_pytestplugin",
    "hypothesis",
    "jsonschema",
    "pandas",
    "pytest",
    "scipy.stats",
    "sklearn.datasets",
    "torch",
    "torch._dynamo",
    "xdist.plugin",
)
#: A fault that makes a test run for so long is caught too; the slowest test takes 20 s. Seconds of
#: the processor: on a machine that does other work tests that see nothing take minutes as well.
CPU_SECONDS = 180


def main(names: Sequence[str]) -> int:
    """Plant the faults of these names, or all; returns the exit status."""
    known = {fault.name: fault for fault in FAULTS}
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"there is no fault {unknown[0]!r}: see tests/mutants/faults.py", file=sys.stderr)
        return 2
    chosen = [known[name] for name in names] or list(FAULTS)
    with tempfile.TemporaryDirectory(prefix="sharpflat-mutants-") as folder:
        tree = Path(folder) / "tree"
        _copy(tree)
        named = sorted({test for fault in chosen for test in fault.tests})
        if _run_tests(tree, named) != 0:
            print((tree / "pytest.log").read_text())
            print("the named tests do not pass without any fault", file=sys.stderr)
            return 2
        survivors = [fault.name for fault in chosen if not _is_caught(fault, tree)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults caught")
    for name in survivors:
        print(f"SURVIVED {name}")
    return 1 if survivors else 0


def _copy(tree: Path) -> None:
    tree.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tree / name)


def _is_caught(fault: Fault, tree: Path) -> bool:
    began = time.monotonic()
    with _planted(fault, tree):
        status = _run_tests(tree, fault.tests, cpu_seconds=CPU_SECONDS)
    # Status 1: tests failed. Others would hide a fault that nothing tests: 2 to 5 are pytest's own.
    verdicts = {0: "SURVIVED", 1: "caught", -signal.SIGXCPU: "too long"}
    if status not in verdicts:
        print((tree / "pytest.log").read_text())
        raise RuntimeError(f"fault {fault.name!r}: pytest ended with status {status}")
    print(f"{verdicts[status]:8} {time.monotonic() - began:5.1f} s  {fault.name}", flush=True)
    return status != 0


@contextmanager
def _planted(fault: Fault, tree: Path) -> Iterator[None]:
    path = tree / fault.file
    whole = path.read_text()
    path.write_text(fault.planted_in(whole))
    try:
        yield
    finally:
        path.write_text(whole)


def _run_tests(tree: Path, tests: Sequence[str], *, cpu_seconds: int | None = None) -> int | None:
    """pytest's exit status, or ``-SIGXCPU`` at the limit."""
    process = multiprocessing.get_context("forkserver").Process(
        target=_pytest, args=(tree, list(tests), cpu_seconds)
    )
    process.start()
    process.join()
    return process.exitcode


def _pytest(tree: Path, tests: list[str], cpu_seconds: int | None) -> None:
    if cpu_seconds is not None:
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, hard))
    os.chdir(tree)
    log = os.open("pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    # The tree is its own package, and its bytecode would outlive a fault of equal length.
    sys.path = [path for path in sys.path if not path.startswith(str(ROOT / "src"))]
    sys.dont_write_bytecode = True
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", f"--rootdir={tree}"]
    sys.exit(int(pytest.main([*options, *tests])))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mutants.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a fault; all without any")
    return parser


if __name__ == "__main__":
    # A thread each: faults are planted on machines that do other work, and models are tiny.
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    sys.exit(main(_parser().parse_args().names))
