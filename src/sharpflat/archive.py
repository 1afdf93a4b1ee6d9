"""A tier's results in a few compressed files, and from those back to the folders they came from.

What is trained lies in a folder a result; what is kept in the repository is the archive: every
trajectory in one table, every search in another, every energy in a third, and a line of JSON a
result with its summary and its seals. Each opens in one line::

    pd.read_csv("results/laptop/trajectories.csv.xz")
    pd.read_json("results/laptop/summaries.jsonl.xz", lines=True)

The same results make the same bytes, and come back to the same bytes. A folder that is there wins
over the archive: unpacking writes those alone that are not.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sharpflat import energy_record, seals
from sharpflat.checksums import sums
from sharpflat.files import write_whole

#: The file beside each summary that goes into a table of the archive, and that table.
TABLES = {
    "trajectory.csv": "trajectories.csv.xz",
    "energy.csv": "energies.csv.xz",
    "edge.csv": "edges.csv.xz",
}
SUMMARIES, SEAL = "summaries.jsonl.xz", "archive.sha256"
#: What the seal vouches for, in its order.
FILES = (*TABLES.values(), SUMMARIES)
#: Folders of results, what the tables call a result there, and the seal that each of them has.
KINDS = {
    "prefixes": ("prefix", seals.TRAINED),
    "runs": ("run", seals.TRAINED),
    "edges": ("edge", seals.EDGE),
}
#: What the tables begin with, and what a line has besides the summary; where the curvature energy
#: is measured, its record too.
KEY, ADDED, ENERGY = ("id", "kind"), ("kind", "columns", "seals"), "energy"
SUMMARY = "summary.json"
#: What each seal vouches for.
SEALED = seals.SEALED | {seals.ENERGY: energy_record.SEALED}

#: The bytes of a result's files, or of the archive's, by name.
Files = dict[str, bytes]


def pack(results: Path, folders: Iterable[Path]) -> int:
    """Write the archive of results, replacing the one that is there.

    Args:
        results: Folder of a tier's results, where the archive goes.
        folders: Of the results, below it.

    Returns:
        The archive's size in bytes.

    Raises:
        DamagedResultError: A result is not what was sealed.
        ValueError: A file would not come back to its bytes.
    """
    found = {folder.relative_to(results).as_posix(): _sealed(folder) for folder in folders}
    archive = _archive(found)
    for place, files in _results(archive).items():
        for name in found[place].keys() | files.keys():
            if found[place].get(name) != files.get(name):
                raise ValueError(
                    f"{results / place / name} is not as this package writes it, and would not "
                    "come back from an archive as it is: make the result again"
                )
    archive[SEAL] = sums(archive)
    for name, content in archive.items():  # the seal last
        write_whole(results / name, content)
    return sum(map(len, archive.values()))


def unpack(results: Path) -> tuple[list[Path], int]:
    """Write the folders of the results in the archive that are not there, or are empty.

    Returns:
        The folders that were written, and how many results the archive holds.

    Raises:
        DamagedResultError: The archive is not what was packed.
    """
    stored = read(results)
    missing = [place for place in stored if not any((results / place).glob("*"))]
    if missing:
        # A folder appears with all of its files: a killed process leaves none half restored.
        with tempfile.TemporaryDirectory(dir=results, prefix=".unpacked.") as scratch:
            for place in missing:
                written = Path(scratch) / place
                written.mkdir(parents=True)
                for name, content in stored[place].items():
                    (written / name).write_bytes(content)
                (results / place).parent.mkdir(exist_ok=True)
                written.replace(results / place)
    return [results / place for place in missing], len(stored)


def has_archive(results: Path) -> bool:
    """Whether any file of an archive lies there, so that all of them should."""
    return any((results / name).exists() for name in (*FILES, SEAL))


def read(results: Path) -> dict[str, Files]:
    """The files of every result in an archive, by their folder below the tier's.

    Raises:
        DamagedResultError: The archive is not what was packed; says what to do.
    """
    remedy = (
        f"take it from the repository again, `git checkout -- {results}`, or delete the archive's "
        f"files ({', '.join((*FILES, SEAL))}) and pack what is there"
    )
    try:
        archive = {name: (results / name).read_bytes() for name in FILES}
        intact = (results / SEAL).read_bytes() == sums(archive)
    except FileNotFoundError as error:
        raise seals.DamagedResultError(f"{error.filename} is missing: {remedy}") from None
    if not intact:
        raise seals.DamagedResultError(f"the archive in {results} is not what was packed: {remedy}")
    try:
        stored = _results(archive)
        for place, files in stored.items():
            _check_seals(place, files)
        return stored
    # What the decompressor, JSON and lookups raise of a file that was written by other means.
    except (lzma.LZMAError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise seals.DamagedResultError(
            f"the archive in {results} cannot be read ({error}): {remedy}"
        ) from None


def summaries(results: Path, parent: str) -> dict[str, dict[str, Any]]:
    """Summaries by the result's name: of the folders that are there, and else of the archive.

    Args:
        results: Folder of a tier's results.
        parent: ``prefixes``, ``runs`` or ``edges``.
    """
    stored = read(results) if has_archive(results) else {}
    found = {Path(place): files[SUMMARY] for place, files in stored.items()}
    found |= {
        path.parent.relative_to(results): path.read_bytes()
        for path in results.glob(f"{parent}/*/{SUMMARY}")
    }
    chosen = {place.name: text for place, text in found.items() if place.parent.name == parent}
    return {name: json.loads(text) for name, text in sorted(chosen.items())}


def _sealed(folder: Path) -> Files:
    """The files of a result that its seals vouch for, and the seals."""
    names = [KINDS[folder.parent.name][1]]
    seals.check_seal(folder, names[0])
    if any((folder / name).exists() for name in (seals.ENERGY, *SEALED[seals.ENERGY])):
        names.append(seals.ENERGY)
        energy_record.check_energy(folder)
    return {file: (folder / file).read_bytes() for name in names for file in (*SEALED[name], name)}


def _archive(results: Mapping[str, Files]) -> Files:
    """The archive's files, without its seal."""
    tables: dict[str, list[tuple[tuple[str, str], list[list[str]]]]] = {name: [] for name in TABLES}
    lines = []
    for place, files in sorted(results.items()):
        parent, _, name = place.partition("/")
        key = (name, KINDS[parent][0])
        columns = {}
        for table in tables.keys() & files.keys():
            rows = list(csv.reader(io.StringIO(files[table].decode(), newline="")))
            columns[table] = rows[0] if rows else []
            tables[table].append((key, rows))
        added = (
            key[1],
            {table: columns[table] for table in TABLES if table in columns},
            {seal: files[seal].decode() for seal in SEALED if seal in files},
        )
        line = json.loads(files[SUMMARY]) | dict(zip(ADDED, added, strict=True))
        if energy_record.RECORD in files:
            line[ENERGY] = json.loads(files[energy_record.RECORD])
        lines.append(json.dumps(line, separators=(",", ":")) + "\n")
    archive = {TABLES[name]: lzma.compress(_table(found)) for name, found in tables.items()}
    return archive | {SUMMARIES: lzma.compress("".join(lines).encode())}


def _table(found: Iterable[tuple[tuple[str, str], list[list[str]]]]) -> bytes:
    """Tables of results below each other, each row with the result's name and kind.

    Columns come in the order of the widest table, so that eigenvalues stand together.
    """
    found = list(found)
    headers = sorted((rows[0] for _, rows in found if rows), key=len, reverse=True)
    columns = dict.fromkeys(column for header in headers for column in header)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*KEY, *columns], lineterminator="\n")
    writer.writeheader()
    for key, rows in found:
        own = dict(zip(KEY, key, strict=True))
        writer.writerows(dict(zip(rows[0], row, strict=False)) | own for row in rows[1:])
    return text.getvalue().encode()


def _results(archive: Mapping[str, bytes]) -> dict[str, Files]:
    """The way back: the files of every result, by its folder."""
    parents = {kind: parent for parent, (kind, _) in KINDS.items()}
    rows: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for table, name in TABLES.items():
        text = io.StringIO(lzma.decompress(archive[name]).decode(), newline="")
        for row in csv.DictReader(text):
            rows.setdefault((table, row["kind"], row["id"]), []).append(row)
    results: dict[str, Files] = {}
    for text_line in lzma.decompress(archive[SUMMARIES]).decode().splitlines():
        line: dict[str, Any] = json.loads(text_line)
        name, kind, columns, kept = line["id"], *(line.pop(added) for added in ADDED)
        if name in ("", "..") or Path(name).name != name:
            raise ValueError(f"{name!r} is no name of a result")
        place = f"{parents[kind]}/{name}"
        if place in results:
            raise ValueError(f"{place} stands there twice")
        energy = line.pop(ENERGY, None)
        files = {SUMMARY: _json(line)}
        if energy is not None:
            files[energy_record.RECORD] = _json(energy)
        for table in TABLES:
            if table in columns:
                found = rows.pop((table, kind, name), [])
                files[table] = _own(columns[table], found)
        for seal in SEALED:
            if seal in kept:
                files[seal] = kept[seal].encode()
        results[place] = files
    if rows:
        raise ValueError(f"{next(iter(rows))[-1]} has rows and no summary")
    return results


def _check_seals(place: str, files: Files) -> None:
    """Refuse a result whose seals, one of its kind among them, are not of its files."""
    needed = KINDS[place.partition("/")[0]][1]
    for name in dict.fromkeys([needed, *(seal for seal in SEALED if seal in files)]):
        if files[name] != sums({file: files[file] for file in SEALED[name]}):
            raise ValueError(f"{name} is not of what stands there as {place}")


def _own(columns: list[str], rows: Iterable[Mapping[str, str]]) -> bytes:
    """A result's own table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _json(values: Mapping[str, Any]) -> bytes:
    """As training writes it."""
    return (json.dumps(values, indent=2) + "\n").encode()
