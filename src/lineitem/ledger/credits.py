"""Draw prepaid credit for a month: what grants pay of what its accounts owe, as line items of lane 0, before it is billed.

What is drawn is a function of the grants and of all that is owed (``rate.credits``); a line item is the difference to what
was drawn before, so late usage, retractions and repricing move it either way, and drawing again posts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from lineitem.catalog import published
from lineitem.catalog.model import Account
from lineitem.catalog.snapshot import Snapshot
from lineitem.core.period import Month as Period
from lineitem.core.period import month_start_us
from lineitem.ingest import intake
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import credit_months, periods
from lineitem.ledger.carried import of_months
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.credit_cuts import owed_at
from lineitem.ledger.credit_months import Granted, Month, MonthCredit, Read, cuts_of
from lineitem.ledger.post import Fact, canonical, ensure_months, lock_lane, write_batch
from lineitem.ledger.rating import Rater, post_to_open_months
from lineitem.ledger.refold import Replay
from lineitem.ledger.rows import Digests, Kind, LineItems
from lineitem.rate.credits import Covered, Slice, draw, shares
from lineitem.rate.dues import in_advance
from lineitem.rate.exact import compact

SQL = load_queries("lineitem.ledger", "credits.sql")
FACT = "credit"
"""Kind of the facts that say what was drawn for which month of an account, and against what."""
FLAT = "flat"
"""The model of base fees."""
ACCOUNTS_PER_BATCH = 1000
"""Accounts of one transaction."""


@dataclass(frozen=True, slots=True)
class _Moved:
    """How much more (or, negative, less) is drawn of a grant for a month."""

    account_key: int
    granted: Granted
    month: int
    posted_month: int  # the posting month, where it is open
    start_us: int
    drawn_nano: int  # now
    more_nano: int

    @property
    def key(self) -> tuple[int, int, tuple[int, bool, int, int, str]]:
        """The order of line items."""
        return self.account_key, self.month, self.granted.grant.order


@dataclass(frozen=True, slots=True)
class Owes:
    """What one price content asks of an account for a month."""

    covered: Covered
    price_key: int
    fee: bool  # due from the month's start on, not for usage
    nano: int
    events: int


def draw_credit(
    connection: Connection, store: BlobStore, namespace: str, month: Period, now_us: int, account: str | None = None
) -> int:
    """Draw for ``month``, for closed months before it, and again for every month drawn before; one account or all.

    The caller has settled what has ended. A month that has not ended is drawn for as far as it has come. Returns how many
    line items that made. Raises BatchDamaged where a grant begins or ends inside a month whose segments cannot be read.
    """
    with explained():
        key = published.namespace_key(connection, namespace)
        where = {"namespace_key": key, "account": account}
        accounts = [row[0] for row in connection.execute(SQL.accounts_with_grants, where).fetchall()]
        if not accounts:
            return 0
        closed = periods.closed_months(connection, key)
        asked = [*(one for one in closed if one < month.index), month.index]
        drawn = [row[0] for row in connection.execute(SQL.months_drawn, {"namespace_key": key}).fetchall()]
        following = [next(later for later in count(one) if later not in set(closed)) for one in (*asked, *drawn)]
        ensure_months(connection, sorted({*asked, *drawn, *following}))
        done = 0
        for start in range(0, len(accounts), ACCOUNTS_PER_BATCH):
            some = accounts[start : start + ACCOUNTS_PER_BATCH]
            done += retried(partial(_draw, connection, store, namespace, some, asked, now_us))
    return done


def _draw(
    connection: Connection, store: BlobStore, namespace: str, accounts: Sequence[int], asked: Sequence[int], now_us: int
) -> int:
    with connection.transaction():
        head = lock_lane(connection, 0)  # nobody else grants, draws or retracts from here on
        snapshot = published.load_snapshot(connection, namespace)
        if snapshot is None:
            return 0
        listed = published.accounts_by_key(connection, accounts)
        granted = credit_months.granted(connection, accounts)
        before = credit_months.months(connection, accounts)
        now = _months(connection, store, snapshot, listed, granted, before, asked)
        now = _drawn(now, granted, listed)
        changed = {at: one for at, one in now.items() if before.get(at) != one}
        if not changed:
            return 0
        moved = list(_moved(connection, changed, granted, listed))
        items = _line_items(connection, snapshot, moved, listed)
        _keep(connection, snapshot.namespace_key, changed, moved, head.batch + 1)
        write_batch(
            connection, head, namespace, snapshot.namespace_key, BatchKind.CREDIT,
            items=items, currencies=[one.granted.grant.currency for one in moved],
            digests=Digests(*published.digests(connection)[:3]), facts=list(_facts(namespace, changed, listed)),
            catalog_revision=snapshot.revision, recorded_us=now_us,
        )  # fmt: skip
    return len(items)


def _months(
    connection: Connection,
    store: BlobStore,
    snapshot: Snapshot,
    listed: Mapping[int, Account],
    granted: Mapping[int, Sequence[Granted]],
    before: Mapping[Month, MonthCredit],
    asked: Sequence[int],
) -> dict[Month, MonthCredit]:
    """What is owed now in every month that is drawn for, shared out between its cuts; nothing is drawn yet."""
    wanted = _wanted(listed, granted, before, asked)
    advance = {row.price_key for row in snapshot.rows if in_advance(row.price)}
    owed = what_is_owed(connection, snapshot, list(listed), sorted({month for _, month in wanted}))
    reader = Reader.of(connection, snapshot, sorted({month for _, month in wanted}))
    found: dict[Month, MonthCredit] = {}
    moved: dict[Month, tuple[tuple[int, ...], dict[Covered, int]]] = {}
    for at, whole in wanted.items():
        account, month = at
        asks = [one for one in owed.get(at, ()) if whole or one.price_key in advance]
        if at not in before and not any(one.nano for one in asks):
            continue
        cuts = cuts_of(granted.get(account, ()), month, listed[account].timezone)
        read = reader.read(at, asks) if cuts else (0, 0, 0)
        one = MonthCredit(whole, cuts, {covered: [nano] for covered, nano in summed(asks).items()}, read)
        known = before.get(at)
        if cuts and known is not None and (known.cuts, known.read, known.totals()) == (cuts, read, one.totals()):
            one = replace(one, owed=known.owed)  # nothing has moved since it was read
        elif cuts:
            moved[at] = cuts, summed(ask for ask in asks if ask.fee)
        found[at] = one
    unread = {at: cuts for at, (cuts, _) in moved.items() if found[at].whole}
    replay = Replay(connection, store, snapshot.namespace)
    at_cut = owed_at(replay, snapshot.tier_chains, Rater(), unread) if unread else {}
    for at, (cuts, fixed) in moved.items():
        owed_by = [at_cut.get((*at, cut), {}) for cut in cuts]
        found[at] = replace(found[at], owed=shared_out(found[at].totals(), owed_by, fixed))
    return found


@dataclass(frozen=True, slots=True)
class Reader:
    """What the parts of months are worked out from, as far as it can move them."""

    retractions: int
    carried: Mapping[Month, int]

    @classmethod
    def of(cls, connection: Connection, snapshot: Snapshot, months: Sequence[int]) -> Reader:
        """As it is now, for some months."""
        units: dict[Month, int] = {}
        for key, got in of_months(connection, snapshot.namespace_key, months).items():
            at = (key.account_key, key.month)
            units[at] = units.get(at, 0) + got
        return cls(intake.retractions(connection, snapshot.namespace_key), units)

    def read(self, at: Month, asks: Iterable[Owes]) -> Read:
        """What one account's month, which asks for that, stands on."""
        return sum(one.events for one in asks), self.retractions, self.carried.get(at, 0)


def _wanted(
    listed: Mapping[int, Account],
    granted: Mapping[int, Sequence[Granted]],
    before: Mapping[Month, MonthCredit],
    asked: Sequence[int],
) -> dict[Month, bool]:
    """Every month to draw for, and whether for all of it or for what is due in advance only."""

    def pays(account: int, month: int) -> bool:
        zone = listed[account].timezone
        bounds = month_start_us(month, zone), month_start_us(month + 1, zone)
        return any(one.grant.pays_in(*bounds) for one in granted.get(account, ()))

    wanted = {(account, month + 1): False for account in listed for month in asked}
    wanted |= {at: one.whole for at, one in before.items()}
    wanted |= {(account, month): True for account in listed for month in asked}
    return {at: whole for at, whole in wanted.items() if at in before or pays(*at)}


def shared_out(
    totals: Mapping[Covered, int], owed_by: Sequence[Mapping[Covered, int]], fixed: Mapping[Covered, int]
) -> dict[Covered, list[int]]:
    """What falls to each part of a month; what is due without usage (a base fee) to the first."""
    return {
        covered: shares([owed.get(covered, 0) + fixed.get(covered, 0) for owed in owed_by], total)
        for covered, total in totals.items()
    }


def summed(some: Iterable[Owes]) -> dict[Covered, int]:
    """By price, never below zero: parts of a price that go on with each other's tiers may be, all of them together not."""
    sums: dict[Covered, int] = {}
    for one in some:
        sums[one.covered] = sums.get(one.covered, 0) + one.nano
    return {covered: max(nano, 0) for covered, nano in sums.items()}


def what_is_owed(
    connection: Connection, snapshot: Snapshot, accounts: Sequence[int], months: Sequence[int]
) -> dict[Month, list[Owes]]:
    """What line items ask of accounts for service months, content by content of each price."""
    fees = {row.price_key for row in snapshot.rows if row.price.model == FLAT or row.is_level}
    found: dict[Month, list[Owes]] = {}
    where = {"accounts": list(accounts), "months": list(months)}
    for account, month, price_key, price, currency, nano, events in connection.execute(SQL.owed, where):
        owes = Owes((price, currency), price_key, price_key in fees, int(nano), events)
        found.setdefault((account, month), []).append(owes)
    return found


def _drawn(
    now: Mapping[Month, MonthCredit], granted: Mapping[int, Sequence[Granted]], listed: Mapping[int, Account]
) -> dict[Month, MonthCredit]:
    """The same months with what each grant pays of them."""
    slices: dict[int, list[Slice]] = {}
    for (account, month), one in now.items():
        slices.setdefault(account, []).extend(one.slices(month, listed[account].timezone))
    draws: dict[Month, dict[str, dict[str, int]]] = {}
    for account, parts in slices.items():
        for (grant, month), prices in draw([one.grant for one in granted.get(account, ())], parts).items():
            draws.setdefault((account, month), {})[grant] = prices
    return {at: replace(one, draws=draws.get(at, {})) for at, one in now.items()}


def _moved(
    connection: Connection,
    changed: Mapping[Month, MonthCredit],
    granted: Mapping[int, Sequence[Granted]],
    listed: Mapping[int, Account],
) -> Iterator[_Moved]:
    where = {"accounts": sorted({account for account, _ in changed})}
    before = {
        (account, price, month): int(nano) for account, price, month, nano in connection.execute(SQL.draws_of, where)
    }
    found = []
    for (account, month), one in changed.items():
        start_us = month_start_us(month, listed[account].timezone)
        for some in granted.get(account, ()):
            drawn = one.drawn(some.grant.id)
            more = drawn - before.get((account, some.price_key, month), 0)
            if more:
                posted = month if one.whole else month - 1
                since_us = max(start_us, some.grant.effective_us)
                found.append(_Moved(account, some, month, posted, since_us, drawn, more))
    yield from sorted(found, key=lambda one: one.key)


def _line_items(
    connection: Connection, snapshot: Snapshot, moved: Sequence[_Moved], listed: Mapping[int, Account]
) -> LineItems:
    tags = published.account_tag_sets(connection, {one.account_key: listed[one.account_key] for one in moved})
    size = len(moved)
    items = LineItems.without_events(
        account_key=np.array([one.account_key for one in moved], dtype=np.int32),
        price_version_key=np.array([one.granted.version_key for one in moved], dtype=np.int32),
        tag_set_key=np.array([tags[one.account_key] for one in moved], dtype=np.int32),
        kind=np.full(size, int(Kind.CREDIT), dtype=np.int16),
        quantity=np.zeros(size, dtype=np.int64),
        amount_nano=compact(np.array([-one.more_nano for one in moved], dtype=object)),
        event_time_us=np.array([one.start_us for one in moved], dtype=np.int64),
        service_month=np.array([one.month for one in moved], dtype=np.int32),
        posting_month=np.array([one.posted_month for one in moved], dtype=np.int32),
    )
    if size:
        items.posting_month = post_to_open_months(connection, snapshot.namespace_key, items.posting_month)
    return items


def _keep(
    connection: Connection, key: int, changed: Mapping[Month, MonthCredit], moved: Sequence[_Moved], batch: int
) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            SQL.put_month,
            [
                {
                    "account_key": account,
                    "service_month": month,
                    "namespace_key": key,
                    "document": one.text(),
                    "batch": batch,
                }
                for (account, month), one in sorted(changed.items())
            ],
        )
        cursor.executemany(
            SQL.put_draw,
            [
                {
                    "account_key": one.account_key, "price_key": one.granted.price_key, "service_month": one.month,
                    "namespace_key": key, "drawn_nano": one.drawn_nano,
                }
                for one in moved
            ],
        )  # fmt: skip


def _facts(namespace: str, changed: Mapping[Month, MonthCredit], listed: Mapping[int, Account]) -> Iterator[Fact]:
    """One for each account."""
    months: dict[int, list[dict[str, Any]]] = {}
    for (account, month), one in sorted(changed.items()):
        months.setdefault(account, []).append({"month": month} | one.document())
    for account, some in months.items():
        yield Fact(FACT, canonical({"namespace": namespace, "account": listed[account].id, "months": some}))
