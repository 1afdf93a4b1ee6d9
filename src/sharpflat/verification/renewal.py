"""Keeps stale results whose numbers today's code makes again, digit for digit.

A result is stale once the code that made it changes, whatever the change. Most changes alter no
number: a check, a message, a faster way to the same bytes. To train everything again would show it
and cost what the tier costs; a stretch of one seed of every setting costs minutes.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Hashable, Mapping
from dataclasses import replace

import torch

from sharpflat import seals
from sharpflat.energy_record import RECORD, check_energy, seal_energy
from sharpflat.records import EdgeRecord, PrefixRecord, RunRecord
from sharpflat.training.provenance import provenance
from sharpflat.training.recorder import write_json
from sharpflat.training.train import SUMMARY
from sharpflat.verification.committed import Committed, Record
from sharpflat.verification.older_code import OlderCode
from sharpflat.verification.stretches import Verdict


def made_by(older: OlderCode, committed: Mapping[Record, Committed]) -> dict[Record, Committed]:
    """What is today's, and of what is stale that which the older code made, its prefix too.

    Raises:
        ValueError: Nothing is stale that it made.
    """
    made = {}
    for record, found in committed.items():
        code, energy_code = older.codes.get(record.id, ("", ""))
        if not found.fresh and found.summary["code"] != code:
            continue
        if found.energy is not None and found.energy["code"] not in (
            found.energy_code,
            energy_code,
        ):
            found = replace(found, energy=None)
        made[record] = found
    left = {record: found for record, found in made.items() if _prefix(record) in made}
    stale = any(not found.fresh or found.energy_is_stale for found in left.values())
    if len(left) < len(committed) and not stale:
        raise ValueError(
            f"the code in {older.folder}, with the torch that is installed here, made nothing of "
            "what is stale: take the commit that trained it"
        )
    return left


def one_of_each_setting(
    committed: Mapping[Record, Committed], *, seed: int
) -> dict[Record, Committed]:
    """Of the stale results, with their prefixes, one drawn of those that differ in seed alone.

    Settings of one task share the seed that is drawn for it where they can, and with it a prefix.
    """
    draw = random.Random(seed)
    stale = [
        record for record, found in committed.items() if not found.fresh or found.energy_is_stale
    ]
    order = sorted({_prefix(record).seed for record in stale})
    draw.shuffle(order)
    chosen: dict[Hashable, Record] = {}
    for record in sorted(stale, key=lambda record: order.index(_prefix(record).seed)):
        found = committed[record]
        if not found.fresh:
            chosen.setdefault(_setting(record, found), record)
        if found.energy_is_stale and isinstance(record, PrefixRecord):
            chosen.setdefault(_energy_setting(record, found), record)
    wanted = {*chosen.values(), *map(_prefix, chosen.values())}
    return {record: found for record, found in committed.items() if record in wanted}


def renew(
    committed: Mapping[Record, Committed], verdicts: Collection[Verdict], *, seed: int, beside: bool
) -> tuple[list[Record], list[Record]]:
    """Write into stale results that today's code makes them, where stretches show it.

    A result counts as today's where the stretch of a result of its setting agrees in every digit,
    its prefix's too. One of another kind of machine, which rounds otherwise, may differ within the
    band that ``verify`` allows there; it then shows nothing, and is not renewed, unless the code
    that made it trained the stretch here too, to the same digits as today's. Beyond that band, as
    where a run diverges, it is not renewed either way: another seed's stretch may be. The summary
    of what is renewed names today's code, and in ``renewed`` the code that trained it, how many
    stretches were compared, the seed that drew them, with what they were compared, and where.

    The curvature energy along a result that is today's counts as today's where it was measured
    again so at the switch of a prefix of its setting.

    Args:
        committed: A tier's results, the stale among them.
        verdicts: Of the stretches of :func:`one_of_each_setting`, trained again by today's code.
        seed: That drew them.
        beside: Whether the stretches were also trained by the older code, on this machine.

    Returns:
        What was renewed, and along what the energy was.

    Raises:
        ValueError: A stretch differs, on its own kind of machine or from the code that made it in
            a digit, elsewhere by more than the band where that code was not asked: nothing is
            renewed.
        DamagedResultError: A result is not what was sealed.
    """
    if other := [each for each in verdicts if each.rounded or (each.differs and not beside)]:
        raise ValueError(
            f"nothing is renewed: {len(other)} of {len(verdicts)} stretches are not the same in "
            f"every digit, the first: {other[0].text}; train them again with `snakemake`, or, "
            "where another machine made them, give --trained-by the checkout that did"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    same = [verdict.same for verdict in verdicts if verdict.same is not None]
    agreed = {_setting(record, committed[record]) for record in same}
    measured = [verdict.same_energy for verdict in verdicts if verdict.same_energy is not None]
    shown = {
        "seed": seed,
        "compared_with": "the older code" if beside else "the results",
        "hardware": provenance(torch.device(device))["hardware"],
    }
    renewed = []
    for record, found in committed.items():
        parts = {record, _prefix(record)} & committed.keys()
        if found.fresh or not agreed.issuperset(_setting(part, committed[part]) for part in parts):
            continue
        seal = seals.EDGE if isinstance(record, EdgeRecord) else seals.TRAINED
        seals.check_seal(found.folder, seal)
        older = {"code": found.summary["code"], "stretches": len(same), **shown}
        renewals = [*found.summary.get("renewed", []), older]
        summary = {**found.summary, "code": found.code, "renewed": renewals}
        write_json(found.folder / SUMMARY, summary)
        seals.seal(found.folder, seal)
        renewed.append(record)
    alike = {_energy_setting(record, committed[record]) for record in measured}
    energies = []
    for record, found in committed.items():
        energy = found.energy
        if energy is None or energy["code"] == found.energy_code:
            continue
        if _energy_setting(record, found) not in alike or not (found.fresh or record in renewed):
            continue
        check_energy(found.folder)
        older = {"code": energy["code"], "stretches": len(measured), **shown}
        renewals = [*energy.get("renewed", []), older]
        write_json(
            found.folder / RECORD, {**energy, "code": found.energy_code, "renewed": renewals}
        )
        seal_energy(found.folder)
        energies.append(record)
    return renewed, energies


def _setting(record: Record, found: Committed) -> Hashable:
    """A record without its seed, and the code that made it."""
    code = found.summary["code"]
    if isinstance(record, PrefixRecord):
        return replace(record, seed=0), code
    prefix = replace(record.prefix, seed=0)
    if isinstance(record, RunRecord):
        return replace(record, prefix=prefix), code
    return replace(record, start=replace(record.start, prefix=prefix)), code


def _energy_setting(record: Record, found: Committed) -> Hashable:
    """What the energy depends on besides the parameters, and the code that measured it."""
    prefix = record.after_switch if isinstance(record, RunRecord) else _prefix(record)
    assert found.energy is not None
    return (
        *(prefix.dataset, prefix.model, prefix.sizes, prefix.loss),
        *(prefix.k, prefix.hessian_samples, prefix.tolerance),
        found.energy["code"],
    )


def _prefix(record: Record) -> PrefixRecord:
    return record if isinstance(record, PrefixRecord) else record.prefix
