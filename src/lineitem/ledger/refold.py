"""Fold again from the raw segments: the reference that running usage must equal, and how a retraction is priced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.catalog.model import Aggregation
from lineitem.catalog.snapshot import AccountRow, PriceRow, Snapshot, TierChains
from lineitem.core.errors import IntegrityError
from lineitem.ingest import backfills, formats, intake, segments
from lineitem.ingest.events import EventColumns, RawRecords, Reject
from lineitem.ingest.formats.dead_letters import DeadLetters
from lineitem.ingest.segments import Segment
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.carried import Key
from lineitem.ledger.chain import accepted_digest, records_digest
from lineitem.rate.allowance import Members, admit
from lineitem.rate.enrich import Accounts, PriceUsage, enrich
from lineitem.rate.exact import IntArray, add, compact
from lineitem.rate.folds import FoldItems, FoldState, first_of, fold, running_sum
from lineitem.rate.match import match
from lineitem.rate.models.event import EventCharge
from lineitem.rate.price import compile_price
from lineitem.rate.targets import Base, base_of

SQL = load_queries("lineitem.ledger", "ledger.sql")

Keep = Callable[[PriceUsage], NDArray[np.bool_]]
"""Which rows of a batch's usage are wanted, (n,) bool."""


class BatchDamaged(IntegrityError):
    """The raw records of one batch cannot be read again as they were; ``place`` is its lane and number."""

    def __init__(self, place: tuple[int, int], what: str, *, where: str, do: str) -> None:
        super().__init__(f"batch {place[0]}-{place[1]}: {what}", where=where, do=do)
        self.place = place


class _Recorded(NamedTuple):
    """A row of ``usage_batches``."""

    lane: int
    batch: int
    segment: str
    records_digest: bytes
    accepted_digest: bytes
    recorded_us: int
    revision: int
    start: int
    end: int
    partition_key: int
    namespace_key: int

    @property
    def place(self) -> tuple[int, int]:
        return self.lane, self.batch


@dataclass(slots=True)
class DecodedBatch:
    """One batch of usage, decoded again. ``accepted``, ``alive``: (n,) bool, the events that it accepted, and of those the
    ones that nobody retracted."""

    lane: int
    batch: int
    revision: int  # of the catalog it was rated with
    raw: RawRecords
    format: str
    undecoded: list[Reject]
    events: EventColumns
    accepted: NDArray[np.bool_]
    alive: NDArray[np.bool_]
    replayed: list[Mapping[str, Any]] | None = None  # where its letters came from, if its records are dead letters


@dataclass(slots=True)
class UsageBatch:
    """One batch of usage, decoded again: its events, those it ``accepted``, those of them that are ``alive`` (nobody
    retracted or reverted them), and what these come to."""

    lane: int
    batch: int
    raw: RawRecords
    format: str
    undecoded: list[Reject]
    events: EventColumns
    accepted: NDArray[np.bool_]
    alive: NDArray[np.bool_]
    usage: list[PriceUsage]
    tag_sets: list[str]
    replayed: list[Mapping[str, Any]] | None = None  # where its letters came from, if its records are dead letters


@dataclass(slots=True)
class Replay:
    """Decodes batches of one namespace again, each under the catalog it was rated with."""

    connection: Connection
    segments: BlobStore
    namespace: str
    _snapshots: dict[int, Snapshot] = field(default_factory=dict)
    _accounts: dict[str, AccountRow] = field(default_factory=dict)
    _tags: dict[int, dict[str, str]] = field(default_factory=dict)  # by revision

    def batches(
        self, since_us: int | None = None, until_us: int | None = None, partitions: Sequence[int] | None = None
    ) -> Iterator[UsageBatch]:
        """Batches with an event in ``[since_us, until_us)``, in lane and batch order, each with its usage; of all passes or
        of ``partitions``.

        Raises BatchDamaged for the batch whose segment is missing, damaged or not what was recorded.
        """
        for one in self.decoded(since_us, until_us, partitions):
            usage, tag_sets = self._usage(one)
            read = (one.raw, one.format, one.undecoded, one.events, one.accepted, one.alive)
            yield UsageBatch(one.lane, one.batch, *read, usage, tag_sets, one.replayed)

    def decoded(
        self, since_us: int | None = None, until_us: int | None = None, partitions: Sequence[int] | None = None
    ) -> Iterator[DecodedBatch]:
        """As ``batches``, before anything is matched or priced; the next segment is read while one is worked on."""
        where: dict[str, Any] = {"namespace": self.namespace, "since_us": since_us, "until_us": until_us}
        where["partitions"] = None if partitions is None else list(partitions)
        rows = [_Recorded(*row) for row in self.connection.execute(SQL.usage_batches, where).fetchall()]
        namespaces = published.namespaces(self.connection)
        passes = intake.partitions(self.connection, namespaces, [row.partition_key for row in rows])
        with ThreadPoolExecutor(1, "segments") as pool:
            ahead = pool.submit(self._read, rows[0]) if rows else None
            for row, following in zip_longest(rows, rows[1:]):
                assert ahead is not None
                found = ahead.result()
                ahead = None if following is None else pool.submit(self._read, following)
                yield self._decode(row, found, passes.get(row.partition_key))

    def stored(self, partition: int) -> Iterator[Segment]:
        """The raw segments of one pass, in order of their positions. Raises BatchDamaged as ``batches`` does."""
        where: dict[str, Any] = {"namespace": self.namespace, "since_us": None, "until_us": None}
        for row in self.connection.execute(SQL.usage_batches, where | {"partitions": [partition]}).fetchall():
            yield self._read(_Recorded(*row))

    def _read(self, row: _Recorded) -> Segment:
        try:
            found = segments.read(self.segments, row.segment, row.recorded_us)
        except IntegrityError as error:
            raise BatchDamaged(row.place, error.what, where=error.where, do=error.do) from error
        if records_digest(found.raw.records) != row.records_digest or not _within(found.raw, row.start, row.end):
            raise BatchDamaged(
                row.place, "its raw records are not those it recorded", where=row.segment,
                do="Restore the segment from a backup.",
            )  # fmt: skip
        return found

    def _decode(self, row: _Recorded, found: Segment, partition: intake.Partition | None) -> DecodedBatch:
        context = found.context
        stored = (context.namespace, context.stream, found.format, context.settings)
        if partition is None or stored != (
            partition.namespace,
            partition.stream,
            partition.format,
            partition.settings,
        ):
            raise BatchDamaged(
                row.place, "its segment says to decode it otherwise than it was", where=row.segment,
                do="Restore the segment from a backup.",
            )  # fmt: skip
        events, undecoded = formats.get(found.format).decode(found.raw, context)
        accepted = self._all_accepted(row, events)
        reverted = np.zeros(len(events), dtype=np.bool_)
        if backfills.name_of(partition.settings) is not None:
            ordinals = backfills.reverted_ordinals(self.connection, row.lane, row.batch)
            reverted = np.isin(events.ordinal, ordinals)
        accepted |= reverted
        alive = self._alive(row, events, accepted) & ~reverted
        replayed = context.settings["sources"] if found.format == DeadLetters.name else None
        return DecodedBatch(
            row.lane, row.batch, row.revision, found.raw, found.format, undecoded, events, accepted, alive, replayed
        )

    def _all_accepted(self, row: _Recorded, events: EventColumns) -> NDArray[np.bool_]:
        """(n,) bool: events that were accepted at exactly this place."""
        if accepted_digest(events.key, events.digest, events.ordinal) == row.accepted_digest:
            return np.ones(len(events), dtype=np.bool_)  # as in most batches; no need to look for each
        return self._accepted(row, events)

    def _alive(self, row: _Recorded, events: EventColumns, accepted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n,) bool: those ``accepted`` that were not retracted since."""
        alive = accepted.copy()
        if intake.has_retractions(self.connection, row.namespace_key):
            kept = np.flatnonzero(alive)
            gone = intake.retracted(self.connection, events.key[kept])
            if gone:
                alive[[at for at in kept.tolist() if bytes(events.key[at]) in gone]] = False
        return alive

    def _accepted(self, row: _Recorded, events: EventColumns) -> NDArray[np.bool_]:
        places = intake.places(self.connection, events.key)
        here = places[(places["lane"] == row.lane) & (places["batch"] == row.batch)]
        row_of = rows_by_ordinal(events)
        rows = row_of[here["ordinal"][(here["ordinal"] >= 0) & (here["ordinal"] < len(row_of))]]
        if (
            len(rows) < len(here)
            or (rows < 0).any()
            or (events.key[rows] != here["key"]).any()
            or (events.digest[rows] != here["digest"]).any()
        ):
            raise BatchDamaged(
                row.place, "an accepted event is not in its raw records", where="",
                do="Restore the ledger and its segments from a backup.",
            )  # fmt: skip
        accepted = np.zeros(len(events), dtype=np.bool_)
        accepted[rows] = True
        return accepted

    def _usage(self, batch: DecodedBatch) -> tuple[list[PriceUsage], list[str]]:
        snapshot, events = self.snapshot(batch.revision), batch.events
        matches, _ = match(events, snapshot.catalog.meters)
        enriched = enrich(events, matches, self.accounts(events, snapshot), snapshot)
        usage = [one.select(batch.alive[one.event]) for one in enriched.usage]
        return [one for one in usage if len(one.event)], enriched.tag_sets

    def accounts(self, events: EventColumns, snapshot: Snapshot) -> Accounts:
        """The accounts of a batch with the tags they had at the snapshot's revision; nothing else of them can change."""
        encoded = pa.array(events.subject, pa.string()).dictionary_encode()
        names: list[str] = encoded.dictionary.to_pylist()
        missing = [name for name in names if name not in self._accounts]
        if missing:
            self._accounts |= published.accounts(self.connection, snapshot.namespace_key, missing)
        if snapshot.revision not in self._tags:
            found = published.account_tags_at(self.connection, snapshot.namespace_key, snapshot.revision)
            self._tags[snapshot.revision] = found
        tags = self._tags[snapshot.revision]
        rows = [_with_tags(self._accounts.get(name), tags.get(name, "{}")) for name in names]
        return Accounts(np.asarray(encoded.indices).astype(np.int32), rows)

    def snapshot(self, revision: int) -> Snapshot:
        """The catalog as it was at ``revision``."""
        if revision not in self._snapshots:
            found = published.load_snapshot(self.connection, self.namespace, revision)
            if found is None:
                raise IntegrityError(f"catalog revision {revision} of {self.namespace!r} is missing")
            self._snapshots[revision] = found
        return self._snapshots[revision]


def _with_tags(row: AccountRow | None, tags: str) -> AccountRow | None:
    return row if row is None or row.tags == tags else replace(row, tags=tags)


def rows_by_ordinal(events: EventColumns) -> NDArray[np.int64]:
    """The row of each record of the batch, up to the last one that made an event; -1 for those that made none."""
    row_of = np.full(int(events.ordinal.max(initial=-1)) + 1, -1, dtype=np.int64)
    row_of[events.ordinal] = np.arange(len(events))
    return row_of


def _within(raw: RawRecords, start: int, end: int) -> bool:
    """Whether the records lie where the batch says, one behind the other."""
    positions = np.concatenate([[start - 1], raw.positions, [end]])
    return (raw.start, raw.end) == (start, end) and bool((np.diff(positions) > 0).all())


@dataclass(slots=True)
class PriceFold:
    """The folds of every target of one price; columns (k,). ``code`` is account key << 20 | service month.

    ``charge``: sums of charges under a per-event price; ``free``: who is in the allowances, targets numbered as here.
    """

    row: PriceRow
    code: NDArray[np.int64]
    events: NDArray[np.int64]
    last_event_us: NDArray[np.int64]
    state: FoldState
    charge: IntArray
    start_us: NDArray[np.int64]  # of the service period
    end_us: NDArray[np.int64]
    free: Members = field(default_factory=Members.none)
    members: set[tuple[int, bytes]] = field(default_factory=set)

    @classmethod
    def empty(cls, row: PriceRow) -> PriceFold:
        """No target yet."""
        none = np.zeros(0, dtype=np.int64)
        return cls(row, none, none, none, FoldState.empty(0), none, none, none)

    @property
    def billed(self) -> IntArray:
        """What the price's T is a function of: the quantities, or under a per-event price the sums of charges."""
        return self.state.quantity if self._event_charge is None else self.charge

    @property
    def _event_charge(self) -> EventCharge | None:
        return compile_price(self.row.price, self.row.quantity_scale).charge

    def add(self, usage: PriceUsage) -> None:
        """Fold one batch's usage in."""
        code = (usage.account_key.astype(np.int64) << 20) | usage.service_month
        self._grow(np.unique(code))
        target = np.searchsorted(self.code, code)
        order = np.argsort(target, kind="stable")
        usage, target = usage.select(order), target[order]
        items = FoldItems(target, usage.value, usage.time_us, usage.key, self._new_members(usage, target))
        _, self.state = fold(self.row.meter.aggregation, items, self.state)
        if usage.charge is not None:
            self._add_charges(usage, target, usage.charge)
        self.events = self.events + np.bincount(target, minlength=len(self.code))
        np.maximum.at(self.last_event_us, target, usage.time_us)
        self.start_us[target], self.end_us[target] = usage.period_start_us, usage.period_end_us

    def _add_charges(self, usage: PriceUsage, target: NDArray[np.int64], charge: IntArray) -> None:
        allowance = None if self._event_charge is None else self._event_charge.allowance
        if allowance is not None:
            new = Members(target, usage.time_us, usage.key, usage.value)
            admitted = admit(allowance, len(self.code), self.free, new)
            charge, self.free = admitted.charges, admitted.members
            self.charge = add(self.charge, admitted.adjustment)
        _, self.charge = running_sum(target, charge, self.charge)

    def _new_members(self, usage: PriceUsage, target: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        if self.row.meter.aggregation is not Aggregation.UNIQUE or usage.member is None:
            return None
        fresh = first_of(target, usage.member)
        for i in np.flatnonzero(fresh).tolist():
            member = (int(self.code[target[i]]), bytes(usage.member[i]))
            fresh[i] = member not in self.members
            self.members.add(member)
        return fresh

    def _grow(self, codes: NDArray[np.int64]) -> None:
        merged = np.union1d(self.code, codes)
        if len(merged) == len(self.code):
            return
        at = np.searchsorted(merged, self.code)
        fresh = FoldState.empty(len(merged))
        quantity: IntArray = np.zeros(len(merged), dtype=object)
        quantity[at] = self.state.quantity
        charge: IntArray = np.zeros(len(merged), dtype=object)
        charge[at] = self.charge
        self.charge = compact(charge)
        self.free = replace(self.free, target=at[self.free.target])
        fresh.filled[at], fresh.time_us[at], fresh.key[at] = self.state.filled, self.state.time_us, self.state.key
        events, last_event_us = np.zeros(len(merged), dtype=np.int64), np.zeros(len(merged), dtype=np.int64)
        events[at], last_event_us[at] = self.events, self.last_event_us
        self.state = FoldState(compact(quantity), fresh.filled, fresh.time_us, fresh.key)
        self.code, self.events, self.last_event_us = merged, events, last_event_us
        bounds = np.zeros((2, len(merged)), dtype=np.int64)
        bounds[:, at] = self.start_us, self.end_us
        self.start_us, self.end_us = bounds


def bases(
    folds: Mapping[int, PriceFold], chains: TierChains | None, carried: Mapping[Key, int] | None = None
) -> dict[int, Base]:
    """Price key -> what each target of its fold goes on with, for the prices that continue or share a pool.

    ``carried``: the units that months got from the month before.
    """
    found: dict[int, Base] = {}
    for key, fold_ in folds.items():
        price = fold_.row.price
        if chains is None or not (price.continues or price.pool_name):
            continue
        before: list[list[tuple[int, int]]] = [[] for _ in fold_.code]
        for at, (code, *period) in enumerate(
            zip(fold_.code.tolist(), fold_.start_us.tolist(), fold_.end_us.tolist(), strict=True)
        ):
            for part in chains.before(key, *period):
                other = folds.get(part.price_key)
                i = -1 if other is None else int(np.searchsorted(other.code, code))
                if other is not None and i < len(other.code) and other.code[i] == code:
                    before[at].append((int(other.state.quantity[i]), int(other.events[i])))
        name = chains.pool_of(key)
        keys = [] if name is None else [Key(code >> 20, *name, code & 0xFFFFF) for code in fold_.code.tolist()]
        found[key] = base_of(price, before, [(carried or {}).get(one, 0) for one in keys])
    return found


def refold(replay: Replay, since_us: int | None, until_us: int | None, keep: Keep | None) -> dict[int, PriceFold]:
    """Fold all (or the kept) usage again from the raw segments: price key -> folds."""
    folds: dict[int, PriceFold] = {}
    for batch in replay.batches(since_us, until_us):
        for usage in batch.usage:
            wanted = usage if keep is None else usage.select(keep(usage))
            if len(wanted.event):
                folds.setdefault(usage.row.price_key, PriceFold.empty(usage.row)).add(wanted)
    return folds
