"""What active accounts owe without any usage: which prices of which months, and how much of a month. Pure."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lineitem.catalog.canary import arm_at
from lineitem.catalog.model import Account, Charge, Price, Prorate
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.core.period import day_of_month, month_start_us
from lineitem.rate.price import CompiledPrice
from lineitem.rate.targets import SETTLED_ACTIVE, fixed_due_nano


@dataclass(frozen=True, slots=True)
class Due:
    """A target that owes something at quantity zero; instants in microseconds since the epoch."""

    account: str
    row: PriceRow
    month: int  # core.period.Month.index
    start_us: int
    end_us: int
    since_us: int  # from when on the account is active in the month
    parts: int  # of ``whole``, in which it is


def dues(
    snapshot: Snapshot, months: Sequence[int], now_us: int, compile_: Callable[[PriceRow], CompiledPrice]
) -> Iterator[Due]:
    """What each active account owes once ``months`` are settled.

    In arrears each of ``months`` that has ended in the account's zone; in advance each that has begun, and the month after.
    A month is owed under the prices in force where the account's time in it begins. Where tiers go on through a change in a
    month (``on_change: continue``), that month owes nothing without usage: the first event brings what is due at zero.
    """
    meters = sorted({row.meter.id for row in snapshot.rows if not row.is_level})  # those are settled in `settle_levels`
    for account in snapshot.catalog.accounts:
        for month in sorted({*months, *(month + 1 for month in months)}) if account.active_from_us is not None else ():
            start, end = month_start_us(month, account.timezone), month_start_us(month + 1, account.timezone)
            since = max(start, account.active_from_us or 0)
            until = end if account.active_until_us is None else min(end, account.active_until_us)
            if start > now_us or since >= until:
                continue
            for row in rows_at(snapshot, account, month, since, meters):
                arrears_due = end <= now_us and month in months
                if not (arrears_due or in_advance(row.price)) or _shares_tiers(snapshot, row, start, end):
                    continue
                if row.price.is_commitment or _owes(compile_(row)):
                    parts = _parts(row.price.prorate, account.timezone, since, until)
                    yield Due(account.id, row, month, start, end, since, parts)


def in_advance(price: Price) -> bool:
    """Whether a month is due with the one before it."""
    return price.charge is Charge.IN_ADVANCE


def rows_at(
    snapshot: Snapshot, account: Account, month: int, time_us: int, meters: Sequence[str], until_us: int | None = None
) -> Iterator[PriceRow]:
    """The prices that bill ``account`` at an instant of a service month, by meter; a canary's where it takes part in one.

    ``until_us``: else the first that come into force before then.
    """
    own = snapshot.own_books.get(account.id)
    book = arm_at(snapshot.arms(account.id, account.pricebook), month) or account.pricebook
    for meter in meters:
        for start, end, rows in snapshot.schedule(book, own, meter):
            if end > time_us and (start <= time_us or start < (until_us or 0)):
                yield from (snapshot.rows[row] for row in rows)
                break


def whole(price: Price, month: int, start_us: int, end_us: int) -> int:
    """How many parts a month has, counted as the price is prorated."""
    if price.prorate is Prorate.DAY:
        return monthrange(month // 12, month % 12 + 1)[1]
    return end_us - start_us if price.prorate is Prorate.SECOND else SETTLED_ACTIVE


def _parts(prorate: Prorate | None, zone: str, since_us: int, until_us: int) -> int:
    """How many of them lie in ``[since_us, until_us)`` of one month, which is not empty; a day that is begun is whole."""
    if prorate is Prorate.DAY:
        return day_of_month(until_us - 1, zone) - day_of_month(since_us, zone) + 1
    return until_us - since_us if prorate is Prorate.SECOND else SETTLED_ACTIVE


def _shares_tiers(snapshot: Snapshot, row: PriceRow, start_us: int, end_us: int) -> bool:
    chains = snapshot.tier_chains if row.price.pool_name is None else None
    return chains is not None and bool(chains.chain(row.price_key, start_us, end_us))


def _owes(price: CompiledPrice) -> bool:
    return bool(price.minimum_nano or fixed_due_nano(price))
