"""Raw segments: the records of one batch as received, in one write-once Parquet file.

Everything the decoder needs stands in the file's metadata, the schemas that its messages name among it, so `explain` and
`verify --deep` decode it again. A segment is written before the batch that names it commits; one whose batch never
committed is an orphan, and may be removed once its start lies below the partition's committed position.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lineitem.core.errors import IntegrityError
from lineitem.ingest.events import DecodeContext, RawRecords
from lineitem.kit.blobs import BlobStore

_SCHEMA = pa.schema([pa.field("position", pa.int64(), False), pa.field("raw", pa.binary(), False)])
_METADATA = b"lineitem"


@dataclass(frozen=True, slots=True)
class Segment:
    """Raw records and how to decode them."""

    raw: RawRecords
    format: str
    context: DecodeContext


def segment_name(partition: str, start: int, end: int, digest: bytes, schemas: Mapping[str, Any]) -> str:
    """``partition/start-end-digest``; positions padded so that names sort in order.

    ``digest``: of the records. The ``schemas`` they are decoded by are part of the name: a batch that a crash left before its
    commit may be decoded by others when it is tried again, and is another segment then.
    """
    if schemas:
        digest = sha256(digest + json.dumps(schemas, sort_keys=True).encode()).digest()
    return f"{partition}/{start:020d}-{end:020d}-{digest.hex()[:16]}.parquet"


def write(store: BlobStore, name: str, segment: Segment) -> None:
    """Store a segment durably. The same records under the same name again are a no-op."""
    about = {
        "format": segment.format,
        "namespace": segment.context.namespace,
        "stream": segment.context.stream,
        "settings": dict(segment.context.settings),
        **({"schemas": dict(segment.context.schemas)} if segment.context.schemas else {}),
        "start": segment.raw.start,
        "end": segment.raw.end,
    }
    metadata = {_METADATA: json.dumps(about, sort_keys=True, ensure_ascii=False).encode()}
    table = pa.table([pa.array(segment.raw.positions), segment.raw.records], schema=_SCHEMA.with_metadata(metadata))
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, compression="zstd", compression_level=1, use_dictionary=False, write_statistics=False,
        write_page_checksum=True,
    )  # fmt: skip
    try:
        store.create(name, memoryview(sink.getvalue()))
    except IntegrityError:
        # Left by a crash of another version, perhaps: only the records and how to decode them have to be the same.
        if not same(read(store, name, segment.context.now_us), segment):
            raise


def same(stored: Segment, wanted: Segment) -> bool:
    """Whether two segments hold the same records, at the same positions, to be decoded alike."""
    return (
        stored.raw.records.equals(wanted.raw.records)
        and bool(np.array_equal(stored.raw.positions, wanted.raw.positions))
        and (stored.format, stored.context) == (wanted.format, wanted.context)
    )


def read(store: BlobStore, name: str, now_us: int) -> Segment:
    """Read a segment back. ``now_us``: the clock of its batch (``recorded_us``), which bounds how far ahead events lie.

    Raises IntegrityError when it is missing or damaged.
    """
    content = store.read(name)
    try:
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
        about = json.loads(table.schema.metadata[_METADATA])
        schemas = about.get("schemas", {})
        context = DecodeContext(about["namespace"], about["stream"], now_us, about["settings"], schemas)
        start, end, format_ = about["start"], about["end"], about["format"]
        records = table.column("raw").combine_chunks()
        positions = table.column("position").to_numpy()
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:  # Arrow's own errors include OSError
        raise IntegrityError(
            f"a raw segment is damaged: {error}", where=name, do="Restore it from a backup."
        ) from error
    if isinstance(records, pa.ChunkedArray):
        records = records.chunk(0) if records.num_chunks else pa.array([], pa.binary())
    raw = RawRecords(records, np.asarray(positions, dtype=np.int64), start, end)
    return Segment(raw, format_, context)


def orphans(store: BlobStore, referenced: Collection[str], next_of: Mapping[str, int]) -> list[str]:
    """Segments no batch refers to and no running ingest can still commit: their start lies below the committed position.

    ``next_of``: partition name -> committed position. Files that are no segments (left by a crash while writing) count.
    """
    found = []
    for name in store.names():
        if name in referenced:
            continue
        partition, _, file = name.rpartition("/")
        start = file.partition("-")[0]
        if not start.isdecimal() or int(start) < next_of.get(partition, 0):
            found.append(name)
    return found
