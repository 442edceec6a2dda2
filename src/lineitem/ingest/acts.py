"""What is done with dead letters: they are chosen, loaded, and each act on one is recorded beside the fact it mirrors.

Acts on a letter are numbered 1, 2, 3, ...; two that start from the same state want the same number, so one of them fails: the
compare-and-set of this queue. A letter's state follows from its acts (the view ``ingest.letter``), never from a flag.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineitem.core.errors import PositionMoved
from lineitem.core.limits import RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS
from lineitem.core.reasons import SWITCHED, TRANSIENT, Reason
from lineitem.ingest.events import EventColumns, Reject
from lineitem.ingest.formats.dead_letters import Fix
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ingest", "acts.sql")
QUEUE = "dead-letters"
"""Stream of the partitions that replayed letters are read from."""
_DETAIL_CHARS_MAX = 2000


class Act(StrEnum):
    """What somebody did with a dead letter."""

    FIX = "fix"
    REPLAY = "replay"
    DISCARD = "discard"


class Outcome(StrEnum):
    """What became of a record that was tried again."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    DEAD_LETTER = "dead_letter"


class Chosen(NamedTuple):
    """A dead letter somebody wants to act on."""

    key: int
    reason: Reason
    state: str
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter whole. ``acts``: how many there were when it was loaded. ``raw`` may be cut to fewer than ``raw_bytes``."""

    key: int
    mark: str  # the fingerprint, hex
    state: str
    reason: Reason
    acts: int
    stream: str
    position: int
    raw: bytes
    raw_bytes: int
    lane: int
    batch: int
    ordinal: int
    fixes: Sequence[Fix] = ()


class Result(NamedTuple):
    """What became of one letter of a batch; the code and the sentence where it was set aside again."""

    outcome: Outcome
    event_key: bytes | None
    reason: Reason | None = None
    detail: str | None = None


@dataclass(slots=True)
class Attempts:
    """The letters a batch tries again, one for each of its records; ``results`` once it is written."""

    letters: Sequence[Letter]
    by: str
    note: str
    results: list[Result] = field(default_factory=list)


def choose(
    connection: Connection,
    namespace_key: int,
    *,
    keys: Sequence[int] | None = None,
    reason: Reason | None = None,
    limit: int | None = None,
) -> list[Chosen]:
    """Letters of ``keys`` whatever their state, else the open ones; those of one code together."""
    where = {
        "namespace_key": namespace_key,
        "keys": None if keys is None else list(keys),
        "reason": None if reason is None else int(reason),
        "limit": limit,
    }
    return _chosen(connection.execute(SQL.choose, where).fetchall())


def due(
    connection: Connection,
    namespace_key: int,
    revision: int,
    now_us: int,
    limit: int,
    whenever: Collection[Reason] = (),
) -> list[Chosen]:
    """Open letters of transient codes that the catalog in force may help or a switch may let go on, those tried least first.

    ``whenever``: codes that wait for something else, which may have come.
    """
    where = {
        "namespace_key": namespace_key,
        "reasons": sorted(map(int, TRANSIENT)),
        "whenever": sorted(map(int, {*SWITCHED, *whenever})),
        "revision": revision,
        "now_us": now_us,
        "first_us": RETRY_FIRST_SECONDS * 1_000_000,
        "longest_us": RETRY_LONGEST_SECONDS * 1_000_000,
        "limit": limit,
    }
    return sorted(_chosen(connection.execute(SQL.due, where).fetchall()), key=lambda one: (one.reason, one.key))


def _chosen(rows: Sequence[tuple[Any, ...]]) -> list[Chosen]:
    return [Chosen(key, Reason(reason), state, raw_bytes) for key, reason, state, raw_bytes in rows]


def load(connection: Connection, namespace_key: int, keys: Sequence[int]) -> list[Letter]:
    """The letters of ``keys`` as they stand, in that order, with the patches recorded for them."""
    where = {"namespace_key": namespace_key, "keys": list(keys)}
    fixes: dict[int, list[Fix]] = {}
    for key, patch, note, actor, acted_us in connection.execute(SQL.fixes, where).fetchall():
        fixes.setdefault(key, []).append(Fix(actor, note, acted_us, json.loads(patch)))
    rows = connection.execute(SQL.load, where).fetchall()
    return [_letter(row, fixes.get(row[0], ())) for row in rows]


def _letter(row: tuple[Any, ...], fixes: Sequence[Fix]) -> Letter:
    key, mark, state, reason, *rest = row
    acts, stream, position, raw, raw_bytes, lane, batch, ordinal = rest
    place = (lane, batch, ordinal)
    return Letter(key, mark.hex, state, Reason(reason), acts, stream, position, bytes(raw), raw_bytes, *place, fixes)


def check_unmoved(connection: Connection, letters: Sequence[Letter]) -> None:
    """Raise PositionMoved where somebody has acted on one of them since they were loaded."""
    where = {"keys": [one.key for one in letters], "acts": [one.acts for one in letters]}
    row = connection.execute(SQL.moved, where).fetchone()
    if row is None or row[0]:
        raise PositionMoved(
            "somebody else has acted on these dead letters meanwhile",
            do="Nothing is counted twice; run the same command again for those that are left.",
        )


def results(
    attempts: Attempts, events: EventColumns, accepted: NDArray[np.bool_], rejects: Sequence[Reject]
) -> list[Result]:
    """What became of each record of a batch: accepted, set aside again, or else a duplicate."""
    keys = {int(at): bytes(key) for at, key in zip(events.ordinal.tolist(), events.key, strict=True)}
    taken = set(events.ordinal[accepted].tolist())
    again = {one.ordinal: one for one in rejects}
    found = []
    for ordinal in range(len(attempts.letters)):
        reject = again.get(ordinal)
        if reject is not None:
            detail = reject.detail[:_DETAIL_CHARS_MAX].replace("\x00", "\\0")
            found.append(Result(Outcome.DEAD_LETTER, reject.key, reject.reason, detail))
        else:
            outcome = Outcome.ACCEPTED if ordinal in taken else Outcome.DUPLICATE
            found.append(Result(outcome, keys[ordinal]))
    return found


class Place(NamedTuple):
    """The batch that records acts, its time and the catalog it knew."""

    namespace_key: int
    lane: int
    batch: int
    acted_us: int
    revision: int


def record_attempts(connection: Connection, attempts: Attempts, place: Place) -> list[tuple[int, bytes]]:
    """Store what became of a batch's letters; ``(ordinal, fingerprint)`` of each that was set aside again.

    Raises psycopg.errors.UniqueViolation where somebody acted on one of them at the same moment.
    """
    rows: list[dict[str, Any]] = [
        _row(letter, at, Act.REPLAY, place, attempts.by, attempts.note)
        | {
            "outcome": result.outcome.value,
            "event_key": None if result.event_key is None else result.event_key.hex(),
            "reason": None if result.reason is None else int(result.reason),
            "detail": result.detail,
        }
        for at, (letter, result) in enumerate(zip(attempts.letters, attempts.results, strict=True))
    ]
    again = [row for row in rows if row["outcome"] == Outcome.DEAD_LETTER]
    rows.sort(key=lambda row: row["key"])  # one order for all: no deadlock
    with connection.cursor() as cursor:
        cursor.executemany(SQL.add_act, rows)
        cursor.executemany(SQL.add_sighting_of, again)
    return [(row["ordinal"], bytes.fromhex(attempts.letters[row["ordinal"]].mark)) for row in again]


def record(
    connection: Connection,
    letters: Sequence[Letter],
    act: Act,
    place: Place,
    by: str,
    note: str,
    patch: str | None = None,
) -> None:
    """Store an act on some letters. Raises psycopg.errors.UniqueViolation as ``record_attempts`` does."""
    rows = [_row(letter, at, act, place, by, note) | {"patch": patch} for at, letter in enumerate(letters)]
    with connection.cursor() as cursor:
        cursor.executemany(SQL.add_act, rows)


def attempts_fact(attempts: Attempts) -> list[list[Any]]:
    """The attempts as the chain records them, in record order: fingerprint, number, outcome, identity key, code, detail."""
    return [
        [
            letter.mark,
            letter.acts + 1,
            result.outcome.value,
            None if result.event_key is None else result.event_key.hex(),
            None if result.reason is None else result.reason.code,
            result.detail,
        ]
        for letter, result in zip(attempts.letters, attempts.results, strict=True)
    ]


def _row(letter: Letter, ordinal: int, act: Act, place: Place, by: str, note: str) -> dict[str, Any]:
    none: Mapping[str, None] = dict.fromkeys(("outcome", "event_key", "reason", "detail", "patch"))
    return {
        **none,
        **place._asdict(),
        "key": letter.key,
        "number": letter.acts + 1,
        "ordinal": ordinal,
        "act": act.value,
        "note": note,
        "actor": by,
    }
