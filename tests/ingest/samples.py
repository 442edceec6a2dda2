"""What the ingest tests share: a file in memory through a format's reader and decoder."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa

from lineitem.ingest import formats
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.mapping import FieldMapping, parse_mapping

NOW_US = 1_790_000_000_000_000
"""A day in September 2026."""
COLUMNS = ("id", "source", "type", "subject", "data", "traceparent")


def read_all(
    name: str, data: bytes, limits: BatchLimits | None = None, *, start: int = 0, mapping: str | None = None
) -> list[RawRecords]:
    format_ = formats.get(name)
    settings = format_.settings(BytesIO(data), _mapping(mapping))
    return list(format_.read(BytesIO(data), start, limits or BatchLimits(), settings))


def decode_all(name: str, data: bytes, mapping: str | None = None) -> tuple[EventColumns, list[Reject]]:
    """All of a file as one batch."""
    batches = read_all(name, data, mapping=mapping)
    assert len(batches) <= 1
    context = context_of(name, data, mapping)
    if not batches:
        return formats.get(name).decode(RawRecords(pa.array([], pa.binary()), np.empty(0, np.int64), 0, 0), context)
    return formats.get(name).decode(batches[0], context)


def context_of(name: str, data: bytes, mapping: str | None = None) -> DecodeContext:
    """The context as a segment would give it back: settings that went through JSON."""
    settings = formats.get(name).settings(BytesIO(data), _mapping(mapping))
    return DecodeContext("default", "stream-1", NOW_US, json.loads(json.dumps(settings)))


def _mapping(text: str | None) -> FieldMapping | None:
    return None if text is None else parse_mapping(text)


def event(**changes: Any) -> dict[str, Any]:
    """A good CloudEvent; a change to None takes the attribute away."""
    base = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/gateway",
        "type": "llm.completion",
        "subject": "team-1",
        "time": "2026-09-01T12:00:00Z",
        "data": {"tokens": 5},
    }
    return {name: value for name, value in (base | changes).items() if value is not None}


def line(**changes: Any) -> bytes:
    return json.dumps(event(**changes)).encode()


def flat(batches: list[RawRecords]) -> list[tuple[int, bytes]]:
    """Positions and records of all batches."""
    return [
        (position, record)
        for batch in batches
        for position, record in zip(batch.positions.tolist(), batch.records.to_pylist(), strict=True)
    ]


def rows(events: EventColumns, base: int = 0) -> list[tuple[Any, ...]]:
    """Everything about every event, comparable."""
    columns = [getattr(events, name) for name in COLUMNS]
    return [
        (base + ordinal, time_us, key, digest, *values)
        for ordinal, time_us, key, digest, *values in zip(
            events.ordinal.tolist(),
            events.time_us.tolist(),
            [bytes(key) for key in events.key],
            [bytes(digest) for digest in events.digest],
            *columns,
            strict=True,
        )
    ]
