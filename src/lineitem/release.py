"""Let records go on that a switch has made wait: out of the raw segment they lie in, through the pipeline, at their own time.

Each part of a batch that waits is a source partition. What reads it takes as many records as the switch allows by then; the
partition's position moves with their line items, so two processes that read it bill once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lineitem.core.errors import IntegrityError, PositionMoved
from lineitem.flow import Pipeline, Summary
from lineitem.ingest import held, intake, segments, throttle
from lineitem.ingest.events import BatchLimits, RawRecords
from lineitem.ingest.formats.held import enveloped
from lineitem.ingest.held import Waiting
from lineitem.ingest.segments import Segment
from lineitem.ingest.throttle import Switch, What
from lineitem.kit.db import explained
from lineitem.ledger.chain import records_digest
from lineitem.ledger.letters import batches_at

_PARTS = 100
"""Parts looked up at once."""
_STEP_NS = 200_000_000
"""How long small parts may keep others waiting for the thread that commits."""
_REST_TIMES = 10
"""Looking in vain for what may go on costs a tenth of the time at most."""


@dataclass(slots=True)
class Releaser:
    """Lets go on what may, batch by batch. ``clock_ns`` only tells how long looking takes."""

    pipeline: Pipeline
    limits: BatchLimits = field(default_factory=BatchLimits)
    clock_ns: Callable[[], int] = time.monotonic_ns
    summary: Summary = field(default_factory=Summary)
    _segment: tuple[tuple[int, int], Segment] | None = None
    _look_at_ns: int = 0

    def all(self, progress: Callable[[int], None] = lambda _: None) -> Summary:
        """Everything that may go on now; of what a limit lets through, what it does at once."""
        shut = _Shut([], [])
        while self.step(shut):
            progress(self.summary.counts.received)
        return self.summary

    def step(self, shut: _Shut | None = None) -> int:
        """One large batch, or several small ones, of what may go on: how many records. ``shut`` remembers used up limits."""
        begun_ns = self.clock_ns()
        if begun_ns < self._look_at_ns:
            return 0
        released = 0
        with explained():
            key = self.pipeline.snapshot().namespace_key
            now_us = self.pipeline.clock.now_us()
            switches = {one.number: one for one in throttle.in_force(self.pipeline.reader, key, now_us)}
            shut = shut or _Shut([], [])
            shut.numbers += [one.number for one in switches.values() if one.per_second is None]
            while not released:
                some = held.waiting(self.pipeline.reader, key, shut.numbers, shut.accounts, [*shut.damaged], _PARTS)
                for part in some:
                    late = released and self.clock_ns() - begun_ns > _STEP_NS
                    if released < self.limits.records and not late and not shut.has(part):
                        released += self._some_of(part, switches.get(part.number), key, shut)
                if len(some) < _PARTS:
                    break
        if not released and shut.damaged:
            raise next(iter(shut.damaged.values()))  # the others have gone on
        if not released:
            self._look_at_ns = self.clock_ns() + _REST_TIMES * (self.clock_ns() - begun_ns)
        return released

    def _some_of(self, part: Waiting, switch: Switch | None, key: int, shut: _Shut) -> int:
        """Let go on what may of a part; where its limit is used up, it and others like it are ``shut`` for now."""
        wanted = count = min(part.records - part.next, self.limits.records)
        if switch is not None:
            count = self._allowed(key, part, switch, wanted)
            if count < wanted:
                shut.add(part)
        try:
            return self._release(part, count) if count else 0
        except IntegrityError as error:  # others go on; it is said when there are no more
            shut.damaged[part.partition_key] = error
            return 0

    def _allowed(self, key: int, part: Waiting, switch: Switch, wanted: int) -> int:
        now_us = self.pipeline.clock.now_us()
        if switch.what is What.EACH_ACCOUNT and switch.per_second is not None:
            each = self.pipeline.each_account
            return each.allowed([part.account or ""], [wanted], switch.per_second, now_us)[0]
        return throttle.allowed(self.pipeline.reader, key, switch, wanted, now_us)

    def _release(self, part: Waiting, count: int) -> int:
        pipeline = self.pipeline
        partition = intake.partitions(
            pipeline.reader, {pipeline.snapshot().namespace_key: pipeline.namespace}, [part.partition_key]
        )[part.partition_key]
        start, end = part.next, part.next + count
        came_in = self._came_in(part)
        records = enveloped(came_in.raw, held.unpacked(part.ordinals)[start:end], came_in.format)
        raw = RawRecords(records, np.arange(start, end, dtype=np.int64), start, end)
        prepared = pipeline.prepare(partition, raw, part.number)
        prepared.completes = end == part.records
        try:
            self.summary.add(*pipeline.commit(prepared))
        except PositionMoved:  # another process lets them go on
            return 0
        return count

    def _came_in(self, part: Waiting) -> Segment:
        """The records of the batch that a part is of. A segment is read once for parts of it that follow each other."""
        place = (part.lane, part.batch)
        if self._segment is None or self._segment[0] != place:
            batch = batches_at(self.pipeline.reader, [place])[place]
            found = segments.read(self.pipeline.segments, batch.segment, batch.recorded_us)
            if records_digest(found.raw.records) != batch.records_digest:
                raise IntegrityError(
                    f"batch {part.lane}-{part.batch}: its raw records are not those it recorded",
                    where=batch.segment, do="Restore the segment from a backup.",
                )  # fmt: skip
            self._segment = (place, found)
        return self._segment[1]


@dataclass(slots=True)
class _Shut:
    """Switches and, under a limit that each account has, accounts of which nothing may go on just now."""

    numbers: list[int]
    accounts: list[str]
    damaged: dict[int, IntegrityError] = field(default_factory=dict)
    """Parts whose raw segment is missing or damaged."""

    def has(self, part: Waiting) -> bool:
        return part.number in self.numbers or (part.account is not None and part.account in self.accounts)

    def add(self, part: Waiting) -> None:
        if part.account is None:
            self.numbers.append(part.number)
        else:
            self.accounts.append(part.account)
