"""How a fault test runs a command, and what it looks at afterwards."""

import hashlib
from pathlib import Path

import pytest

from sharpflat.cli import main


def words(checkout: Path, command: tuple[str, ...]) -> list[str]:
    """A command of the fault table, with the names of the checkout's prefix and run."""
    names = {
        "PREFIX": next((checkout / "results/smoke/prefixes").iterdir()).name,
        "RUN": next((checkout / "results/smoke/runs").iterdir()).name,
    }
    return [names.get(word, word) for word in command]


def refusal(command: list[str]) -> str:
    """What a command says when it fails: one line, and no traceback."""
    with pytest.raises(SystemExit) as failure:
        main(command)
    message = failure.value.code
    assert isinstance(message, str)
    assert message.startswith("sharpflat: ")
    assert "\n" not in message
    return message


def content(folder: Path) -> dict[Path, str]:
    """A hash of every file under a folder."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
