"""Retract an event: the usage did not happen. The survivors are folded again and the difference is posted.

Never by negating the event's row: under a volume price, a maximum or a `latest` meter the total moves by another amount.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.catalog.snapshot import Snapshot
from lineitem.core.errors import InputError, Refused
from lineitem.core.ids import identity_key
from lineitem.ingest import intake
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import accumulators, charges, settle_levels, tiers
from lineitem.ledger.accumulators import Targets
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.flush import joined
from lineitem.ledger.post import Counts, Fact, canonical, ensure_months, lock_lane, write_batch
from lineitem.ledger.rating import Rater, post_to_open_months
from lineitem.ledger.refold import Replay, UsageBatch, refold
from lineitem.ledger.rows import Digests, Kind, LineItems
from lineitem.ledger.tiers import Held, Move
from lineitem.rate.allowance import Members
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.exact import compact, multiply, subtract
from lineitem.rate.folds import FoldState
from lineitem.rate.itemize import TargetState
from lineitem.rate.targets import totals

SQL = load_queries("lineitem.ledger", "ledger.sql")


def retract(
    connection: Connection, store: BlobStore, namespace: str, source: str, event_id: str, reason: str, now_us: int
) -> int:
    """Retract one event; returns how many line items that made: one per price whose target it belonged to, and one for
    each target that goes on with its tiers and owes another amount now.

    Raises InputError where no such event was accepted, Refused where it is retracted already, has no reason, or
    leaves a later part of the month with an amount the ledger cannot hold.
    """
    if not reason.strip():
        raise Refused("a retraction needs a reason", do="Say why with --reason; it stays in the audit trail.")
    key = identity_key(namespace, source, event_id)
    place = intake.places(connection, np.array([key], dtype="V16"))
    if not len(place):
        raise InputError(f"no event {event_id!r} of source {source!r} was accepted in namespace {namespace!r}")
    batch, row = _find(Replay(connection, store, namespace), place[0])
    mine = sorted((usage.select(usage.event == row) for usage in batch.usage), key=lambda usage: usage.row.price_key)
    months = {int(month) for usage in mine for month in np.unique(usage.service_month)}
    months |= settle_levels.months_counting(connection, namespace, [usage for usage in mine if len(usage.event)])
    ensure_months(connection, sorted(months))
    fact = Fact("retraction", canonical({"namespace": namespace, "source": source, "id": event_id, "reason": reason}))
    with explained():
        return retried(
            lambda: _retract(connection, store, namespace, key, [u for u in mine if len(u.event)], batch, fact, now_us)
        )


def _find(replay: Replay, place: np.void) -> tuple[UsageBatch, int]:
    """The batch the event stands in, and its row there."""
    for batch in replay.batches():
        if (batch.lane, batch.batch) == (int(place["lane"]), int(place["batch"])):
            rows = np.flatnonzero(batch.events.ordinal == int(place["ordinal"]))
            return batch, int(rows[0])
    raise InputError("the event's batch is gone")


def _retract(
    connection: Connection,
    store: BlobStore,
    namespace: str,
    key: bytes,
    usage: list[PriceUsage],
    batch: UsageBatch,
    fact: Fact,
    now_us: int,
) -> int:
    with connection.transaction():
        head = lock_lane(connection, 0)
        snapshot = published.load_snapshot(connection, namespace)
        assert snapshot is not None
        if intake.retracted(connection, np.array([key], dtype="V16")):
            raise Refused("the event is retracted already")
        intake.retract(connection, key, snapshot.namespace_key, fact.body, 0, head.batch + 1)
        replay, rater, released = Replay(connection, store, namespace), Rater(), 0
        parts: list[LineItems] = []
        usage, readings = [u for u in usage if not u.row.is_level], [u for u in usage if u.row.is_level]
        currencies: list[str] = []
        held = _held(connection, snapshot, usage, batch)
        # First, as they work with what was locked: in a pool one event may count under a price and behind another.
        for correction in () if held is None else held.corrections(connection, rater.compile):
            if correction.beyond.any():
                raise Refused(
                    f"without the event, price {correction.row.price.id} version {correction.row.version}, which goes on"
                    " with its tiers, would owe an amount of more than 38 digits",
                    do="Retract usage of that version first.",
                )
            parts.append(correction.line_items())
            currencies += [correction.row.price.currency] * len(parts[-1])
        for one in usage:
            items, events = _post_difference(connection, snapshot.namespace_key, replay, rater, one, batch, held)
            parts.append(items)
            currencies.append(one.row.price.currency)
            released += events
        facts = [fact]
        if readings:
            done = settle_levels.without_reading(connection, snapshot, readings, rater, now_us)
            parts.append(done.items)
            currencies += done.currencies
            facts += done.facts
            released += done.released
        posted = joined(parts) if parts else None
        if posted is not None:
            posted.posting_month = post_to_open_months(connection, snapshot.namespace_key, posted.service_month)
        accounts, prices, tags, _ = published.digests(connection)
        write_batch(
            connection, head, namespace, snapshot.namespace_key, BatchKind.RETRACT,
            items=posted, currencies=currencies,
            digests=Digests(accounts, prices, tags), facts=facts,
            counts=Counts(itemized=released, pending=-released),
            catalog_revision=snapshot.revision, recorded_us=now_us,
        )  # fmt: skip
    return sum(map(len, parts))


def _held(connection: Connection, snapshot: Snapshot, usage: list[PriceUsage], batch: UsageBatch) -> Held | None:
    """The parts of the event's periods, locked, without it; None where no price shares tiers in them."""
    chains = snapshot.tier_chains
    if chains is None or not any(
        tiers.concern(chains, one.row, one.period_start_us, one.period_end_us) for one in usage
    ):
        return None
    minus = np.array([-1], dtype=np.int64)
    moves = [
        Move(
            one.row,
            _targets(one),
            multiply(one.value, minus),
            minus,
            _tag_set_key(connection, batch.tag_sets[int(one.tag_set[0])]),
        )
        for one in usage
    ]
    return tiers.hold(connection, snapshot.namespace_key, chains, moves)


def _targets(one: PriceUsage) -> Targets:
    return Targets(one.row.price_key, one.account_key, one.service_month, one.period_start_us, one.period_end_us)


def _post_difference(
    connection: Connection,
    namespace_key: int,
    replay: Replay,
    rater: Rater,
    one: PriceUsage,
    batch: UsageBatch,
    held: Held | None,
) -> tuple[LineItems, int]:
    """Fold the target's surviving events and post T - posted; windows that wait are posted with it."""
    targets = _targets(one)
    before = accumulators.lock(connection, namespace_key, targets)
    start_us, end_us = int(one.period_start_us[0]), int(one.period_end_us[0])
    folds = refold(replay, start_us, end_us, lambda usage: _same_target(usage, one))
    found = folds.get(one.row.price_key)
    state = FoldState.empty(1) if found is None else found.state
    where = {"account_key": int(one.account_key[0]), "price_key": one.row.price_key, "start_us": start_us}
    waiting = [row[0] for row in connection.execute(SQL.take_waiting, where).fetchall()]
    if one.member is not None:
        connection.execute(SQL.clear_members, where)
        kept = set() if found is None else found.members
        members = np.array([member for _, member in kept], dtype="V16")
        accumulators.add_members(connection, namespace_key, targets, np.zeros(len(members), dtype=np.int64), members)
    # Unless its account is active, nobody owes the fixed due of a target without events: the next one brings it again.
    price, none = rater.compile(one.row), np.zeros(1, dtype=np.int64)
    base = None if held is None else held.base(one.row, targets)
    billed, events = (none, none) if found is None else (found.billed, found.events)
    total = totals(price, billed, events, before.settled, base=base)
    charge = none if found is None else found.charge
    after = TargetState(events, before.last_event_us, state, state.quantity, total, charge, charge, before.settled)
    accumulators.save(connection, targets, after, one.row.meter.aggregation == "latest")
    if price.charge is not None:
        charges.save(connection, targets, after)
        free = Members.none() if found is None else found.free
        charges.replace_members(connection, namespace_key, targets, charges.members(connection, targets), free)
    items = LineItems(
        account_key=one.account_key,
        price_version_key=one.version_key,
        tag_set_key=_tag_set_key(connection, batch.tag_sets[int(one.tag_set[0])]),
        kind=np.full(1, int(Kind.RETRACTION), dtype=np.int16),
        quantity=compact(subtract(state.quantity, before.posted_quantity)),
        amount_nano=compact(subtract(total, before.posted_nano)),
        event_time_us=one.time_us,
        service_month=one.service_month,
        posting_month=one.service_month,
        event_key=one.key,
        event_id=pa.array([batch.events.id[int(one.event[0])]], pa.string()),
    )
    return items, sum(waiting)


def _tag_set_key(connection: Connection, tags: str) -> NDArray[np.int32]:
    return np.array([published.tag_set_keys(connection, [tags])[tags]], dtype=np.int32)


def _same_target(usage: PriceUsage, one: PriceUsage) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (usage.account_key == one.account_key[0]) & (usage.service_month == one.service_month[0])
    return same & (usage.row.price_key == one.row.price_key)
