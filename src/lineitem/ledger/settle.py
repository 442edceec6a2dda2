"""Settle a month: post what its targets owe beyond usage, as a batch of lane 0, before it is billed or closed.

A target is settled once its service period has ended. From then on its T is at least the price's minimum, whatever comes or is
retracted: late usage posts nothing until it passes the minimum. Settling again posts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, groupby

import numpy as np

from lineitem.catalog import published
from lineitem.catalog.model import Account
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.core.period import Month
from lineitem.kit.arrays import int8s, numerics
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import accumulators, carried, charges, commitments, periods, rollover, tiers
from lineitem.ledger.accumulators import Targets
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.flush import joined
from lineitem.ledger.post import Fact, canonical, ensure_months, lock_lane, write_batch
from lineitem.ledger.rating import Rater, post_to_open_months
from lineitem.ledger.rows import Digests, Kind, LineItems
from lineitem.ledger.tiers import Move
from lineitem.rate.dues import dues, in_advance, whole
from lineitem.rate.exact import IntArray, compact, subtract
from lineitem.rate.targets import SETTLED, Base, total_nano, totals

SQL = load_queries("lineitem.ledger", "settle.sql")
FACT = "settle"
"""Kind of the fact that names the targets a batch settled."""
TARGETS_PER_BATCH = 5000
"""Targets of one transaction."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A target to settle; instants in microseconds since the epoch."""

    price_key: int
    account_key: int
    start_us: int
    end_us: int
    month: int
    settled: int
    posted_month: int  # the posting month, where it is open
    since_us: int = 0
    filled_nano: int | None = None  # of a commitment


def settle(
    connection: Connection, namespace: str, month: Month, now_us: int, rater: Rater, account: str | None = None
) -> int:
    """Settle every target of ``month`` (and of closed months before it, whose late usage posts here) that has ended.

    ``account`` narrows to one. The caller has flushed ended windows. Returns how many targets that settled.
    """
    done = 0
    with explained():
        closed = periods.closed_months(connection, published.namespace_key(connection, namespace))
        months = [*(one for one in closed if one < month.index), month.index]
        following = next(later for later in count(month.index) if later not in set(closed))
        ensure_months(connection, sorted({*months, following}))
        while made := retried(lambda: _settle(connection, namespace, months, now_us, rater, account)):
            done += made
    return done


def _settle(
    connection: Connection, namespace: str, months: Sequence[int], now_us: int, rater: Rater, account: str | None
) -> int:
    with connection.transaction():
        head = lock_lane(connection, 0)  # nobody publishes from here on, so the catalog stays what is read now
        snapshot = published.load_snapshot(connection, namespace)
        if snapshot is None:
            return 0
        carries = rollover.unsettled(connection, snapshot, months, now_us, account)
        wanted = [] if carries else _wanted(connection, snapshot, months, now_us, rater, account)
        if not carries and not wanted:
            return 0
        keys = {one.account_key for one in wanted} | {one.key.account_key for one in carries}
        accounts = published.accounts_by_key(connection, sorted(keys))
        tags = published.account_tag_sets(connection, accounts)
        parts: list[tuple[LineItems, str]] = []
        facts = []
        for correction in rollover.post(connection, snapshot, rater, carries, tags) if carries else ():
            parts.append((correction.line_items(), correction.row.price.currency))
        for price_key, group in groupby(wanted, key=lambda one: one.price_key):
            some = list(group)
            rows = [row for row in snapshot.rows if row.price_key == price_key]
            parts.append((_post_price(connection, snapshot, rows, some, rater, tags), rows[0].price.currency))
            of = rows[0]
            facts += [
                [
                    accounts[one.account_key].id,
                    of.pricebook,
                    of.price.id,
                    of.content,
                    one.month,
                    one.settled,
                    one.since_us,
                ]
                for one in some
            ]
        items = joined([items for items, _ in parts]) if parts else None
        if items is not None and len(items):
            items.posting_month = post_to_open_months(connection, snapshot.namespace_key, items.posting_month)
        digests = published.digests(connection)
        write_batch(
            connection, head, namespace, snapshot.namespace_key, BatchKind.SETTLE,
            items=items, currencies=[currency for items, currency in parts for _ in range(len(items))],
            digests=Digests(*digests[:3]),
            facts=[
                Fact(carried.FACT, canonical({"namespace": namespace, "carried": _told(carries, accounts)}))
                if carries
                else Fact(FACT, canonical({"namespace": namespace, "targets": facts}))
            ],
            catalog_revision=snapshot.revision, recorded_us=now_us,
        )  # fmt: skip
    return len(wanted) + len(carries)


def _told(carries: Sequence[rollover.Carry], accounts: Mapping[int, Account]) -> list[list[str | int]]:
    return [
        [accounts[one.key.account_key].id, one.key.pricebook, one.key.pool, one.key.month, str(one.units)]
        for one in carries
    ]


def _wanted(
    connection: Connection,
    snapshot: Snapshot,
    months: Sequence[int],
    now_us: int,
    rater: Rater,
    account: str | None,
) -> list[_Target]:
    """Up to ``TARGETS_PER_BATCH`` targets that are not settled as they should be, in the order they are locked."""
    found = _owed(connection, snapshot, months, now_us, rater, account)
    prices = sorted({row.price_key for row in snapshot.rows if rater.compile(row).minimum_nano and not row.is_level})
    if prices:
        where = {
            "namespace_key": snapshot.namespace_key, "months": list(months), "prices": prices, "account": account,
            "now_us": now_us, "most": TARGETS_PER_BATCH,
        }  # fmt: skip
        for account_key, price_key, month, start_us, end_us in connection.execute(SQL.unsettled, where).fetchall():
            target = _Target(price_key, account_key, start_us, end_us, month, SETTLED, month)
            found.setdefault((account_key, price_key, month), target)
    if not found:  # commitments count what all others have come to
        for one in commitments.unsettled(connection, snapshot, months, now_us, rater.compile, account):
            place = (one.row.price_key, one.account_key, one.start_us, one.end_us, one.month)
            found[one.key] = _Target(*place, one.parts, one.month, one.since_us, one.filled_nano)
    ordered = sorted(found.values(), key=lambda one: (one.price_key, one.account_key, one.start_us))
    return ordered[:TARGETS_PER_BATCH]


def _owed(
    connection: Connection,
    snapshot: Snapshot,
    months: Sequence[int],
    now_us: int,
    rater: Rater,
    account: str | None,
) -> dict[tuple[int, int, int], _Target]:
    """Targets of active accounts that owe another share than is posted; also none any more, where a catalog says so now."""
    advance = {row.price_key for row in snapshot.rows if in_advance(row.price)}
    elsewhere = {row.price_key for row in snapshot.rows if row.price.is_commitment or row.is_level}
    where = {
        "namespace_key": snapshot.namespace_key, "months": sorted({*months, *(month + 1 for month in months)}),
        "account": account,
    }  # fmt: skip
    stored = {
        (account_key, price_key, month): (settled, start_us, end_us)
        for account_key, price_key, month, settled, start_us, end_us in connection.execute(
            SQL.settled, where
        ).fetchall()
        if (month in months or price_key in advance) and price_key not in elsewhere
    }
    owed = [
        due
        for due in dues(snapshot, months, now_us, rater.compile)
        if account in (None, due.account) and not due.row.price.is_commitment
    ]
    rows = published.accounts(connection, snapshot.namespace_key, sorted({due.account for due in owed}))
    found: dict[tuple[int, int, int], _Target] = {}
    for due in owed:
        key = (rows[due.account].account_key, due.row.price_key, due.month)
        posted_month = due.month if due.month in months else due.month - 1
        if stored.pop(key, (None, 0, 0))[0] != due.parts:
            place = (due.row.price_key, key[0], due.start_us, due.end_us, due.month)
            found[key] = _Target(*place, due.parts, posted_month, due.since_us)
    for (account_key, price_key, month), (_, start_us, end_us) in stored.items():
        target = _Target(
            price_key, account_key, start_us, end_us, month, SETTLED, month if month in months else month - 1
        )
        found[(account_key, price_key, month)] = target
    return found


def _post_price(
    connection: Connection,
    snapshot: Snapshot,
    rows: Sequence[PriceRow],
    wanted: Sequence[_Target],
    rater: Rater,
    tags: dict[int, int],
) -> LineItems:
    """Settle targets of one price; ``rows`` are its versions, ``tags`` the tag set of each account."""
    places = [(one.account_key, one.month, one.start_us, one.end_us) for one in wanted]
    targets = Targets.of(rows[0].price_key, places)
    price = rater.compile(rows[0])
    before = accumulators.lock(connection, snapshot.namespace_key, targets)
    quantity = posted = before.posted_quantity
    if price.price.is_commitment:
        quantity = posted = compact(np.array([one.filled_nano or 0 for one in wanted], dtype=object))
    if price.charge is not None:
        posted = charges.load(connection, targets, before).posted_charge
    settled = np.array([one.settled for one in wanted], dtype=np.int64)
    of = np.array([whole(price.price, one.month, one.start_us, one.end_us) for one in wanted], dtype=np.int64)
    base = _pooled(connection, snapshot, rows[0], targets)
    total = totals(price, posted, before.events, settled, of, base)
    # What is due at quantity zero is `recurring`, the rest of what is missing makes up for the minimum.
    fixed = compact(np.minimum(total_nano(price, posted, base).astype(object), total.astype(object)))
    rises = np.asarray(fixed > before.posted_nano, dtype=np.bool_)
    recurring = np.asarray(before.events == 0) & (rises | (not price.price.meter)) & (not price.price.is_commitment)
    first = compact(np.where(recurring, subtract(fixed, before.posted_nano), 0))
    rest = subtract(subtract(total, before.posted_nano), first)
    values = accumulators.target_keys(targets) | {
        "settled": int8s(settled),
        "posted": numerics(total),
        "quantities": numerics(quantity),
        "since": int8s(np.array([one.since_us for one in wanted], dtype=np.int64)),
    }
    connection.execute(SQL.settle, values)
    moved = subtract(quantity, before.posted_quantity)
    none = np.zeros(len(wanted), dtype=np.int64)
    due = _items(snapshot, rows, wanted, first, none, Kind.RECURRING, tags)
    return joined([due, _items(snapshot, rows, wanted, rest, moved, Kind.TRUE_UP, tags)])


def _pooled(connection: Connection, snapshot: Snapshot, row: PriceRow, targets: Targets) -> Base | None:
    """What others have left of the included units that a price shares."""
    chains = snapshot.tier_chains
    if chains is None or chains.pool_of(row.price_key) is None:
        return None
    return tiers.hold(connection, snapshot.namespace_key, chains, [Move.none(row, targets)]).base(row, targets)


def _items(
    snapshot: Snapshot,
    rows: Sequence[PriceRow],
    wanted: Sequence[_Target],
    amount_nano: IntArray,
    quantity: IntArray,
    kind: Kind,
    tags: dict[int, int],
) -> LineItems:
    """Line items of those targets whose amount or quantity is not zero, (k,) each."""
    at = np.flatnonzero(np.asarray((amount_nano != 0) | (quantity != 0), dtype=np.bool_))
    some = [wanted[i] for i in at.tolist()]
    count = len(some)
    month = np.array([one.month for one in some], dtype=np.int32)
    return LineItems.without_events(
        account_key=np.array([one.account_key for one in some], dtype=np.int32),
        price_version_key=np.array([_version_key(snapshot, rows, one.end_us) for one in some], dtype=np.int32),
        tag_set_key=np.array([tags[one.account_key] for one in some], dtype=np.int32),
        kind=np.full(count, int(kind), dtype=np.int16),
        quantity=compact(quantity[at]),
        amount_nano=compact(amount_nano[at]),
        event_time_us=np.array([one.start_us for one in some], dtype=np.int64),
        service_month=month,
        posting_month=np.array([one.posted_month for one in some], dtype=np.int32),
    )


def _version_key(snapshot: Snapshot, rows: Sequence[PriceRow], end_us: int) -> int:
    """The last version with this content that began before the period ended."""
    starts = {version: start for start, _, version in snapshot.versions(rows[0].pricebook)}
    begun = [row for row in rows if starts.get(row.version, end_us) < end_us] or list(rows)
    return max(begun, key=lambda row: row.version).price_version_key
