"""From matched events to priced usage: account, price in force at the event's time, service period, tags. Pure.

An event is accepted whole or not at all: where one of its meters finds no price, none of its usage counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.canary import Arms
from lineitem.catalog.snapshot import AccountRow, PriceRow, Snapshot
from lineitem.core.period import Month, month_start_us
from lineitem.core.reasons import Reason
from lineitem.ingest.events import EventColumns, Reject
from lineitem.rate.columns import Columns
from lineitem.rate.exact import IntArray
from lineitem.rate.match import MeterMatch
from lineitem.rate.price import compile_price
from lineitem.rate.tags import TagSets


@dataclass(slots=True)
class PriceUsage:
    """The usage of one batch that one price bills, under whichever of its versions; every column has shape (k,)."""

    row: PriceRow  # any version with this content
    version_key: NDArray[np.int32]  # PriceRow.price_version_key of the version in force
    event: NDArray[np.int64]  # position in the batch's EventColumns
    account_key: NDArray[np.int32]
    value: IntArray  # at the meter's scale
    member: NDArray[np.void] | None  # V16, for `unique` folds
    charge: IntArray | None  # per-event prices: at their charge scale, allowances not taken off
    tag_set: NDArray[np.int32]  # position in Enriched.tag_sets
    service_month: NDArray[np.int32]
    period_start_us: NDArray[np.int64]
    period_end_us: NDArray[np.int64]
    time_us: NDArray[np.int64]
    key: NDArray[np.void]  # V16, the event's identity

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> PriceUsage:
        """The rows of ``keep`` (a mask or positions)."""
        return PriceUsage(
            self.row,
            self.version_key[keep],
            self.event[keep],
            self.account_key[keep],
            self.value[keep],
            None if self.member is None else self.member[keep],
            None if self.charge is None else self.charge[keep],
            self.tag_set[keep],
            self.service_month[keep],
            self.period_start_us[keep],
            self.period_end_us[keep],
            self.time_us[keep],
            self.key[keep],
        )


@dataclass(slots=True)
class Enriched:
    """What a batch's events come to: usage per price version, tag sets (canonical JSON) and what was set aside."""

    usage: list[PriceUsage]
    tag_sets: list[str]
    rejects: list[Reject]
    billable: NDArray[np.bool_]  # per event: some meter matches it
    service_month: NDArray[np.int32]  # per event, in its account's zone; 0 where there is no account


@dataclass(slots=True)
class Accounts:
    """The accounts of a batch: ``rows[subject[i]]`` is the account of event ``i``; None where there is none."""

    subject: NDArray[np.int32]
    rows: Sequence[AccountRow | None]


def enrich(events: EventColumns, matches: Sequence[MeterMatch], accounts: Accounts, snapshot: Snapshot) -> Enriched:
    """Resolve accounts, prices, periods and tags.

    Rejects carry ``unknown_account``, ``no_price``, ``missing_tag``, ``unknown_tag``, or what a price or tag cannot read.
    """
    count = len(events.time_us)
    billable = np.zeros(count, dtype=np.bool_)
    for match in matches:
        billable[match.rows] = True
    known = np.array([row is not None for row in accounts.rows], dtype=np.bool_)[accounts.subject]
    refused: dict[int, tuple[Reason, str]] = {
        int(i): (Reason.UNKNOWN_ACCOUNT, f"{events.subject[i]!r} is not an account")
        for i in np.flatnonzero(billable & ~known)
    }
    months = _Months(events.time_us, accounts)
    tags = TagSets(events, accounts.subject, accounts.rows, snapshot.catalog.tags)
    usage: list[PriceUsage] = []
    for match in matches:
        usage.extend(_price(match.select(known[match.rows]), events, accounts, snapshot, months, tags, refused))
    if refused:
        lost = np.zeros(count, dtype=np.bool_)
        lost[list(refused)] = True
        usage = [one.select(~lost[one.event]) for one in usage]
    rejects = [
        Reject(int(events.ordinal[i]), reason, detail, bytes(events.key[i]), bytes(events.digest[i]))
        for i, (reason, detail) in sorted(refused.items())
    ]
    return Enriched(_merged(usage), tags.texts, rejects, billable, months.month)


def _merged(usage: Sequence[PriceUsage]) -> list[PriceUsage]:
    """One PriceUsage per price content: versions that did not change a price go on in the same target."""
    by_price: dict[int, list[PriceUsage]] = {}
    for one in usage:
        if len(one.event):
            by_price.setdefault(one.row.price_key, []).append(one)
    return [parts[0] if len(parts) == 1 else _joined(parts) for _, parts in sorted(by_price.items())]


def _joined(parts: list[PriceUsage]) -> PriceUsage:
    columns = [field.name for field in fields(PriceUsage) if field.name != "row"]
    columns = [name for name in columns if getattr(parts[0], name) is not None]
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    return replace(parts[0], **joined)


def _price(
    match: MeterMatch,
    events: EventColumns,
    accounts: Accounts,
    snapshot: Snapshot,
    months: _Months,
    tags: TagSets,
    refused: dict[int, tuple[Reason, str]],
) -> list[PriceUsage]:
    """Usage of one meter under every price version in force; events without a price go to ``refused``."""
    subject = accounts.subject[match.rows]
    time = events.time_us[match.rows]
    tag_set = tags.of(match, refused)
    unpriced = np.ones(len(subject), dtype=np.bool_)
    usage: list[PriceUsage] = []
    for (book, own), members in _by_book(subject, months.month[match.rows], accounts, snapshot):
        for start, end, positions in snapshot.schedule(book, own, match.meter.id):
            here = members[(time[members] >= start) & (time[members] < end)]
            if not len(here):
                continue
            unpriced[here] = False
            for position in positions:
                rows = match.rows[here]
                usage.append(
                    PriceUsage(
                        snapshot.rows[position],
                        np.full(len(rows), snapshot.rows[position].price_version_key, dtype=np.int32),
                        rows,
                        months.account_key[subject[here]],
                        match.value[here],
                        None if match.member is None else match.member[here],
                        _charges(snapshot.rows[position], match, here, events, refused),
                        tag_set[here],
                        months.month[rows],
                        months.start_us[rows],
                        months.end_us[rows],
                        time[here],
                        events.key[rows],
                    )
                )
    for at in np.flatnonzero(unpriced).tolist():
        account = accounts.rows[int(subject[at])]
        named = None if account is None else account.pricebook
        where = f"pricebook {named!r}" if named else "the account, which has no pricebook,"
        refused.setdefault(
            int(match.rows[at]), (Reason.NO_PRICE, f"{where} has no price for meter {match.meter.id!r} at this time")
        )
    return usage


def _charges(
    row: PriceRow,
    match: MeterMatch,
    here: NDArray[np.intp],
    events: EventColumns,
    refused: dict[int, tuple[Reason, str]],
) -> IntArray | None:
    """What a per-event price charges the events of a match at ``here``; what it cannot read of one refuses the event."""
    charge = compile_price(row.price, row.quantity_scale).charge
    if charge is None:
        return None
    rows = match.rows[here]
    columns = Columns(events, rows)
    inputs = {path: columns.column(path) for path in charge.inputs}
    charges, flaws = charge.charges(match.value[here], events.time_us[rows], inputs)
    for at, flaw in flaws.items():
        refused.setdefault(int(rows[at]), (flaw.reason, f"price {row.price.id}: {flaw.text}"))
    return charges


Books = tuple[str | None, str | None]
"""An account's pricebook and that of its own overrides."""


def _by_book(
    subject: NDArray[np.int32], month: NDArray[np.int32], accounts: Accounts, snapshot: Snapshot
) -> list[tuple[Books, NDArray[np.int64]]]:
    """Positions in ``subject`` (n,) by what prices them; an account with overrides is a group of its own.

    ``month`` (n,): service months, which decide for accounts in a canary which pricebook it is.
    """
    number: dict[tuple[Books, Arms], int] = {}
    own_books = snapshot.own_books
    table = np.zeros(len(accounts.rows), dtype=np.int32)
    for one in np.unique(subject).tolist():
        account = accounts.rows[one]
        if account is not None:
            books = (account.pricebook, own_books.get(account.account))
            key = (books, snapshot.arms(account.account, account.pricebook))
            table[one] = number.setdefault(key, len(number))
    group = table.astype(np.min_scalar_type(len(number)))[subject]  # narrow: a stable sort of 16 bits is a radix sort
    order = np.argsort(group, kind="stable")
    cuts = np.cumsum(np.bincount(group, minlength=len(number)))[:-1]
    groups = zip(number, np.split(order, cuts), strict=True) if number else ()
    return [part for (books, arms), members in groups for part in _by_arm(books, arms, members, month)]


def _by_arm(
    books: Books, arms: Arms, members: NDArray[np.int64], month: NDArray[np.int32]
) -> list[tuple[Books, NDArray[np.int64]]]:
    """``members`` by the pricebook that bills their service month: a canary's in some, else the accounts' own."""
    if not arms:
        return [(books, members)]
    arm = np.searchsorted(np.array([since for since, _ in arms]), month[members], side="right")
    every = (None, *[book for _, book in arms])
    parts = ((books if book is None else (book, books[1]), members[arm == at]) for at, book in enumerate(every))
    return [(priced_by, part) for priced_by, part in parts if len(part)]


class _Months:
    """Service months of a batch's events in their accounts' zones; bounds in microseconds."""

    def __init__(self, time_us: NDArray[np.int64], accounts: Accounts) -> None:
        count = len(time_us)
        self.month = np.zeros(count, dtype=np.int32)
        self.start_us = np.zeros(count, dtype=np.int64)
        self.end_us = np.zeros(count, dtype=np.int64)
        self.account_key = np.array([row.account_key if row else -1 for row in accounts.rows], dtype=np.int32)
        zones = sorted({row.timezone for row in accounts.rows if row is not None})
        zone_number = {zone: i for i, zone in enumerate(zones)}
        zone_table = np.array([zone_number[row.timezone] if row else -1 for row in accounts.rows], dtype=np.int32)
        zone = zone_table[accounts.subject] if count else np.zeros(0, dtype=np.int32)
        for i, name in enumerate(zones):
            rows = np.flatnonzero(zone == i)
            if len(rows):
                self._fill(rows, time_us[rows], name)

    def _fill(self, rows: NDArray[np.int64], time_us: NDArray[np.int64], zone: str) -> None:
        first = Month.of_us(int(time_us.min())).index - 1
        last = Month.of_us(int(time_us.max())).index + 2
        starts = np.array([month_start_us(index, zone) for index in range(first, last + 1)], dtype=np.int64)
        at = np.searchsorted(starts, time_us, side="right") - 1
        self.month[rows] = at + first
        self.start_us[rows] = starts[at]
        self.end_us[rows] = starts[at + 1]
