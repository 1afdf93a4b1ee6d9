"""The faults that are injected into results, and what must come of each."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from faults.configs import REFUSED

CONFIG = "results/smoke/config.json"
DATA = "results/data/digits.npz"
FIGURE = "dom_bulk"
TABLE = f"results/smoke/figures/{FIGURE}.csv"
CLAIMS, IMAGE = "results/smoke/claims.csv", "figure.png"

#: Commands on the checkout; ``PREFIX`` and ``RUN`` stand for the names of its prefix and its run.
TRAIN_PREFIX, TRAIN = ("prefix", CONFIG, "PREFIX"), ("train", CONFIG, "RUN")
ENERGY, COLLECT = ("energy", CONFIG, "RUN"), ("table", CONFIG, FIGURE, TABLE)
COLLECT_ENERGY = ("table", CONFIG, "curvature_energy", "results/smoke/energy.csv")
TIER, RUN_TIER = "workflow/config/smoke.yaml", ("run", "--tier", "smoke")
DRAW, DECIDE = ("figure", FIGURE, TABLE, IMAGE), ("claims", CONFIG, CLAIMS)

#: Times that a run is killed at a random moment.
RANDOM_KILLS = 12


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Damage to one file of a trained checkout, and a command that meets it.

    Attributes:
        file: What is damaged; a pattern under the checkout.
        damage: How.
        command: What then runs.
        outcome: ``refused`` with one line, or ``survived``: the results are those without a fault.
        says: Part of that line: the remedy, or what is wrong.
        untrained: Whether the run has no result yet.
    """

    file: str
    damage: Callable[[Path], object]
    command: tuple[str, ...]
    outcome: Literal["refused", "survived"]
    says: str = "make it again"
    untrained: bool = False

    @property
    def name(self) -> str:
        """For the test's report."""
        what = self.damage.__name__.strip("_").replace("_", " ")
        return f"{Path(self.file).name} {what}: {self.command[0]} {self.outcome}"


def removed(path: Path) -> None:
    """The file is not there."""
    path.unlink()


def emptied(path: Path) -> None:
    """The file has no content."""
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    """The file ends early."""
    path.write_bytes(path.read_bytes()[: 2 * path.stat().st_size // 3])


def cut_at_a_line(path: Path) -> None:
    """A table that lacks its last row, and looks whole."""
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def flipped(path: Path) -> None:
    """One bit in the middle is another."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def overwritten(path: Path) -> None:
    """Another program wrote there."""
    path.write_bytes(b"\x00\xff" * 500)


def _digit_changed(path: Path) -> None:
    """A number in the last row is another, and the file a sound CSV."""
    text = path.read_text().rstrip("\n")
    last = text[-1]
    path.write_text(text[:-1] + ("1" if last != "1" else "2") + "\n")


def _rewrite(path: Path, name: str, change: Callable[[Any], Any]) -> None:
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    arrays[name] = change(arrays[name])
    np.savez(path, **arrays)


def _with_nan(path: Path) -> None:
    _rewrite(path, "x_train", lambda x: np.where(x == x.max(), np.nan, x).astype(np.float32))


def _with_a_label_out_of_range(path: Path) -> None:
    _rewrite(path, "y_train", lambda y: np.where(np.arange(len(y)) == 7, 10, y).astype(np.uint8))


def _with_signed_labels(path: Path) -> None:
    _rewrite(path, "y_train", lambda y: y.astype(np.int64) - 1)


def _with_another_shape(path: Path) -> None:
    _rewrite(path, "x_train", lambda x: x[:, :7])


def _with_fewer_samples(path: Path) -> None:
    _rewrite(path, "y_train", lambda y: y[:-1])


def _with_another_pixel(path: Path) -> None:
    _rewrite(path, "x_test", lambda x: (x + (np.arange(x.size) == 5).reshape(x.shape)).astype("u1"))


def _of_pickles(path: Path) -> None:
    member = io.BytesIO()
    np.lib.format.write_array(member, np.array([{}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", member.getvalue())


def _without_a_key(path: Path) -> None:
    values = json.loads(path.read_text())
    del values["seeds"]
    path.write_text(json.dumps(values))


def _with_a_key_flipped(path: Path) -> None:
    """One bit of a setting's name is another: where it falls decides what is said."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"seeds"', b'"reeds"', 1))


def _with_a_list(path: Path) -> None:
    path.write_text("[1, 2]")


def _with_an_open_bracket(path: Path) -> None:
    path.write_text("seeds: [0, 1\n")


def _of_another_figure(path: Path) -> None:
    path.write_text("step,loss\n1,2\n")


def _without_rows(path: Path) -> None:
    path.write_text(path.read_text().splitlines()[0] + "\n")


DAMAGED_DATA = (removed, emptied, truncated, flipped, overwritten, _of_pickles)
WRONG_DATA = (
    (_with_nan, "not finite"),
    (_with_a_label_out_of_range, "a label 10"),
    (_with_signed_labels, "dtype int64"),
    (_with_another_shape, "shape"),
    (_with_fewer_samples, "shape"),
    (_with_another_pixel, "sha256"),
)
DAMAGE = (removed, emptied, truncated, flipped, overwritten)
RUN, PREFIX = "results/smoke/runs/*", "results/smoke/prefixes/*"

FAULTS: tuple[Fault, ...] = (
    *(
        Fault(file=DATA, damage=damage, command=TRAIN, outcome="refused", says="prepare it again")
        for damage in DAMAGED_DATA
    ),
    *(
        Fault(file=DATA, damage=damage, command=TRAIN, outcome="refused", says=says)
        for damage, says in WRONG_DATA
    ),
    *(
        Fault(
            file=file,
            damage=damage,
            command=command,
            outcome="refused",
            says="train its run again",
            untrained=command is TRAIN,
        )
        for file, command in (
            (f"{PREFIX}/checkpoint.pt", TRAIN),
            (f"{RUN}/snapshots.pt", ENERGY),
        )
        for damage in DAMAGE
    ),
    *(
        Fault(file=f"{PREFIX}/{file}", damage=damage, command=TRAIN_PREFIX, outcome="survived")
        for file, damage in (
            ("checkpoint.pt", removed),
            ("trajectory.csv", removed),
            ("trajectory.csv", _digit_changed),
            ("summary.json", truncated),
            ("trajectory.sha256", removed),
        )
    ),
    *(
        Fault(file=f"{RUN}/trajectory.csv", damage=damage, command=command, outcome=outcome)
        for damage in (*DAMAGE, cut_at_a_line, _digit_changed)
        for command, outcome in ((COLLECT, "refused"), (TRAIN, "survived"))
    ),
    *(
        Fault(file=f"{RUN}/{file}", damage=damage, command=COLLECT, outcome="refused")
        for file in ("summary.json", "trajectory.sha256")
        for damage in DAMAGE
    ),
    *(
        Fault(file=f"{RUN}/summary.json", damage=damage, command=TRAIN, outcome="survived")
        for damage in DAMAGE
    ),
    *(
        Fault(file=f"{RUN}/energy.csv", damage=damage, command=COLLECT_ENERGY, outcome="refused")
        for damage in (*DAMAGE, cut_at_a_line, _digit_changed)
    ),
    Fault(file=f"{RUN}/energy.json", damage=flipped, command=COLLECT_ENERGY, outcome="refused"),
    Fault(file=f"{RUN}/energy.csv", damage=_digit_changed, command=ENERGY, outcome="survived"),
    *(
        Fault(file=TABLE, damage=damage, command=command, outcome="refused", says=says)
        for damage, says in (
            (emptied, "make it again"),
            (overwritten, "make it again"),
            (_of_another_figure, "lacks"),
            (_without_rows, "make it again"),
        )
        for command in (DRAW, DECIDE)
    ),
    Fault(file=TABLE, damage=removed, command=DRAW, outcome="refused", says="make it first"),
    *(
        Fault(file=CONFIG, damage=damage, command=TRAIN, outcome="refused", says=says)
        for damage, says in (
            (removed, "make it first"),
            *((damage, "write it again") for damage in (emptied, truncated, overwritten)),
            (_with_a_key_flipped, "allowed are"),
            (_without_a_key, "'seeds' is a required property"),
            (_with_a_list, "not settings by name"),
        )
    ),
    *(
        Fault(file=TIER, damage=damage, command=RUN_TIER, outcome="refused", says=says)
        for damage, says in (
            (emptied, "not settings by name"),
            (overwritten, "write it again"),
            (_with_a_list, "not settings by name"),
            (_with_an_open_bracket, "write it again"),
        )
    ),
)

#: How the machine fails: writing to a full or a read-only folder, for each command that writes;
#: reaching each of three data sets without a network; a mirror that is not there.
MACHINE_FAULTS = 2 * 3 + 3 + 1


def sentence() -> str:
    """What the README says of the faults."""
    damaged, malformed = len(FAULTS), len(REFUSED)
    survived = sum(fault.outcome == "survived" for fault in FAULTS)
    refused = damaged - survived + malformed + MACHINE_FAULTS
    return (
        f"The tests inject {RANDOM_KILLS} kills (SIGKILL) at random moments and one before every "
        f"change of a file, {damaged} damaged or wrong files, {malformed} malformed configurations "
        f"and {MACHINE_FAULTS} failures of the machine. All kills and {survived} damaged files are "
        f"survived with the bytes of an undisturbed run; the other {refused} faults are refused, "
        "each with one line that says why and what to do, and no valid file is lost."
    )
