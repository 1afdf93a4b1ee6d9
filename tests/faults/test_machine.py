"""The machine fails: the disk is full, a folder is read-only, the network is away."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.outcomes import content, refusal, words
from faults.table import DATA, FIGURE, TABLE, TRAIN

from sharpflat.cli import main

Mount = Callable[[Path, str], None]

DRAW = ("figure", FIGURE, TABLE, "drawn/figure.png")
PREPARE = ("data", "digits", "fresh/digits.npz")
#: Folder that the command writes to, and the command.
WRITERS = {"training": ("results/smoke/runs/*", TRAIN), "drawing": ("drawn", DRAW)}
WRITERS |= {"preparing data": ("fresh", PREPARE)}


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts an empty file system of so many pages over a folder; again changes its options."""
    mounted: list[Path] = []

    def over(folder: Path, options: str) -> None:
        again = "remount," if folder in mounted else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"only root may mount a file system: {done.stderr.strip()}")
        if not again:
            mounted.append(folder)

    yield over
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _results(folder: Path) -> dict[Path, str]:
    timed = ("summary.json", "trajectory.sha256", "energy.csv", "energy.json", "energy.sha256")
    return {path: digest for path, digest in content(folder).items() if path.name not in timed}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_ends_a_command_and_loses_nothing(
    checkout: Path, mount: Mount, what: str
) -> None:
    """Oracle: the same command with room enough. The disk grows page by page until it is."""
    place, command = WRITERS[what]
    (checkout / "drawn").mkdir()
    (checkout / "fresh").mkdir()
    (folder,) = checkout.glob(place)
    main(words(checkout, command))
    whole = _results(folder)
    full = 0
    for pages in (1, 4, 16, 64, 256, 1024, 4096):
        mount(folder, f"size={4096 * pages}")
        try:
            main(words(checkout, command))
            break
        except SystemExit as failure:
            assert "No space left on device" in str(failure.code)
            assert "free some space and run the same command again" in str(failure.code)
            left = {path.name for path in folder.iterdir()}
            # Training keeps what it needs to go on, and no summary, which says that it is complete.
            assert "summary.json" not in left if what == "training" else left == set()
            full += 1
    assert full >= 1
    assert _results(folder) == whole


@pytest.mark.parametrize("what", WRITERS)
def test_a_read_only_folder_is_refused(checkout: Path, mount: Mount, what: str) -> None:
    place, command = WRITERS[what]
    (checkout / "drawn").mkdir()
    (checkout / "fresh").mkdir()
    (folder,) = checkout.glob(place)
    mount(folder, "size=16m")
    mount(folder, "ro")
    message = refusal(words(checkout, command))
    assert "Read-only file system" in message
    assert "make the folder writable" in message


@pytest.mark.parametrize("dataset", ["mnist5k", "cifar10_5k", "sst2_1k"])
def test_without_a_network_the_mirror_is_offered(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    message = refusal(["data", dataset, f"results/data/{dataset}.npz"])
    assert "cannot download" in message
    assert "data_mirror=DIR" in message
    assert [path.name for path in (checkout / DATA).parent.glob("*.npz")] == ["digits.npz"]


def test_a_mirror_that_is_not_there_is_refused(checkout: Path) -> None:
    command = ["data", "mnist5k", "results/data/mnist5k.npz", "--mirror", "nowhere"]
    assert "has no file mnist5k.npz" in refusal(command)
    assert not (checkout / "results/data/mnist5k.npz").exists()
