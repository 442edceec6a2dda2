"""The tables of sequence numbers: what each batch saw of each producer, and the union of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from lineitem.core.limits import SEQUENCE_MAX
from lineitem.ingest.sequences import BatchSeen
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ingest", "sequences.sql")
STATES = ("missing", "set_aside", "waived", "sequence_reused")
"""What a run of numbers may be that is not simply there."""
_KINDS = ("accepted", "repeated", "set_aside", "doubled")


def record(
    connection: Connection, namespace_key: int, lane: int, batch: int, recorded_us: int, seen: BatchSeen
) -> None:
    """Add what a batch saw, in its transaction; it holds the producers from here until it ends, so do this last.

    Order and repetition of batches make no difference to the union; two batches of one producer wait for each other.
    """
    keys = _keys(connection, namespace_key, [row.source for row in seen.rows])
    connection.execute(SQL.lock_producers, {"keys": list(keys.values())})
    common = {"namespace_key": namespace_key, "lane": lane, "batch": batch, "recorded_us": recorded_us}
    rows = {name: [getattr(row, name) for row in seen.rows] for name in (*_KINDS, "unreadable")}
    connection.execute(SQL.add_steps, common | rows | {"keys": [keys[row.source] for row in seen.rows]})
    blocks: dict[str, list[Any]] = {name: [getattr(one, name) for one in seen.blocks] for name in _KINDS}
    blocks["blocks"] = [one.block for one in seen.blocks]
    blocks["keys"] = [keys[seen.rows[one.producer].source] for one in seen.blocks]
    connection.execute(SQL.add_blocks, common | blocks)


def _keys(connection: Connection, namespace_key: int, sources: list[str]) -> dict[str, int]:
    """Source -> key, those made that are new. ``sources`` are sorted."""
    where = {"namespace_key": namespace_key, "sources": sources}
    found: dict[str, int] = dict(connection.execute(SQL.producers, where).fetchall())
    missing = [source for source in sources if source not in found]
    if missing:
        connection.execute(SQL.add_producers, {"namespace_key": namespace_key, "sources": missing})
        found = dict(connection.execute(SQL.producers, where).fetchall())
    return found


class Producer(NamedTuple):
    """One producer as far as it was seen. ``low``, ``high``: lowest and highest number; None where no number could be read."""

    key: int
    batches: int
    low: int | None
    high: int | None
    unreadable: int
    numbers: int


def producer(connection: Connection, namespace_key: int, source: str) -> Producer | None:
    """A producer, or None where it never sent a sequence."""
    row = connection.execute(SQL.producer, {"namespace_key": namespace_key, "source": source}).fetchone()
    return None if row is None else Producer(*row)


def sources(connection: Connection, namespace_key: int, limit: int) -> list[str]:
    """The first ``limit`` producers of a namespace."""
    where = {"namespace_key": namespace_key, "limit": limit}
    return [str(row[0]) for row in connection.execute(SQL.sources, where).fetchall()]


def namespaces(connection: Connection) -> list[int]:
    """Keys of the namespaces that have producers."""
    return [int(row[0]) for row in connection.execute(SQL.namespaces).fetchall()]


def tally(connection: Connection, namespace_key: int) -> tuple[int, int]:
    """How many producers there are, and how many of their records have a sequence that is no number."""
    row = connection.execute(SQL.tally, {"namespace_key": namespace_key}).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


class Run(NamedTuple):
    """Consecutive numbers of one producer in one state, both ends inclusive. ``noticed_us``: when the batch was recorded
    with which both ends had been reached or passed."""

    source: str
    state: str
    first: int
    last: int
    noticed_us: int


def totals(
    connection: Connection, namespace_key: int, waived: Mapping[str, str], source: str | None = None
) -> dict[str, tuple[int, int]]:
    """State -> how many runs and numbers; see ``runs``."""
    values = {
        "namespace_key": namespace_key,
        "waived_sources": list(waived),
        "waived": list(waived.values()),
        "source": source,
    }
    return {state: (count, int(total)) for state, count, total in connection.execute(SQL.totals, values).fetchall()}


def runs(
    connection: Connection,
    namespace_key: int,
    waived: Mapping[str, str],
    *,
    states: Collection[str] = STATES,
    source: str | None = None,
    until_us: int = 2**63 - 1,
    first: int = 0,
    last: int = SEQUENCE_MAX,
    limit: int,
) -> list[Run]:
    """Runs of numbers in ``states``, noticed by ``until_us``, that touch ``first`` to ``last``; longest known first.

    ``waived``: source -> the numbers somebody waived, as PostgreSQL writes an ``int8multirange``.
    """
    values = {
        "namespace_key": namespace_key,
        "waived_sources": list(waived),
        "waived": list(waived.values()),
        "states": list(states),
        "source": source,
        "until_us": until_us,
        "first": first,
        "last": last,
        "limit": limit,
    }
    return [Run(*row) for row in connection.execute(SQL.runs, values).fetchall()]
