"""Dead letters as people look at them: a list, one whole, and how many there are of each reason."""

from __future__ import annotations

from typing import Any

from lineitem.catalog import published
from lineitem.core.errors import InputError
from lineitem.core.reasons import EXPLANATIONS, Reason
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ingest", "letters.sql")


@explained()
def dead_letters(connection: Connection, namespace: str, limit: int) -> list[dict[str, Any]]:
    """The newest ``limit`` dead letters of a namespace, each as ``key``, ``reason`` (its code), ``detail``, ``stream``,
    ``position``, ``seen`` (how many records it stands for), ``first_seen`` and ``raw``.

    One dead letter stands for all sightings of the same bad thing: the same event with the same defect, or the same bytes
    at the same place of a stream.
    """
    key = _namespace_key(connection, namespace)
    rows = connection.execute(SQL.letters, {"namespace_key": key, "limit": limit}).fetchall()
    return [_summary(row) for row in rows]


@explained()
def dead_letter(connection: Connection, namespace: str, key: int) -> dict[str, Any]:
    """One dead letter with what its reason means, what to do, where it was first and last seen, and its raw record.

    ``accepted_as`` is the place of the accepted event that has the same identity, where there is one. Raises InputError
    for a key that is not one of the namespace's.
    """
    namespace_key = _namespace_key(connection, namespace)
    row = connection.execute(SQL.letter, {"namespace_key": namespace_key, "key": key}).fetchone()
    if row is None:
        raise InputError(
            f"there is no dead letter {key} in namespace {namespace!r}", do="`lineitem dlq list` shows their keys."
        )
    explanation = EXPLANATIONS[Reason(row[1])]
    fingerprint, event_key, digest, lane, batch, ordinal = row[9:]
    last = connection.execute(SQL.latest_sighting, {"key": key}).fetchone()
    first = (lane, batch, ordinal)
    return _summary(row) | {
        "meaning": explanation.meaning,
        "remedy": explanation.remedy,
        "raw_bytes": row[7],
        "raw_is_cut": row[7] > len(row[6]),
        "first_place": _place(first),
        "last_place": _place(first if last is None else last),
        "accepted_as": _accepted(connection, namespace_key, event_key),
        "event_key": None if event_key is None else event_key.hex,
        "digest": None if digest is None else digest.hex,
        "fingerprint": fingerprint.hex,
    }


@explained()
def reasons(connection: Connection, namespace: str) -> dict[str, dict[str, int]]:
    """Reason code -> ``dead_letters`` (distinct ones) and ``records`` (how often they were seen), most records first."""
    where = {"namespace_key": _namespace_key(connection, namespace)}
    rows = sorted(connection.execute(SQL.reasons, where).fetchall(), key=lambda row: (-row[2], row[0]))
    return {Reason(reason).code: {"dead_letters": letters, "records": records} for reason, letters, records in rows}


def _summary(row: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "key": row[0],
        "reason": Reason(row[1]).code,
        "detail": row[2],
        "stream": row[3],
        "position": row[4],
        "seen": row[8],
        "first_seen": row[5].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "raw": row[6].decode("utf-8", "backslashreplace"),
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


def _namespace_key(connection: Connection, namespace: str) -> int:
    """The namespace's key. Raises InputError for one nobody has published in."""
    for key, name in published.namespaces(connection).items():
        if name == namespace:
            return key
    raise InputError(f"there is no namespace {namespace!r}", do="Publish a catalog in it, or name another one.")
