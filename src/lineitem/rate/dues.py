"""What active accounts owe without any usage: which prices of which months. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lineitem.catalog.model import Account
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.core.period import month_start_us
from lineitem.rate.price import CompiledPrice
from lineitem.rate.targets import fixed_due_nano


@dataclass(frozen=True, slots=True)
class Due:
    """A target that owes something at quantity zero; instants in microseconds since the epoch."""

    account: str
    row: PriceRow
    month: int  # core.period.Month.index
    start_us: int
    end_us: int
    since_us: int  # from when on the account is active in the month


def dues(
    snapshot: Snapshot, months: Sequence[int], now_us: int, compile_: Callable[[PriceRow], CompiledPrice]
) -> Iterator[Due]:
    """What each active account owes for each of ``months`` that has ended in its zone.

    A month is owed under the prices in force where the account's time in it begins.
    """
    for account in snapshot.catalog.accounts:
        if account.active_from_us is None:
            continue
        for month in months:
            start, end = month_start_us(month, account.timezone), month_start_us(month + 1, account.timezone)
            since = max(start, account.active_from_us)
            until = end if account.active_until_us is None else min(end, account.active_until_us)
            if end > now_us or since >= until:
                continue
            for row in rows_at(snapshot, account, since):
                price = compile_(row)
                if price.minimum_nano or fixed_due_nano(price):
                    yield Due(account.id, row, month, start, end, since)


def rows_at(snapshot: Snapshot, account: Account, time_us: int) -> Iterator[PriceRow]:
    """The prices that bill ``account`` at an instant, by meter."""
    own = snapshot.own_books.get(account.id)
    for meter in sorted({row.meter.id for row in snapshot.rows}):
        for start, end, rows in snapshot.schedule(account.pricebook, own, meter):
            if start <= time_us < end:
                yield from (snapshot.rows[row] for row in rows)
