"""Dead letters as people look at them: a list, groups by reason code, one whole with all that was done about it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.core.errors import InputError
from lineitem.core.period import us_to_text
from lineitem.core.reasons import EXPLANATIONS, Reason
from lineitem.ingest import held
from lineitem.ingest.formats.held import PLACE_BYTES
from lineitem.kit.arrays import uuids
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ingest", "letters.sql")
_TRACEPARENT = re.compile(rb"\b[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\b")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters of a namespace: of a state, with a code now, first seen at or after an instant; None means any."""

    state: str | None = None
    reason: Reason | None = None
    since: datetime | None = None

    def values(self, connection: Connection, namespace: str) -> dict[str, Any]:
        """As the queries take it."""
        return {
            "namespace_key": namespace_key(connection, namespace),
            "state": self.state,
            "reason": None if self.reason is None else int(self.reason),
            "since": self.since,
        }


class Group(NamedTuple):
    """Dead letters of one code. ``records`` they stand for; ``example`` is the oldest one's key, ``detail`` its sentence."""

    reason: Reason
    letters: int
    records: int
    first_seen: datetime
    example: int
    detail: str
    attempts: int


@explained()
def dead_letters(
    connection: Connection, namespace: str, limit: int, wanted: Filter | None = None
) -> list[dict[str, Any]]:
    """The newest ``limit`` dead letters of a namespace, each as ``key``, ``reason`` (its code now), ``detail``, ``stream``,
    ``position``, ``seen`` (how many records it stands for), ``first_seen``, ``raw``, ``trace_id``, ``state`` (``open``,
    ``replayed`` or ``discarded``), ``first_reason``, ``attempts``, ``last_attempt``, ``fixes`` (how many are recorded).

    One dead letter stands for all sightings of the same bad thing: the same event with the same defect, or the same bytes
    at the same place of a stream.
    """
    where = (wanted or Filter()).values(connection, namespace) | {"limit": limit}
    return [_summary(row) for row in connection.execute(SQL.letters, where).fetchall()]


@explained()
def dead_letter(connection: Connection, namespace: str, key: int) -> dict[str, Any]:
    """One dead letter with what its reason means, what to do, where it was first and last seen, and its raw record.

    ``accepted_as`` is the place of the accepted event that has the same identity, where there is one. ``history`` is
    everything that was done with it, in order; ``resolution`` the act that settled it, None while it is open. Raises
    InputError for a key that is not one of the namespace's.
    """
    own_key = namespace_key(connection, namespace)
    row = connection.execute(SQL.letter, {"namespace_key": own_key, "key": key}).fetchone()
    if row is None:
        raise no_letter(namespace, key)
    explanation = EXPLANATIONS[Reason(row[1])]
    fingerprint, event_key, digest, lane, batch, ordinal = row[14:]
    last = connection.execute(SQL.latest_sighting, {"key": key}).fetchone()
    first = (lane, batch, ordinal)
    history = _history(connection, own_key, key)
    settled = [act for act in history if act["act"] != "fix"]
    return _summary(row) | {
        "meaning": explanation.meaning,
        "remedy": explanation.remedy,
        "raw_bytes": row[7],
        "raw_is_cut": row[7] > len(row[6]),
        "first_place": _place(first),
        "last_place": _place(first if last is None else last),
        "accepted_as": _accepted(connection, own_key, event_key),
        "event_key": None if event_key is None else event_key.hex,
        "digest": None if digest is None else digest.hex,
        "fingerprint": fingerprint.hex,
        "history": history,
        "resolution": settled[-1] if settled and row[9] != "open" else None,
    }


@explained()
def reasons(connection: Connection, namespace: str, wanted: Filter | None = None) -> dict[str, dict[str, int]]:
    """Reason code -> ``dead_letters`` (distinct ones) and ``records`` (how often they were seen), most records first."""
    found = groups(connection, namespace, wanted or Filter())
    return {one.reason.code: {"dead_letters": one.letters, "records": one.records} for one in found}


def groups(connection: Connection, namespace: str, wanted: Filter) -> list[Group]:
    """Dead letters by code, those that stand for most records first."""
    rows = connection.execute(SQL.groups, wanted.values(connection, namespace)).fetchall()
    return sorted((Group(Reason(row[0]), *row[1:]) for row in rows), key=lambda one: (-one.records, one.reason))


def last_batches(connection: Connection, namespace: str, wanted: Filter) -> list[tuple[Reason, int, int]]:
    """Code, lane and newest batch in which letters of that code came in."""
    rows = connection.execute(SQL.last_batches, wanted.values(connection, namespace)).fetchall()
    return [(Reason(reason), lane, batch) for reason, lane, batch in rows]


def states(connection: Connection, namespace: str) -> dict[str, int]:
    """How many dead letters are open, replayed, discarded."""
    where = {"namespace_key": namespace_key(connection, namespace)}
    return dict.fromkeys(("open", "replayed", "discarded"), 0) | dict(connection.execute(SQL.states, where).fetchall())


def depth(connection: Connection) -> list[tuple[Reason, int, datetime]]:
    """Open dead letters of all namespaces by code, most first: code, how many, when the oldest was first seen."""
    return [(Reason(reason), number, since) for reason, number, since in connection.execute(SQL.depth).fetchall()]


def any_settled(connection: Connection, namespace_key: int) -> bool:
    """Whether a dead letter of a namespace was replayed or discarded."""
    row = connection.execute(SQL.any_settled, {"namespace_key": namespace_key}).fetchone()
    return row is not None and bool(row[0])


def settled(connection: Connection, namespace_key: int, keys: NDArray[np.void]) -> set[tuple[bytes, bytes]]:
    """Identity key and digest of the settled dead letters whose events have ``keys`` (n,) V16."""
    where = {"namespace_key": namespace_key, "keys": uuids(keys)}
    return {(key.bytes, digest.bytes) for key, digest in connection.execute(SQL.settled, where).fetchall()}


def no_letter(namespace: str, key: int) -> InputError:
    """What to say of a key that is not one of the namespace's."""
    return InputError(
        f"there is no dead letter {key} in namespace {namespace!r}", do="`lineitem dlq list` shows their keys."
    )


def namespace_key(connection: Connection, namespace: str) -> int:
    """The namespace's key. Raises InputError for one nobody has published in."""
    for key, name in published.namespaces(connection).items():
        if name == namespace:
            return key
    raise InputError(f"there is no namespace {namespace!r}", do="Publish a catalog in it, or name another one.")


def moment(time: datetime) -> str:
    """An instant to the second, as documents show it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _summary(row: tuple[Any, ...]) -> dict[str, Any]:
    raw, position = row[6], row[4]
    if row[3] == held.STREAM:  # it had waited for a switch: its record stands behind the place it came in at
        raw, position = raw[PLACE_BYTES:], int.from_bytes(raw[:PLACE_BYTES], "big")
    return {
        "key": row[0],
        "reason": Reason(row[1]).code,
        "detail": row[2],
        "stream": row[3],
        "position": position,
        "seen": row[8],
        "first_seen": moment(row[5]),
        "raw": raw.decode("utf-8", "backslashreplace"),
        "trace_id": _trace_id(raw),
        "state": row[9],
        "first_reason": Reason(row[10]).code,
        "attempts": row[11],
        "last_attempt": None if row[13] is None else us_to_text(row[13]),
        "fixes": row[12],
    }


def _trace_id(raw: bytes) -> str | None:
    """The trace in a record that need not be readable: of the first W3C trace parent that stands in it."""
    found = _TRACEPARENT.search(raw)
    return None if found is None else found[1].decode()


def _history(connection: Connection, namespace_key: int, key: int) -> list[dict[str, Any]]:
    return [_act(connection, namespace_key, row) for row in connection.execute(SQL.acts, {"key": key}).fetchall()]


def _act(connection: Connection, namespace_key: int, row: tuple[Any, ...]) -> dict[str, Any]:
    _, act, outcome, event_key, reason, detail, patch, note, actor, acted_us, revision, lane, batch, ordinal = row
    document: dict[str, Any] = {"act": act, "by": actor, "reason": note, "at": us_to_text(acted_us)}
    if act == "fix":
        return document | {"patch": json.loads(patch), "place": f"batch {lane}-{batch}"}
    if act == "discard":
        return document | {"place": f"batch {lane}-{batch}"}
    return document | {
        "outcome": outcome,
        "code": None if reason is None else Reason(reason).code,
        "detail": detail,
        "catalog_revision": revision,
        "place": _place((lane, batch, ordinal)),
        "event_key": None if event_key is None else event_key.hex,
        "accepted_as": None if outcome == "dead_letter" else _accepted(connection, namespace_key, event_key),
    }


def _accepted(connection: Connection, namespace_key: int, event_key: Any) -> str | None:
    if event_key is None:
        return None
    where = {"event_key": event_key, "namespace_key": namespace_key}
    row = connection.execute(SQL.first_acceptance, where).fetchone()
    return None if row is None else _place(row)


def _place(place: tuple[int, int, int]) -> str:
    """Batch and record, as `explain` names them."""
    return f"batch {place[0]}-{place[1]}, record {place[2]}"
