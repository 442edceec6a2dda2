"""A worker's desk: gathers records of a stream's partitions and commits them, one batch after another, beside the reader.

The reader (an adapter) runs in one thread and must go on answering its broker; batches are prepared and committed in
another. A batch is as large as committing allows (``kit.batch_size``). Memory holds the batch in work and, of all partitions
together, two more: from then on only partitions that have gathered less than their share take more, up to their share.
Partitions whose records are due get their batches in turn, so none waits for more than one batch of each other.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.core.errors import PositionMoved
from lineitem.core.limits import RECORD_BYTES_MAX
from lineitem.flow import Pipeline, Summary
from lineitem.ingest.events import RawRecords
from lineitem.ingest.intake import Partition
from lineitem.kit.batch_size import BatchSize
from lineitem.ledger.post import outcomes
from lineitem.ledger.rows import first_and_last_id
from lineitem.observability.metrics import DUPLICATES, Stage
from lineitem.observability.watch import BatchWatch

_RECORD_BYTES_KEPT = RECORD_BYTES_MAX + 1
_NS_PER_MS, _US_PER_MS = 1_000_000, 1_000
_CHORES_NS = 1_000 * _NS_PER_MS
"""How long a desk without batches goes without its chores."""
_REST_NS = 100 * _NS_PER_MS
"""How long a partition whose limit is used up is not asked for again."""


class StreamLimits(NamedTuple):
    """When gathered records become a batch: so many records or bytes at most, or when the first has waited so long.
    ``commit_ms``: how long committing one should take at most; 0: however long it takes."""

    records: int = 100_000
    bytes: int = 64 << 20
    age_ms: int = 250
    commit_ms: int = 500


@dataclass(slots=True)
class _Pile:
    """Records of one partition that no batch holds yet. ``next``: where its next batch starts."""

    partition: Partition
    next: int
    records: list[bytes] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    received_ms: array[int] = field(default_factory=lambda: array("q"))
    bytes: int = 0
    since_ns: int = 0
    bound: int | None = None  # most records it may hold, where its source is limited
    rests_until_ns: int = 0

    def fitting(self, records_max: int, bytes_max: int) -> int:
        """How many of its first records a batch holds; at least one."""
        count = min(len(self.records), records_max)
        if self.bytes <= bytes_max:
            return count
        sizes = np.cumsum(np.fromiter(map(len, self.records[:count]), np.int64, count))
        return max(int(np.searchsorted(sizes, bytes_max, side="right")), 1)

    def take(self, count: int, now_ns: int) -> _Gathered:
        """Its first records as a batch that ends behind the last of them; holes before and between (compaction, transaction
        markers) hold no record. The others wait anew: it is another partition's turn."""
        start, end = self.next, self.positions[count - 1] + 1
        records, positions, received_ms = self.records[:count], self.positions[:count], self.received_ms[:count]
        self.records, self.positions = self.records[count:], self.positions[count:]
        self.received_ms = self.received_ms[count:]
        size = sum(map(len, records))
        self.bytes -= size
        self.next, self.since_ns = end, now_ns
        raw = RawRecords(pa.array(records, pa.binary()), np.array(positions, np.int64), start, end)
        return _Gathered(raw, size, np.array(received_ms, np.int64) * _US_PER_MS)


class _Gathered(NamedTuple):
    """Records of a batch, how large they are, and when each was received."""

    raw: RawRecords
    bytes: int
    received_us: NDArray[np.int64]


class Done(NamedTuple):
    """A batch that left the desk. ``moved``: another process took its records first, nothing was written."""

    partition: Partition
    end: int
    moved: bool


class _InWork(NamedTuple):
    """``batch``: partition and end; None for chores."""

    batch: tuple[Partition, int] | None
    future: Future[None]

    def of(self, key: int) -> bool:
        return self.batch is not None and self.batch[0].key == key


def _all_of_them(partition: Partition, wanted: int) -> int:
    """No source is limited."""
    return wanted


class Desk:
    """``certain``: raises where the records of a batch about to commit may not be what they seem.
    ``chores``: called after each batch, and every second without one, in the thread that commits. ``allowed``: how many of
    so many records of a partition may be read now. ``clock`` counts nanoseconds. ``watch`` sees every batch.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        limits: StreamLimits,
        *,
        certain: Callable[[], None] = lambda: None,
        chores: Callable[[], None] = lambda: None,
        allowed: Callable[[Partition, int], int] = _all_of_them,
        clock: Callable[[], int] = time.monotonic_ns,
        watch: BatchWatch | None = None,
    ) -> None:
        self.summary = Summary()
        self.watch = pipeline.watch = watch or BatchWatch()
        self.size = BatchSize(limits.records, limits.bytes, limits.commit_ms)
        self._pipeline, self._limits = pipeline, limits
        self._certain, self._chores, self._allowed, self._clock = certain, chores, allowed, clock
        self._piles: dict[int, _Pile] = {}
        self._records = self._bytes = self._again = 0
        self._work: _InWork | None = None
        self._chores_ns = clock()
        self._thread = ThreadPoolExecutor(1, "batches")

    # --- what the reader tells ---------------------------------------------------------------------------------------

    def take(self, partition: Partition) -> None:
        """A partition is this worker's now, from ``partition.next`` on; what was gathered of it before is forgotten."""
        self._drop(partition.key)
        self._piles[partition.key] = _Pile(partition, partition.next)

    def add(self, key: int, position: int, record: bytes, received_ms: int = -1) -> None:
        """The next record of a partition, received at ``received_ms`` since 1970, where that is known. One that a batch holds
        already is passed over."""
        pile = self._piles[key]
        if position < pile.next or (pile.positions and position <= pile.positions[-1]):
            self._again += 1
            return
        if not pile.records:
            pile.since_ns = self._clock()
        kept = record[:_RECORD_BYTES_KEPT]
        pile.records.append(kept)
        pile.positions.append(position)
        pile.received_ms.append(received_ms)
        pile.bytes += len(kept)
        self._records += 1
        self._bytes += len(kept)

    def bound(self, key: int, records: int | None) -> None:
        """Gather so many records of a partition at most: those of a limited source would take the room of others."""
        self._piles[key].bound = records

    def leave(self, key: int, patience_s: int | None) -> None:
        """A partition is another worker's from now on: a batch of it in work is finished, or left after ``patience_s``
        for the ledger to decide (a position moves once); what was gathered is forgotten."""
        self._drop(key)
        if self._work is not None and self._work.of(key):
            wait([self._work.future], patience_s)

    def _drop(self, key: int) -> None:
        pile = self._piles.pop(key, None)
        if pile is not None:
            self._records -= len(pile.records)
            self._bytes -= pile.bytes

    # --- what the reader asks ----------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether there is room only for partitions that have less than their share."""
        return self._records >= self._room(1) or self._bytes >= self._room_bytes(1)

    def over(self, key: int) -> bool:
        """Whether there is no room for more records of a partition."""
        pile = self._piles.get(key)
        if pile is None:
            return False
        if pile.bound is not None and len(pile.records) >= pile.bound:
            return True
        share = max(len(self._piles), 1)
        return self.full and (len(pile.records) >= self._room(share) or pile.bytes >= self._room_bytes(share))

    def _room(self, shares: int) -> int:
        return max(min(2 * self.size.records, self._limits.records) // shares, 1)

    def _room_bytes(self, shares: int) -> int:
        return max(min(2 * self.size.bytes, self._limits.bytes) // shares, 1)

    @property
    def gathered_bytes(self) -> int:
        """Bytes of records that no batch holds yet."""
        return self._bytes

    @property
    def gathered(self) -> int:
        """Records that no batch holds yet."""
        return self._records

    @property
    def busy(self) -> bool:
        """Whether a batch is in work, or chores."""
        return self._work is not None

    @property
    def committing(self) -> bool:
        """Whether a batch is in work."""
        return self._work is not None and self._work.batch is not None

    def quiet(self, key: int) -> bool:
        """Whether nothing of a partition is gathered or in work."""
        at_work = self._work is not None and self._work.of(key)
        pile = self._piles.get(key)
        return not at_work and (pile is None or not pile.records)

    def wait(self, seconds: float) -> None:
        """Let the batch in work be finished, for so long at most."""
        if self._work is not None:
            wait([self._work.future], seconds)

    def step(self, hurry: Collection[int] = ()) -> Done | None:
        """Start the next batch that is due where none is in work; the one that has been finished since the last call.

        ``hurry``: partitions whose records need not wait for more. Raises what went wrong with the batch.
        """
        if self._again:
            self.watch.recorder.add(DUPLICATES, self._again, "delivery")
            self._again = 0
        done = self.finished()
        if self._work is None:
            now_ns = self._clock()
            pile, count = self._next(now_ns, hurry)
            if pile is not None:
                gathered = pile.take(count, now_ns)
                self._records -= count
                self._bytes -= gathered.bytes
                future = self._thread.submit(self._commit, pile.partition, gathered)
                self._work = _InWork((pile.partition, gathered.raw.end), future)
            elif now_ns - self._chores_ns >= _CHORES_NS:
                self._work = _InWork(None, self._thread.submit(self._do_chores))
        return done

    def finished(self) -> Done | None:
        """The batch that has been finished since the last call. Raises what went wrong with it."""
        work = self._work
        if work is None or not work.future.done():
            return None
        self._work = None
        try:
            work.future.result()
        except PositionMoved:
            return None if work.batch is None else Done(*work.batch, moved=True)
        return None if work.batch is None else Done(*work.batch, moved=False)

    def _next(self, now_ns: int, hurry: Collection[int]) -> tuple[_Pile | None, int]:
        """The pile whose turn it is, and how many of its records the batch may hold."""
        for pile in self._due(now_ns, hurry):
            wanted = pile.fitting(self.size.records, self.size.bytes)
            count = self._allowed(pile.partition, wanted)
            if count:
                return pile, count
            pile.rests_until_ns = now_ns + _REST_NS
        return None, 0

    def _due(self, now_ns: int, hurry: Collection[int]) -> list[_Pile]:
        """Piles that are due, those that have waited longest first; the largest where the desk is full without any."""
        piles = [pile for pile in self._piles.values() if pile.records and pile.rests_until_ns <= now_ns]
        oldest = now_ns - self._limits.age_ms * _NS_PER_MS
        due = [
            pile
            for pile in piles
            if pile.since_ns <= oldest
            or len(pile.records) >= self.size.records
            or pile.bytes >= self.size.bytes
            or pile.partition.key in hurry
        ]
        if not due and self.full and piles:
            return [max(piles, key=lambda pile: pile.bytes)]
        return sorted(due, key=lambda pile: pile.since_ns)

    def _commit(self, partition: Partition, gathered: _Gathered) -> None:
        """In the other thread."""
        raw, received_us = gathered.raw, gathered.received_us
        told = received_us if (received_us > 0).all() else None
        place = (partition.namespace, partition.stream, raw.start, raw.end, len(raw.records), gathered.bytes)
        with self.watch.batch(*place, told) as seen:
            prepared = self._pipeline.prepare(partition, raw)
            self._certain()
            self.watch.lap(Stage.CHECK)
            begun_ns = self._clock()
            counts, batch = self._pipeline.commit(prepared)
            self.size.observe(len(raw.records), gathered.bytes, (self._clock() - begun_ns) // _NS_PER_MS)
            seen.lane, seen.batch = batch.lane, f"{batch.lane}-{batch.batch}"
            seen.outcomes, seen.line_items = outcomes(counts), batch.line_items
            seen.line_item_ids = first_and_last_id(batch.lane, batch.batch, batch.recorded_us, batch.line_items)
        self.summary.add(counts, batch)
        self._do_chores()

    def _do_chores(self) -> None:
        self._chores()
        self._chores_ns = self._clock()

    def close(self) -> None:
        """Finish the batch in work; what is only gathered is left. Raises what went wrong with it."""
        try:
            self.wait_for_all()
        finally:
            self._thread.shutdown()

    def wait_for_all(self) -> None:
        """Until no batch is in work."""
        if self._work is not None:
            wait([self._work.future])
            self.finished()
