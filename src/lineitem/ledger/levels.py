"""Readings of levels in the ledger: stored by the batch that accepts them, rated when a month is settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from lineitem.kit.arrays import int4s, int8s, numerics, uuids
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import accumulators
from lineitem.ledger.accumulators import Targets
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.exact import IntArray
from lineitem.rate.itemize import latest_time
from lineitem.rate.levels import Reading

SQL = load_queries("lineitem.ledger", "levels.sql")
KEY_MAX = (1 << 31) - 1
"""The highest key of an account."""


class Pair(NamedTuple):
    """An account and the meter of one of its levels."""

    account_key: int
    meter: str


@dataclass(frozen=True, slots=True)
class PairState:
    """A pair's first reading, its last one, and the first that months settled after it do not count (None: all do)."""

    first_us: int
    last_us: int
    last_value: int
    unseen_us: int | None


class StoredReading(NamedTuple):
    """A reading, whether its own month is not settled yet, and whether months settled after it count it."""

    reading: Reading
    waiting: bool
    seen: bool


class Dropped(NamedTuple):
    """Readings of retracted events: how many events waited with one, and how many readings settled months had counted."""

    waited: int
    seen: int


class Counted(NamedTuple):
    """A reading that settled months count now; ``settled``: its own month among them."""

    pair: Pair
    reading: Reading
    settled: bool
    first: bool
    """Whether nobody had seen it before."""


def count_events(
    connection: Connection, namespace_key: int, usage: PriceUsage, target: NDArray[np.int64], targets: Targets, by: int
) -> None:
    """Count events in (1) or out (-1) of their targets, whose quantity and amount stay what was settled.

    ``usage`` is grouped by ``target`` (n,).
    """
    before = accumulators.lock(connection, namespace_key, targets)
    events = before.events + by * np.bincount(target, minlength=len(targets))
    last_us = latest_time(target, usage.time_us, before.last_event_us)
    accumulators.save(connection, targets, replace(before, events=events, last_event_us=last_us), keep_latest=False)


def store(connection: Connection, namespace_key: int, usage: Sequence[PriceUsage], events: int) -> NDArray[np.bool_]:
    """Keep the readings of a batch; ``usage`` is that of its prices of levels.

    Returns (events,) bool: the events that wait until their month is settled.
    """
    waiting = np.zeros(events, dtype=np.bool_)
    by_meter: dict[str, list[PriceUsage]] = {}
    for one in usage:
        by_meter.setdefault(one.row.meter.id, []).append(one)
    for meter, some in by_meter.items():
        event = np.concatenate([one.event for one in some])
        _, first = np.unique(event, return_index=True)  # several prices may bill one reading

        def column(name: str, some: list[PriceUsage] = some, first: NDArray[np.int64] = first) -> IntArray:
            return np.concatenate([getattr(one, name) for one in some])[first]

        values = {
            "namespace_key": namespace_key,
            "meter": meter,
            "accounts": int4s(column("account_key")),
            "times": int8s(column("time_us")),
            "keys": uuids(column("key")),
            "values": numerics(column("value")),
        }
        connection.execute(SQL.add_readings, values)
        waiting[event] = True
    return waiting


def drop(connection: Connection, namespace_key: int, usage: Sequence[PriceUsage]) -> Dropped:
    """Forget the readings of events, ``usage`` under their prices of levels, at least one."""
    values = {
        "namespace_key": namespace_key,
        "accounts": int4s(np.concatenate([one.account_key for one in usage])),
        "meters": [one.row.meter.id for one in usage for _ in range(len(one.event))],
        "times": int8s(np.concatenate([one.time_us for one in usage])),
        "keys": uuids(np.concatenate([one.key for one in usage])),
    }
    row = connection.execute(SQL.drop_readings, values).fetchone()
    return Dropped(0, 0) if row is None else Dropped(*row)


def pairs(connection: Connection, namespace_key: int, account_key: int | None) -> list[Pair]:
    """Every account and meter with a reading, or those of one account, in key order."""
    rows = connection.execute(SQL.pairs, {"namespace_key": namespace_key, **_between(account_key)}).fetchall()
    return [Pair(*row) for row in rows]


def months_settled(
    connection: Connection, namespace_key: int, meters: Sequence[str], account_key: int | None
) -> list[int]:
    """Service months settled under prices of ``meters``."""
    where = {"namespace_key": namespace_key, "meters": list(meters), **_between(account_key)}
    return [row[0] for row in connection.execute(SQL.months_settled, where).fetchall()]


def _between(account_key: int | None) -> dict[str, int]:
    return {"low": 0, "high": KEY_MAX} if account_key is None else {"low": account_key, "high": account_key}


def states(connection: Connection, namespace_key: int, some: Sequence[Pair]) -> dict[Pair, PairState]:
    """What is known of pairs at a glance; those without a reading are left out."""
    rows = connection.execute(SQL.pair_states, _named(namespace_key, some)).fetchall()
    return {some[row[0]]: PairState(row[1], row[2], int(row[3]), row[4]) for row in rows}


def readings(
    connection: Connection, namespace_key: int, spans: Sequence[tuple[Pair, int, int]]
) -> dict[Pair, list[StoredReading]]:
    """The readings of pairs in a span of time each, and the last one before it, in order."""
    values = _named(namespace_key, [pair for pair, _, _ in spans]) | {
        "sinces": [since for _, since, _ in spans],
        "untils": [until for _, _, until in spans],
    }
    found: dict[Pair, list[StoredReading]] = {pair: [] for pair, _, _ in spans}
    for at, time_us, key, value, waiting, seen in connection.execute(SQL.readings, values).fetchall():
        found[spans[at][0]].append(StoredReading(Reading(time_us, key.bytes, int(value)), waiting, seen))
    return found


def count(connection: Connection, namespace_key: int, counted: Sequence[Counted]) -> int:
    """Remember which readings settled months count now. Returns how many events no longer wait."""
    if not counted:
        return 0
    values = _columns(namespace_key, counted) | {
        "times": [one.reading.time_us for one in counted],
        "settled": [one.settled for one in counted],
    }
    connection.execute(SQL.count_readings, values)
    settled = [one for one in counted if one.settled]
    row = connection.execute(SQL.no_longer_waiting, _columns(namespace_key, settled)).fetchone()
    return 0 if row is None else int(row[0])


def _columns(namespace_key: int, counted: Sequence[Counted]) -> dict[str, Any]:
    keys = {"keys": [UUID(bytes=one.reading.key) for one in counted]}
    return _named(namespace_key, [one.pair for one in counted]) | keys


def _named(namespace_key: int, some: Sequence[Pair]) -> dict[str, Any]:
    return {
        "namespace_key": namespace_key,
        "accounts": [pair.account_key for pair in some],
        "meters": [pair.meter for pair in some],
    }
