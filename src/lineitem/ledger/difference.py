"""Fold targets again from the raw segments and post T - posted: what retracting one event or many comes down to.

Whoever calls has locked lane 0 and has said which events no longer count, so that folding again leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.core.errors import Refused
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import accumulators, charges, settle_levels, tiers
from lineitem.ledger.accumulators import Targets
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.flush import joined
from lineitem.ledger.post import Counts, Fact, Head, write_batch
from lineitem.ledger.rating import Rater, post_to_open_months
from lineitem.ledger.refold import PriceFold, Replay, refold
from lineitem.ledger.rows import Digests, Kind, LineItems
from lineitem.ledger.tiers import Held, Move
from lineitem.rate.allowance import Members
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.exact import IntArray, compact, exceeds_ledger, multiply, subtract
from lineitem.rate.folds import FoldState
from lineitem.rate.itemize import TargetState
from lineitem.rate.targets import totals

SQL = load_queries("lineitem.ledger", "ledger.sql")


@dataclass(slots=True)
class Touched:
    """The targets of one price whose usage changes; columns (k,), in key order.

    ``quantity`` and ``events``: what goes out of each. Tag set, price version and time are those of the first event that
    does, for the line item that posts the difference. ``event_key`` and ``event_id`` name it where it is the only one.
    """

    row: PriceRow
    targets: Targets
    quantity: IntArray
    events: NDArray[np.int64]
    tag_set_key: NDArray[np.int32]
    version_key: NDArray[np.int32]
    time_us: NDArray[np.int64]
    event_key: NDArray[np.void] | None = None
    event_id: str | None = None


@dataclass(slots=True)
class Difference:
    """What is posted: line items of each price, the currency of each row, and how many events no longer wait."""

    parts: list[LineItems]
    currencies: list[str]
    released: int = 0

    def add(self, items: LineItems, currency: str) -> None:
        """One price's."""
        self.parts.append(items)
        self.currencies += [currency] * len(items)


def post_without(
    connection: Connection,
    head: Head,
    snapshot: Snapshot,
    replay: Replay,
    touched: Sequence[Touched],
    readings: Sequence[PriceUsage],
    fact: Fact,
    now_us: int,
) -> int:
    """Write the batch of lane 0 that takes usage out: ``touched`` targets folded again, ``readings`` of levels forgotten.

    ``fact`` says why. Returns how many line items that made. Raises Refused where a target would owe more than the ledger
    holds.
    """
    rater, facts = Rater(), [fact]
    done = post_difference(connection, snapshot, replay, rater, touched)
    if readings:
        levels = settle_levels.without_readings(connection, snapshot, readings, rater, now_us)
        done.parts.append(levels.items)
        done.currencies += levels.currencies
        facts += levels.facts
        done.released += levels.released
    items = joined(done.parts) if done.parts else None
    if items is not None:
        items.posting_month = post_to_open_months(connection, snapshot.namespace_key, items.service_month)
    accounts, prices, tags, _ = published.digests(connection)
    write_batch(
        connection, head, snapshot.namespace, snapshot.namespace_key, BatchKind.RETRACT,
        items=items, currencies=done.currencies, digests=Digests(accounts, prices, tags), facts=facts,
        counts=Counts(itemized=done.released, pending=-done.released),
        catalog_revision=snapshot.revision, recorded_us=now_us,
    )  # fmt: skip
    return sum(map(len, done.parts))


def post_difference(
    connection: Connection, snapshot: Snapshot, replay: Replay, rater: Rater, touched: Sequence[Touched]
) -> Difference:
    """Fold the surviving events of targets, ``touched`` in order of price key, and post T - posted.

    Windows that wait are posted with it. Raises Refused where a target would owe more than the ledger holds.
    """
    held = _hold(connection, snapshot, touched)
    done = Difference([], [])
    # First, as they work with what was locked: in a pool one event may count under a price and behind another.
    for correction in () if held is None else held.corrections(connection, rater.compile):
        if correction.beyond.any():
            raise Refused(
                f"without it, price {correction.row.price.id} version {correction.row.version}, which goes on"
                " with its tiers, would owe an amount of more than 38 digits",
                do="Retract usage of that version first.",
            )
        done.add(correction.line_items(), correction.row.price.currency)
    before = [accumulators.lock(connection, snapshot.namespace_key, one.targets) for one in touched]
    folds = _refold(replay, touched)
    for one, state in zip(touched, before, strict=True):
        found = folds.get(one.row.price_key)
        done.released += _post(connection, snapshot.namespace_key, rater, one, state, found, held, done)
    return done


def _hold(connection: Connection, snapshot: Snapshot, touched: Sequence[Touched]) -> Held | None:
    """The parts of all periods concerned, locked, without what goes out; None where no price shares tiers in them."""
    chains = snapshot.tier_chains
    if chains is None or not any(
        tiers.concern(chains, one.row, one.targets.start_us, one.targets.end_us) for one in touched
    ):
        return None
    minus = np.array([-1], dtype=np.int64)
    moves = [Move(one.row, one.targets, multiply(one.quantity, minus), -one.events, one.tag_set_key) for one in touched]
    return tiers.hold(connection, snapshot.namespace_key, chains, moves)


def _refold(replay: Replay, touched: Sequence[Touched]) -> dict[int, PriceFold]:
    """Every target folded again, in one pass over the segments of their periods."""
    if not touched:
        return {}
    wanted = {one.row.price_key: _codes(one.targets.account_key, one.targets.service_month) for one in touched}
    none = np.zeros(0, dtype=np.int64)

    def keep(usage: PriceUsage) -> NDArray[np.bool_]:
        codes = _codes(usage.account_key, usage.service_month)
        return np.isin(codes, wanted.get(usage.row.price_key, none))

    since_us = min(int(one.targets.start_us.min()) for one in touched)
    until_us = max(int(one.targets.end_us.max()) for one in touched)
    return refold(replay, since_us, until_us, keep)


def _codes(account_key: NDArray[np.int32], service_month: NDArray[np.int32]) -> NDArray[np.int64]:
    return (account_key.astype(np.int64) << 20) | service_month


def _post(
    connection: Connection,
    namespace_key: int,
    rater: Rater,
    one: Touched,
    before: TargetState,
    found: PriceFold | None,
    held: Held | None,
    done: Difference,
) -> int:
    """One price's targets; how many events waited."""
    targets, price = one.targets, rater.compile(one.row)
    after, free = _after(targets, before, found)
    waiting = 0
    for account, start in zip(targets.account_key.tolist(), targets.start_us.tolist(), strict=True):
        where = {"account_key": account, "price_key": one.row.price_key, "start_us": start}
        waiting += sum(row[0] for row in connection.execute(SQL.take_waiting, where).fetchall())
        if one.row.meter.aggregation == "unique":
            connection.execute(SQL.clear_members, where)
    _keep_members(connection, namespace_key, targets, found)
    # Unless its account is active, nobody owes the fixed due of a target without events: the next one brings it again.
    base = None if held is None else held.base(one.row, targets)
    billed = after.fold.quantity if price.charge is None else after.charge
    total = totals(price, billed, after.events, before.settled, base=base)
    after.posted_nano = total
    quantity, amount = subtract(after.fold.quantity, before.posted_quantity), subtract(total, before.posted_nano)
    if (exceeds_ledger(total) | exceeds_ledger(after.fold.quantity) | exceeds_ledger(amount)).any():
        raise Refused(
            f"without it, an account would owe an amount of more than 38 digits of price {one.row.price.id}",
            do="Retract the usage on the other side first.",
        )
    accumulators.save(connection, targets, after, one.row.meter.aggregation == "latest")
    if price.charge is not None:
        charges.save(connection, targets, after)
        charges.replace_members(connection, namespace_key, targets, charges.members(connection, targets), free)
    done.add(_line_items(one, compact(quantity), compact(amount)), one.row.price.currency)
    return waiting


def _after(targets: Targets, before: TargetState, found: PriceFold | None) -> tuple[TargetState, Members]:
    """What the targets come to as folded again, all of it posted, and who is in their allowances."""
    count = len(targets)
    fold, events = FoldState.empty(count), np.zeros(count, dtype=np.int64)
    quantity: IntArray = np.zeros(count, dtype=object)
    charge: IntArray = np.zeros(count, dtype=object)
    free = Members.none()
    if found is not None:
        codes = _codes(targets.account_key, targets.service_month)
        at = np.searchsorted(codes, found.code)  # every fold is of a target that was asked for
        quantity[at], charge[at], events[at] = found.state.quantity, found.charge, found.events
        fold.filled[at], fold.time_us[at], fold.key[at] = found.state.filled, found.state.time_us, found.state.key
        free = replace(found.free, target=at[found.free.target])
    state = FoldState(compact(quantity), fold.filled, fold.time_us, fold.key)
    charged = compact(charge)
    posted = np.zeros(count, dtype=np.int64)
    return (
        TargetState(
            events, before.last_event_us, state, state.quantity, posted, charged, charged, before.settled
        ),
        free,
    )  # fmt: skip


def _keep_members(connection: Connection, namespace_key: int, targets: Targets, found: PriceFold | None) -> None:
    """Remember the distinct members that are left."""
    if found is None or not found.members:
        return
    number = {code: at for at, code in enumerate(_codes(targets.account_key, targets.service_month).tolist())}
    kept = sorted(found.members)
    target = np.array([number[code] for code, _ in kept], dtype=np.int64)
    members = np.array([member for _, member in kept], dtype="V16")
    accumulators.add_members(connection, namespace_key, targets, target, members)


def _line_items(one: Touched, quantity: IntArray, amount_nano: IntArray) -> LineItems:
    """One for each target, also where it makes no difference: it says that the target was looked at."""
    count = len(one.targets)
    named = one.event_key is not None
    return LineItems(
        account_key=one.targets.account_key,
        price_version_key=one.version_key,
        tag_set_key=one.tag_set_key,
        kind=np.full(count, int(Kind.RETRACTION), dtype=np.int16),
        quantity=quantity,
        amount_nano=amount_nano,
        event_time_us=one.time_us,
        service_month=one.targets.service_month,
        posting_month=one.targets.service_month,
        event_key=one.event_key if one.event_key is not None else np.zeros(count, dtype="V16"),
        event_id=pa.array([one.event_id], pa.string()) if named else pa.nulls(count, pa.string()),
    )
