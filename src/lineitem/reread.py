"""Read usage again that was read before: from raw segments or from a stream, as passes of their own.

What the ledger knows is a duplicate, what it misses is billed at its own time, under the prices in force then. A pass is named
for what was asked, so the same command goes on where it stopped; once finished it would start anew. Dead letters are tried
again by ``replay``: a record whose letter somebody settled is left to that decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.core.clock import Clock
from lineitem.core.ids import text_digest
from lineitem.flow import Elsewhere, Pipeline, Prepared, Summary
from lineitem.ingest import backfills, formats, intake, letters
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords
from lineitem.ingest.formats.dead_letters import DeadLetters
from lineitem.kit.ahead import ahead
from lineitem.kit.blobs import BlobStore, Scratch
from lineitem.kit.db import Connection, explained
from lineitem.ledger.changes import Change, changes
from lineitem.ledger.flush import flush
from lineitem.ledger.post import LANES
from lineitem.ledger.refold import Replay
from lineitem.schemas.source import Source as SchemaSource

SETTING = "replay"
"""Key of a pass's settings that says what was asked to be read again."""
_NAME = "replay"


class Asked(NamedTuple):
    """What to read again: event times ``[since_us, until_us)``, one account; None means any. ``part`` of ``parts``: streams
    are shared out among processes."""

    since_us: int | None = None
    until_us: int | None = None
    account: str | None = None
    part: int = 1
    parts: int = 1

    @property
    def narrows(self) -> bool:
        """Whether records are chosen by what is in them."""
        return (self.since_us, self.until_us, self.account) != (None, None, None)


class Stretch(NamedTuple):
    """Records of one stream from ``start`` up to position ``end``. ``name``: unique, of what is read; ``key``: where it is."""

    name: str
    key: int
    stream: str
    format: str
    settings: dict[str, Any]
    start: int
    end: int


class Source(Protocol):
    """Where records are read again. Plain data: another process may be handed one."""

    @property
    def what(self) -> str:
        """What was asked, as far as the source goes; names its passes."""
        ...

    def stretches(self, connection: Connection, namespace: str) -> list[Stretch]:
        """What there is to read."""
        ...

    def read(self, ground: Ground, stretch: Stretch, start: int, limits: BatchLimits) -> Iterator[RawRecords]:
        """Records of a stretch from position ``start`` on; the first batch starts there, each where the one before ended."""
        ...


class Ground(NamedTuple):
    """What reading stands on."""

    connection: Connection
    store: BlobStore
    namespace: str


@dataclass(frozen=True, slots=True)
class Segments:
    """Everything in the raw segments, but for backfills, dead letters that were tried again, and what was read again."""

    what: str = "segments"

    def stretches(self, connection: Connection, namespace: str) -> list[Stretch]:
        """Every pass over a file, and every partition of a stream, as far as it has been read."""
        key = letters.namespace_key(connection, namespace)
        known = intake.partitions(connection, {key: namespace}).values()
        return [
            Stretch(one.name, one.key, one.stream, one.format, dict(one.settings), 0, one.next)
            for one in sorted(known, key=lambda one: one.key)
            if one.namespace_key == key
            and one.next
            and one.format != DeadLetters.name
            and not {SETTING, backfills.SETTING} & one.settings.keys()
        ]

    def read(self, ground: Ground, stretch: Stretch, start: int, limits: BatchLimits) -> Iterator[RawRecords]:
        """Batch by batch as they came in. Raises BatchDamaged where one cannot be read."""
        for segment in Replay(*ground).stored(stretch.key):
            raw = segment.raw
            if start < raw.end <= stretch.end:
                yield RawRecords(raw.records, raw.positions, start, raw.end)
                start = raw.end


@dataclass(slots=True)
class Reread:
    """What one invocation did, or would do where ``dry_run``."""

    dry_run: bool
    streams: int = 0
    resumed: bool = False
    summary: Summary = field(default_factory=Summary)
    changes: list[Change] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As ``lineitem replay --json`` prints it."""
        about = {"dry_run": self.dry_run, "streams": self.streams, "resumed": self.resumed}
        return about | self.summary.document() | {"changes": [one.document() for one in self.changes]}


Progress = Callable[[int, int], None]
"""Called after every batch with the positions passed by and how many there are."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What a process needs to prepare the batches. ``passes``: each stretch and its pass, where it stands."""

    source: Source
    asked: Asked
    limits: BatchLimits
    passes: Sequence[tuple[Stretch, intake.Partition]]


def reread(
    pipeline: Pipeline,
    source: Source,
    asked: Asked,
    limits: BatchLimits,
    progress: Progress,
    *,
    two_processes: bool = False,
) -> Reread:
    """Read again what was asked. ``two_processes``: prepare batches in another one."""
    done = Reread(dry_run=False)
    _reread(pipeline, source, asked, limits, progress, done, two_processes)
    return done


def dry_run(
    connection: Connection,
    store: BlobStore,
    clock: Clock,
    namespace: str,
    source: Source,
    asked: Asked,
    limits: BatchLimits,
    progress: Progress,
    registry: SchemaSource | None = None,
) -> Reread:
    """What reading again would do: really done, in one transaction that is taken back, with segments kept in memory.

    ``connection``: one of the posting role that nobody else uses.
    """
    done = Reread(dry_run=True)
    with connection.transaction(force_rollback=True):
        pipeline = Pipeline(namespace, connection, connection, Scratch(store), clock, registry=registry)
        _reread(pipeline, source, asked, limits, progress, done, two_processes=False)
    return done


def _reread(
    pipeline: Pipeline,
    source: Source,
    asked: Asked,
    limits: BatchLimits,
    progress: Progress,
    done: Reread,
    two_processes: bool,
) -> None:
    reader = pipeline.reader
    namespace_key = pipeline.snapshot().namespace_key
    flush(pipeline.writer, pipeline.snapshot(), pipeline.clock.now_us(), pipeline.rater)  # as any reading does first
    places: list[tuple[int, int]] = []
    with explained(), intake.exclusive(reader, pipeline.namespace, _NAME, _content(source, asked, "")):
        stretches = source.stretches(reader, pipeline.namespace)
        mine = [one for at, one in enumerate(stretches) if at % asked.parts == asked.part - 1]
        passes = [(one, _open(reader, pipeline.namespace, namespace_key, source, asked, one)) for one in mine]
        done.streams, done.resumed = len(passes), any(partition.next for _, partition in passes)
        behind = {partition.key: max(partition.next, one.start) for one, partition in passes}
        total = sum(one.end - behind[partition.key] for one, partition in passes)
        passed = 0
        with _prepared(pipeline, _Job(source, asked, limits, passes), two_processes) as batches:
            for batch in batches:
                counts, written = pipeline.commit(batch)
                done.summary.add(counts, written)
                places.append((written.lane, written.batch))
                if done.dry_run:
                    pipeline.segments.remove(batch.segment)  # all of them at once may not fit into memory
                passed += batch.end - behind[batch.partition.key]
                behind[batch.partition.key] = batch.end
                progress(passed, total)
        for _, partition in passes:  # in the end, so that a run that stopped goes on with what is left
            intake.complete(reader, partition.key, pipeline.clock.now_us())
        done.changes = changes(reader, namespace_key, places)


def _content(source: Source, asked: Asked, name: str) -> str:
    """What names a pass, or all of them together: what was asked, and of which stream."""
    told = (str(part) for part in asked)
    return text_digest(SETTING, source.what, *told, name).hex()


def _open(
    connection: Connection, namespace: str, namespace_key: int, source: Source, asked: Asked, one: Stretch
) -> intake.Partition:
    """The pass over a stretch: one that stopped goes on, after a finished one another starts."""
    settings = one.settings | {SETTING: source.what}
    content = _content(source, asked, one.name)
    return intake.open_pass(
        connection, namespace, namespace_key, one.stream, content, LANES, one.format, settings
    )  # fmt: skip


@contextmanager
def _prepared(pipeline: Pipeline, job: _Job, two_processes: bool) -> Iterator[Iterator[Prepared]]:
    elsewhere = pipeline.elsewhere if two_processes else None
    if elsewhere is None:
        yield _prepare_all(pipeline, job)
        return
    with ahead(_prepare_elsewhere, elsewhere, job) as others:
        yield others


def _prepare_elsewhere(elsewhere: Elsewhere, job: _Job) -> Iterator[Prepared]:
    with elsewhere.pipeline() as pipeline:
        yield from _prepare_all(pipeline, job)


def _prepare_all(pipeline: Pipeline, job: _Job) -> Iterator[Prepared]:
    """Every batch of every stretch from where its pass stands, without what was not asked for."""
    ground = Ground(pipeline.reader, pipeline.segments, pipeline.namespace)
    for stretch, partition in job.passes:
        start = partition.next
        for raw in job.source.read(ground, stretch, start, job.limits):
            context, _ = pipeline.decoding(partition, pipeline.clock.now_us())
            kept = _kept(ground.connection, partition, raw, job.asked, context)
            if len(kept):
                some = raw.records if len(kept) == len(raw.records) else raw.records.take(pa.array(kept))
                yield pipeline.prepare(partition, RawRecords(some, raw.positions[kept], start, raw.end))
                start = raw.end


def _kept(
    connection: Connection, partition: intake.Partition, raw: RawRecords, asked: Asked, context: DecodeContext
) -> NDArray[np.int64]:
    """Ordinals of the records to read again: those asked for, without those whose dead letters are settled."""
    every = np.arange(len(raw.records), dtype=np.int64)
    settled = letters.any_settled(connection, partition.namespace_key)
    if not settled and not asked.narrows:
        return every
    events, _ = formats.get(partition.format).decode(raw, context)
    wanted = _asked_for(events, asked)
    if settled:
        gone = letters.settled(connection, partition.namespace_key, events.key)
        pairs = zip(events.key, events.digest, strict=True)
        wanted &= np.fromiter(((bytes(key), bytes(digest)) not in gone for key, digest in pairs), np.bool_, len(events))
    if asked.narrows:  # what is no event is of no account and no time
        return events.ordinal[wanted].astype(np.int64)
    return np.setdiff1d(every, events.ordinal[~wanted])


def _asked_for(events: EventColumns, asked: Asked) -> NDArray[np.bool_]:
    wanted = np.ones(len(events), dtype=np.bool_)
    if asked.since_us is not None:
        wanted &= events.time_us >= asked.since_us
    if asked.until_us is not None:
        wanted &= events.time_us < asked.until_us
    if asked.account is not None:
        wanted &= np.fromiter((name == asked.account for name in events.subject), np.bool_, len(events))
    return wanted
