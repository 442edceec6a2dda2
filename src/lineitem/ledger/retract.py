"""Retract an event: the usage did not happen. The survivors are folded again and the difference is posted.

Never by negating the event's row: under a volume price, a maximum or a `latest` meter the total moves by another amount.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.core.errors import InputError, Refused
from lineitem.core.ids import identity_key
from lineitem.ingest import intake
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained, retried
from lineitem.ledger import settle_levels
from lineitem.ledger.accumulators import Targets
from lineitem.ledger.difference import Touched, post_without
from lineitem.ledger.post import Fact, canonical, ensure_months, lock_lane
from lineitem.ledger.refold import Replay, UsageBatch
from lineitem.rate.enrich import PriceUsage


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
        if not len(intake.places(connection, np.array([key], dtype="V16"))):
            raise Refused("the event's backfill was reverted meanwhile", do="There is nothing left to retract.")
        intake.retract(connection, key, snapshot.namespace_key, fact.body, 0, head.batch + 1)
        usage, readings = [u for u in usage if not u.row.is_level], [u for u in usage if u.row.is_level]
        touched = [_touched(connection, one, batch) for one in usage]
        replay = Replay(connection, store, namespace)
        return post_without(connection, head, snapshot, replay, touched, readings, fact, now_us)


def _touched(connection: Connection, one: PriceUsage, batch: UsageBatch) -> Touched:
    """The one target of an event's usage under a price."""
    return Touched(
        one.row,
        Targets(one.row.price_key, one.account_key, one.service_month, one.period_start_us, one.period_end_us),
        one.value,
        np.ones(1, dtype=np.int64),
        _tag_set_key(connection, batch.tag_sets[int(one.tag_set[0])]),
        one.version_key,
        one.time_us,
        one.key,
        batch.events.id[int(one.event[0])],
    )


def _tag_set_key(connection: Connection, tags: str) -> NDArray[np.int32]:
    return np.array([published.tag_set_keys(connection, [tags])[tags]], dtype=np.int32)
