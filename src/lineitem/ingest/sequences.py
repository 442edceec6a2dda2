"""Sequence numbers that producers give their events: read, gathered by producer, and held as ranges. Pure.

CloudEvents has an extension attribute for it (https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/sequence.md):
``sequence``, a text that orders a source's events. What can be counted is a whole number, so that is what is read: decimal
digits, zeros in front allowed, or a JSON integer; with a ``sequencetype`` other than ``Integer`` nothing is. A sequence never
costs an event anything, and is no part of what is billed or of who the event is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.core.ids import length_prefixed
from lineitem.core.limits import SEQUENCE_DIGITS_MAX, SEQUENCE_MAX
from lineitem.ingest.events import EventColumns, Reject

NONE, UNREADABLE = -1, -2
"""Stand where an event has no sequence, and where it has one that is no number we count."""
FACT = "sequences"
"""Kind of the fact in which a batch records what it saw."""
BLOCK_BITS = 16
"""Numbers are kept in blocks of 65,536, so that a batch touches what lies around its numbers and nothing else."""
Range = tuple[int, int]
"""First and last number of a run, both inclusive."""
_BEYOND = 1 << 100


def numbers(values: Sequence[object], types: Sequence[object] | None = None) -> NDArray[np.int64] | None:
    """The sequences of m events, (m,) int64 with ``NONE`` and ``UNREADABLE``; None where no event has one.

    ``values`` as they were parsed (texts, integers, anything); ``types``: their ``sequencetype``.
    """
    found = _all_digits(values)
    if found is None:
        found = np.fromiter(map(number, values), np.int64, len(values))
    if (found == NONE).all():
        return None
    if types is not None:
        other = np.array([kind not in (None, "", "Integer") for kind in types])
        found[other & (found >= 0)] = UNREADABLE
    return found


def _all_digits(values: Sequence[object]) -> NDArray[np.int64] | None:
    """``numbers`` where every text is a number, without Python for each; None where one is not."""
    if not set(map(type, values)) <= {str, type(None)}:
        return None
    try:
        texts = pa.array(values, pa.string())
    except UnicodeEncodeError:
        return None
    data = texts.buffers()[2]
    characters = np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[: len(values) + 1]
    if ((characters[: offsets[-1]] - ord("0")) > 9).any():  # below "0" wraps to far above 9
        return None
    sizes = np.diff(offsets)
    if sizes.max(initial=0) > SEQUENCE_DIGITS_MAX or (sizes[np.asarray(texts.is_valid())] == 0).any():
        return None
    return np.array(texts.cast(pa.int64()).fill_null(NONE))


def number(value: object) -> int:
    """One event's sequence, or ``NONE`` or ``UNREADABLE``."""
    if value is None or value == "":
        return NONE
    if isinstance(value, str) and value.isascii() and value.isdigit():
        digits = value.lstrip("0")
        return int(digits or "0") if len(digits) <= SEQUENCE_DIGITS_MAX else UNREADABLE
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= SEQUENCE_MAX:
        return value
    return UNREADABLE


@dataclass(frozen=True, slots=True)
class Sightings:
    """The n records of a batch that have a sequence: which record, of which source, with which number or ``UNREADABLE``.

    ``producer``: (n,) int32, index into ``sources``, which are in the order of their code points and all occur.
    ``ordinal``: (n,) int32, ``number``: (n,) int64.
    """

    sources: list[str]
    producer: NDArray[np.int32]
    ordinal: NDArray[np.int32]
    number: NDArray[np.int64]


def sightings(events: EventColumns, undecoded: Iterable[Reject]) -> Sightings | None:
    """What a decoded batch saw; None where no record has a sequence."""
    lost = [(one.ordinal, one.sighting) for one in undecoded if one.sighting is not None]
    if events.sequence is None and not lost:
        return None
    sequence = np.full(len(events), NONE, np.int64) if events.sequence is None else events.sequence
    rows = np.flatnonzero(sequence != NONE)
    whole = len(rows) == len(events)
    sources = events.source if whole else [events.source[row] for row in rows.tolist()]
    encoded = pa.array(sources + [seen.source for _, seen in lost], pa.string()).dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), np.int32)
    place[order] = np.arange(len(names), dtype=np.int32)
    return Sightings(
        [names[at] for at in order],
        place[np.asarray(encoded.indices)],
        np.concatenate([events.ordinal[rows], np.array([at for at, _ in lost], np.int32)]),
        np.concatenate([sequence[rows], np.array([seen.number for _, seen in lost], np.int64)]),
    )


class Seen(NamedTuple):
    """What one batch saw of one producer, as texts of PostgreSQL's ``int8multirange``.

    ``accepted``: numbers of the events it accepted; ``repeated``: of those that were in the ledger before; ``set_aside``:
    of its dead letters; ``doubled``: that two accepted events had. ``unreadable``: records whose sequence is no number.
    """

    source: str
    accepted: str
    repeated: str
    set_aside: str
    doubled: str
    unreadable: int


class SeenBlock(NamedTuple):
    """The same in one block of numbers; ``producer``: which of the batch's ``Seen``."""

    producer: int
    block: int
    accepted: str
    repeated: str
    set_aside: str
    doubled: str


@dataclass(frozen=True, slots=True)
class _Ranges:
    """Runs of consecutive numbers, half-open: producer (k,), start (k,), end (k,), sorted and disjoint."""

    producer: NDArray[np.int32]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def texts(self, by: NDArray[np.signedinteger[Any]]) -> dict[int, str]:
        """As texts, one for each value of ``by`` (k,), which must be sorted."""
        runs = [f"[{start},{end})" for start, end in zip(self.start.tolist(), self.end.tolist(), strict=True)]
        cuts = [0, *(np.flatnonzero(np.diff(by)) + 1).tolist(), len(runs)] if runs else []
        keys = by[cuts[:-1]].tolist() if runs else []
        return {key: "{" + ",".join(runs[a:b]) + "}" for key, a, b in zip(keys, cuts[:-1], cuts[1:], strict=True)}

    def in_blocks(self) -> tuple[_Ranges, NDArray[np.int64]]:
        """Cut at the bounds of blocks; the block of each."""
        first, last = self.start >> BLOCK_BITS, (self.end - 1) >> BLOCK_BITS
        pieces = last - first + 1
        of = np.repeat(np.arange(len(first)), pieces)
        block = first[of] + np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        start = np.maximum(self.start[of], block << BLOCK_BITS)
        end = np.minimum(self.end[of], (block + 1) << BLOCK_BITS)
        return _Ranges(self.producer[of], start, end), block


def _ranges(producer: NDArray[np.int32], number: NDArray[np.int64]) -> tuple[_Ranges, _Ranges]:
    """The runs of some numbers, and of those that occur more than once."""
    if (np.diff(producer) < 0).any() or ((np.diff(number) <= 0) & (np.diff(producer) == 0)).any():
        order = np.lexsort((number, producer))
        producer, number = producer[order], number[order]
    again = np.zeros(len(number), np.bool_)
    again[1:] = (np.diff(number) == 0) & (np.diff(producer) == 0)
    twice = _runs(producer[again], number[again])
    return _runs(producer[~again], number[~again]), twice


def _runs(producer: NDArray[np.int32], number: NDArray[np.int64]) -> _Ranges:
    """The runs of sorted numbers."""
    opens = np.ones(len(number), np.bool_)
    opens[1:] = (np.diff(producer) != 0) | (np.diff(number) > 1)
    closes = np.roll(opens, -1)
    return _Ranges(producer[opens], number[opens], number[closes] + 1)


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """What a batch saw: a row for each producer, by source, and the same by blocks."""

    rows: list[Seen]
    blocks: list[SeenBlock]

    def fact(self) -> dict[str, str | int]:
        """What the batch's fact says of it besides the namespace."""
        return {"producers": len(self.rows), "digest": rows_digest(self.rows)}


def rows_digest(rows: Iterable[Seen]) -> str:
    """SHA-256, hex, over rows in the order of their sources, every field sized (docs/reference/chain.md)."""
    parts = (length_prefixed(*(str(field).encode() for field in row)) for row in rows)
    return sha256(b"".join(parts)).hexdigest()


def seen(found: Sightings, accepted: NDArray[np.int32], set_aside: Sequence[int]) -> BatchSeen:
    """Sort a batch's sightings by what became of its records.

    ``accepted``: ordinals of the events it accepted; ``set_aside``: of its dead letters. The others repeat what was accepted.
    """
    aside = np.isin(found.ordinal, np.array(set_aside, np.int32))
    new = np.isin(found.ordinal, accepted)
    readable = found.number >= 0
    unreadable = np.bincount(found.producer[~readable], minlength=len(found.sources)).tolist()
    (ours, doubled), (repeated, _), (dead, _) = (
        _ranges(found.producer[wanted & readable], found.number[wanted & readable])
        for wanted in (new, ~new & ~aside, aside)
    )
    kinds = (ours, repeated, dead, doubled)
    texts = [one.texts(one.producer) for one in kinds]
    rows = [
        Seen._make((source, *(by.get(at, "{}") for by in texts), unreadable[at]))
        for at, source in enumerate(found.sources)
    ]
    return BatchSeen(rows, _blocks(kinds))


def _blocks(kinds: Sequence[_Ranges]) -> list[SeenBlock]:
    cut = [one.in_blocks() for one in kinds]
    places = np.concatenate([np.stack([ranges.producer.astype(np.int64), block], axis=1) for ranges, block in cut])
    wanted, at = np.unique(places, axis=0, return_inverse=True)
    at = at.reshape(-1)
    columns: list[dict[int, str]] = []
    for ranges, block in cut:
        columns.append(ranges.texts(at[: len(block)]))
        at = at[len(block) :]
    return [
        SeenBlock._make((producer, block, *(column.get(n, "{}") for column in columns)))
        for n, (producer, block) in enumerate(wanted.tolist())
    ]


# --- runs of numbers as people name them


def joined(some: Iterable[Range], more: Iterable[Range]) -> list[Range]:
    """All numbers of both, as few runs as there can be."""
    found: list[Range] = []
    for first, last in sorted([*some, *more]):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def without(some: Iterable[Range], gone: Iterable[Range]) -> list[Range]:
    """The numbers of ``some`` that are not in ``gone``."""
    holes, at = [*joined(gone, []), (_BEYOND, _BEYOND)], 0
    found: list[Range] = []
    for first, last in joined(some, []):
        while holes[at][1] < first:
            at += 1
        while holes[at][0] <= last and first <= last:
            if holes[at][0] > first:
                found.append((first, holes[at][0] - 1))
            first = holes[at][1] + 1
            at += first <= last  # one that reaches beyond may reach into the next run, too
        if first <= last:
            found.append((first, last))
    return found


def common(some: Iterable[Range], others: Iterable[Range]) -> list[Range]:
    """The numbers that are in both."""
    mine = list(some)
    return without(mine, without(mine, others))


def multirange(runs: Iterable[Range]) -> str:
    """As PostgreSQL writes an ``int8multirange``."""
    return "{" + ",".join(f"[{first},{last + 1})" for first, last in runs) + "}"
