"""Records that had to wait, when they go on: each is a raw record behind its position in the stream it came in.

Never the format of a file: batches of released records are written in it, so that they are decoded as they would have been
when they came in. The partition's settings hold that stream, its format and settings. No Python runs per record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lineitem.core.errors import UsageError
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.formats._amend import Changes, Inner, Unfit
from lineitem.ingest.mapping import FieldMapping

PLACE_BYTES = 8
"""Bytes before the raw record."""


def enveloped(raw: RawRecords, ordinals: NDArray[np.int32], format_: str) -> pa.BinaryArray:
    """The records of a batch at ``ordinals``, each behind its position (int64, big-endian). ``format_``: the batch's; records
    that have waited before lie in their envelopes already."""
    if format_ == Held.name:
        return raw.records.take(pa.array(ordinals))
    places = raw.positions[ordinals].astype(">i8")
    offsets = pa.py_buffer(np.arange(0, PLACE_BYTES * (len(places) + 1), PLACE_BYTES, dtype=np.int32))
    heads = pa.Array.from_buffers(pa.binary(), len(places), [None, offsets, pa.py_buffer(places.tobytes())])
    return pc.binary_join_element_wise(heads, raw.records.take(pa.array(ordinals)), b"")


def opened(raw: RawRecords) -> RawRecords:
    """The records out of their envelopes, at the positions they came in at."""
    records, count = raw.records, len(raw.records)
    _, ends, data = records.buffers()
    offsets = np.frombuffer(ends, np.int32)[records.offset : records.offset + count + 1]
    content = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    heads = offsets[:-1, None] + np.arange(PLACE_BYTES, dtype=np.int32)
    positions = content[heads].view(">i8").reshape(-1).astype(np.int64)
    kept = np.ones(len(content), dtype=np.bool_)
    kept[heads] = False
    inner = offsets - PLACE_BYTES * np.arange(count + 1, dtype=np.int32)
    buffers = [None, pa.py_buffer(inner.tobytes()), pa.py_buffer(content[kept].tobytes())]
    return RawRecords(pa.Array.from_buffers(pa.binary(), count, buffers), positions, raw.start, raw.end)


def origin_settings(stream: str, format_: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a partition of records that were held when they were read from such a one; held again, they stay."""
    if format_ == Held.name:
        return dict(settings)
    return {"stream": stream, "format": format_, "settings": dict(settings)}


class Held:
    """The ``held`` format. ``inner``: the formats that files have, by name."""

    name = "held"
    suffixes: tuple[str, ...] = ()

    def __init__(self, inner: Mapping[str, Inner]) -> None:
        self.inner = inner

    def settings(self, file: BinaryIO, mapping: FieldMapping | None) -> dict[str, Any]:
        """Raises UsageError: no file is in this format."""
        raise UsageError(
            "held records are no format of files", do="They go on by themselves: `lineitem throttle list`."
        )

    def read(
        self, file: BinaryIO, start: int, limits: BatchLimits, settings: Mapping[str, Any]
    ) -> Iterator[RawRecords]:
        """Raises UsageError: no file is in this format."""
        raise UsageError(
            "held records are no format of files", do="They go on by themselves: `lineitem throttle list`."
        )

    def amend(self, record: bytes, changes: Changes, settings: Mapping[str, Any]) -> bytes:
        """The record in its envelope with ``changes``. Raises Unfit."""
        if len(record) < PLACE_BYTES:
            raise Unfit("the record has lost its place")
        inner = self.inner[settings["format"]]
        return record[:PLACE_BYTES] + inner.amend(record[PLACE_BYTES:], changes, settings["settings"])

    def decode(self, raw: RawRecords, context: DecodeContext) -> tuple[EventColumns, list[Reject]]:
        """Events and rejects of a batch; pure."""
        about = context.settings
        own = replace(context, stream=about["stream"], settings=about["settings"])
        return self.inner[about["format"]].decode(opened(raw), own)
