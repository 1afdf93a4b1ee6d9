"""Draws stretches of a tier's committed results, trains them again, and judges what came."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sharpflat.config import Config
from sharpflat.records import PrefixRecord
from sharpflat.tasks.data import load
from sharpflat.tasks.errors import DataError
from sharpflat.verification.committed import Committed, Record, stretches
from sharpflat.verification.older_code import OlderCode
from sharpflat.verification.stretches import (
    Verdict,
    branch_again,
    energy_again,
    prefix_again,
)


def verify(
    config: Config,
    committed: Mapping[Record, Committed],
    *,
    seed: int,
    minutes: float,
    data_of: Callable[[str], Path],
    older: OlderCode | None = None,
) -> Iterator[Verdict]:
    """Train stretches again, drawn at random, until the time is spent; one at least.

    A stretch is a prefix without its measurements, which cost nearly all of its time and decide
    no step, and then a run's first records, or the first trial of a search for the edge. On the
    kind of machine that the summary names the numbers must agree within rounding, elsewhere within
    a band. Threads and precision are those that the summary names. What was trained on other data
    than is here, as on a mirror's variant of it, tells nothing: it is left out, and another drawn.
    Likewise where the data cannot be had, as without a network.

    Args:
        config: The tier's configuration.
        committed: Its results, of :func:`committed_results`.
        seed: Decides which stretches are drawn.
        minutes: Time for training; what is begun is finished, as long as it was foreseen to fit.
        data_of: Gives the canonical file of a data set, which may be fetched: its time is not
            counted.
        older: The code that trained the results: it trains every stretch beside today's, and
            where they differ in a digit, the verdict says so.

    Raises:
        ValueError: Nothing that can be trained again is committed, or nothing on the data here; or
            the older code is not the one that a result names.
        DamagedResultError: A drawn result is not what was sealed.
    """
    draw, left = random.Random(seed), 60 * minutes
    chosen = stretches(committed)
    if not chosen:
        raise ValueError(
            f"nothing of the {config.name} tier's configuration is committed: train it first, "
            f"`snakemake --cores 2 --config tier={config.tier}`"
        )
    draw.shuffle(chosen)
    begun: dict[PrefixRecord, bool] = {}  # whether the switch is reached
    fingerprints: dict[str, str] = {}
    left_out: set[str] = set()
    lacking: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch:
        for prefix, branch in chosen:
            if begun and left <= 0:
                return
            name = prefix.dataset
            if name in lacking:
                continue
            try:
                data = data_of(name)
            except DataError as error:
                lacking.add(name)
                yield Verdict(text=f"left out: what was trained on {name}: {error}")
                continue
            began = time.perf_counter()
            if name not in fingerprints:
                fingerprints[name] = load(name, data).fingerprint
            drawn = [committed[record].summary for record in (prefix, branch) if record is not None]
            foreign = [summary for summary in drawn if summary["data"] != fingerprints[name]]
            if foreign:
                if name not in left_out:
                    left_out.add(name)
                    yield Verdict(text=_other_data(name, data, foreign[0]))
                continue
            place = Path(scratch) / prefix.id
            if prefix not in begun:
                begun[prefix], verdict = prefix_again(
                    prefix,
                    committed[prefix],
                    data=data,
                    folder=place,
                    seconds=left,
                    draw=draw,
                    older=older,
                )
                yield verdict
                if begun[prefix] and committed[prefix].energy is not None:
                    yield energy_again(
                        prefix,
                        committed[prefix],
                        data=data,
                        prefix_folder=place,
                        seconds=left - (time.perf_counter() - began),
                        older=older,
                    )
            if branch is not None and begun[prefix]:
                rest = left - (time.perf_counter() - began)
                yield branch_again(
                    branch,
                    committed[branch],
                    data=data,
                    prefix_folder=place,
                    seconds=rest,
                    older=older,
                )
            left -= time.perf_counter() - began
    if not begun:
        raise ValueError(
            f"all that is committed of the {config.name} tier was trained on other data than is "
            "here: give the folder with its data by --data-mirror, and delete results/data"
        )


def _other_data(name: str, data: Path, summary: Mapping[str, Any]) -> str:
    variant = summary.get("data_origin", {}).get("variant")
    return f"left out: what was trained on {name} of other bytes than {data} holds" + (
        f" ({variant})" if variant else ""
    )
