"""What accounts have committed themselves to in a month, beside what the prices that count towards it came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from lineitem.catalog import published
from lineitem.catalog.commitments import counts
from lineitem.catalog.model import Account
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.core.money import NANO
from lineitem.core.period import month_start_us
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.rate.dues import dues, rows_at, whole
from lineitem.rate.price import CompiledPrice

SQL = load_queries("lineitem.ledger", "settle.sql")

Spent = dict[tuple[int, int], dict[tuple[str, str], tuple[int, int]]]
"""(account key, service month) -> (price, currency) -> (posted nano-units, events)."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """A commitment of one account and month, and how far its prices fill it; instants in microseconds since the epoch."""

    row: PriceRow
    account_key: int
    month: int
    start_us: int
    end_us: int
    since_us: int
    parts: int  # of ``rate.dues.whole``
    filled_nano: int  # at most the commitment: what is beyond it does not count

    @property
    def key(self) -> tuple[int, int, int]:
        """Account, price and month."""
        return self.account_key, self.row.price_key, self.month


def unsettled(
    connection: Connection,
    snapshot: Snapshot,
    months: Sequence[int],
    now_us: int,
    compile_: Callable[[PriceRow], CompiledPrice],
    account: str | None,
) -> Iterator[Commitment]:
    """Commitments of ``months`` that have ended and are not settled as they should be.

    An account that is active owes for its time in the month, any other for a month in which a price that counts has usage.
    """
    rows = {row.price_key: row for row in snapshot.rows if row.price.is_commitment}
    if not rows:
        return
    where = {"namespace_key": snapshot.namespace_key, "months": list(months), "account": account, "prices": list(rows)}
    spent = _spent(connection, where)
    stored = {tuple(row[:3]): row[3:] for row in connection.execute(SQL.settled_commitments, where).fetchall()}
    accounts = published.accounts_by_key(connection, sorted({account_key for account_key, _ in spent}))
    listed = [
        one.id for one in snapshot.catalog.accounts if one.active_from_us is not None and account in (None, one.id)
    ]
    keys = {
        name: row.account_key for name, row in published.accounts(connection, snapshot.namespace_key, listed).items()
    }
    owed = {one.key: one for one in owed_by(snapshot, accounts, keys, spent, months, now_us, compile_)}
    for key, (settled, quantity, start_us, end_us) in stored.items():
        if key not in owed:
            row = rows[key[1]]
            owed[key] = Commitment(row, key[0], key[2], start_us, end_us, start_us, 0, 0)
        if (settled, quantity) == (owed[key].parts, owed[key].filled_nano):
            del owed[key]
    yield from owed.values()


def _spent(connection: Connection, where: dict[str, object]) -> Spent:
    spent: Spent = {}
    for account_key, month, price, currency, nano, events in connection.execute(SQL.spent, where).fetchall():
        spent.setdefault((account_key, month), {})[(price, currency)] = (int(nano), int(events))
    return spent


def owed_by(
    snapshot: Snapshot,
    accounts: Mapping[int, Account],
    keys: Mapping[str, int],
    spent: Spent,
    months: Sequence[int],
    now_us: int,
    compile_: Callable[[PriceRow], CompiledPrice],
) -> Iterator[Commitment]:
    """Every commitment of ``months`` that have ended. Pure. ``accounts``: those of ``spent``; ``keys``: of the active ones."""
    active = {one.id for one in snapshot.catalog.accounts if one.active_from_us is not None}
    for (account_key, month), amounts in spent.items():
        account = accounts[account_key]
        if account.id in active:
            continue
        start_us, end_us = (month_start_us(one, account.timezone) for one in (month, month + 1))
        for row in rows_at(snapshot, account, month, start_us, [""], end_us) if end_us <= now_us else ():
            used = any(events or nano for name, (nano, events) in amounts.items() if counts(row.price, *name))
            if row.price.is_commitment and used:
                of = whole(row.price, month, start_us, end_us)
                filled = _filled(row, amounts, of, of)
                yield Commitment(row, account_key, month, start_us, end_us, start_us, of, filled)
    for due in dues(snapshot, months, now_us, compile_):
        if due.row.price.is_commitment and due.account in keys:
            place = (keys[due.account], due.month)
            of = whole(due.row.price, due.month, due.start_us, due.end_us)
            filled = _filled(due.row, spent.get(place, {}), due.parts, of)
            yield Commitment(due.row, *place, due.start_us, due.end_us, due.since_us, due.parts, filled)


def _filled(row: PriceRow, amounts: dict[tuple[str, str], tuple[int, int]], parts: int, of: int) -> int:
    """What counts, in nano-units: up to the share of the commitment that is due, rounded up so that it leaves nothing."""
    due: int = ceil(Fraction(row.price.amount or 0) * NANO * parts / of)
    return min(sum(nano for name, (nano, _) in amounts.items() if counts(row.price, *name)), due)
