"""Try dead letters again: their raw records, mended where somebody did, through the pipeline as batches of their own.

A batch holds letters of one code and is read from a partition named for them and for the number of times each was acted on,
so a crash leaves nothing or the whole batch, and two replays of the same letters bill once. Events keep their own time.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from lineitem.core.clock import Clock
from lineitem.core.errors import InputError, PositionMoved
from lineitem.core.ids import length_prefixed
from lineitem.core.limits import RECORD_BYTES_MAX, REPLAY_BYTES_MAX, REPLAY_LETTERS_MAX
from lineitem.core.money import nano_to_text
from lineitem.core.reasons import Reason
from lineitem.flow import Pipeline, Prepared, Summary
from lineitem.ingest import acts, formats, intake, letters
from lineitem.ingest.acts import Attempts, Chosen, Letter, Outcome
from lineitem.ingest.contracts import Contracts
from lineitem.ingest.events import DecodeContext, RawRecords
from lineitem.ingest.formats.dead_letters import DeadLetters, Envelope, Fix, mended
from lineitem.kit.blobs import BlobStore, Scratch
from lineitem.kit.db import Connection, explained
from lineitem.kit.pace import Pace
from lineitem.ledger.chain import Batch
from lineitem.ledger.letters import Origins, line_items_of
from lineitem.ledger.post import LANES, Counts
from lineitem.schemas.source import OwnRegistry
from lineitem.schemas.source import Source as SchemaSource

RESULTS_SHOWN_MAX = 1000
"""Letters that a summary lists one by one; it counts all."""
_TRIES = 5
"""How often a batch is put together again because somebody acted on one of its letters."""


@dataclass(slots=True)
class OfCode:
    """What became of the letters that had one code."""

    letters: int = 0
    counts: Counts = field(default_factory=Counts)
    failed: Counter[str] = field(default_factory=Counter)
    """Code now -> letters that were set aside again."""
    amounts_nano: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def document(self) -> dict[str, Any]:
        """As `dlq replay` prints it."""
        counts = self.counts
        return {
            "dead_letters": self.letters,
            "itemized": counts.itemized,
            "pending": counts.pending,
            "not_billable": counts.not_billable,
            "duplicate": counts.duplicate,
            "failed": dict(self.failed),
            "amounts": {currency: nano_to_text(nano) for currency, nano in sorted(self.amounts_nano.items())},
        }


@dataclass(slots=True)
class Replayed:
    """What one invocation did, or would do where ``dry_run``."""

    dry_run: bool
    tried: int = 0
    skipped: int = 0
    """Letters that were replayed or settled before their turn came."""
    summary: Summary = field(default_factory=Summary)
    by_reason: dict[Reason, OfCode] = field(default_factory=lambda: defaultdict(OfCode))
    results: list[dict[str, Any]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As ``dlq replay --json`` prints it."""
        counts = self.summary.counts
        return {
            "dry_run": self.dry_run,
            "tried": self.tried,
            "replayed": self.tried - counts.dead_lettered,
            "failed": counts.dead_lettered,
            "skipped": self.skipped,
            "counts": self.summary.document(),
            "by_reason": {reason.code: one.document() for reason, one in sorted(self.by_reason.items())},
            "results": self.results,
        }


Progress = Callable[[int], None]
"""Called after every batch with the number of letters dealt with so far."""


@dataclass(frozen=True, slots=True)
class Replayer:
    """Who tries letters again, and how fast."""

    pipeline: Pipeline
    by: str
    note: str = ""
    pace: Pace = field(default_factory=Pace)
    batch_letters: int = REPLAY_LETTERS_MAX

    def run(self, chosen: Sequence[Chosen], progress: Progress) -> Replayed:
        """Try ``chosen`` again, in order. What fails stays open with its new code."""
        done = Replayed(dry_run=False)
        self._run(chosen, done, progress)
        return done

    def _run(self, chosen: Sequence[Chosen], done: Replayed, progress: Progress) -> None:
        pipeline = self.pipeline
        namespace_key = pipeline.snapshot().namespace_key
        origins = Origins(pipeline.reader, pipeline.segments)
        states = {one.key: one.state for one in chosen}
        handled = 0
        for keys in _portions(chosen, self.batch_letters):
            self.pace.take(len(keys))
            with explained(), intake.exclusive(pipeline.reader, pipeline.namespace, acts.QUEUE, ""):
                tried = self._try(keys, states, namespace_key, origins, done)
            done.skipped += len(keys) - tried
            handled += len(keys)
            progress(handled)

    def _try(
        self, keys: Sequence[int], states: Mapping[int, str], namespace_key: int, origins: Origins, done: Replayed
    ) -> int:
        """One batch of those letters that still are as they were chosen: how many."""
        for _ in range(_TRIES):
            found = acts.load(self.pipeline.reader, namespace_key, keys)
            ready = [one for one in found if one.state == states[one.key] != "replayed"]
            if not ready:
                return 0
            prepared = self._prepare(ready, origins)
            try:
                written = self.pipeline.commit(prepared)
            except PositionMoved:  # somebody acted on one of them who does not wait for us: look again
                continue
            self._tell(prepared, *written, done)
            return len(ready)
        return 0

    def _prepare(self, ready: Sequence[Letter], origins: Origins) -> Prepared:
        """The letters as a batch: enveloped, decoded, priced, in a raw segment."""
        pipeline = self.pipeline
        origins.load(ready)
        sources: dict[str, int] = {}
        whole = origins.records(ready)
        records = []
        for one in ready:
            origin = origins.partition(one)
            text = intake.settings_text(
                {"stream": origin.stream, "format": origin.format, "settings": dict(origin.settings)}
            )
            source = sources.setdefault(text, len(sources))  # files of one stream and format are one source
            envelope = Envelope(one.mark, one.acts + 1, source, one.position, whole[one.key], one.fixes)
            records.append(envelope.encoded())
        snapshot = pipeline.snapshot()
        partition = intake.open_pass(
            pipeline.reader, pipeline.namespace, snapshot.namespace_key, acts.QUEUE, _content(ready), LANES,
            DeadLetters.name, {"sources": [json.loads(text) for text in sources]},
        )  # fmt: skip
        numbers = np.arange(len(records), dtype=np.int64)
        prepared = pipeline.prepare(partition, RawRecords(pa.array(records, pa.binary()), numbers, 0, len(records)))
        prepared.attempts = Attempts(ready, self.by, self.note)
        return prepared

    def _tell(self, prepared: Prepared, counts: Counts, batch: Batch, done: Replayed) -> None:
        """Add one written batch to the summary."""
        attempts = prepared.attempts
        assert attempts is not None
        reason = attempts.letters[0].reason
        one = done.by_reason[reason]
        done.tried += len(attempts.letters)
        done.summary.add(counts, batch)
        one.letters += len(attempts.letters)
        one.counts += counts
        for currency, nano in sums(batch).items():
            one.amounts_nano[currency] += nano
        accepted = [one.event_key for one in attempts.results if one.outcome is Outcome.ACCEPTED and one.event_key]
        items: dict[bytes, list[str]] = {}
        if not done.dry_run and len(done.results) < RESULTS_SHOWN_MAX:
            items = line_items_of(self.pipeline.reader, batch.lane, batch.batch, accepted)
        for ordinal, (letter, result) in enumerate(zip(attempts.letters, attempts.results, strict=True)):
            if result.reason is not None:
                one.failed[result.reason.code] += 1
            if len(done.results) >= RESULTS_SHOWN_MAX:
                continue
            told: dict[str, Any] = {"key": letter.key, "reason": letter.reason.code, "outcome": result.outcome.value}
            if result.reason is not None:
                told |= {"code": result.reason.code, "detail": result.detail}
            if not done.dry_run:
                told["place"] = f"batch {batch.lane}-{batch.batch}, record {ordinal}"
                told["line_items"] = items.get(result.event_key or b"", [])
            done.results.append(told)


def dry_run(
    connection: Connection,
    store: BlobStore,
    clock: Clock,
    namespace: str,
    chosen: Sequence[Chosen],
    progress: Progress,
    registry: SchemaSource | None = None,
) -> Replayed:
    """What replaying ``chosen`` would do: really done, in one transaction that is taken back, with segments kept in memory.

    So the amounts are exact, tiers and all. Other batches wait while it runs, as they do for any batch of their lane.
    ``connection``: one of the posting role that nobody else uses.
    """
    done = Replayed(dry_run=True)
    with connection.transaction(force_rollback=True):
        pipeline = Pipeline(namespace, connection, connection, Scratch(store), clock, registry=registry)
        Replayer(pipeline, "dry run")._run(chosen, done, progress)
    return done


@dataclass(frozen=True, slots=True)
class Mended:
    """A letter's record with all its fixes: the bytes, and the code and sentence it would be set aside with as it is read.

    None and None where it reads as an event; whether that can be billed is for a replay to say.
    """

    record: bytes
    reason: Reason | None
    detail: str | None


def try_patch(
    connection: Connection,
    store: BlobStore,
    namespace: str,
    key: int,
    patch: Mapping[str, Any],
    now_us: int,
    registry: SchemaSource | None = None,
) -> Mended:
    """How a letter reads with one more patch. Raises InputError for an unknown letter and for a patch that does not fit."""
    namespace_key = letters.namespace_key(connection, namespace)
    found = acts.load(connection, namespace_key, [key])
    if not found:
        raise letters.no_letter(namespace, key)
    origins = Origins(connection, store)
    origins.load(found)
    origin = origins.partition(found[0])
    inner = formats.get(origin.format)
    try:
        fixes = [*found[0].fixes, Fix("", "", now_us, patch)]
        record = mended(inner, origins.records(found)[key], fixes, origin.settings)
    except formats.Unfit as error:
        raise InputError(f"the patch does not fit: {error}", where=f"dead letter {key}") from None
    if len(record) > RECORD_BYTES_MAX:
        raise InputError(f"the mended record has more than {RECORD_BYTES_MAX} bytes", where=f"dead letter {key}")
    raw = RawRecords(pa.array([record], pa.binary()), np.array([found[0].position], dtype=np.int64), 0, 0)
    schemas = Contracts(OwnRegistry(connection, namespace_key), registry).looking()
    context = DecodeContext(namespace, origin.stream, now_us, origin.settings, schemas, schemas.away)
    _, rejects = inner.decode(raw, context)
    return Mended(record, rejects[0].reason, rejects[0].detail) if rejects else Mended(record, None, None)


def sums(batch: Batch) -> dict[str, int]:
    """Currency -> what a batch's line items come to, in nano-units."""
    return {currency: int(nano) for currency, nano in json.loads(batch.sums).items()}


def _portions(chosen: Sequence[Chosen], most: int) -> Iterator[list[int]]:
    """Keys of the letters for each batch: of one code, not too many, not too large."""
    for _, group in groupby(chosen, key=lambda one: one.reason):
        keys: list[int] = []
        size = 0
        for one in group:
            weight = min(one.raw_bytes, RECORD_BYTES_MAX)
            if keys and (len(keys) >= most or size + weight > REPLAY_BYTES_MAX):
                yield keys
                keys, size = [], 0
            keys.append(one.key)
            size += weight
        yield keys


def _content(ready: Sequence[Letter]) -> str:
    """What names the partition: which letters, each as often acted on as it was; SHA-256, hex."""
    parts = [part for one in ready for part in (bytes.fromhex(one.mark), one.acts.to_bytes(4, "big"))]
    return sha256(length_prefixed(*parts)).hexdigest()
