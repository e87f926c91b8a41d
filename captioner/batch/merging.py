"""The shards of one command, joined: what is needed for that is there, or one sentence says what is missing."""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from captioner.batch.items import Item
from captioner.batch.job import row_of
from captioner.batch.writers.rows import Row
from captioner.errors import LedgerError
from captioner.ledger import Ledger, Share, Standing

# What the rows and the outputs depend on, as an error names it.
_COMPARED = {
    "settings": "the model, --precision or a decoding option",
    "batch_size": "--batch-size",
    "style": "how texts are put",
    "min_confidence": "--min-confidence",
}


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The job of a ledger that did one share of a command."""

    ledger: Ledger
    job: int
    command: Mapping[str, Any]

    @property
    def share(self) -> Share:
        """Which pictures are this shard's."""
        index, number = self.command["shard"]
        return Share(batch_size=self.command["batch_size"], shard=(index, number))

    @property
    def name(self) -> str:
        """As on the command line: 2/4 is the second of four."""
        index, number = self.command["shard"]
        return f"{index + 1}/{number}"

    def standings(self) -> Iterator[Standing]:
        """Its own pictures, in order."""
        return self.ledger.standings(self.job, self.share)


def find_shards(ledgers: Iterable[Ledger]) -> list[Shard]:
    """All shards of the one command that the ledgers hold, in their order.

    Raises:
        LedgerError: a shard is missing or there twice, or their settings differ.
    """
    groups: dict[str, list[Shard]] = {}
    for ledger in ledgers:
        found = [Shard(ledger=ledger, job=job, command=command) for job, command in ledger.jobs()]
        found = [shard for shard in found if shard.command["shard"][1] > 1]
        if not found:
            raise LedgerError(f"{ledger.path} holds no shard: give the ledgers of commands with --shard.")
        for shard in found:
            same = [shard.command[name] for name in _COMPARED] + [shard.command["shard"][1]]
            groups.setdefault(str(same), []).append(shard)
    complete = [group for group in groups.values() if not _missing(group)]
    if len(complete) > 1:
        raise LedgerError("The ledgers hold all shards of more than one command: run one of them with new ledgers.")
    if not complete and len(groups) > 1:
        first, second = list(groups.values())[:2]
        raise LedgerError(_difference(first[0], second[0]))
    group = complete[0] if complete else next(iter(groups.values()))
    if missing := _missing(group):
        raise LedgerError(f"{missing[0].upper()}{missing[1:]}: give all their ledgers.")
    shards = sorted(group, key=lambda shard: shard.share.shard)
    for one, other in pairwise(shards):
        if one.name == other.name:
            raise LedgerError(f"Shard {one.name} is there twice, in {one.ledger.path} and in {other.ledger.path}.")
    _check_precision(shards)
    return shards


class Merged:
    """The rows of all shards, as the same command without --shard has them."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        """Check that the shards are of one list of pictures, and that each picture has its caption or its error.

        Raises:
            LedgerError: they are not, or some have neither.
        """
        self._shards = shards
        self.captioned, self.failed = 0, 0
        _check_lists(shards)
        waiting = dict.fromkeys((shard.name for shard in shards), 0)
        keys = array("Q")
        for shard in shards:
            for standing in shard.standings():
                if standing.row is None:
                    waiting[shard.name] += 1
                elif "error" in standing.row:
                    self.failed += 1
                else:
                    self.captioned += 1
                    keys.append(_key(standing.digest))
        left = [f"{number} pictures of shard {name}" for name, number in waiting.items() if number]
        if left:
            raise LedgerError(f"Not all is done: {', '.join(left)} wait for a caption; run those commands again.")
        unique, counts = np.unique(np.frombuffer(keys, dtype=np.uint64) if keys else [], return_counts=True)
        self._repeated = frozenset(unique[counts > 1].tolist())  # contents that more than one picture has

    def rows(self, min_confidence: float) -> Iterator[tuple[Item, Row]]:
        """Each picture with its row, in order.

        Pictures with the same content have the row of the first of them. Each shard captioned its own, among other
        pictures, which may have changed a last digit; the command without shards captions them once.
        """
        first: dict[bytes, Shard] = {}
        streams = [((standing, shard) for standing in shard.standings()) for shard in self._shards]
        for standing, shard in heapq.merge(*streams, key=lambda pair: pair[0].position):
            found, digest = standing.row or {}, standing.digest
            if digest is not None and "error" not in found and _key(digest) in self._repeated:
                before = first.setdefault(digest, shard)
                if before is not shard:
                    found = json.loads(before.ledger.results(before.job, [digest])[digest])
            item, row = row_of(standing.entry, found, min_confidence)
            # A relative path was relative to the folder that the shard ran in.
            yield item._replace(path=str(Path(shard.command["folder"], item.path))), row


def _missing(group: Sequence[Shard]) -> str:
    """The shards that are missing, in words; nothing if all are there."""
    number = group[0].command["shard"][1]
    there = {shard.command["shard"][0] for shard in group}
    gone = [f"{index + 1}/{number}" for index in range(number) if index not in there]
    if not gone:
        return ""
    return f"shard {gone[0]} is missing" if len(gone) == 1 else f"shards {', '.join(gone)} are missing"


def _difference(one: Shard, other: Shard) -> str:
    names = [told for name, told in _COMPARED.items() if one.command[name] != other.command[name]]
    if one.command["shard"][1] != other.command["shard"][1]:
        names.append("the number of shards")
    return (
        f"Shard {one.name} in {one.ledger.path} and shard {other.name} in {other.ledger.path} are not of one command: "
        f"they differ in {' and in '.join(names)}; run one of them again with the other's options."
    )


def _check_precision(shards: Sequence[Shard]) -> None:
    """Left to itself, each shard chose the precision that was quicker where it ran."""
    settled = {shard.name: shard.ledger.settled(shard.job, "precision") for shard in shards}
    found = {name: precision for name, precision in settled.items() if precision is not None}
    if len(set(found.values())) > 1:
        told = ", ".join(f"shard {name} in {precision}" for name, precision in found.items())
        raise LedgerError(f"The shards were not computed alike, {told}: run them again with one --precision.")


def _check_lists(shards: Sequence[Shard]) -> None:
    """All shards have the same pictures, by name, in the same order."""
    first = shards[0]
    for other in shards[1:]:
        pairs = zip_longest(first.ledger.entries(first.job), other.ledger.entries(other.job))
        for number, (one, two) in enumerate(pairs, start=1):
            if one is None or two is None or (one.source, one.member) != (two.source, two.member):
                names = [
                    "none" if each is None else repr(each.source.decode("utf-8", "replace")) for each in (one, two)
                ]
                raise LedgerError(
                    f"Shards {first.name} and {other.name} are of different lists of pictures (number {number} is "
                    f"{names[0]} in one and {names[1]} in the other): run both again over the same pictures."
                )


def _key(digest: bytes | None) -> int:
    """The first 8 bytes of a digest as a number: enough to see which contents may be there more than once."""
    return int.from_bytes((digest or b"")[:8], "little")
