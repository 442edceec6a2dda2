"""Rate a batch against the ledger's running usage, inside its transaction: amount = T(now) - posted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.catalog.model import Aggregation
from lineitem.catalog.snapshot import PriceRow, TierChains
from lineitem.ingest.events import EventColumns
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import accumulators, charges, levels, periods, tiers
from lineitem.ledger.accumulators import Targets
from lineitem.ledger.rows import Kind, LineItems
from lineitem.ledger.tiers import Correction, Held, Move
from lineitem.rate.allowance import Members
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.folds import first_of, running_sum
from lineitem.rate.itemize import Rows, Waiting, itemize
from lineitem.rate.levels import beyond as levels_beyond
from lineitem.rate.overflow import leading_beyond, overflowing
from lineitem.rate.price import CompiledPrice, compile_price

SQL = load_queries("lineitem.ledger", "ledger.sql")


class AmountTooLarge(Exception):
    """Totals the ledger cannot hold; ``events`` (rows of the batch) must be set aside and the batch rated again."""

    def __init__(self, events: list[int]) -> None:
        super().__init__(f"{len(events)} events lead beyond 38 digits")
        self.events = events


@dataclass(slots=True)
class Itemized:
    """What a batch adds: line items in ``seq`` order, their currencies (n,), and how many events wait for a window."""

    items: LineItems
    currencies: NDArray[np.str_]
    waiting: int


@dataclass(slots=True)
class _Posted:
    row: PriceRow
    targets: Targets
    rows: Rows
    kind: Kind


@dataclass(slots=True)
class _PriceResult(_Posted):
    usage: PriceUsage
    waiting: Waiting


@dataclass(slots=True)
class Rater:
    """Rates batches; remembers compiled prices by their key, whose content never changes."""

    compiled: dict[int, CompiledPrice] = field(default_factory=dict)

    def compile(self, row: PriceRow) -> CompiledPrice:
        """The price of ``row``, compiled once."""
        if row.price_key not in self.compiled:
            self.compiled[row.price_key] = compile_price(row.price, row.quantity_scale)
        return self.compiled[row.price_key]

    def rate(
        self,
        connection: Connection,
        namespace_key: int,
        usage: Sequence[PriceUsage],
        events: EventColumns,
        accepted: NDArray[np.bool_],
        tag_set_keys: Sequence[int],
        now_us: int,
        chains: TierChains | None = None,
    ) -> Itemized:
        """Rate the accepted events of a batch and update running usage.

        ``usage`` in order of price key (all lanes lock alike); ``chains``: which prices share tiers, if any do. Raises
        AmountTooLarge; the transaction must then end.
        """
        kept = [one for one in (one.select(accepted[one.event]) for one in usage) if len(one.event)]
        held = None if chains is None else _held(connection, namespace_key, chains, kept)
        corrections = [] if held is None else self._correct(connection, held, kept)
        results = []
        too_large: list[int] = []
        for one in kept:
            try:
                if one.row.is_level:
                    self._count_readings(connection, namespace_key, one)
                else:
                    results.append(self._rate_price(connection, namespace_key, one, now_us, held))
            except AmountTooLarge as error:
                too_large += error.events
        if too_large:
            raise AmountTooLarge(too_large)
        tags = np.array(tag_set_keys, dtype=np.int32)
        settled_later = levels.store(connection, namespace_key, [one for one in kept if one.row.is_level], len(events))
        waiting = _add_pending(connection, namespace_key, results, settled_later, tags)
        items, currencies = _assemble([*corrections, *results], events, tags)
        items.posting_month = post_to_open_months(connection, namespace_key, items.service_month)
        items.kind[(items.posting_month != items.service_month) & (items.kind == Kind.USAGE)] = Kind.CORRECTION
        return Itemized(items, currencies, waiting)

    def _count_readings(self, connection: Connection, namespace_key: int, usage: PriceUsage) -> None:
        """Readings of levels are counted here and rated when their month is settled."""
        beyond = levels_beyond(
            usage.row, self.compile(usage.row), usage.value, usage.period_end_us - usage.period_start_us
        )
        if beyond.any():
            raise AmountTooLarge(usage.event[beyond].tolist())
        levels.count_events(connection, namespace_key, *group_targets(usage), by=1)

    def _correct(self, connection: Connection, held: Held, usage: Sequence[PriceUsage]) -> list[_Posted]:
        """Post again what goes on with usage that this batch moves."""
        posted: list[_Posted] = []
        too_large: list[int] = []
        for found in held.corrections(connection, self.compile):
            if found.beyond.any():
                too_large += _movers(held.chains, found, usage)
            posted.append(_Posted(found.row, found.targets, found.rows, Kind.TRUE_UP))
        if too_large:
            raise AmountTooLarge(too_large)
        return posted

    def _rate_price(
        self, connection: Connection, namespace_key: int, usage: PriceUsage, now_us: int, held: Held | None
    ) -> _PriceResult:
        usage, target, targets = group_targets(usage)
        price, aggregation = self.compile(usage.row), usage.row.meter.aggregation
        before = accumulators.lock(connection, namespace_key, targets)
        if held is not None:
            before.base = held.base(usage.row, targets)
        allowance = None if price.charge is None else price.charge.allowance
        members = Members.none()
        if price.charge is not None:
            before = charges.load(connection, targets, before)
        if allowance is not None:
            members = charges.members(connection, targets)

        def counted(usage: PriceUsage, target: NDArray[np.int64]) -> tuple[PriceUsage, Members]:
            if allowance is None:
                return usage, members
            return charges.charged(allowance, usage, target, len(targets), members)

        usage, members_after = counted(usage, target)
        new_member = None
        if aggregation is Aggregation.UNIQUE and usage.member is not None:
            first = first_of(target, usage.member)
            new_member = accumulators.new_members(connection, targets, target, usage.member, first)
            accumulators.add_members(connection, namespace_key, targets, target[new_member], usage.member[new_member])
        rows, waiting, after = itemize(usage, target, before, price, now_us, new_member)
        beyond = overflowing(price, rows, waiting, after)
        if beyond.any():

            def overflowing_with(kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
                some, _ = counted(usage.select(kept), target[kept])
                new = None if new_member is None else new_member[kept]
                return overflowing(price, *itemize(some, target[kept], before, price, now_us, new))

            size = usage.value if usage.charge is None or price.promoted is not None else usage.charge
            lost = leading_beyond(target, size, beyond, overflowing_with)
            raise AmountTooLarge(usage.event[lost].tolist())
        accumulators.save(connection, targets, after, aggregation is Aggregation.LATEST)
        if price.charge is not None:
            charges.save(connection, targets, after)
            charges.replace_members(connection, namespace_key, targets, members, members_after)
        return _PriceResult(usage.row, targets, rows, Kind.USAGE, usage, waiting)


def _held(connection: Connection, namespace_key: int, chains: TierChains, usage: Sequence[PriceUsage]) -> Held | None:
    """The parts of all periods concerned, locked; None where no price of the batch shares tiers in its periods."""
    if not any(tiers.concern(chains, one.row, one.period_start_us, one.period_end_us) for one in usage):
        return None
    return tiers.hold(connection, namespace_key, chains, [_move(one) for one in usage])


def _move(usage: PriceUsage) -> Move:
    usage, target, targets = group_targets(usage)
    zeros = np.zeros(len(targets), dtype=np.int64)
    _, quantity = running_sum(target, usage.value, zeros)  # only sums and counts share tiers
    head = np.searchsorted(target, np.arange(len(targets)))
    return Move(usage.row, targets, quantity, np.bincount(target, minlength=len(targets)), usage.tag_set[head])


def _movers(chains: TierChains, found: Correction, usage: Sequence[PriceUsage]) -> list[int]:
    """Events of the batch that move what targets go on with beyond 38 digits: all of them, for no single one does."""
    events: list[int] = []
    places = zip(found.targets.account_key[found.beyond], found.targets.start_us[found.beyond], strict=True)
    for account, start in places:
        for one in usage:
            mine = np.flatnonzero((one.account_key == account) & (one.period_start_us == start))
            if not len(mine):
                continue
            parts = chains.before(found.row.price_key, int(start), int(one.period_end_us[mine[0]]))
            if any(part.price_key == one.row.price_key for part in parts):
                events += one.event[mine].tolist()
    return events


def group_targets(usage: PriceUsage) -> tuple[PriceUsage, NDArray[np.int64], Targets]:
    """``usage`` sorted by (account, service period, time), each row's target 0..k-1, and the targets."""
    code = (usage.account_key.astype(np.int64) << 20) | usage.service_month
    distinct, target = np.unique(code, return_inverse=True)
    order = np.lexsort((usage.time_us, target))
    usage, target = usage.select(order), target[order].astype(np.int64)
    head = np.searchsorted(target, np.arange(len(distinct)))
    targets = Targets(
        usage.row.price_key,
        usage.account_key[head],
        usage.service_month[head],
        usage.period_start_us[head],
        usage.period_end_us[head],
    )
    return usage, target, targets


def post_to_open_months(
    connection: Connection, namespace_key: int, service_month: NDArray[np.int32]
) -> NDArray[np.int32]:
    """The posting month of each row, with every month involved held open until the transaction ends."""
    wanted = set(np.unique(service_month).tolist())
    held: set[int] = set()
    posting = service_month
    while wanted - held:
        periods.share(connection, namespace_key, sorted(wanted - held))
        held |= wanted
        posting = periods.posting_months(service_month, periods.closed_months(connection, namespace_key))
        wanted = set(np.unique(posting).tolist())
    return posting


def _add_pending(
    connection: Connection,
    namespace_key: int,
    results: list[_PriceResult],
    settled_later: NDArray[np.bool_],
    tags: NDArray[np.int32],
) -> int:
    """Store waiting windows; each waiting event is counted once, at the window that keeps it longest.

    ``settled_later``: (n,) bool, events that wait for the end of their month and so are counted at none of them.
    """
    longest = np.where(settled_later, np.iinfo(np.int64).max, 0)
    owner = np.full(len(settled_later), -1, dtype=np.int64)
    for number, result in enumerate(results):
        rows = np.flatnonzero(result.waiting.usage >= 0)
        ends = result.waiting.start_us[result.waiting.usage[rows]] + result.row.price.itemize.window_us
        event = result.usage.event[rows]
        later = ends > longest[event]
        longest[event[later]], owner[event[later]] = ends[later], number
    values: list[dict[str, Any]] = []
    for number, result in enumerate(results):
        values.extend(_pending_values(namespace_key, result, owner == number, tags))
    if values:
        with connection.cursor() as cursor:
            cursor.executemany(SQL.add_pending, values)
    return int((owner >= 0).sum() + settled_later.sum())


def _pending_values(
    namespace_key: int, result: _PriceResult, owned: NDArray[np.bool_], tags: NDArray[np.int32]
) -> list[dict[str, Any]]:
    waiting = result.waiting
    mine = (waiting.usage >= 0) & owned[result.usage.event]
    counts = np.bincount(waiting.usage[mine], minlength=len(waiting.target))
    window_us = result.row.price.itemize.window_us
    return [
        {
            "account_key": int(result.targets.account_key[target]),
            "price_key": result.targets.price_key,
            "start_us": int(result.targets.start_us[target]),
            "window_start_us": int(waiting.start_us[i]),
            "window_end_us": int(waiting.start_us[i]) + window_us,
            "tag_set_key": int(tags[waiting.tag_set[i]]),
            "price_version_key": int(waiting.version_key[i]),
            "namespace_key": namespace_key,
            "quantity": int(waiting.quantity[i]),
            "charge": None if waiting.charge is None else int(waiting.charge[i]),
            "events": int(counts[i]),
        }
        for i, target in enumerate(waiting.target.tolist())
    ]


def _assemble(
    results: Sequence[_Posted], events: EventColumns, tags: NDArray[np.int32]
) -> tuple[LineItems, NDArray[np.str_]]:
    """All rows in ``seq`` order: by account, so that a BRIN range covers few of them; then by price, then as rated."""

    def column(name: str, dtype: Any) -> NDArray[Any]:
        parts = [getattr(result.rows, name) for result in results]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)

    def of_target(name: str, dtype: Any) -> NDArray[Any]:
        parts = [getattr(result.targets, name)[result.rows.target] for result in results]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)

    account = of_target("account_key", np.int32)
    order = np.argsort(account, kind="stable")
    event = column("event", np.int64)[order]
    no_event = event < 0
    ids = pa.array(events.id, pa.string()).take(pa.array(event, mask=no_event))
    keys = np.zeros(len(event), dtype="V16")
    keys[~no_event] = events.key[event[~no_event]]
    recurring = column("recurring", np.bool_)[order]
    month = of_target("service_month", np.int32)[order]
    kinds = [np.full(len(result.rows.target), int(result.kind), dtype=np.int16) for result in results]
    kind = (np.concatenate(kinds) if kinds else np.zeros(0, dtype=np.int16))[order]
    currency = [np.full(len(result.rows.target), result.row.price.currency) for result in results]
    items = LineItems(
        account_key=account[order],
        price_version_key=column("version_key", np.int32)[order],
        tag_set_key=tags[column("tag_set", np.int32)[order]] if len(order) else np.zeros(0, dtype=np.int32),
        kind=np.where(recurring, int(Kind.RECURRING), kind).astype(np.int16),
        quantity=column("quantity", np.int64)[order],
        amount_nano=column("amount_nano", np.int64)[order],
        event_time_us=column("time_us", np.int64)[order],
        service_month=month,
        posting_month=month,
        event_key=keys,
        event_id=ids,
    )
    return items, (np.concatenate(currency)[order] if currency else np.zeros(0, dtype="U3"))
