"""The pipeline, readable in one sitting: a batch from raw records to committed line items.

    read -> decode -> identity -> enrich -> segment               prepare(): pure but for dictionary keys and the segment
    lock lane -> move position -> identities -> rate -> post       commit(): one PostgreSQL transaction

``ingest`` runs both over a file, the preparing of the next batch beside the committing of this one.

A crash anywhere leaves nothing or the whole batch. When the catalog has moved or an identity collides, the transaction
rolls back, the batch is prepared again or its repeats are marked, and it commits in the next try.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.catalog.snapshot import AccountRow, Snapshot, account_digest, tags_digest
from lineitem.core.clock import Clock
from lineitem.core.errors import CatalogMoved, Refused
from lineitem.core.reasons import Reason
from lineitem.ingest import formats, intake, segments
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.identity import Fate, repeats_inside, settle
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained
from lineitem.kit.failpoint import failpoint
from lineitem.ledger import periods
from lineitem.ledger.chain import Batch, BatchKind, accepted_digest, records_digest, set_aside_digest
from lineitem.ledger.post import LANES, Counts, Origin, ensure_months, lock_lane, write_batch
from lineitem.ledger.rating import AmountTooLarge, Itemized, Rater
from lineitem.ledger.rows import Digests
from lineitem.rate.enrich import Accounts, Enriched, enrich
from lineitem.rate.match import match

_TRIES = 20
"""How often a batch is tried again after a collision before it is given up."""
_AHEAD = 1
"""Batches being prepared while one commits; bounds memory."""


@dataclass(slots=True)
class Prepared:
    """A batch up to the point where the ledger's state matters."""

    partition: intake.Partition
    raw: RawRecords
    events: EventColumns
    undecoded: list[Reject]
    segment: str
    records_digest: bytes
    recorded_us: int
    snapshot: Snapshot
    accounts: Accounts
    enriched: Enriched
    tag_set_keys: list[int] = field(default_factory=list)
    first: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    known: dict[bytes, bytes] = field(default_factory=dict)
    too_large: list[Reject] = field(default_factory=list)

    @property
    def invalid(self) -> list[Reject]:
        """Events that decoded but cannot be billed as they are."""
        return self.enriched.rejects + self.too_large

    def settle(self) -> Fate:
        """What becomes of each event, given what is known of its identity so far."""
        return settle(self.events, self.first, self.invalid, self.known)


@dataclass(slots=True)
class Pipeline:
    """Batches of one namespace. ``prepare`` uses one connection and ``commit`` the other, so that two threads may overlap.

    Both connections act in the posting role.
    """

    namespace: str
    reader: Connection
    writer: Connection
    segments: BlobStore
    clock: Clock
    rater: Rater = field(default_factory=Rater)
    _snapshot: Snapshot | None = None
    _accounts: dict[str, AccountRow] = field(default_factory=dict)
    _tag_sets: dict[str, int] = field(default_factory=dict)
    _digests: Digests = field(default_factory=lambda: Digests({}, {}, {}))
    _expect_repeats: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def snapshot(self) -> Snapshot:
        """The catalog in force, read once and again whenever it has moved. Raises Refused where there is none."""
        if self._snapshot is None:
            self._snapshot = published.load_snapshot(self.reader, self.namespace)
            self._accounts.clear()
        if self._snapshot is None:
            raise Refused(
                f"namespace {self.namespace!r} has no catalog",
                do="Publish one first: lineitem catalog publish FILE (`lineitem demo` leaves one to start from).",
            )
        return self._snapshot

    def prepare(self, partition: intake.Partition, raw: RawRecords) -> Prepared:
        """Decode, resolve accounts and prices, write the raw segment."""
        now_us = self.clock.now_us()
        context = DecodeContext(self.namespace, partition.stream, now_us, partition.settings)
        events, undecoded = formats.get(partition.format).decode(raw, context)
        digest = records_digest(raw.records)
        name = segments.segment_name(partition.name, raw.start, raw.end, digest)
        segments.write(self.segments, name, segments.Segment(raw, partition.format, context))
        failpoint("after_segment")
        with self._lock:
            snapshot, accounts, enriched, tag_set_keys = self._price(events)
        batch = Prepared(
            partition, raw, events, undecoded, name, digest, now_us, snapshot, accounts, enriched, tag_set_keys
        )
        batch.first = repeats_inside(events, _valid(batch))
        return batch

    def _price(self, events: EventColumns) -> tuple[Snapshot, Accounts, Enriched, list[int]]:
        """Everything of ``prepare`` that depends on the catalog; done again when it has moved."""
        snapshot = self.snapshot()
        accounts = self._resolve_accounts(events, snapshot)
        matches, unmatched = match(events, snapshot.catalog.meters)
        enriched = enrich(events, matches, accounts, snapshot)
        enriched.rejects[:0] = unmatched
        missing = [text for text in enriched.tag_sets if text not in self._tag_sets]
        if missing:
            self._tag_sets |= published.tag_set_keys(self.reader, missing)
        return snapshot, accounts, enriched, [self._tag_sets[text] for text in enriched.tag_sets]

    def _resolve_accounts(self, events: EventColumns, snapshot: Snapshot) -> Accounts:
        encoded = pa.array(events.subject, pa.string()).dictionary_encode()
        names: list[str] = encoded.dictionary.to_pylist()
        missing = [name for name in names if name not in self._accounts]
        if missing:
            self._accounts |= published.open_accounts(self.reader, snapshot, missing)
        rows = [self._accounts.get(name) for name in names]
        return Accounts(np.asarray(encoded.indices).astype(np.int32), rows)

    def commit(self, batch: Prepared) -> tuple[Counts, Batch]:
        """Write the batch. Raises PositionMoved when another process has taken these records."""
        for _ in range(_TRIES):
            try:
                with explained():
                    self._look_up(batch)
                    ensure_months(self.writer, self._months(batch))
                    return self._write(batch)
            except CatalogMoved:
                self._price_again(batch)
            except AmountTooLarge as error:
                batch.too_large += [_too_large(batch.events, row) for row in sorted(set(error.events))]
                batch.first = repeats_inside(batch.events, _valid(batch))
            except psycopg.errors.UniqueViolation:
                self._expect_repeats = True  # somebody accepted one of these events: look before the next try
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                continue
        raise Refused(f"the batch could not be written in {_TRIES} tries", do="Run the same command again.")

    def _price_again(self, batch: Prepared) -> None:
        with self._lock:
            self._snapshot = None
            batch.snapshot, batch.accounts, batch.enriched, batch.tag_set_keys = self._price(batch.events)
        batch.first = repeats_inside(batch.events, _valid(batch))

    def _look_up(self, batch: Prepared) -> None:
        """Find events the ledger accepted before. Most batches hold none, so it is done only once one has turned up.

        An event that cannot be billed is always looked up: a repeat of an accepted one is a duplicate, not a dead letter.
        """
        keys = [reject.key for reject in batch.invalid if reject.key is not None]
        if keys:
            batch.known |= intake.known_identities(self.writer, np.array(keys, dtype="V16"))
        if self._expect_repeats:
            rows = np.flatnonzero(batch.first >= 0)
            found = intake.known_identities(self.writer, batch.events.key[rows])
            batch.known |= found
            self._expect_repeats = bool(found)

    def _months(self, batch: Prepared) -> list[int]:
        """Posting months that need a partition; a month closed meanwhile is found again inside the transaction."""
        used = [np.unique(usage.service_month) for usage in batch.enriched.usage]
        if not used:
            return []
        closed = periods.closed_months(self.writer, batch.snapshot.namespace_key)
        return sorted(set(periods.posting_months(np.concatenate(used), closed).tolist()))

    def _write(self, batch: Prepared) -> tuple[Counts, Batch]:
        partition, events, connection = batch.partition, batch.events, self.writer
        namespace_key = partition.namespace_key
        failpoint("before_write")
        with connection.transaction():
            head = lock_lane(connection, partition.lane)
            number = head.batch + 1
            published.check_revision(connection, batch.snapshot)
            intake.advance(connection, partition.key, batch.raw.start, batch.raw.end)
            failpoint("after_position")
            fate = batch.settle()
            rows = np.flatnonzero(fate.accepted)
            intake.add_identities(
                connection,
                namespace_key,
                head.lane,
                number,
                events.key[rows],
                events.digest[rows],
                events.ordinal[rows],
            )
            failpoint("after_identities")
            rejects = batch.undecoded + fate.rejects
            aside = intake.add_dead_letters(
                connection, partition, batch.raw, rejects, head.lane, number, batch.recorded_us
            )
            itemized = self.rater.rate(
                connection,
                namespace_key,
                batch.enriched.usage,
                events,
                fate.accepted,
                batch.tag_set_keys,
                batch.recorded_us,
            )
            counts = _counts(batch, fate, len(rejects), itemized)
            written = write_batch(
                connection,
                head,
                self.namespace,
                namespace_key,
                BatchKind.USAGE,
                items=itemized.items,
                currencies=itemized.currencies,
                digests=self._resolved(batch),
                counts=counts,
                origin=_origin(batch, rows, aside),
                catalog_revision=batch.snapshot.revision,
                recorded_us=batch.recorded_us,
            )
        failpoint("after_commit")
        return counts, written

    def _resolved(self, batch: Prepared) -> Digests:
        """The digests of everything the batch's line items name."""
        known = self._digests
        for row in batch.accounts.rows:
            if row is not None and row.account_key not in known.account:
                known.account[row.account_key] = account_digest(self.namespace, row.account)
        for price in batch.snapshot.rows:
            if price.price_version_key not in known.price:
                known.price[price.price_version_key] = price.digest
        for text, key in zip(batch.enriched.tag_sets, batch.tag_set_keys, strict=True):
            if key not in known.tags:
                known.tags[key] = tags_digest(text)
        return known


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read: its records, how they are read, and the stream they belong to."""

    file: BinaryIO
    content: str  # SHA-256 of the bytes, hex
    stream: str
    format: str
    settings: Mapping[str, Any]


@dataclass(slots=True)
class Summary:
    """What one invocation did; ``Counts`` plus line items and batches."""

    counts: Counts = field(default_factory=Counts)
    line_items: int = 0
    batches: int = 0
    resumed_at: int = 0

    def document(self) -> dict[str, int]:
        """As ``lineitem ingest --json`` prints it."""
        counts = self.counts
        return {
            "received": counts.received,
            "itemized": counts.itemized,
            "line_items": self.line_items,
            "duplicate": counts.duplicate,
            "pending": counts.pending,
            "dead_lettered": counts.dead_lettered,
            "not_billable": counts.not_billable,
            "batches": self.batches,
        }

    def add(self, counts: Counts, batch: Batch) -> None:
        """Count one committed batch."""
        self.counts += counts
        self.line_items += batch.line_items
        self.batches += 1


Progress = Callable[[int, Summary], None]
"""Called after every batch with the position reached and the summary so far."""


def ingest(pipeline: Pipeline, source: Source, limits: BatchLimits, progress: Progress) -> Summary:
    """Read a file to its end: an interrupted pass goes on where it stopped, a finished one starts again (all duplicates)."""
    snapshot = pipeline.snapshot()
    summary = Summary()
    with intake.exclusive(pipeline.reader, pipeline.namespace, source.stream, source.content):
        partition = intake.open_pass(
            pipeline.reader, pipeline.namespace, snapshot.namespace_key, source.stream, source.content, LANES,
            source.format, source.settings,
        )  # fmt: skip
        summary.resumed_at = partition.next
        records = formats.get(partition.format).read(source.file, partition.next, limits, partition.settings)

        def prepare_next() -> Prepared | None:
            raw = next(records, None)
            return None if raw is None else pipeline.prepare(partition, raw)

        with ThreadPoolExecutor(1, "prepare") as pool:
            ahead = deque(pool.submit(prepare_next) for _ in range(_AHEAD))
            while (batch := ahead.popleft().result()) is not None:
                ahead.append(pool.submit(prepare_next))
                summary.add(*pipeline.commit(batch))
                progress(batch.raw.end, summary)
        failpoint("before_complete")
        intake.complete(pipeline.reader, partition.key, pipeline.clock.now_us())
    return summary


def _valid(batch: Prepared) -> NDArray[np.bool_]:
    """(n,) bool: events nothing is wrong with."""
    ordinals = [reject.ordinal for reject in batch.invalid]
    return ~np.isin(batch.events.ordinal, np.array(ordinals, dtype=np.int32))


def _too_large(events: EventColumns, row: int) -> Reject:
    return Reject(
        int(events.ordinal[row]),
        Reason.VALUE_OUT_OF_RANGE,
        "the quantity or amount of the period would pass 38 digits",
        bytes(events.key[row]),
        bytes(events.digest[row]),
    )


def _counts(batch: Prepared, fate: Fate, dead_lettered: int, itemized: Itemized) -> Counts:
    accepted = int(fate.accepted.sum())
    not_billable = int((fate.accepted & ~batch.enriched.billable).sum())
    return Counts(
        received=len(batch.raw.records),
        itemized=accepted - not_billable - itemized.waiting,
        pending=itemized.waiting,
        duplicate=fate.duplicates,
        dead_lettered=dead_lettered,
        not_billable=not_billable,
    )


def _origin(batch: Prepared, rows: NDArray[np.int64], aside: list[tuple[int, bytes]]) -> Origin:
    """Where the batch's records came from; ``rows`` are the accepted events."""
    events, time_us = batch.events, batch.events.time_us[rows]
    return Origin(
        partition_key=batch.partition.key,
        partition=batch.partition.description,
        position_start=batch.raw.start,
        position_end=batch.raw.end,
        segment=batch.segment,
        records_digest=batch.records_digest,
        accepted_digest=accepted_digest(events.key[rows], events.digest[rows], events.ordinal[rows]),
        set_aside_digest=set_aside_digest(aside),
        event_time_min=int(time_us.min()) if len(rows) else 0,
        event_time_max=int(time_us.max()) if len(rows) else 0,
    )
