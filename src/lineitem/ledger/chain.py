"""Batches as a hash chain: what a batch's hash covers, and the records it was made from.

hash = SHA-256 over the length-prefixed fields below, in this order, big-endian (version 1; docs/reference/chain.md). An old
version is never changed; a new one is added beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum
from hashlib import sha256

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.core.ids import length_prefixed

HASH_VERSION = 1
GENESIS = bytes(32)


class BatchKind(IntEnum):
    """What a batch records. The number is stored and hashed; never reused."""

    USAGE = 1
    FLUSH = 2
    PUBLISH = 3
    INVOICE = 4
    PERIOD = 5
    RETRACT = 6
    SETTLE = 7
    CREDIT = 8
    LETTER = 10
    THROTTLE = 17
    GAP = 18


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as the chain sees it; the field order is the order of hashing."""

    lane: int
    batch: int
    namespace: str
    kind: int
    partition: str
    position_start: int
    position_end: int
    received: int
    itemized: int
    pending: int
    duplicate: int
    dead_lettered: int
    not_billable: int
    line_items: int
    facts: int
    sums: str
    event_time_min: int
    event_time_max: int
    catalog_revision: int
    segment: str
    records_digest: bytes
    accepted_digest: bytes
    set_aside_digest: bytes
    root: bytes
    engine_version: str
    recorded_us: int


def batch_hash(batch: Batch, previous: bytes, version: int = HASH_VERSION) -> bytes:
    """The hash of ``batch`` behind ``previous``. Raises ValueError for a version this engine does not know."""
    if version != HASH_VERSION:
        raise ValueError(f"batch hash version {version} is unknown to this engine")
    parts = [version.to_bytes(2, "big"), previous]
    parts += [_field(getattr(batch, field.name)) for field in fields(batch)]
    return sha256(length_prefixed(*parts)).digest()


def _field(value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(8, "big", signed=True)
    return value.encode() if isinstance(value, str) else value


def accepted_digest(keys: NDArray[np.void], digests: NDArray[np.void], ordinals: NDArray[np.int32]) -> bytes:
    """SHA-256 over the accepted events of a batch in record order: identity key, content digest, ordinal (big-endian).

    All (n,); keys and digests V16. It makes altering what was accepted, and where, as visible as altering a line item.
    """
    order = np.argsort(ordinals, kind="stable")
    rows = np.empty(len(ordinals), dtype=[("key", "V16"), ("digest", "V16"), ("ordinal", ">u4")])
    rows["key"], rows["digest"], rows["ordinal"] = keys[order], digests[order], ordinals[order]
    return sha256(rows.tobytes()).digest()


def set_aside_digest(sightings: Iterable[tuple[int, bytes]]) -> bytes:
    """SHA-256 over the dead letters of a batch in record order: ordinal (4 bytes) and fingerprint (16 bytes) of each."""
    return sha256(b"".join(ordinal.to_bytes(4, "big") + mark for ordinal, mark in sorted(sightings))).digest()


def fact_leaf(lane: int, batch: int, seq: int, kind: str, body: str) -> bytes:
    """Leaf hash (RFC 6962) of a fact: what people and billing did, as canonical JSON."""
    place = lane.to_bytes(2, "big") + batch.to_bytes(8, "big") + seq.to_bytes(4, "big")
    return sha256(b"\x00\x01\x03" + length_prefixed(place, kind.encode(), body.encode())).digest()


def records_digest(records: pa.BinaryArray) -> bytes:
    """Digest over raw records in order: SHA-256 of their lengths (int64, big-endian) and then of their bytes.

    It covers records, not files: the same records repacked into other segments have the same digest.
    """
    offsets: NDArray[np.int64] = np.frombuffer(records.buffers()[1], dtype=np.int32).astype(np.int64)[
        records.offset : records.offset + len(records) + 1
    ]
    digest = sha256(len(records).to_bytes(8, "big"))
    digest.update(np.diff(offsets).astype(">i8").tobytes())
    if len(records):
        data = records.buffers()[2]
        if data is not None:
            digest.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
    return digest.digest()
