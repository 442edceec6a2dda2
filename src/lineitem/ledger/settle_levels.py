"""Settle levels: what readings come to in each month, posted as T - posted, month after month, without an event too.

A target counts all readings there are, so what comes late changes months that are settled already: whoever settles next
works out every settled month after a reading that was not seen before. A month for which nothing has changed is not
looked at. An event waits until the month it lies in is settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, groupby

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.catalog.model import Account
from lineitem.catalog.snapshot import Snapshot
from lineitem.core.errors import Refused
from lineitem.core.period import Month
from lineitem.kit.arrays import int8s, numerics
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import accumulators, levels, periods
from lineitem.ledger.accumulators import Targets
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.flush import joined
from lineitem.ledger.level_months import Asked, Plan, Settled, Stored, Target, holders, plan_of, targets_of
from lineitem.ledger.levels import Counted, Pair
from lineitem.ledger.post import Counts, Fact, canonical, ensure_months, lock_lane, write_batch
from lineitem.ledger.rating import Rater, group_targets, post_to_open_months
from lineitem.ledger.rows import Digests, Kind, LineItems
from lineitem.ledger.settle import FACT
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.exact import IntArray, compact, exceeds_ledger, objects, subtract
from lineitem.rate.targets import NOT_SETTLED

SQL = load_queries("lineitem.ledger", "levels.sql")
PAIRS_PER_BATCH = 1000
"""Accounts and meters of one transaction."""


@dataclass(slots=True)
class Outcome:
    """Targets worked out, and readings that their months count now."""

    targets: list[Target]
    counted: list[Counted]

    @property
    def seen(self) -> int:
        """How many readings nobody had seen before."""
        return sum(one.first for one in self.counted)


def settle_levels(
    connection: Connection, namespace: str, month: Month, now_us: int, rater: Rater, account: str | None = None
) -> int:
    """Settle the levels of ``month``, of closed months before it, and of what is settled and has changed.

    ``account`` narrows to one. Returns how many targets that changed. Raises Refused where a target would owe more than
    the ledger holds.
    """
    with explained():
        key = published.namespace_key(connection, namespace)
        account_key = None
        if account is not None:
            found = published.accounts(connection, key, [account]).get(account)
            if found is None:
                return 0
            account_key = found.account_key
        pairs = levels.pairs(connection, key, account_key)
        if not pairs:
            return 0
        closed = periods.closed_months(connection, key)
        months = [*(one for one in closed if one < month.index), month.index]
        meters = sorted({pair.meter for pair in pairs})
        counting = levels.months_settled(connection, key, meters, account_key)
        ensure_months(connection, sorted(_with_open(connection, key, {*months, *counting})))
        asked = Asked(frozenset(months), now_us)
        done = 0
        for at in range(0, len(pairs), PAIRS_PER_BATCH):
            some = pairs[at : at + PAIRS_PER_BATCH]
            done += retried(partial(_settle, connection, namespace, some, asked, rater))
    return done


def _with_open(connection: Connection, namespace_key: int, months: set[int]) -> set[int]:
    """Service months, and the open month that those of them post to which are closed."""
    closed = set(periods.closed_months(connection, namespace_key))
    return months | {next(later for later in count(month) if later not in closed) for month in months}


def _settle(connection: Connection, namespace: str, pairs: Sequence[Pair], asked: Asked, rater: Rater) -> int:
    with connection.transaction():
        head = lock_lane(connection, 0)  # nobody publishes from here on, so the catalog stays what is read now
        snapshot = published.load_snapshot(connection, namespace)
        if snapshot is None:
            return 0
        accounts = published.accounts_by_key(connection, sorted({pair.account_key for pair in pairs}))
        outcome = _worked_out(connection, snapshot, pairs, accounts, asked, rater)
        released = levels.count(connection, snapshot.namespace_key, outcome.counted)
        if not outcome.targets and not outcome.counted:
            return 0
        items, currencies, changed = post(connection, snapshot, outcome.targets, accounts)
        if not changed and not outcome.counted:
            return 0
        items.posting_month = post_to_open_months(connection, snapshot.namespace_key, items.posting_month)
        write_batch(
            connection, head, namespace, snapshot.namespace_key, BatchKind.SETTLE,
            items=items, currencies=currencies, digests=Digests(*published.digests(connection)[:3]),
            facts=[_fact(namespace, changed, accounts, outcome.seen)],
            counts=Counts(itemized=released, pending=-released),
            catalog_revision=snapshot.revision, recorded_us=asked.now_us,
        )  # fmt: skip
    return len(changed)


def _fact(namespace: str, changed: Sequence[Target], accounts: dict[int, Account], seen: int) -> Fact:
    """What names the targets that were settled, and says how many readings more (or less) settled months have seen."""
    targets = [
        [accounts[one.account_key].id, one.row.pricebook, one.row.price.id, one.row.content, one.month, one.settled,
         one.since_us]
        for one in changed
    ]  # fmt: skip
    return Fact(FACT, canonical({"namespace": namespace, "targets": targets, "seen": seen}))


def _worked_out(
    connection: Connection,
    snapshot: Snapshot,
    pairs: Sequence[Pair],
    accounts: dict[int, Account],
    asked: Asked,
    rater: Rater,
) -> Outcome:
    """The targets of pairs that may owe something else than was settled."""
    known = holders(snapshot, accounts)
    found = levels.states(connection, snapshot.namespace_key, pairs)
    settled = _settled(connection, snapshot, pairs)
    plans = []
    for pair, state in found.items():
        plan = plan_of(snapshot, pair, known[pair.account_key], state, settled.get(pair, {}), asked)
        if plan.months:
            plans.append(plan)
    stored = levels.readings(connection, snapshot.namespace_key, [plan.span() for plan in plans]) if plans else {}
    outcome = Outcome([], [])
    for plan in plans:
        mine = stored[plan.pair]
        for month in plan.months:
            before = settled.get(plan.pair, {}).get(month, {})
            outcome.targets += targets_of(snapshot, plan, month, mine, before, asked, rater)
        outcome.counted += plan.counted(mine)
    return outcome


def _settled(connection: Connection, snapshot: Snapshot, pairs: Sequence[Pair]) -> dict[Pair, Settled]:
    """What is settled of pairs."""
    rows = {row.price_key: row for row in snapshot.rows if row.is_level}
    where = {"accounts": sorted({pair.account_key for pair in pairs}), "prices": sorted(rows)}
    found: dict[Pair, Settled] = {}
    for account_key, price_key, month, settled, last_us in connection.execute(SQL.settled_levels, where).fetchall():
        months = found.setdefault(Pair(account_key, rows[price_key].meter.id), {})
        months.setdefault(month, {})[price_key] = Stored(rows[price_key].price.id, settled, last_us)
    return found


def _again(
    connection: Connection, snapshot: Snapshot, pairs: Sequence[Pair], since_us: int, accounts: dict[int, Account],
    rater: Rater, now_us: int,
) -> list[Target]:  # fmt: skip
    """What is settled of pairs in months that end after ``since_us``, as the readings there are now have it."""
    asked, known = Asked(frozenset(), now_us), holders(snapshot, accounts)
    found: list[Target] = []
    for pair, settled in _settled(connection, snapshot, pairs).items():
        plan = Plan(pair, known[pair.account_key])
        plan.months = [month for month in sorted(settled) if plan.holder.bounds(month)[1] > since_us]
        if pair in pairs and plan.months:
            mine = levels.readings(connection, snapshot.namespace_key, [plan.span()])[pair]
            for month in plan.months:
                found += targets_of(snapshot, plan, month, mine, settled[month], asked, rater)
    return found


# --- without readings


@dataclass(frozen=True, slots=True)
class Retracted:
    """What a batch adds for readings that are retracted; ``released``: how many events no longer wait."""

    items: LineItems
    currencies: list[str]
    facts: list[Fact]
    released: int


def months_counting(connection: Connection, namespace: str, usage: Sequence[PriceUsage]) -> set[int]:
    """The posting months that retracting events may need, for their usage that is of levels."""
    key, months = published.namespace_key(connection, namespace), set[int]()
    for one in usage:
        for account_key in np.unique(one.account_key).tolist() if one.row.is_level else ():
            months |= set(levels.months_settled(connection, key, [one.row.meter.id], account_key))
    return _with_open(connection, key, months) if months else months


def without_readings(
    connection: Connection, snapshot: Snapshot, usage: Sequence[PriceUsage], rater: Rater, now_us: int
) -> Retracted:
    """Forget events' readings, ``usage`` under their prices of levels, and post what that changes in settled months."""
    for one in usage:
        levels.count_events(connection, snapshot.namespace_key, *group_targets(one), by=-1)
    dropped = levels.drop(connection, snapshot.namespace_key, usage)
    keys = sorted({key for one in usage for key in np.unique(one.account_key).tolist()})
    since_us = min(int(one.time_us.min()) for one in usage)
    accounts = published.accounts_by_key(connection, keys)
    pairs = sorted({Pair(key, one.row.meter.id) for one in usage for key in np.unique(one.account_key).tolist()})
    targets = _again(connection, snapshot, pairs, since_us, accounts, rater, now_us)
    items, currencies, changed = post(connection, snapshot, targets, accounts, Kind.RETRACTION)
    facts = [_fact(snapshot.namespace, changed, accounts, -dropped.seen)] if changed or dropped.seen else []
    return Retracted(items, currencies, facts, dropped.waited)


# --- posting


def post(
    connection: Connection,
    snapshot: Snapshot,
    targets: Sequence[Target],
    accounts: dict[int, Account],
    kind: Kind | None = None,
) -> tuple[LineItems, list[str], list[Target]]:
    """Post T - posted of targets: line items, the currency of each, and the targets that changed.

    ``kind`` None: ``recurring`` where a target is settled for the first time, ``true_up`` later. Raises Refused where one
    would owe more than the ledger holds.
    """
    tags = published.account_tag_sets(connection, accounts)
    none = np.zeros(0, dtype=np.int64)
    parts = [_items([], none, none, none, tags)]
    currencies: list[str] = []
    changed: list[Target] = []
    ordered = sorted(targets, key=lambda one: (one.row.price_key, one.account_key, one.start_us))
    for price_key, group in groupby(ordered, key=lambda one: one.row.price_key):
        some = list(group)
        items, moved = _post_price(connection, snapshot.namespace_key, price_key, some, accounts, tags, kind)
        parts.append(items)
        currencies += [some[0].row.price.currency] * len(items)
        changed += moved
    return joined(parts), currencies, changed


def _post_price(
    connection: Connection,
    namespace_key: int,
    price_key: int,
    some: Sequence[Target],
    accounts: dict[int, Account],
    tags: dict[int, int],
    kind: Kind | None,
) -> tuple[LineItems, list[Target]]:
    """The same for targets of one price, in key order."""
    targets = _columns(price_key, some)
    before = accumulators.lock(connection, namespace_key, targets)
    quantity, amount = objects([one.quantity for one in some]), objects([one.total_nano for one in some])
    over = exceeds_ledger(quantity) | exceeds_ledger(amount)
    if over.any():
        one = some[int(np.flatnonzero(over)[0])]
        raise Refused(
            f"account {accounts[one.account_key].id} would owe more than 38 digits of price {one.row.price.id} in"
            f" {Month.from_index(one.month)}",
            do="Retract the reading that is too large (`lineitem retract`), or correct the price.",
        )
    settled = np.array([one.settled for one in some], dtype=np.int64)
    since = np.array([one.since_us for one in some], dtype=np.int64)
    more, rest = subtract(quantity, before.posted_quantity), subtract(amount, before.posted_nano)
    posts = np.asarray((more != 0) | (rest != 0), dtype=np.bool_)
    differs = posts | (before.settled != settled) | (before.last_event_us < since)
    at = np.flatnonzero(differs)
    if len(at):
        values = accumulators.target_keys(_columns(price_key, [some[i] for i in at.tolist()])) | {
            "settled": int8s(settled[at]), "quantities": numerics(compact(quantity[at])),
            "posted": numerics(compact(amount[at])), "since": int8s(since[at]),
        }  # fmt: skip
        connection.execute(SQL.settle_levels, values)
    first = before.settled == NOT_SETTLED
    kinds = np.where(first, int(Kind.RECURRING), int(Kind.TRUE_UP)) if kind is None else np.full(len(some), int(kind))
    rows = np.flatnonzero(posts)
    items = _items([some[i] for i in rows.tolist()], kinds[rows], compact(more[rows]), compact(rest[rows]), tags)
    return items, [some[i] for i in at.tolist()]


def _columns(price_key: int, some: Sequence[Target]) -> Targets:
    return Targets.of(price_key, [(one.account_key, one.month, one.start_us, one.end_us) for one in some])


def _items(
    some: Sequence[Target], kinds: NDArray[np.int64], quantity: IntArray, amount_nano: IntArray, tags: dict[int, int]
) -> LineItems:
    """One line item for each target."""
    return LineItems.without_events(
        account_key=np.array([one.account_key for one in some], dtype=np.int32),
        price_version_key=np.array([one.row.price_version_key for one in some], dtype=np.int32),
        tag_set_key=np.array([tags[one.account_key] for one in some], dtype=np.int32),
        kind=kinds.astype(np.int16),
        quantity=quantity,
        amount_nano=amount_nano,
        event_time_us=np.array([one.due_from_us for one in some], dtype=np.int64),
        service_month=np.array([one.month for one in some], dtype=np.int32),
        posting_month=np.array([one.posted_month for one in some], dtype=np.int32),
    )
