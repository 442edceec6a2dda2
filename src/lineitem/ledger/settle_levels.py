"""Settle levels: what readings come to in each month, posted as T - posted, month after month, without an event too.

A target counts all readings there are, so what comes late changes months that are settled already: whoever settles next
works out every settled month after a reading that was not seen before. A month for which nothing has changed is not
looked at. An event waits until the month it lies in is settled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.catalog.model import Account
from lineitem.catalog.snapshot import PriceRow, Snapshot, canonical_tags
from lineitem.core.errors import Refused
from lineitem.core.period import Month
from lineitem.kit.arrays import int8s, numerics
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import accumulators, levels, periods
from lineitem.ledger.accumulators import Targets
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.flush import joined
from lineitem.ledger.levels import Counted, Pair, PairState, StoredReading
from lineitem.ledger.post import Counts, Fact, canonical, ensure_months, lock_lane, write_batch
from lineitem.ledger.rating import Rater, group_targets, post_to_open_months
from lineitem.ledger.rows import Digests, Kind, LineItems
from lineitem.ledger.settle import FACT, version_key
from lineitem.rate.dues import in_advance
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.exact import IntArray, compact, exceeds_ledger, objects, subtract
from lineitem.rate.levels import Holder, Window, held_in, total, windows_of
from lineitem.rate.targets import NOT_SETTLED

SQL = load_queries("lineitem.ledger", "levels.sql")
PAIRS_PER_BATCH = 1000
"""Accounts and meters of one transaction."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A target as it was settled last: its price's id, how long its content is in force in the month, up to when that
    counts as used."""

    price: str
    settled: int
    last_event_us: int


Settled = dict[int, dict[int, Stored]]
"""Service month -> price key -> target, of one pair."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target, what it counts and owes now; instants in microseconds since the epoch."""

    row: PriceRow
    account_key: int
    month: int
    start_us: int
    end_us: int
    settled: int
    since_us: int
    quantity: int
    total_nano: int
    posted_month: int
    due_from_us: int


@dataclass(slots=True)
class _Plan:
    """A pair and the months to work out again; ``counts``: those whose readings no longer wait then.

    ``changed_us``: its first reading that nobody has seen.
    """

    pair: Pair
    holder: Holder
    changed_us: int | None = None
    months: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def span(self) -> tuple[Pair, int, int]:
        """From which instant to which readings are needed: those of the months, and all that nobody has seen before."""
        bounds = [self.holder.bounds(month) for month in self.months]
        since, until = min(start for start, _ in bounds), max(end for _, end in bounds)
        return self.pair, since if self.changed_us is None else min(since, self.changed_us), until

    def counted(self, readings: Sequence[StoredReading]) -> Iterator[Counted]:
        """The readings that are seen now, or whose own month is settled now."""
        spans = [self.holder.bounds(month) for month in self.counts]
        for one in readings:
            settled = one.waiting and any(start <= one.reading.time_us < end for start, end in spans)
            if settled or not one.seen:
                yield Counted(self.pair, one.reading, settled, not one.seen)


@dataclass(slots=True)
class Outcome:
    """Targets worked out, and readings that their months count now."""

    targets: list[Target]
    counted: list[Counted]

    @property
    def seen(self) -> int:
        """How many readings nobody had seen before."""
        return sum(one.first for one in self.counted)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The months somebody settles, and now."""

    months: frozenset[int]
    now_us: int

    def settles(self, row: PriceRow, month: int, bounds: tuple[int, int], *, again: bool) -> bool:
        """Whether a month is settled under a price: it has ended (in advance: begun), and is asked for (in advance: or the
        one before is), or has been settled before (``again``)."""
        start_us, end_us = bounds
        early = in_advance(row.price)
        asked = month in self.months or again or (early and month - 1 in self.months)
        return asked and (end_us <= self.now_us or (early and start_us <= self.now_us))

    def posted_month(self, row: PriceRow, month: int) -> int:
        """The posting month, where it is open: in advance the one before."""
        early = month not in self.months and month - 1 in self.months and in_advance(row.price)
        return month - 1 if early else month


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
        asked = _Asked(frozenset(months), now_us)
        done = 0
        for at in range(0, len(pairs), PAIRS_PER_BATCH):
            some = pairs[at : at + PAIRS_PER_BATCH]
            done += retried(partial(_settle, connection, namespace, some, asked, rater))
    return done


def _with_open(connection: Connection, namespace_key: int, months: set[int]) -> set[int]:
    """Service months, and the open month that those of them post to which are closed."""
    closed = set(periods.closed_months(connection, namespace_key))
    return months | {next(later for later in count(month) if later not in closed) for month in months}


def _settle(connection: Connection, namespace: str, pairs: Sequence[Pair], asked: _Asked, rater: Rater) -> int:
    with connection.transaction():
        head = lock_lane(connection, 0)  # nobody publishes from here on, so the catalog stays what is read now
        snapshot = published.load_snapshot(connection, namespace)
        if snapshot is None:
            return 0
        accounts = published.accounts_by_key(connection, sorted({pair.account_key for pair in pairs}))
        outcome = _worked_out(connection, snapshot, pairs, accounts, asked, rater)
        released = levels.count(connection, snapshot.namespace_key, outcome.counted)
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


# --- which months


def holders(snapshot: Snapshot, accounts: dict[int, Account]) -> dict[int, Holder]:
    """Accounts by key as levels need them."""
    until = {one.id: one.active_until_us for one in snapshot.catalog.accounts}
    return {key: Holder(one.id, one.pricebook, one.timezone, until.get(one.id)) for key, one in accounts.items()}


def _worked_out(
    connection: Connection,
    snapshot: Snapshot,
    pairs: Sequence[Pair],
    accounts: dict[int, Account],
    asked: _Asked,
    rater: Rater,
) -> Outcome:
    """The targets of pairs that may owe something else than was settled."""
    known = holders(snapshot, accounts)
    found = levels.states(connection, snapshot.namespace_key, pairs)
    settled = _settled(connection, snapshot, pairs)
    plans = []
    for pair, state in found.items():
        plan = _plan(snapshot, pair, known[pair.account_key], state, settled.get(pair, {}), asked)
        if plan.months:
            plans.append(plan)
    stored = levels.readings(connection, snapshot.namespace_key, [plan.span() for plan in plans]) if plans else {}
    outcome = Outcome([], [])
    for plan in plans:
        mine = stored[plan.pair]
        for month in plan.months:
            before = settled.get(plan.pair, {}).get(month, {})
            outcome.targets += _targets(snapshot, plan, month, mine, before, asked, rater)
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


def _plan(snapshot: Snapshot, pair: Pair, holder: Holder, state: PairState, settled: Settled, asked: _Asked) -> _Plan:
    """The months of a pair to work out again.

    Those asked for, the one after in advance, and from the first reading that nobody has seen on all that are settled; of
    them those that it reaches, in which a price counts for another time than was settled, or a target is not settled yet.
    """
    changed_us = state.unseen_us
    plan = _Plan(pair, holder, changed_us)
    wanted = asked.months | {month + 1 for month in asked.months}
    if changed_us is not None:
        wanted |= {month for month in settled if holder.bounds(month)[1] > changed_us}
    for month in sorted(wanted):
        start, end = holder.bounds(month)
        before = settled.get(month, {})
        idle = end <= state.first_us or (state.last_us < start and not state.last_value)
        if start > asked.now_us or (idle and not before):
            continue
        contents = _contents(windows_of(snapshot, holder, month, pair.meter))
        due = _due(contents, before, month, (start, end), asked)
        moved = changed_us is not None and changed_us < end
        countable = len(due) == len(contents) and bool(end <= asked.now_us or due)
        if moved or not _as_settled(due, before, end, asked.now_us):
            plan.months += [month] if due or before or countable else []
            plan.counts += [month] if countable else []
    return plan


Contents = dict[int, list[Window]]
"""Price key -> when it counts in a month."""


def _contents(by_price: dict[str, list[Window]]) -> Contents:
    found: Contents = {}
    for window in (window for windows in by_price.values() for window in windows):
        found.setdefault(window.row.price_key, []).append(window)
    return found


def _due(contents: Contents, before: dict[int, Stored], month: int, bounds: tuple[int, int], asked: _Asked) -> Contents:
    """The contents whose month is settled now, or is settled already."""
    names = {one.price for one in before.values()}
    return {
        key: windows
        for key, windows in contents.items()
        if asked.settles(windows[0].row, month, bounds, again=windows[0].row.price.id in names)
    }


def _as_settled(due: Contents, before: dict[int, Stored], end_us: int, now_us: int) -> bool:
    """Whether what is due is what was settled, and nothing else was."""
    gone = any(stored.settled for key, stored in before.items() if key not in due)
    return not gone and all(
        key in before
        and before[key].settled == sum(one.end_us - one.start_us for one in windows)
        and before[key].last_event_us >= _since(windows, end_us, now_us)
        for key, windows in due.items()
    )


def _since(windows: Sequence[Window], end_us: int, now_us: int) -> int:
    """The instant up to which no price may change any more: once the month has ended, the last one that it counts."""
    return windows[-1].end_us - 1 if end_us <= now_us else windows[0].start_us


# --- what they come to


def _again(
    connection: Connection, snapshot: Snapshot, pairs: Sequence[Pair], since_us: int, accounts: dict[int, Account],
    rater: Rater, now_us: int,
) -> list[Target]:  # fmt: skip
    """What is settled of pairs in months that end after ``since_us``, as the readings there are now have it."""
    asked, known = _Asked(frozenset(), now_us), holders(snapshot, accounts)
    found: list[Target] = []
    for pair, settled in _settled(connection, snapshot, pairs).items():
        plan = _Plan(pair, known[pair.account_key])
        plan.months = [month for month in sorted(settled) if plan.holder.bounds(month)[1] > since_us]
        if pair in pairs and plan.months:
            mine = levels.readings(connection, snapshot.namespace_key, [plan.span()])[pair]
            for month in plan.months:
                found += _targets(snapshot, plan, month, mine, settled[month], asked, rater)
    return found


def _targets(
    snapshot: Snapshot,
    plan: _Plan,
    month: int,
    stored: Sequence[StoredReading],
    before: dict[int, Stored],
    asked: _Asked,
    rater: Rater,
) -> Iterator[Target]:
    """The targets of a pair in a month that are due or were settled."""
    start, end = plan.holder.bounds(month)
    account_key, readings = plan.pair.account_key, [one.reading for one in stored]
    by_price = windows_of(snapshot, plan.holder, month, plan.pair.meter)
    due = _due(_contents(by_price), before, month, (start, end), asked)
    for windows in by_price.values():
        for key, held in held_in(windows, readings, plan.holder, month).items():
            if key in due:
                yield Target(
                    row=held.windows[-1].row, account_key=account_key, month=month, start_us=start, end_us=end,
                    settled=held.length_us, since_us=_since(held.windows, end, asked.now_us), quantity=held.quantity,
                    total_nano=total(rater.compile(held.row), held, month, start, end),
                    posted_month=asked.posted_month(held.row, month), due_from_us=held.windows[0].start_us,
                )  # fmt: skip
    for key in before.keys() - due.keys():
        rows = [row for row in snapshot.rows if row.price_key == key]
        last = version_key(snapshot, rows, end)
        yield Target(
            row=next(row for row in rows if row.price_version_key == last), account_key=account_key, month=month,
            start_us=start, end_us=end, settled=0, since_us=before[key].last_event_us, quantity=0, total_nano=0,
            posted_month=asked.posted_month(rows[0], month), due_from_us=start,
        )  # fmt: skip


# --- without a reading


@dataclass(frozen=True, slots=True)
class Retracted:
    """What a batch adds for a reading that is retracted; ``released``: how many events no longer wait."""

    items: LineItems
    currencies: list[str]
    facts: list[Fact]
    released: int


def months_counting(connection: Connection, namespace: str, usage: Sequence[PriceUsage]) -> set[int]:
    """The posting months that retracting an event may need, for its usage that is of levels."""
    key, months = published.namespace_key(connection, namespace), set[int]()
    for one in usage:
        if one.row.is_level:
            months |= set(levels.months_settled(connection, key, [one.row.meter.id], int(one.account_key[0])))
    return _with_open(connection, key, months) if months else months


def without_reading(
    connection: Connection, snapshot: Snapshot, usage: Sequence[PriceUsage], rater: Rater, now_us: int
) -> Retracted:
    """Forget one event's readings, ``usage`` under its prices of levels, and post what that changes in settled months."""
    for one in usage:
        levels.count_events(connection, snapshot.namespace_key, *group_targets(one), by=-1)
    dropped = levels.drop(connection, snapshot.namespace_key, usage)
    account_key, time_us = int(usage[0].account_key[0]), int(usage[0].time_us[0])
    accounts = published.accounts_by_key(connection, [account_key])
    pairs = sorted({Pair(account_key, one.row.meter.id) for one in usage})
    targets = _again(connection, snapshot, pairs, time_us, accounts, rater, now_us)
    items, currencies, changed = post(connection, snapshot, targets, accounts, Kind.RETRACTION)
    facts = [_fact(snapshot.namespace, changed, accounts, -dropped.seen)] if changed or dropped.seen else []
    return Retracted(items, currencies, facts, int(dropped.waited))


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
    texts = {key: canonical_tags(dict(one.tags)) for key, one in accounts.items()}
    tag_keys = published.tag_set_keys(connection, sorted(set(texts.values())))
    tags = {key: tag_keys[text] for key, text in texts.items()}
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
    return Targets(
        price_key,
        np.array([one.account_key for one in some], dtype=np.int32),
        np.array([one.month for one in some], dtype=np.int32),
        np.array([one.start_us for one in some], dtype=np.int64),
        np.array([one.end_us for one in some], dtype=np.int64),
    )


def _items(
    some: Sequence[Target], kinds: NDArray[np.int64], quantity: IntArray, amount_nano: IntArray, tags: dict[int, int]
) -> LineItems:
    """One line item for each target."""
    return LineItems(
        account_key=np.array([one.account_key for one in some], dtype=np.int32),
        price_version_key=np.array([one.row.price_version_key for one in some], dtype=np.int32),
        tag_set_key=np.array([tags[one.account_key] for one in some], dtype=np.int32),
        kind=kinds.astype(np.int16),
        quantity=quantity,
        amount_nano=amount_nano,
        event_time_us=np.array([one.due_from_us for one in some], dtype=np.int64),
        service_month=np.array([one.month for one in some], dtype=np.int32),
        posting_month=np.array([one.posted_month for one in some], dtype=np.int32),
        event_key=np.zeros(len(some), dtype="V16"),
        event_id=pa.nulls(len(some), pa.string()),
    )
