"""The pipeline, readable in one sitting: a batch from raw records to committed line items.

    read -> decode -> identity -> enrich -> segment               prepare(): pure but for dictionary keys and the segment
    lock lane -> move position -> rate -> identities -> post      commit(): one PostgreSQL transaction

``files`` runs both over a file, ``worker`` over a stream.

A crash anywhere leaves nothing or the whole batch. When the catalog has moved or an identity collides, the transaction
rolls back, the batch is priced again or its repeats are marked, and it commits in the next try.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.catalog.snapshot import AccountRow, Snapshot, TierChains, account_digest, tags_digest
from lineitem.core.clock import Clock
from lineitem.core.errors import CatalogMoved, Refused
from lineitem.core.reasons import Reason
from lineitem.ingest import acts, backfills, formats, held, intake, producers, segments, sequences, throttle
from lineitem.ingest.contracts import Contracts
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.formats.dead_letters import DeadLetters
from lineitem.ingest.horizon import too_old
from lineitem.ingest.identity import Fate, repeats_inside, settle
from lineitem.ingest.segments import Segment
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import POST, Connection, connect, explained
from lineitem.kit.failpoint import failpoint
from lineitem.kit.process import tune_for_batches
from lineitem.ledger import periods
from lineitem.ledger.chain import Batch, BatchKind, accepted_digest, records_digest, set_aside_digest
from lineitem.ledger.post import LANES, Counts, Fact, Head, Origin, canonical, ensure_months, lock_lane, write_batch
from lineitem.ledger.rating import AmountTooLarge, Itemized, Rater
from lineitem.ledger.rows import Digests
from lineitem.observability.metrics import Cause, Stage
from lineitem.observability.watch import Watch
from lineitem.rate.enrich import Accounts, Enriched, enrich
from lineitem.rate.match import match
from lineitem.schemas.source import Looked, OwnRegistry
from lineitem.schemas.source import Source as SchemaSource

_TRIES = 20
"""How often a batch is tried again after a collision before it is given up."""


@dataclass(slots=True)
class Prepared:
    """A batch up to the point where the ledger's state matters; small enough to be handed from process to process.

    ``events`` are without their payloads, ``records`` holds place and bytes of the records known to be bad: the rest is
    in the segment, should a retry need it. ``revision``: the catalog's that priced it. ``digests``: those of accounts,
    prices and tags that this preparer meets for the first time.
    """

    partition: intake.Partition
    start: int
    end: int
    received: int
    records: dict[int, intake.Record]
    events: EventColumns
    undecoded: list[Reject]
    segment: str
    records_digest: bytes
    recorded_us: int
    revision: int
    enriched: Enriched
    tag_set_keys: list[int]
    digests: Digests
    first: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    known: dict[bytes, bytes] = field(default_factory=dict)
    too_large: list[Reject] = field(default_factory=list)
    attempts: acts.Attempts | None = None  # where the records are dead letters that are tried again
    sightings: sequences.Sightings | None = None  # where records have a sequence
    waiting: list[held.Part] = field(default_factory=list)  # what a switch makes wait; not among ``events``
    completes: bool = False  # whether these are the last records of the partition

    def __post_init__(self) -> None:
        self.find_repeats()

    @property
    def invalid(self) -> list[Reject]:
        """Events that decoded but cannot be billed as they are."""
        return self.enriched.rejects + self.too_large

    def find_repeats(self) -> None:
        """Look for repeats among the valid events; again whenever that set has changed."""
        bad = [reject.ordinal for reject in self.invalid]
        self.first = repeats_inside(self.events, ~np.isin(self.events.ordinal, np.array(bad, dtype=np.int32)))

    def settle(self) -> Fate:
        """What becomes of each event, given what is known of its identity so far."""
        return settle(self.events, self.first, self.invalid, self.known)


@dataclass(slots=True)
class Pipeline:
    """Batches of one namespace. Both connections act in the posting role; ``writer`` is the one batches commit on.

    ``dsn``: where another process that prepares batches finds the same database; without it there is none. ``watch``: is
    told once per stage and batch. ``registry``: where schemas come from, if not from the namespace's own.
    """

    namespace: str
    reader: Connection
    writer: Connection
    segments: BlobStore
    clock: Clock
    dsn: str | None = None
    rater: Rater = field(default_factory=Rater)
    watch: Watch = field(default_factory=Watch)
    registry: SchemaSource | None = None
    _contracts: Contracts | None = None
    _snapshot: Snapshot | None = None
    _accounts: dict[str, AccountRow] = field(default_factory=dict)
    _tag_sets: dict[str, int] = field(default_factory=dict)
    _digests: Digests = field(default_factory=lambda: Digests({}, {}, {}))
    _told: Digests = field(default_factory=lambda: Digests({}, {}, {}))
    _expect_repeats: bool = False
    each_account: throttle.EachAccount = field(default_factory=throttle.EachAccount)
    _aside: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "identities"))

    @property
    def elsewhere(self) -> Elsewhere | None:
        """What another process needs to be one like it; None where it could not find the database."""
        if self.dsn is None:
            return None
        return Elsewhere(self.namespace, self.dsn, self.segments, self.clock, self.registry)

    @property
    def contracts(self) -> Contracts:
        """The schemas that events are held to."""
        if self._contracts is None:
            own = OwnRegistry(self.reader, self.snapshot().namespace_key)
            self._contracts = Contracts(own, self.registry)
        return self._contracts

    def snapshot(self) -> Snapshot:
        """The catalog in force, read again whenever it has moved. Raises Refused where there is none."""
        found = self._snapshot
        if found is None or published.revision(self.reader, self.namespace) != found.revision:
            found = published.load_snapshot(self.reader, self.namespace)
            self._accounts.clear()
        if found is None:
            raise Refused(
                f"namespace {self.namespace!r} has no catalog",
                do="Publish one first: lineitem catalog publish FILE (`lineitem demo` leaves one to start from).",
            )
        self._snapshot = found
        return found

    def decoding(self, partition: intake.Partition, now_us: int) -> tuple[DecodeContext, Looked]:
        """How records of a partition are decoded now, and the schemas that doing so will have asked for."""
        schemas = self.contracts.looking()
        return DecodeContext(
            self.namespace, partition.stream, now_us, partition.settings, schemas, schemas.away
        ), schemas

    def prepare(self, partition: intake.Partition, raw: RawRecords, released: int | None = None) -> Prepared:
        """Decode, sift out what has to wait, resolve accounts and prices, write the raw segment.

        ``released``: the number of a switch that has let these records through already.
        """
        now_us = self.clock.now_us()
        context, schemas = self.decoding(partition, now_us)
        events, undecoded = formats.get(partition.format).decode(raw, context)
        context = replace(context, schemas=schemas.used)  # decoded again, it is by the same schemas
        self.watch.decoded(events.traceparent)
        self.watch.lap(Stage.DECODE)
        digest = records_digest(raw.records)
        name = segments.segment_name(partition.name, raw.start, raw.end, digest, context.schemas)
        segments.write(self.segments, name, Segment(raw, partition.format, context))
        failpoint("after_segment")
        self.watch.lap(Stage.SEGMENT)
        seen = sequences.sightings(events, undecoded)
        events, waiting = self._sift(partition, events, undecoded, now_us, released)
        priced = self._price(events, partition, now_us)
        self.watch.lap(Stage.ENRICH)
        bad = [reject.ordinal for reject in undecoded + priced[1].rejects]
        records = intake.records_at(raw, bad)
        place = (partition, raw.start, raw.end, len(raw.records), records, events.without_payload(), undecoded)
        prepared = Prepared(*place, name, digest, now_us, *priced, sightings=seen, waiting=waiting)
        self.watch.lap(Stage.IDENTITY)
        return prepared

    def _sift(
        self,
        partition: intake.Partition,
        events: EventColumns,
        rejects: list[Reject],
        now_us: int,
        released: int | None,
    ) -> tuple[EventColumns, list[held.Part]]:
        """The events that may go on, and what waits; dead letters that may not are ``rejects`` again.

        A backfill comes in whole: somebody asked for it, and what can be reverted as one must not wait in parts.
        """
        if backfills.name_of(partition.settings) is not None:
            return events, []
        key = partition.namespace_key
        switches = throttle.in_force(self.reader, key, now_us)

        def allowed(switch: throttle.Switch, wanted: int) -> int:
            return throttle.allowed(self.reader, key, switch, wanted, now_us)

        found = held.sift(events, switches, allowed, self.each_account, now_us, released)
        if found is None:
            return events, []
        going = events.take(found.rows)
        if partition.format != DeadLetters.name:
            return going, found.parts
        digests = dict(zip(events.ordinal.tolist(), events.digest, strict=True))
        for part in found.parts:
            for at, identity in zip(part.ordinals.tolist(), part.keys, strict=True):
                detail = f"switch {part.number} of `lineitem throttle list`"
                rejects.append(Reject(at, part.reason, detail, bytes(identity), bytes(digests[at])))
        return going, []

    def prepare_all(
        self, partition: intake.Partition, file: BinaryIO, start: int, limits: BatchLimits
    ) -> Iterator[Prepared]:
        """Every batch of a file from position ``start`` on."""
        for raw in formats.get(partition.format).read(file, start, limits, partition.settings):
            yield self.prepare(partition, raw)

    def _price(
        self, events: EventColumns, partition: intake.Partition, now_us: int
    ) -> tuple[int, Enriched, list[int], Digests]:
        """Everything that depends on the catalog: its revision, the usage, the keys of its tag sets, new digests."""
        snapshot = self.snapshot()
        accounts = self._resolve_accounts(events, snapshot)
        matches, unmatched = match(events, snapshot.catalog.meters)
        enriched = enrich(events, matches, accounts, snapshot)
        enriched.rejects[:0] = unmatched
        self._hold_to_schemas(events, enriched)
        if backfills.name_of(partition.settings) is None:
            _set_old_aside(enriched, too_old(events, snapshot.catalog.horizon_days, now_us))
        missing = [text for text in enriched.tag_sets if text not in self._tag_sets]
        if missing:
            self._tag_sets |= published.tag_set_keys(self.reader, missing)
        keys = [self._tag_sets[text] for text in enriched.tag_sets]
        return snapshot.revision, enriched, keys, self._new_digests(snapshot, accounts, enriched.tag_sets, keys)

    def _hold_to_schemas(self, events: EventColumns, enriched: Enriched) -> None:
        """What breaks its schema is set aside for that, whatever else is wrong with it."""
        broken = self.contracts.rejects(events)
        if broken:
            rows = {one.ordinal for one in broken}
            enriched.rejects[:] = broken + [one for one in enriched.rejects if one.ordinal not in rows]

    def _resolve_accounts(self, events: EventColumns, snapshot: Snapshot) -> Accounts:
        encoded = pa.array(events.subject, pa.string()).dictionary_encode()
        names: list[str] = encoded.dictionary.to_pylist()
        missing = [name for name in names if name not in self._accounts]
        if missing:
            self._accounts |= published.open_accounts(self.reader, snapshot, missing)
        rows = [self._accounts.get(name) for name in names]
        return Accounts(np.asarray(encoded.indices).astype(np.int32), rows)

    def _new_digests(self, snapshot: Snapshot, accounts: Accounts, tag_sets: list[str], keys: list[int]) -> Digests:
        """Digests of what a batch's line items may name, those told before left out."""
        told = self._told
        fresh = Digests(
            {
                row.account_key: account_digest(self.namespace, row.account)
                for row in accounts.rows
                if row is not None and row.account_key not in told.account
            },
            {row.price_version_key: row.digest for row in snapshot.rows if row.price_version_key not in told.price},
            {key: tags_digest(text) for text, key in zip(tag_sets, keys, strict=True) if key not in told.tags},
        )
        told.add(fresh)
        return fresh

    def commit(self, batch: Prepared) -> tuple[Counts, Batch]:
        """Write the batch. Raises PositionMoved when another process has taken these records."""
        for _ in range(_TRIES):
            try:
                with explained():
                    self._look_up(batch)
                    ensure_months(self.writer, self._months(batch))
                    self.watch.lap(Stage.IDENTITY)
                    return self._write(batch)
            except CatalogMoved:
                self.watch.again(Cause.CATALOG_MOVED)
                self._price_again(batch)
                self.watch.lap(Stage.ENRICH)
            except AmountTooLarge as error:
                self.watch.again(Cause.AMOUNT_TOO_LARGE)
                batch.too_large += [_too_large(batch.events, row) for row in sorted(set(error.events))]
                batch.find_repeats()
            except psycopg.errors.UniqueViolation:
                self.watch.again(Cause.IDENTITY_COLLIDED)
                self._expect_repeats = True  # somebody accepted one of these events: look before the next try
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                self.watch.again(Cause.DATABASE)
        raise Refused(f"the batch could not be written in {_TRIES} tries", do="Run the same command again.")

    def _price_again(self, batch: Prepared) -> None:
        raw = self._stored(batch)
        events, _ = formats.get(raw.format).decode(raw.raw, raw.context)
        events = events.take(np.flatnonzero(np.isin(events.ordinal, batch.events.ordinal)))  # the others wait
        batch.revision, batch.enriched, batch.tag_set_keys, batch.digests = self._price(
            events, batch.partition, batch.recorded_us
        )
        batch.too_large.clear()  # found under the prices of before
        batch.find_repeats()

    def _stored(self, batch: Prepared) -> Segment:
        return segments.read(self.segments, batch.segment, batch.recorded_us)

    def _records(self, batch: Prepared, rejects: list[Reject]) -> Mapping[int, intake.Record]:
        """Place and bytes of what is set aside; conflicts show only at commit, so theirs come out of the segment."""
        missing = [reject.ordinal for reject in rejects if reject.ordinal not in batch.records]
        if missing:
            batch.records |= intake.records_at(self._stored(batch).raw, missing)
        return batch.records

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
        closed = periods.closed_months(self.writer, batch.partition.namespace_key)
        return sorted(set(periods.posting_months(np.concatenate(used), closed).tolist()))

    def _write(self, batch: Prepared) -> tuple[Counts, Batch]:
        partition, events, connection = batch.partition, batch.events, self.writer
        namespace_key = partition.namespace_key
        self._digests.add(batch.digests)
        chains = self._tier_chains(batch.revision)
        failpoint("before_write")
        with connection.transaction():
            head = lock_lane(connection, partition.lane)
            published.check_revision(connection, self.namespace, namespace_key, batch.revision)
            if (backfill := backfills.name_of(partition.settings)) is not None:
                backfills.share(connection, namespace_key, backfill)
            intake.advance(connection, partition.key, batch.start, batch.end)
            failpoint("after_position")
            self.watch.lap(Stage.LOCK)
            fate = batch.settle()
            rows = np.flatnonzero(fate.accepted)
            rejects = batch.undecoded + fate.rejects
            aside, facts = self._set_aside(batch, head, fate, rejects)
            seen = _seen(batch, rows, aside)
            if seen is not None:
                facts.append(Fact(sequences.FACT, canonical({"namespace": self.namespace} | seen.fact())))
            facts += self._hold(batch, head)
            reasons = Counter(reject.reason for reject in rejects)
            reasons.update({part.reason: len(part.ordinals) for part in batch.waiting})
            self.watch.settled(events.time_us[rows], events.ordinal[rows], fate.repeats, reasons)
            self.watch.lap(Stage.SETTLE)
            itemized = self.rater.rate(
                connection,
                namespace_key,
                batch.enriched.usage,
                events,
                fate.accepted,
                batch.tag_set_keys,
                batch.recorded_us,
                chains,
            )
            self.watch.lap(Stage.RATE)
            counts = _counts(batch, fate, len(rejects) + len(held.ordinals_of(batch.waiting)), itemized)
            # The server takes the identities in while the rows are encoded here.
            identities = self._aside.submit(self._add_identities, batch, head, rows)
            written = write_batch(
                connection,
                head,
                self.namespace,
                namespace_key,
                BatchKind.USAGE,
                items=itemized.items,
                currencies=itemized.currencies,
                digests=self._digests,
                facts=facts,
                counts=counts,
                origin=_origin(batch, rows, aside),
                catalog_revision=batch.revision,
                recorded_us=batch.recorded_us,
                busy=identities,
            )
            if seen is not None:
                producers.record(connection, namespace_key, head.lane, written.batch, batch.recorded_us, seen)
            self.watch.lap(Stage.COPY)
        self.watch.lap(Stage.COMMIT)
        failpoint("after_commit")
        return counts, written

    def _set_aside(
        self, batch: Prepared, head: Head, fate: Fate, rejects: list[Reject]
    ) -> tuple[list[tuple[int, bytes]], list[Fact]]:
        """``(ordinal, fingerprint)`` of every record set aside; and where the records are dead letters, what became of them."""
        partition, attempts, connection = batch.partition, batch.attempts, self.writer
        place = (head.lane, head.batch + 1, batch.recorded_us, batch.revision)
        if attempts is None:
            records = self._records(batch, rejects)
            return intake.add_dead_letters(connection, partition, records, rejects, *place), []
        acts.check_unmoved(connection, attempts.letters)
        intake.complete(connection, partition.key, batch.recorded_us)
        attempts.results = acts.results(attempts, batch.events, fate.accepted, rejects)
        aside = acts.record_attempts(connection, attempts, acts.Place(partition.namespace_key, *place))
        body = {"namespace": self.namespace, "by": attempts.by, "reason": attempts.note}
        return aside, [Fact("letter_replay", canonical(body | {"letters": acts.attempts_fact(attempts)}))]

    def _hold(self, batch: Prepared, head: Head) -> list[Fact]:
        """Keep what has to wait; where the batch read the last of what had waited, that is over."""
        place = (head.lane, head.batch + 1)
        if batch.completes:
            intake.complete(self.writer, batch.partition.key, batch.recorded_us)
        if not batch.waiting:
            return []
        held.add(self.writer, batch.partition, batch.waiting, *place, batch.recorded_us, LANES)
        return [Fact("held", canonical({"namespace": self.namespace, "held": held.fact(batch.waiting)}))]

    def _tier_chains(self, revision: int) -> TierChains | None:
        """Which prices share tiers at ``revision``: of a catalog that moves meanwhile, the batch is priced again anyway."""
        known = self._snapshot
        return (known if known is not None and known.revision == revision else self.snapshot()).tier_chains

    def _add_identities(self, batch: Prepared, head: Head, rows: NDArray[np.int64]) -> None:
        events, namespace_key = batch.events, batch.partition.namespace_key
        place = (self.writer, namespace_key, head.lane, head.batch + 1)
        intake.add_identities(*place, events.key[rows], events.digest[rows], events.ordinal[rows])
        failpoint("after_identities")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A pipeline for another process: all that preparing batches there as here takes, and can be pickled."""

    namespace: str
    dsn: str
    segments: BlobStore
    clock: Clock
    registry: SchemaSource | None

    @contextmanager
    def pipeline(self) -> Iterator[Pipeline]:
        """It, over a connection of its own."""
        tune_for_batches()
        with explained(), connect(self.dsn, role=POST) as connection:
            yield Pipeline(self.namespace, connection, connection, self.segments, self.clock, registry=self.registry)


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


def _set_old_aside(enriched: Enriched, old: list[Reject]) -> None:
    """An event beyond the horizon is that and nothing else, whatever is wrong with it besides."""
    ordinals = {reject.ordinal for reject in old}
    enriched.rejects[:] = [reject for reject in enriched.rejects if reject.ordinal not in ordinals] + old


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
        received=batch.received,
        itemized=accepted - not_billable - itemized.waiting,
        pending=itemized.waiting,
        duplicate=fate.duplicates,
        dead_lettered=dead_lettered,
        not_billable=not_billable,
    )


def _seen(batch: Prepared, rows: NDArray[np.int64], aside: list[tuple[int, bytes]]) -> sequences.BatchSeen | None:
    """Which sequence numbers the batch saw; ``rows`` are the accepted events."""
    if batch.sightings is None:
        return None
    set_aside = [ordinal for ordinal, _ in aside] + held.ordinals_of(batch.waiting).tolist()
    return sequences.seen(batch.sightings, batch.events.ordinal[rows], set_aside)


def _origin(batch: Prepared, rows: NDArray[np.int64], aside: list[tuple[int, bytes]]) -> Origin:
    """Where the batch's records came from; ``rows`` are the accepted events."""
    events, time_us = batch.events, batch.events.time_us[rows]
    return Origin(
        partition_key=batch.partition.key,
        partition=batch.partition.description,
        position_start=batch.start,
        position_end=batch.end,
        segment=batch.segment,
        records_digest=batch.records_digest,
        accepted_digest=accepted_digest(events.key[rows], events.digest[rows], events.ordinal[rows]),
        set_aside_digest=set_aside_digest(aside),
        event_time_min=int(time_us.min()) if len(rows) else 0,
        event_time_max=int(time_us.max()) if len(rows) else 0,
    )
