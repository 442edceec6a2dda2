"""Windows that have ended become line items: what waited is rated and posted as a batch of lane 0."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import accumulators, charges, tiers
from lineitem.ledger.accumulators import Targets, integers
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.post import Counts, ensure_months, lock_lane, write_batch
from lineitem.ledger.rating import Rater, post_to_open_months
from lineitem.ledger.rows import Digests, Kind, LineItems
from lineitem.ledger.tiers import Held, Move
from lineitem.rate.itemize import post

SQL = load_queries("lineitem.ledger", "ledger.sql")


def flush(connection: Connection, snapshot: Snapshot, now_us: int, rater: Rater) -> int:
    """Itemize every window of the namespace that has ended by ``now_us``; returns how many line items that made."""
    where = {"namespace_key": snapshot.namespace_key, "now_us": now_us}
    row = connection.execute(SQL.has_ended_windows, where).fetchone()
    if row is None or not row[0]:
        return 0
    months = [row[0] for row in connection.execute(SQL.months_that_wait, where).fetchall()]
    ensure_months(connection, months)
    with explained():
        return retried(lambda: _flush(connection, snapshot, now_us, rater))


def _flush(connection: Connection, snapshot: Snapshot, now_us: int, rater: Rater) -> int:
    where = {"namespace_key": snapshot.namespace_key, "now_us": now_us}
    with connection.transaction():
        head = lock_lane(connection, 0)
        # Read again behind the lane: somebody may have published while this waited, and windows of the new version ended.
        current = published.load_snapshot(connection, snapshot.namespace)
        snapshot = snapshot if current is None else current
        windows = sorted(connection.execute(SQL.take_ended_windows, where).fetchall(), key=lambda row: (row[1], *row))
        if not windows:
            return 0
        rows = {row.price_key: row for row in snapshot.rows}
        ended = [
            _Ended.of(connection, rows[key], list(group)) for key, group in groupby(windows, key=lambda row: row[1])
        ]
        held = _held(connection, snapshot, ended)
        parts = [_post_price(connection, snapshot.namespace_key, one, rater, held) for one in ended]
        items = joined([items for items, _ in parts])
        items.posting_month = post_to_open_months(connection, snapshot.namespace_key, items.service_month)
        items.kind[items.posting_month != items.service_month] = Kind.CORRECTION
        events = sum(row[7] for row in windows)
        accounts, prices, tags, _ = published.digests(connection)
        write_batch(
            connection,
            head,
            snapshot.namespace,
            snapshot.namespace_key,
            BatchKind.FLUSH,
            items=items,
            currencies=[currency for items, currency in parts for _ in range(len(items))],
            digests=Digests(accounts, prices, tags),
            counts=Counts(itemized=events, pending=-events),
            catalog_revision=snapshot.revision,
            recorded_us=now_us,
        )
    return len(items)


@dataclass(frozen=True, slots=True)
class _Ended:
    """Windows of one price, which come sorted by account, period, window; ``target`` (n,): where each belongs."""

    row: PriceRow
    windows: list[tuple[Any, ...]]
    target: NDArray[np.int64]
    targets: Targets

    @classmethod
    def of(cls, connection: Connection, row: PriceRow, windows: list[tuple[Any, ...]]) -> _Ended:
        starts = [(window[0], window[2]) for window in windows]
        distinct = sorted(set(starts))
        number = {start: i for i, start in enumerate(distinct)}
        target = np.array([number[start] for start in starts], dtype=np.int64)
        return cls(row, windows, target, _targets(connection, row.price_key, distinct))


def _held(connection: Connection, snapshot: Snapshot, ended: list[_Ended]) -> Held | None:
    """The parts of all periods concerned, locked; None where no price shares tiers in its periods."""
    chains = snapshot.tier_chains
    if chains is None or not any(
        tiers.concern(chains, one.row, one.targets.start_us, one.targets.end_us) for one in ended
    ):
        return None
    moves = [Move.none(one.row, one.targets) for one in ended]
    return tiers.hold(connection, snapshot.namespace_key, chains, moves)


def _post_price(
    connection: Connection, namespace_key: int, ended: _Ended, rater: Rater, held: Held | None
) -> tuple[LineItems, str]:
    """Line items of one price's windows."""
    row, windows, target, targets = ended.row, ended.windows, ended.target, ended.targets
    state = accumulators.lock(connection, namespace_key, targets)
    if held is not None:
        state.base = held.base(row, targets)
    delta = integers(window[6] for window in windows)
    price, charge = rater.compile(row), None
    if price.charge is not None:
        state, charge = charges.load(connection, targets, state), integers(window[8] for window in windows)
    amounts, after = post(price, target, delta, charge, state)
    accumulators.save(connection, targets, after, row.meter.aggregation == "latest")
    if charge is not None:
        charges.save(connection, targets, after)
    count = len(windows)
    items = LineItems.without_events(
        account_key=np.array([window[0] for window in windows], dtype=np.int32),
        price_version_key=np.array([window[5] for window in windows], dtype=np.int32),
        tag_set_key=np.array([window[4] for window in windows], dtype=np.int32),
        kind=np.full(count, int(Kind.USAGE), dtype=np.int16),
        quantity=delta,
        amount_nano=amounts,
        event_time_us=np.array([window[3] for window in windows], dtype=np.int64),
        service_month=targets.service_month[target],
        posting_month=targets.service_month[target],
    )
    return items, row.price.currency


def _targets(connection: Connection, price_key: int, distinct: list[tuple[int, int]]) -> Targets:
    values = {
        "accounts": [account for account, _ in distinct],
        "prices": [price_key] * len(distinct),
        "starts": [start for _, start in distinct],
    }
    found = {(row[0], row[2]): row[3:] for row in connection.execute(SQL.service_months, values).fetchall()}
    places = [(account, found[(account, start)][0], start, found[(account, start)][1]) for account, start in distinct]
    return Targets.of(price_key, places)


def joined(parts: list[LineItems]) -> LineItems:
    """Line items of several prices one after the other."""
    names = [name for name in LineItems.__slots__ if name != "event_id"]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return LineItems(**columns, event_id=pa.concat_arrays([part.event_id for part in parts]))
