"""The way every format shares: raw records to event columns, slice by slice, setting bad records aside one by one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, compress
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.core.ids import identity_key
from lineitem.core.limits import FIELD_CHARS_MAX, RECORD_BYTES_MAX
from lineitem.core.reasons import Reason
from lineitem.ingest.digest import content_digests, identity_keys, record_ids
from lineitem.ingest.events import KEY_DTYPE, DecodeContext, EventColumns, RawRecords, Reject, Sighting
from lineitem.ingest.sequences import NONE
from lineitem.ingest.validate import Problem, Problems, check_text, check_time_range, valid_traceparents

_BACKSLASH, _DEL = ord("\\"), 0x7F
SLICE_RECORDS = 4096
"""Records decoded at once: few enough that they stay in the processor's cache, and a bad one costs little."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some consecutive records of a batch.

    ``data``: their bytes; record i is ``data[offsets[i] : offsets[i + 1]]``. ``plain``: none holds a backslash, a DEL
    or a byte beyond ASCII, and none is longer than a field may be, so no JSON string holds a control character or is
    too long.
    """

    array: pa.BinaryArray
    records: list[bytes]
    positions: NDArray[np.int64]
    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    plain: bool

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(slots=True)
class Candidates:
    """What a format made of a slice: m rows, row i from record ``rows[i]``.

    ``lost``: problems of the records that made no row, by record. ``problems``: problems of rows, by row; such a row
    may hold anything of the right type. A missing ``id`` or ``source`` is None or empty and will be filled.
    ``plain``: the texts need no look at their characters (see ``Slice.plain``). ``sequence``: (m,) as
    ``ingest.sequences.numbers`` gives it; ``lost_sequence``: source and sequence of ``lost`` records that tell them.
    """

    rows: list[int]
    id: Sequence[str | None]
    source: Sequence[str | None]
    type: Sequence[str | None]
    subject: Sequence[str | None]
    time_us: NDArray[np.int64]
    data: Sequence[dict[str, Any]]
    traceparent: Sequence[object]
    lost: Problems = field(default_factory=dict)
    problems: Problems = field(default_factory=dict)
    plain: bool = False
    sequence: NDArray[np.int64] | None = None
    lost_sequence: dict[int, tuple[str | None, int]] = field(default_factory=dict)
    dataschema: list[str | int | None] | None = None


Parser = Callable[[Slice, DecodeContext], Candidates]
Found = dict[int, tuple[Problem, bytes | None, Sighting | None]]
"""Record of a slice -> its problem, and its identity key and its sequence where those are known."""


def decode_records(raw: RawRecords, context: DecodeContext, parse: Parser) -> tuple[EventColumns, list[Reject]]:
    """Decode a batch: each record becomes one event or one Reject, whatever its neighbours are. Pure."""
    columns: list[EventColumns] = []
    rejects: list[Reject] = []
    with _collection_paused():
        for start in range(0, len(raw.records), SLICE_RECORDS):
            events, found = _decode_slice(_slice(raw, start, SLICE_RECORDS), context, parse)
            events.ordinal += np.int32(start)
            columns.append(events)
            for row in sorted(found):
                problem, key, sighting = found[row]
                rejects.append(Reject(start + row, *problem, key=key, sighting=sighting))
    return concatenate(columns), rejects


@contextmanager
def _collection_paused() -> Iterator[None]:
    """No cyclic garbage collection inside: nothing here makes cycles, and looking for them doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _slice(raw: RawRecords, start: int, count: int) -> Slice:
    return _slice_of(raw.records.slice(start, count), raw.positions[start : start + count])


def _slice_of(array: pa.BinaryArray, positions: NDArray[np.int64]) -> Slice:
    _, offset_buffer, values = array.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(values, np.uint8)[offsets[0] : offsets[-1]] if values else np.empty(0, np.uint8)
    relative = offsets.astype(np.int64) - offsets[0]
    simple = not data.size or (data.max() < _DEL and not (data == _BACKSLASH).any())
    short = int(np.diff(relative).max()) <= FIELD_CHARS_MAX
    return Slice(array, array.to_pylist(), positions, data, relative, bool(simple and short))


def _decode_slice(piece: Slice, context: DecodeContext, parse: Parser) -> tuple[EventColumns, Found]:
    unreadable = _unreadable(piece)
    if not unreadable:
        return _finish(parse(piece, context), piece, context)
    kept = [row for row in range(len(piece)) if row not in unreadable]
    everything: Found = {row: (problem, None, None) for row, problem in unreadable.items()}
    if not kept:
        return concatenate([]), everything
    readable = _slice_of(piece.array.take(pa.array(kept)), piece.positions[kept])
    events, found = _finish(parse(readable, context), readable, context)
    events.ordinal = np.array(kept, np.int32)[events.ordinal]
    return events, everything | {kept[row]: entry for row, entry in found.items()}


def _unreadable(piece: Slice) -> Problems:
    """Records that are empty, too long or not UTF-8."""
    sizes = np.diff(piece.offsets)
    problems: Problems = {
        row: Problem(Reason.BAD_RECORD, "the record is empty") for row in np.flatnonzero(sizes == 0).tolist()
    }
    for row in np.flatnonzero(sizes > RECORD_BYTES_MAX).tolist():
        problems[row] = Problem(Reason.TOO_LARGE, f"the record has more than {RECORD_BYTES_MAX} bytes")
    if piece.plain or not piece.data.size or piece.data.max() < 0x80:
        return problems
    for row, record in enumerate(piece.records):
        if row not in problems and not record.isascii():
            try:
                record.decode()
            except UnicodeDecodeError as error:
                problems[row] = Problem(Reason.BAD_ENCODING, f"byte {error.start} of the record is not UTF-8")
    return problems


def _finish(parsed: Candidates, piece: Slice, context: DecodeContext) -> tuple[EventColumns, Found]:
    """Fill what may be missing, check what every event must meet, set the bad rows aside and hash the good ones."""
    named = context.settings.get("source", context.stream)  # a topic's partitions are streams with one name
    sources = parsed.source if all(parsed.source) else [source or named for source in parsed.source]
    ids = parsed.id if all(parsed.id) else _with_record_ids(parsed, piece, context)
    nowhere: Problems = {}
    check_text("source", sources, nowhere, plain=parsed.plain)
    unnamed = dict(nowhere)
    check_text("id", ids, unnamed, plain=parsed.plain)
    problems = parsed.problems
    check_text("type", parsed.type, problems, plain=parsed.plain)
    check_text("subject", parsed.subject, problems, plain=parsed.plain)
    check_time_range(parsed.time_us, context.now_us, problems)

    lost_sightings = _lost_sightings(parsed, named)
    found: Found = {row: (problem, None, lost_sightings.get(row)) for row, problem in parsed.lost.items()}
    for row, problem in (unnamed | problems).items():
        key = None if row in unnamed else identity_key(context.namespace, str(sources[row]), str(ids[row]))
        sequence = NONE if parsed.sequence is None or row in nowhere else int(parsed.sequence[row])
        sighting = None if sequence == NONE else Sighting(str(sources[row]), sequence)
        found[parsed.rows[row]] = (problem, key, sighting)
    kept = None
    if unnamed or problems:
        kept = np.ones(len(parsed.rows), np.bool_)
        kept[list(unnamed | problems)] = False
    return _columns(parsed, sources, ids, kept, context), found


def _lost_sightings(parsed: Candidates, named: str) -> dict[int, Sighting]:
    """What records that made no row say of their producer and its number; ``named`` stands in for a missing source."""
    rows = list(parsed.lost_sequence)
    sources = [source or named for source, _ in parsed.lost_sequence.values()]
    nowhere: Problems = {}
    check_text("source", sources, nowhere)
    return {
        row: Sighting(source, parsed.lost_sequence[row][1])
        for at, (row, source) in enumerate(zip(rows, sources, strict=True))
        if at not in nowhere
    }


def _with_record_ids(parsed: Candidates, piece: Slice, context: DecodeContext) -> list[str]:
    positions = piece.positions[parsed.rows].tolist()
    made = record_ids(context.stream, positions, [piece.records[row] for row in parsed.rows])
    return [event_id or own for event_id, own in zip(parsed.id, made, strict=True)]


def _columns(
    parsed: Candidates,
    sources: Sequence[str | None],
    ids: Sequence[str | None],
    kept: NDArray[np.bool_] | None,
    context: DecodeContext,
) -> EventColumns:
    """The checked rows as columns; ``kept`` None means all of them."""

    def pick(values: Sequence[Any]) -> list[Any]:
        if kept is None:
            return values if isinstance(values, list) else list(values)
        return list(compress(values, kept))

    rows, time_us, sequence = np.array(parsed.rows, np.int32), parsed.time_us, parsed.sequence
    if kept is not None:
        rows, time_us = rows[kept], time_us[kept]
        sequence = None if sequence is None else sequence[kept]
    id_, source, type_, subject, data = (pick(v) for v in (ids, sources, parsed.type, parsed.subject, parsed.data))
    return EventColumns(
        ordinal=rows,
        id=id_,
        source=source,
        type=type_,
        subject=subject,
        time_us=time_us,
        data=data,
        traceparent=valid_traceparents(pick(parsed.traceparent)),
        key=identity_keys(context.namespace, source, id_),
        digest=content_digests(type_, subject, time_us, data),
        sequence=sequence,
        dataschema=None if parsed.dataschema is None else pick(parsed.dataschema),
    )


def concatenate(parts: Sequence[EventColumns]) -> EventColumns:
    """Events of several slices as one, in their order."""

    def arrays(name: str, dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *(getattr(part, name) for part in parts)])

    def lists(name: str) -> list[Any]:
        return list(chain.from_iterable(getattr(part, name) for part in parts))

    def sequence() -> NDArray[np.int64] | None:
        if all(part.sequence is None for part in parts):
            return None
        return np.concatenate([np.full(len(p), NONE) if p.sequence is None else p.sequence for p in parts])

    named = [part.dataschema or [None] * len(part) for part in parts] if any(part.dataschema for part in parts) else []
    return EventColumns(
        ordinal=arrays("ordinal", np.int32),
        id=lists("id"),
        source=lists("source"),
        type=lists("type"),
        subject=lists("subject"),
        time_us=arrays("time_us", np.int64),
        data=lists("data"),
        traceparent=lists("traceparent"),
        key=arrays("key", KEY_DTYPE),
        digest=arrays("digest", KEY_DTYPE),
        sequence=sequence(),
        dataschema=list(chain.from_iterable(named)) or None,
    )
