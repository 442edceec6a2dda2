"""The columns that travel through the pipeline: raw records in, decoded events and rejects out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.core.reasons import Reason

KEY_DTYPE = np.dtype("V16")
"""dtype of identity keys and content digests: 16 opaque bytes."""


class BatchLimits(NamedTuple):
    """How much one batch may hold; whichever is reached first ends it (a batch holds at least one record)."""

    records: int = 100_000
    bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class RawRecords:
    """Raw records of one batch of one partition, in order.

    ``records``: n raw records, bytes as received without the line end; one longer than ``RECORD_BYTES_MAX`` is cut to
    ``RECORD_BYTES_MAX + 1`` bytes, which is how a decoder knows it. ``positions``: (n,) int64, the position of each
    record in its partition (byte offset; row number for Parquet). The batch covers positions ``[start, end)``, blank
    lines and separators included, so the next batch starts at ``end``.
    """

    records: pa.BinaryArray
    positions: NDArray[np.int64]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class DecodeContext:
    """Everything decoding depends on besides the raw bytes; stored with a segment, so it can be decoded again.

    ``stream`` names the partition's stream and fills ``source`` where a record has none. ``now_us`` is the clock at
    ingest (events too far ahead of it are set aside). ``settings`` are the format's own and serialise to JSON; a
    ``source`` among them fills ``source`` instead of the stream. ``schemas``: those that messages name, by id as text
    (``schemas.model.Schema.document``); ``away``: ids that could not be asked for, which is not stored.
    """

    namespace: str
    stream: str
    now_us: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    away: Collection[str] = field(default=(), compare=False)


@dataclass(slots=True)
class EventColumns:
    """Decoded, valid events of a batch as m-long columns; row i came from record ``ordinal[i]`` of the batch.

    ``time_us``: (m,) int64, microseconds since the epoch UTC, finer digits cut off. ``data``: parsed payloads whose
    numbers are int or Decimal, never float. ``key`` and ``digest``: (m,) V16, the identity key
    (``core.ids.identity_key``) and the digest of the billed content (``ingest.digest``). ``sequence``: (m,) int64, the
    producer's numbers (``ingest.sequences``); None where no event has one. ``dataschema``: what an event says of its data's
    schema, or the id (int) it was decoded by; None where no event of the batch says anything.
    """

    ordinal: NDArray[np.int32]
    id: list[str]
    source: list[str]
    type: list[str]
    subject: list[str]
    time_us: NDArray[np.int64]
    data: list[dict[str, Any]]
    traceparent: list[str | None]
    key: NDArray[np.void]
    digest: NDArray[np.void]
    sequence: NDArray[np.int64] | None = None
    dataschema: list[str | int | None] | None = None

    def __len__(self) -> int:
        return len(self.ordinal)

    def take(self, rows: NDArray[np.int64]) -> EventColumns:
        """The events of some rows, in that order."""
        some = rows.tolist()

        def pick(values: list[Any]) -> list[Any]:
            return [values[row] for row in some]

        return EventColumns(
            ordinal=self.ordinal[rows],
            id=pick(self.id),
            source=pick(self.source),
            type=pick(self.type),
            subject=pick(self.subject),
            time_us=self.time_us[rows],
            data=pick(self.data),
            traceparent=pick(self.traceparent),
            key=self.key[rows],
            digest=self.digest[rows],
            sequence=None if self.sequence is None else self.sequence[rows],
            dataschema=None if self.dataschema is None else pick(self.dataschema),
        )

    def without_payload(self) -> EventColumns:
        """The same events without what only matching and pricing read; those columns are empty lists."""
        return replace(self, type=[], subject=[], data=[], traceparent=[], dataschema=None)


class Sighting(NamedTuple):
    """A producer's number, or ``ingest.sequences.UNREADABLE``, on a record that could not be decoded."""

    source: str
    number: int


@dataclass(frozen=True, slots=True)
class Reject:
    """One record set aside: which one of the batch, why, and its identity and sequence where those are known."""

    ordinal: int
    reason: Reason
    detail: str
    key: bytes | None = None
    digest: bytes | None = None
    sighting: Sighting | None = None
