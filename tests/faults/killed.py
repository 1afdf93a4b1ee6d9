"""Trains a run in children that are killed, until one ends, over and over; a program for the tests.

``python killed.py CONFIG RUN WHEN...``, where ``random:KILLS`` kills at random moments, at least
so often, and ``writes`` kills before the first change of a file, then, from nothing, before the
second, and so on through all of them. Prints a line whenever a child came to its end: when it was
killed, kills before it, a hash of what it left, and the names of the files. What children say
follows the name of when they were killed.
"""

import hashlib
import itertools
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

# Imported before forking, so that a child costs no import: torch loads the first two when it is set
# to be deterministic and when it makes an optimizer, seconds each.
import torch._dynamo
import torch._inductor.config  # noqa: F401

import sharpflat.training.train  # noqa: F401
from sharpflat.cli import main
from sharpflat.config import read_resolved
from sharpflat.plan import all_runs
from sharpflat.sources import training_code_hash

CHANGES = ("os.rename", "os.remove")
#: Seconds within which the first child is killed, about what the run takes, and what the next ones
#: are given more, so that one of them gets on, however busy the machine is.
LIFE, MORE = 0.4, 0.1


def fork(command: list[str], *, before_change: int = 0) -> int:
    """Start a child that runs a command, and that kills itself before that change of a file."""
    child = os.fork()
    if child:
        return child
    changes = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal changes
        written = event == "open" and any(letter in str(arguments[1]) for letter in "wax")
        if written or event in CHANGES:
            changes += 1
            if changes == before_change:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    main(command)
    sys.stderr.flush()
    os._exit(0)


def ends(child: int) -> bool:
    """Wait for a child; whether it came to its end, and was not killed."""
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        assert os.waitstatus_to_exitcode(status) == 0
    return not os.WIFSIGNALED(status)


def killed_at_random(command: list[str], chance: random.Random) -> int:
    """Kill children until one ends first."""
    for kills in itertools.count():
        child = fork(command)
        time.sleep(chance.uniform(0, LIFE + MORE * kills))
        os.kill(child, signal.SIGKILL)
        if ends(child):
            return kills
    raise AssertionError


def killed_before(command: list[str], change: int) -> int:
    """Kill one child before a change of a file, if it comes to that, and let the next one end."""
    if ends(fork(command, before_change=change)):
        return 0
    assert ends(fork(command))
    return 1


def rounds(config: str, run: str, when: str) -> None:
    """From nothing to the end, until there were kills enough."""
    command = ["train", config, run]
    folder = Path(config).parent / "runs" / run
    chance = random.Random(0)
    total = 0
    for number in itertools.count(1):
        shutil.rmtree(folder)
        if when == "writes":
            kills = killed_before(command, number)
        else:
            kills = killed_at_random(command, chance)
        left = [(folder / name).read_bytes() for name in ("trajectory.csv", "snapshots.pt")]
        names = sorted(path.name for path in folder.iterdir())
        print(when, kills, hashlib.sha256(b"".join(left)).hexdigest(), *names, flush=True)
        total += kills
        if kills == 0 if when == "writes" else total >= int(when.removeprefix("random:")):
            return


if __name__ == "__main__":
    # Computed once, before forking, for the same reason: every child asks for the code's hash.
    planned = all_runs(read_resolved(Path(sys.argv[1]), Path()))
    training_code_hash(planned[0].prefix)
    for moment in sys.argv[3:]:
        print(moment, file=sys.stderr, flush=True)
        rounds(*sys.argv[1:3], moment)
