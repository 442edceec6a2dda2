"""Prices that share tiers (``on_change: continue``): locked together, and posted again when an earlier part of one moves.

The quantity Q1 that a later part goes on with is that of every accepted event of the parts before it, those that wait for
a window included. A batch, a flush and a retraction therefore lock all parts of a period before they rate any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.snapshot import PriceRow, TierChains
from lineitem.kit.db import Connection
from lineitem.ledger import accumulators, carried, charges
from lineitem.ledger.accumulators import Targets
from lineitem.ledger.carried import Key
from lineitem.ledger.rows import Kind, LineItems
from lineitem.rate.exact import BoolArray, IntArray, compact, exceeds_ledger, subtract
from lineitem.rate.itemize import NO_EVENT, Rows, TargetState
from lineitem.rate.price import CompiledPrice
from lineitem.rate.targets import Base, base_of, total_nano, totals

Place = tuple[int, int]
"""Account key, start of the service period in microseconds."""


@dataclass(frozen=True, slots=True)
class Move:
    """How far something is about to move the usage of one price; columns (k,), ``tag_set`` that of its events."""

    row: PriceRow
    targets: Targets
    quantity: IntArray
    events: NDArray[np.int64]
    tag_set: NDArray[np.int32]

    @classmethod
    def none(cls, row: PriceRow, targets: Targets) -> Move:
        """Usage that is only posted: it does not move."""
        zeros = np.zeros(len(targets), dtype=np.int64)
        return cls(row, targets, zeros, zeros, zeros.astype(np.int32))


@dataclass(frozen=True, slots=True)
class Correction:
    """What targets of one price owe because the usage they go on with has moved: one row each, without an event."""

    row: PriceRow
    targets: Targets
    rows: Rows
    beyond: BoolArray  # (k,) targets that would pass what the ledger can hold

    def line_items(self) -> LineItems:
        """The rows as line items, where their tag sets are dictionary keys."""
        rows = self.rows
        return LineItems.without_events(
            account_key=self.targets.account_key[rows.target],
            price_version_key=rows.version_key,
            tag_set_key=rows.tag_set,
            kind=np.full(len(rows.target), int(Kind.TRUE_UP), dtype=np.int16),
            quantity=rows.quantity,
            amount_nano=rows.amount_nano,
            event_time_us=rows.time_us,
            service_month=self.targets.service_month[rows.target],
            posting_month=self.targets.service_month[rows.target],
        )


@dataclass(slots=True)
class Held:
    """Every part of the periods concerned, locked. ``usage``: quantity and events of each when all is done."""

    chains: TierChains
    locked: dict[int, tuple[PriceRow, Targets, TargetState]] = field(default_factory=dict)
    usage: dict[tuple[int, Place], tuple[int, int]] = field(default_factory=dict)
    moved: dict[tuple[int, Place], int] = field(default_factory=dict)  # to the tag set of what moved it
    carried: dict[Key, int] = field(default_factory=dict)  # units that months got from the month before
    refilled: dict[tuple[int, Place], int] = field(default_factory=dict)  # got others: to the account's tag set

    def base(self, row: PriceRow, targets: Targets) -> Base | None:
        """What each of ``targets`` of a price goes on with; None where the price never does."""
        if not (row.price.continues or row.price.pool_name):
            return None
        before = [
            [self.usage[(part.price_key, place)] for part in parts] for place, parts in self._before(row, targets)
        ]
        name = self.chains.pool_of(row.price_key)
        places = zip(targets.account_key.tolist(), targets.service_month.tolist(), strict=True)
        keys = [] if name is None else [Key(account, *name, month) for account, month in places]
        return base_of(row.price, before, [self.carried.get(key, 0) for key in keys])

    def _before(self, row: PriceRow, targets: Targets) -> Iterable[tuple[Place, tuple[PriceRow, ...]]]:
        columns = (targets.account_key.tolist(), targets.start_us.tolist(), targets.end_us.tolist())
        for account, start, end in zip(*columns, strict=True):
            yield (account, start), self.chains.before(row.price_key, start, end)

    def corrections(
        self, connection: Connection, compiled: Callable[[PriceRow], CompiledPrice]
    ) -> Iterator[Correction]:
        """Post T - posted for every target whose base has moved; what passes 38 digits is told and not saved."""
        for row, targets, state in self.locked.values():
            found = self._correct(connection, compiled(row), row, targets, state)
            if found is not None:
                yield found

    def _correct(
        self, connection: Connection, price: CompiledPrice, row: PriceRow, targets: Targets, state: TargetState
    ) -> Correction | None:
        causes = {}
        if row.price.continues or row.price.pool_name:
            for number, (place, parts) in enumerate(self._before(row, targets)):
                tags = [self.moved[(part.price_key, place)] for part in parts if (part.price_key, place) in self.moved]
                tags += [self.refilled[(row.price_key, place)]] if (row.price_key, place) in self.refilled else []
                if tags and state.events[number] > 0:
                    causes[number] = tags[0]
        at = np.array(list(causes), dtype=np.int64)
        base = self.base(row, targets) if len(at) else None
        if base is None:
            return None
        counted = state if price.charge is None else charges.load(connection, targets, state)
        posted = price.counted(counted.posted_quantity, counted.posted_charge)
        everything = price.counted(counted.fold.quantity, counted.charge)
        total = totals(price, posted, state.events, state.settled, base=base)
        amount = subtract(total[at], state.posted_nano[at])
        later = total_nano(price, everything, base)  # also once what waits is posted
        beyond = np.zeros(len(targets), dtype=np.bool_)
        beyond[at] = exceeds_ledger(total)[at] | exceeds_ledger(later)[at] | exceeds_ledger(amount)
        if not beyond.any():
            nano = state.posted_nano.astype(object)
            nano[at] = total[at]
            accumulators.save(connection, targets, replace(state, posted_nano=compact(nano)), keep_latest=False)
        owing = at[amount != 0]
        count = len(owing)
        rows = Rows(
            target=owing,
            event=np.full(count, NO_EVENT, dtype=np.int64),
            time_us=targets.start_us[owing],
            tag_set=np.array([causes[one] for one in owing.tolist()], dtype=np.int32),
            version_key=np.full(count, row.price_version_key, dtype=np.int32),
            quantity=np.zeros(count, dtype=np.int64),
            amount_nano=amount[amount != 0],
            recurring=np.zeros(count, dtype=np.bool_),
        )
        return Correction(row, targets, rows, beyond)


def concern(chains: TierChains, row: PriceRow, start_us: NDArray[np.int64], end_us: NDArray[np.int64]) -> bool:
    """Whether a price shares tiers with another in one of some periods."""
    periods = set(zip(start_us.tolist(), end_us.tolist(), strict=True))
    return any(chains.chain(row.price_key, *period) for period in periods)


def hold(connection: Connection, namespace_key: int, chains: TierChains, moves: Sequence[Move]) -> Held:
    """Lock all targets of ``moves`` and every other part of their periods, as all do: price by price in key order.

    Parts without usage are made, so that nobody can begin one unseen while this transaction relies on there being none.
    """
    held = Held(chains, carried=carried.share(connection, namespace_key, _carrying(chains, moves)))
    wanted: dict[int, dict[Place, tuple[int, int]]] = {}
    rows: dict[int, PriceRow] = {}
    for move in moves:
        for place, month, end in _places(move.targets):
            parts = chains.chain(move.row.price_key, place[1], end)
            for row in (move.row, *parts):
                rows.setdefault(row.price_key, row)
                wanted.setdefault(row.price_key, {})[place] = (month, end)
    for key in sorted(wanted):
        targets = _targets(key, wanted[key])
        state = accumulators.lock(connection, namespace_key, targets)
        held.locked[key] = (rows[key], targets, state)
        numbers = zip(state.fold.quantity.tolist(), state.events.tolist(), strict=True)
        held.usage |= {(key, place): used for (place, *_), used in zip(_places(targets), numbers, strict=True)}
    for move in moves:
        columns = (move.quantity.tolist(), move.events.tolist(), move.tag_set.tolist())
        for (place, *_), quantity, events, tag_set in zip(_places(move.targets), *columns, strict=True):
            one = (move.row.price_key, place)
            before = held.usage[one]
            held.usage[one] = (before[0] + quantity, before[1] + events)
            if quantity or events:
                held.moved[one] = tag_set
    return held


def _carrying(chains: TierChains, moves: Sequence[Move]) -> list[Key]:
    """The months of pools that may have got units from the month before."""
    keys: set[Key] = set()
    for move in moves:
        name = chains.pool_of(move.row.price_key)
        if name is None or not chains.carries_over(name):
            continue
        columns = (move.targets.account_key.tolist(), move.targets.service_month.tolist())
        keys |= {Key(account, *name, month) for account, month in zip(*columns, strict=True)}
    return sorted(keys)


def _places(targets: Targets) -> Iterable[tuple[Place, int, int]]:
    """Place, service month and end of the period of each target."""
    columns = (targets.account_key, targets.start_us, targets.service_month, targets.end_us)
    for account, start, month, end in zip(*(column.tolist() for column in columns), strict=True):
        yield (account, start), month, end


def _targets(price_key: int, places: dict[Place, tuple[int, int]]) -> Targets:
    ordered = sorted(places.items())
    return Targets.of(price_key, [(account, month, start, end) for (account, start), (month, end) in ordered])
