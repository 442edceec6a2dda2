"""Carry unused included units over: what a month that has ended leaves of its pools, the next month gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lineitem.catalog import published
from lineitem.catalog.model import Account
from lineitem.catalog.pools import pool_units, rollover_units
from lineitem.catalog.snapshot import PriceRow, Snapshot, TierChains
from lineitem.core.period import month_start_us
from lineitem.kit.db import Connection
from lineitem.ledger import carried, tiers
from lineitem.ledger.accumulators import Targets
from lineitem.ledger.carried import SQL, Key
from lineitem.ledger.rating import Rater
from lineitem.ledger.tiers import Correction, Move
from lineitem.rate.dues import rows_at

MOST = 5000
"""Accounts of one transaction."""

Pool = tuple[int, tuple[str, str], int]
"""Account key, (pricebook, name), service month."""


@dataclass(frozen=True, slots=True)
class Carry:
    """What the next month of one account gets of one pool; ``units`` at the meter's scale."""

    account: Account
    key: Key
    units: int


def unsettled(
    connection: Connection, snapshot: Snapshot, months: Sequence[int], now_us: int, account: str | None
) -> list[Carry]:
    """What is to be carried out of the first of ``months`` that has ended and from which something else was carried so far."""
    chains = snapshot.tier_chains
    rows = [row.price_key for row in snapshot.rows if _carries_over(chains, row)]
    if chains is None or not rows:
        return []
    had = carried.of_months(connection, snapshot.namespace_key, [*months, *(month + 1 for month in months)], account)
    where = {"namespace_key": snapshot.namespace_key, "months": list(months), "prices": rows, "account": account}
    used: dict[Pool, dict[int, int]] = {}
    for account_key, month, price_key, quantity, _ in connection.execute(SQL.used, where).fetchall():
        name = chains.pool_of(price_key)
        if name is not None:
            used.setdefault((account_key, name, month), {})[price_key] = max(int(quantity), 0)
    accounts = {account_key for account_key, _, _ in used} | {key.account_key for key in had}
    known = published.accounts_by_key(connection, sorted(accounts))
    active = dict(_active(connection, snapshot, months, account))
    known |= {key: one for key, one in active.items() if key not in known}
    for month in sorted(months):
        found = carries(snapshot, chains, known, active, used, had, month, now_us)
        if found:
            return found[:MOST]
    return []


def carries(
    snapshot: Snapshot,
    chains: TierChains,
    known: Mapping[int, Account],
    active: Mapping[int, Account],
    used: Mapping[Pool, dict[int, int]],
    had: Mapping[Key, int],
    month: int,
    now_us: int,
) -> list[Carry]:
    """What one month that has ended leaves for the next, where that is not what the next one has. Pure.

    ``known``: accounts by key; ``active``: those that say when they are; ``used``: price key -> quantity of each pool;
    ``had``: what months got so far.
    """
    pools = {(key, name) for key, name, of in used if of == month}
    pools |= {(key.account_key, (key.pricebook, key.pool)) for key in had if key.month == month and had[key]}
    pools |= {(key, name) for key, one in active.items() for name in _pools_of(snapshot, chains, one, month)}
    return [
        one for key, name in sorted(pools) for one in _carry(chains, known[key], (key, name, month), used, had, now_us)
    ]


def _carry(
    chains: TierChains,
    account: Account,
    pool: Pool,
    used: Mapping[Pool, dict[int, int]],
    had: Mapping[Key, int],
    now_us: int,
) -> Iterator[Carry]:
    account_key, name, month = pool
    start_us, end_us = _bounds(account, month)
    if end_us > now_us:
        return
    parts, key = chains.pool_parts(name, start_us, end_us), Key(account_key, *name, month + 1)
    units = 0
    if parts:
        last, scale = parts[-1].price, parts[-1].meter.quantity_scale
        included = (pool_units(last, scale) or 0) + had.get(Key(account_key, *name, month), 0)
        left = included - sum(used.get(pool, {}).values())
        units = min(max(left, 0), rollover_units(last, scale))
    if units != had.get(key, 0):
        yield Carry(account, key, units)


def _active(
    connection: Connection, snapshot: Snapshot, months: Sequence[int], account: str | None
) -> Iterator[tuple[int, Account]]:
    """The accounts that say when they are active, with their keys."""
    listed = {
        one.id: one
        for one in snapshot.catalog.accounts
        if one.active_from_us is not None and account in (None, one.id) and months
    }
    for name, row in published.accounts(connection, snapshot.namespace_key, sorted(listed)).items():
        yield row.account_key, listed[name]


def _pools_of(snapshot: Snapshot, chains: TierChains, account: Account, month: int) -> set[tuple[str, str]]:
    """The pools that an active account has in a month, by the prices in force where its time in it begins."""
    start_us, end_us = _bounds(account, month)
    since = max(start_us, account.active_from_us or 0)
    if since >= min(end_us, account.active_until_us or end_us):
        return set()
    meters = sorted({row.meter.id for row in snapshot.rows if _carries_over(chains, row)})
    rows = (row for row in rows_at(snapshot, account, month, since, meters) if _carries_over(chains, row))
    return {(row.pricebook, row.price.pool_name or "") for row in rows}


def _carries_over(chains: TierChains | None, row: PriceRow) -> bool:
    """Whether a price is of a pool that carries units over, in this version or another."""
    name = None if chains is None else chains.pool_of(row.price_key)
    return chains is not None and name is not None and chains.carries_over(name)


def post(
    connection: Connection, snapshot: Snapshot, rater: Rater, carries: Sequence[Carry], tags: Mapping[int, int]
) -> Iterator[Correction]:
    """Let the next months have the units, and post again what their prices owe less, or more, for it.

    ``tags``: the tag set of each account.
    """
    assert snapshot.tier_chains is not None
    carried.change(connection, snapshot.namespace_key, {one.key: one.units for one in carries})
    rows = {row.price_key: row for row in snapshot.rows}
    where = {
        "namespace_key": snapshot.namespace_key, "months": sorted({one.key.month for one in carries}),
        "prices": [key for key in rows if snapshot.tier_chains.pool_of(key) is not None], "account": None,
    }  # fmt: skip
    wanted = {(one.key.account_key, (one.key.pricebook, one.key.pool), one.key.month): one for one in carries}
    moves: dict[int, list[Carry]] = {}
    for account_key, month, price_key, *_ in connection.execute(SQL.used, where).fetchall():
        one = wanted.get((account_key, snapshot.tier_chains.pool_of(price_key) or ("", ""), month))
        if one is not None:
            moves.setdefault(price_key, []).append(one)
    if moves:
        placed = [Move.none(rows[key], _targets(key, moves[key])) for key in sorted(moves)]
        held = tiers.hold(connection, snapshot.namespace_key, snapshot.tier_chains, placed)
        for move in placed:
            places = zip(move.targets.account_key.tolist(), move.targets.start_us.tolist(), strict=True)
            held.refilled |= {(move.row.price_key, place): tags[place[0]] for place in places}
        yield from held.corrections(connection, rater.compile)


def _bounds(account: Account, month: int) -> tuple[int, int]:
    """Start and end of a service month."""
    return month_start_us(month, account.timezone), month_start_us(month + 1, account.timezone)


def _targets(price_key: int, carries: Sequence[Carry]) -> Targets:
    ordered = sorted(carries, key=lambda one: one.key.account_key)
    return Targets.of(
        price_key, [(one.key.account_key, one.key.month, *_bounds(one.account, one.key.month)) for one in ordered]
    )
