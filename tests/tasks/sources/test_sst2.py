import io
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from sharpflat.tasks.errors import DataError
from sharpflat.tasks.prepare import prepare
from sharpflat.tasks.sources import sst2
from sharpflat.tasks.sources.sst2 import Rows


def test_sentences_become_tokens(sentences: dict[str, Rows], mirror: Path, tmp_path: Path) -> None:
    """Oracle: the words counted by hand."""
    prepare("sst2_1k", tmp_path / "a.npz", mirror=mirror)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        vocabulary = ["<pad>", "<unk>", "a", "film", "good", ",", ".", "all", "at", "no", "not"]
        words = archive["vocabulary"].tolist()
        assert words == vocabulary
        train = [[words[token] for token in row if token] for row in archive["tokens_train"]]
        assert train == [sentence.lower().split() for sentence, _ in sentences["train"]]
        assert archive["tokens_test"].tolist() == [[2, 1, 3, 0, 0, 0], [4, 5, 4, 5, 4, 5]]
        assert archive["y_train"].tolist() == [1, 1, 0]


def test_the_official_archive_gives_what_the_mirror_gives(
    sentences: dict[str, Rows],
    as_table: Callable[[Rows], bytes],
    mirror: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Oracle: the mirror; the archive also holds a member that must never be unpacked."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(sst2.MEMBERS["train"], as_table([*sentences["train"], ("one more", 0)]))
        archive.writestr(sst2.MEMBERS["test"], as_table(sentences["test"]))
        archive.writestr("../escaped", "")
    monkeypatch.setattr(sst2.urllib.request, "urlopen", lambda _: io.BytesIO(content.getvalue()))
    prepare("sst2_1k", tmp_path / "official" / "a.npz")
    prepare("sst2_1k", tmp_path / "mirrored" / "a.npz", mirror=mirror)
    official, mirrored = (tmp_path / way / "a.npz" for way in ("official", "mirrored"))
    assert official.read_bytes() == mirrored.read_bytes()
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.usefixtures("sentences")
def test_an_archive_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the page a captive network serves in its place."""
    monkeypatch.setattr(sst2.urllib.request, "urlopen", lambda _: io.BytesIO(b"<html>"))
    with pytest.raises(DataError, match=r"is not the archive it was.*data_mirror=DIR"):
        prepare("sst2_1k", tmp_path / "a.npz")


@pytest.mark.parametrize("oversized", ["archive", "table"])
@pytest.mark.usefixtures("sentences")
def test_an_archive_larger_than_it_can_be_is_not_read(
    oversized: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: what was read. A table of blanks is a thousand times smaller in the archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(sst2.MEMBERS["train"], b" " * 10_000_000)
    limit = f"LARGEST_{oversized.upper()}"
    monkeypatch.setattr(sst2, limit, 5_000)
    served = io.BytesIO(content.getvalue())
    monkeypatch.setattr(sst2.urllib.request, "urlopen", lambda _: nullcontext(served))
    with pytest.raises(DataError, match=r"has more than 5,000 bytes.*data_mirror=DIR"):
        prepare("sst2_1k", tmp_path / "a.npz")
    assert served.tell() <= (5_001 if oversized == "archive" else len(content.getvalue()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text\tlabel\na\t1\n", "the train table begins 'text"),
        (b"", "the train table begins ''"),
        (b"sentence\tlabel\na film\t1\na good fi", "line 3 of the train table is 'a good fi'"),
        (b"sentence\tlabel\na film\t2\n", "line 2 of the train table"),
        (b"sentence\tlabel\n \t1\n", "line 2 of the train table"),
        (b"sentence\tlabel\n\xff\t1\n", "not UTF-8"),
        (b"sentence\tlabel\na film\t1\n", "the 1 train rows have sha256 .*; expected"),
        (b"sentence\tlabel\na film\t1\na film\t0\n", "the 2 train rows have sha256 .*; expected"),
    ],
)
@pytest.mark.usefixtures("sentences")
def test_a_damaged_table_is_refused(
    mirror: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    """Oracle: tables damaged in one way each."""
    (mirror / sst2.MIRROR_FILES["train"]).write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare("sst2_1k", tmp_path / "out" / "a.npz", mirror=mirror)
    assert not (tmp_path / "out").exists()


def test_rows_keep_rare_line_separators_and_tabs() -> None:
    """Oracle: str.splitlines would cut the first sentence in two."""
    content = "sentence\tlabel\na\u2028b \t1\nc\td\t0\n".encode()
    assert sst2.parse_rows("made_up", "train", content) == [("a\u2028b", 1), ("c\td", 0)]
