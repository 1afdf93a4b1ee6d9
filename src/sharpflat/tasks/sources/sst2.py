"""The Stanford Sentiment Treebank as the GLUE benchmark publishes it (SST-2)."""

import hashlib
import io
import urllib.request
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpflat.tasks.arrays import Prepared
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.errors import DataError
from sharpflat.tasks.sources.access import downloading, mirror_file
from sharpflat.tasks.text import build_vocabulary, encode, split_words

ADDRESS = "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"
MEMBERS = {"train": "SST-2/train.tsv", "test": "SST-2/dev.tsv"}
MIRROR_FILES = {"train": "sst2_train_first1000.tsv", "test": "sst2_validation.tsv"}
"""Per split, the file in the archive and in a mirror. GLUE keeps the labels of its own test set to
itself, so its development set serves as the test set."""

LARGEST_ARCHIVE, LARGEST_TABLE = 50_000_000, 50_000_000
"""Bytes beyond which neither is read, several times what they have: a hostile archive of a few
megabytes can hold gigabytes."""

_HEADER = "sentence\tlabel"
_LABELS = ("0", "1")

Rows = list[tuple[str, int]]


def sst2(name: str, entry: DatasetEntry, *, mirror: Path | None) -> Prepared:
    """The first training rows of SST-2 and its development set, as token ids.

    The vocabulary and the length come from the training rows; longer test rows are cut off.
    """
    if mirror is None:
        tables = _download(name)
    else:
        tables = {
            split: mirror_file(name, mirror, filename).read_bytes()
            for split, filename in MIRROR_FILES.items()
        }
    train = parse_rows(name, "train", tables["train"])[: entry.num_train]
    test = parse_rows(name, "test", tables["test"])
    for split, rows in (("train", train), ("test", test)):
        _check_rows(name, entry, split, rows)
    sentences = [sentence for sentence, _ in train]
    vocabulary = build_vocabulary(sentences)
    length = max(len(split_words(sentence)) for sentence in sentences)
    arrays: dict[str, NDArray[Any]] = {
        "tokens_train": encode(sentences, vocabulary, length=length),
        "y_train": np.array([label for _, label in train], dtype=np.uint8),
        "tokens_test": encode([sentence for sentence, _ in test], vocabulary, length=length),
        "y_test": np.array([label for _, label in test], dtype=np.uint8),
        "vocabulary": np.array(vocabulary),
    }
    if mirror is None:
        return Prepared(arrays, source="download", origin=ADDRESS)
    return Prepared(arrays, source="mirror", origin=", ".join(MIRROR_FILES.values()))


def parse_rows(name: str, split: str, table: bytes) -> Rows:
    """The (sentence, label) rows of a ``sentence<tab>label`` table, trailing blanks stripped.

    Raises:
        DataError: If it is no such table.
    """
    try:
        # Not splitlines: a sentence may hold one of the rarer line separators of Unicode.
        header, *lines = table.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"data set {name!r}: the {split} table is not UTF-8: {error}") from error
    if header != _HEADER:
        raise DataError(
            f"data set {name!r}: the {split} table begins {header[:80]!r}, not {_HEADER!r}"
        )
    rows = []
    for number, line in enumerate(lines, start=2):
        sentence, _, label = line.rpartition("\t")
        if not sentence.strip() or label not in _LABELS:
            raise DataError(
                f"data set {name!r}: line {number} of the {split} table is {line[:80]!r}, not a "
                f"sentence, a tab and one of {', '.join(_LABELS)}; the file is cut off or damaged"
            )
        rows.append((sentence.rstrip(), int(label)))
    return rows


def rows_sha256(rows: Rows) -> str:
    """Hex sha256 of ``rows`` as UTF-8, each ``sentence<tab>label<newline>``."""
    content = "".join(f"{sentence}\t{label}\n" for sentence, label in rows)
    return hashlib.sha256(content.encode()).hexdigest()


def _check_rows(name: str, entry: DatasetEntry, split: str, rows: Rows) -> None:
    found, expected = rows_sha256(rows), entry.source_fingerprints.get(f"{split}_rows")
    if expected is not None and found != expected:
        raise DataError(
            f"data set {name!r}: the {len(rows)} {split} rows have sha256 {found}; expected "
            f"{expected}; get the table again from {ADDRESS}, or from another mirror"
        )


def _download(name: str) -> dict[str, bytes]:
    """The tables of the official archive, which is opened in memory and never unpacked."""
    with downloading(name, ADDRESS), urllib.request.urlopen(ADDRESS) as response:
        content = response.read(LARGEST_ARCHIVE + 1)
    try:
        if len(content) > LARGEST_ARCHIVE:
            raise zipfile.BadZipFile(f"it has more than {LARGEST_ARCHIVE:,} bytes")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {split: _table(archive, member) for split, member in MEMBERS.items()}
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise DataError(
            f"data set {name!r}: {ADDRESS} is not the archive it was ({error}); give a folder of "
            "canonical files: --config data_mirror=DIR"
        ) from error


def _table(archive: zipfile.ZipFile, member: str) -> bytes:
    """A member of the archive; never more of it than the limit, whatever size it claims."""
    with archive.open(member) as stream:
        content = stream.read(LARGEST_TABLE + 1)
    if len(content) > LARGEST_TABLE:
        raise zipfile.BadZipFile(f"{member} has more than {LARGEST_TABLE:,} bytes")
    return content
