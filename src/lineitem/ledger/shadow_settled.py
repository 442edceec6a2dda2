"""What months cost once they are settled, worked out for a catalog that need not be in force, without writing anything.

Beside what usage comes to: units carried over, levels, dues without usage, commitments. The functions that say what each owes
are those by which the ledger settles; only usage comes from elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from lineitem.catalog import published
from lineitem.catalog.commitments import counts
from lineitem.catalog.model import Account
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.core.period import Month
from lineitem.kit.db import Connection
from lineitem.ledger import carried, commitments, levels, rollover
from lineitem.ledger.carried import Key
from lineitem.ledger.level_months import holders
from lineitem.ledger.levels import Pair
from lineitem.ledger.refold import PriceFold, bases
from lineitem.rate.dues import dues, in_advance, whole
from lineitem.rate.levels import Held, Reading, held_in, total, windows_of
from lineitem.rate.price import CompiledPrice, compile_price
from lineitem.rate.targets import SETTLED, Base, totals

PAIRS_AT_ONCE = 1000
"""Accounts and meters whose readings are read together."""


class Owed(NamedTuple):
    """What one price of one account comes to in one service month; ``free``: events of a quantity above 0 that costs 0."""

    account_key: int
    price: str
    currency: str
    month: int
    nano: int
    events: int
    free: int = 0


@dataclass(frozen=True, slots=True)
class Scope:
    """What is compared: months (``core.period.Month.index``), accounts (None: all), and prices that are left out of it."""

    months: Sequence[int]
    now_us: int
    only: Collection[int] | None
    left_out: Collection[str]

    def wants(self, account_key: int) -> bool:
        """Whether an account is asked for."""
        return self.only is None or account_key in self.only


@dataclass(slots=True)
class Ledger:
    """What the ledger knows and no catalog changes; read once for all sides.

    ``keys``: account -> its key, below zero for accounts that only a draft lists; ``readings`` in order.
    """

    accounts: dict[int, Account] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    carried: dict[Key, int] = field(default_factory=dict)
    readings: dict[Pair, list[Reading]] = field(default_factory=dict)

    @classmethod
    def read(
        cls, connection: Connection, in_force: Snapshot, scope: Scope, used: Iterable[int], listed: Collection[str]
    ) -> Ledger:
        """``used``: accounts with usage in the months; ``listed``: accounts that some catalog lists."""
        key = in_force.namespace_key
        found = published.accounts(connection, key, sorted(listed))
        keys = {name: row.account_key for name, row in found.items()}
        keys |= {name: -1 - at for at, name in enumerate(sorted(set(listed) - keys.keys()))}
        pairs = [pair for pair in levels.pairs(connection, key, None) if scope.wants(pair.account_key)]
        before = carried.of_months(connection, key, scope.months[:1])
        known = {*used, *(at for at in keys.values() if at >= 0), *(pair.account_key for pair in pairs)}
        accounts = published.accounts_by_key(connection, sorted(known | {one.account_key for one in before}))
        return cls(
            accounts=accounts,
            keys={name: at for name, at in keys.items() if scope.wants(at)},
            carried={one: units for one, units in before.items() if scope.wants(one.account_key)},
            readings=_readings(connection, in_force, scope, pairs, accounts),
        )


def _readings(
    connection: Connection, in_force: Snapshot, scope: Scope, pairs: Sequence[Pair], accounts: dict[int, Account]
) -> dict[Pair, list[Reading]]:
    known, found = holders(in_force, accounts), dict[Pair, list[Reading]]()
    for at in range(0, len(pairs), PAIRS_AT_ONCE):
        spans = [
            (
                pair,
                known[pair.account_key].bounds(scope.months[0])[0],
                known[pair.account_key].bounds(scope.months[-1])[1],
            )
            for pair in pairs[at : at + PAIRS_AT_ONCE]
        ]
        stored = levels.readings(connection, in_force.namespace_key, spans)
        found |= {pair: [one.reading for one in some] for pair, some in stored.items()}
    return found


@dataclass(slots=True)
class Side:
    """One catalog: the folds of all usage under it, and the pricebooks it gives to accounts (others keep theirs)."""

    snapshot: Snapshot
    folds: dict[int, PriceFold]
    pricebooks: Mapping[str, str | None] = field(default_factory=dict)

    def owed(self, ledger: Ledger, scope: Scope) -> list[Owed]:
        """All there is, in no order."""
        accounts = {key: self._moved(one) for key, one in ledger.accounts.items()}
        found = list(
            usage_of(self.folds, bases(self.folds, self.snapshot.tier_chains, self._carried(ledger, scope, accounts)))
        )
        found += self._levels(ledger, scope, accounts)
        found += self._dues(ledger, scope)
        return [*found, *self._commitments(ledger, scope, accounts, found)]

    def _moved(self, account: Account) -> Account:
        return replace(account, pricebook=self.pricebooks.get(account.id, account.pricebook))

    def _carried(self, ledger: Ledger, scope: Scope, accounts: Mapping[int, Account]) -> dict[Key, int]:
        """The units each month gets: the first one what it has, the others what the month before leaves."""
        chains = self.snapshot.tier_chains
        if chains is None or not any(chains.carries_over(name) for name in chains.pools):
            return {}
        had = {key: units for key, units in ledger.carried.items() if (key.pricebook, key.pool) in chains.pools}
        used: dict[rollover.Pool, dict[int, int]] = {}
        for price_key, fold in self.folds.items():
            name = chains.pool_of(price_key)
            if name is not None and chains.carries_over(name):
                for code, quantity in zip(fold.code.tolist(), fold.state.quantity.tolist(), strict=True):
                    used.setdefault((code >> 20, name, code & 0xFFFFF), {})[price_key] = max(int(quantity), 0)
        active = {
            ledger.keys[one.id]: one
            for one in self.snapshot.catalog.accounts
            if one.active_from_us is not None and one.id in ledger.keys
        }
        for month in scope.months:
            known = active | dict(accounts)
            for one in rollover.carries(self.snapshot, chains, known, active, used, had, month, scope.now_us):
                had[one.key] = one.units
        return had

    def _levels(self, ledger: Ledger, scope: Scope, accounts: dict[int, Account]) -> Iterator[Owed]:
        """Months of levels that have ended; in advance those that have begun."""
        if not any(row.is_level for row in self.snapshot.rows):
            return
        known = holders(self.snapshot, accounts)
        for pair, readings in ledger.readings.items():
            holder = known[pair.account_key]
            for month in scope.months:
                start, end = holder.bounds(month)
                for windows in windows_of(self.snapshot, holder, month, pair.meter).values():
                    for held in held_in(windows, readings, holder, month).values():
                        price, events = held.row.price, _readings_in(held, readings)
                        if price.id in scope.left_out or (start if in_advance(price) else end) > scope.now_us:
                            continue
                        nano = total(_compiled(held.row), held, month, start, end)
                        if nano or events or held.quantity:
                            yield Owed(pair.account_key, price.id, price.currency, month, nano, events)

    def _dues(self, ledger: Ledger, scope: Scope) -> Iterator[Owed]:
        """What active accounts owe for months without usage of a price."""
        none = np.zeros(1, dtype=np.int64)
        for due in dues(self.snapshot, scope.months, scope.now_us, _compiled):
            key, fold = ledger.keys.get(due.account), self.folds.get(due.row.price_key)
            if key is None or due.month not in scope.months or due.row.price.is_commitment:
                continue
            if fold is not None and key << 20 | due.month in fold.code:
                continue
            price, of = due.row.price, whole(due.row.price, due.month, due.start_us, due.end_us)
            nano = totals(_compiled(due.row), none, none, np.array([due.parts]), np.array([of]))
            yield Owed(key, price.id, price.currency, due.month, int(nano[0]), 0)

    def _commitments(
        self, ledger: Ledger, scope: Scope, accounts: Mapping[int, Account], found: Iterable[Owed]
    ) -> Iterator[Owed]:
        """What is missing of them, beside what all other prices have come to."""
        if not any(row.price.is_commitment for row in self.snapshot.rows):
            return
        spent: commitments.Spent = {}
        for one in found:
            amounts = spent.setdefault((one.account_key, one.month), {})
            nano, events = amounts.get((one.price, one.currency), (0, 0))
            amounts[(one.price, one.currency)] = nano + one.nano, events + one.events
        every = dict(accounts) | {
            ledger.keys[one.id]: one for one in self.snapshot.catalog.accounts if ledger.keys.get(one.id, 0) < 0
        }
        none = np.zeros(1, dtype=np.int64)
        for due in commitments.owed_by(self.snapshot, every, ledger.keys, spent, scope.months, scope.now_us, _compiled):
            price = due.row.price
            if price.id in scope.left_out or due.month not in scope.months:
                continue
            filled = np.array([due.filled_nano], dtype=object)
            of = np.array([whole(price, due.month, due.start_us, due.end_us)])
            missing = totals(_compiled(due.row), filled, none, np.array([due.parts]), of)
            yield Owed(due.account_key, price.id, price.currency, due.month, int(missing[0]), 0)


def _compiled(row: PriceRow) -> CompiledPrice:
    return compile_price(row.price, row.quantity_scale)


def _readings_in(held: Held, readings: Sequence[Reading]) -> int:
    return sum(any(one.start_us <= reading.time_us < one.end_us for one in held.windows) for reading in readings)


def usage_of(folds: dict[int, PriceFold], base_of: Mapping[int, Base]) -> Iterator[Owed]:
    """T of every target with usage, as its month costs in the end."""
    for price_key, fold in folds.items():
        price, compiled = fold.row.price, _compiled(fold.row)
        settled = np.full(len(fold.code), SETTLED)
        amounts = totals(compiled, fold.billed, fold.events, settled, base=base_of.get(price_key)).tolist()
        columns = (fold.code.tolist(), amounts, (fold.state.quantity > 0).tolist(), fold.events.tolist())
        for code, nano, used, events in zip(*columns, strict=True):
            free = events if used and not nano else 0
            yield Owed(code >> 20, price.id, price.currency, code & 0xFFFFF, nano, events, free)


def uncompared(in_force: Snapshot, drafts: Sequence[Snapshot]) -> dict[str, str]:
    """Prices that cannot be compared, by id, and why: their meter's readings are not those of the ledger."""
    stored = {meter.id: meter for meter in in_force.catalog.meters}
    found: dict[str, str] = {}
    for draft in drafts:
        for row in draft.rows:
            if row.is_level and stored.get(row.meter.id) != row.meter:
                found[row.price.id] = (
                    f"the draft changes or adds the meter {row.meter.id}, whose readings before these months would have"
                    " to be read again"
                )
    every = [row for snapshot in (in_force, *drafts) for row in snapshot.rows]
    currencies = {(row.price.id, row.price.currency) for row in every if row.price.id in found}
    for row in every:
        missing = [name for name, currency in sorted(currencies) if counts(row.price, name, currency)]
        if row.price.is_commitment and missing:
            found.setdefault(row.price.id, f"it counts {missing[0]}, which is not compared")
    return found


def unended(snapshots: Sequence[Snapshot], months: Sequence[int], now_us: int) -> dict[str, str]:
    """Prices of which only the months that have ended are compared, by id, and why."""
    running = [Month.from_index(one) for one in months if Month.from_index(one).bounds_us("UTC")[1] > now_us]
    if not running:
        return {}
    why = f"what a month owes beside its usage is known when it has ended, and {running[0]} has not"
    return {
        row.price.id: why
        for snapshot in snapshots
        for row in snapshot.rows
        if not in_advance(row.price) and (row.is_level or row.price.is_commitment or not row.price.meter)
    }
