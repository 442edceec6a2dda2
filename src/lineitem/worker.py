"""A worker's desk: gathers records of a stream's partitions and commits them, one batch after another, beside the reader.

The reader (an adapter) runs in one thread and must go on answering its broker; batches are prepared and committed in
another. Memory holds at most the batch in work and one batch's worth of gathered records over all partitions: when
``full``, the reader stops reading until the ledger has caught up.
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
from lineitem.ledger.post import outcomes
from lineitem.ledger.rows import first_and_last_id
from lineitem.observability.metrics import DUPLICATES, Stage
from lineitem.observability.watch import BatchWatch

_RECORD_BYTES_KEPT = RECORD_BYTES_MAX + 1
_NS_PER_MS, _US_PER_MS = 1_000_000, 1_000


class StreamLimits(NamedTuple):
    """When gathered records become a batch: so many records or bytes, or when the first has waited so long."""

    records: int = 100_000
    bytes: int = 64 << 20
    age_ms: int = 1_000


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

    def take(self) -> _Gathered:
        """All of them as a batch that ends behind the last one; holes before and between (compaction, transaction markers)
        hold no record."""
        start, end = self.next, self.positions[-1] + 1
        raw = RawRecords(pa.array(self.records, pa.binary()), np.array(self.positions, np.int64), start, end)
        gathered = _Gathered(raw, self.bytes, np.array(self.received_ms, np.int64) * _US_PER_MS)
        self.records, self.positions, self.received_ms, self.bytes, self.next = [], [], array("q"), 0, end
        return gathered


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
    partition: Partition
    end: int
    future: Future[None]


class Desk:
    """``certain``: raises where the records of a batch about to commit may not be what they seem.
    ``chores``: called after each batch, in the thread that commits. ``clock`` counts nanoseconds. ``watch`` sees every batch.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        limits: StreamLimits,
        *,
        certain: Callable[[], None] = lambda: None,
        chores: Callable[[], None] = lambda: None,
        clock: Callable[[], int] = time.monotonic_ns,
        watch: BatchWatch | None = None,
    ) -> None:
        self.summary = Summary()
        self.watch = pipeline.watch = watch or BatchWatch()
        self._pipeline, self._limits = pipeline, limits
        self._certain, self._chores, self._clock = certain, chores, clock
        self._piles: dict[int, _Pile] = {}
        self._records = self._bytes = self._again = 0
        self._work: _InWork | None = None
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

    def leave(self, key: int, patience_s: int | None) -> None:
        """A partition is another worker's from now on: a batch of it in work is finished, or left after ``patience_s``
        for the ledger to decide (a position moves once); what was gathered is forgotten."""
        self._drop(key)
        if self._work is not None and self._work.partition.key == key:
            wait([self._work.future], patience_s)

    def _drop(self, key: int) -> None:
        pile = self._piles.pop(key, None)
        if pile is not None:
            self._records -= len(pile.records)
            self._bytes -= pile.bytes

    # --- what the reader asks ----------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether there is no room for more records."""
        return self._records >= self._limits.records or self._bytes >= self._limits.bytes

    @property
    def gathered(self) -> int:
        """Records that no batch holds yet."""
        return self._records

    @property
    def busy(self) -> bool:
        """Whether a batch is in work."""
        return self._work is not None

    def quiet(self, key: int) -> bool:
        """Whether nothing of a partition is gathered or in work."""
        at_work = self._work is not None and self._work.partition.key == key
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
            pile = self._due(hurry)
            if pile is not None:
                self._records -= len(pile.records)
                self._bytes -= pile.bytes
                gathered = pile.take()
                future = self._thread.submit(self._commit, pile.partition, gathered)
                self._work = _InWork(pile.partition, gathered.raw.end, future)
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
            return Done(work.partition, work.end, moved=True)
        return Done(work.partition, work.end, moved=False)

    def _due(self, hurry: Collection[int]) -> _Pile | None:
        """The pile that has waited longest among those that are due; the largest where the desk is full without any."""
        piles = [pile for pile in self._piles.values() if pile.records]
        oldest = self._clock() - self._limits.age_ms * _NS_PER_MS
        due = [
            pile
            for pile in piles
            if pile.since_ns <= oldest
            or len(pile.records) >= self._limits.records
            or pile.bytes >= self._limits.bytes
            or pile.partition.key in hurry
        ]
        if due:
            return min(due, key=lambda pile: pile.since_ns)
        return max(piles, key=lambda pile: pile.bytes) if self.full else None

    def _commit(self, partition: Partition, gathered: _Gathered) -> None:
        """In the other thread."""
        raw, received_us = gathered.raw, gathered.received_us
        told = received_us if (received_us > 0).all() else None
        place = (partition.namespace, partition.stream, raw.start, raw.end, len(raw.records), gathered.bytes)
        with self.watch.batch(*place, told) as seen:
            prepared = self._pipeline.prepare(partition, raw)
            self._certain()
            self.watch.lap(Stage.CHECK)
            counts, batch = self._pipeline.commit(prepared)
            seen.lane, seen.batch = batch.lane, f"{batch.lane}-{batch.batch}"
            seen.outcomes, seen.line_items = outcomes(counts), batch.line_items
            seen.line_item_ids = first_and_last_id(batch.lane, batch.batch, batch.recorded_us, batch.line_items)
        self.summary.add(counts, batch)
        self._chores()

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
