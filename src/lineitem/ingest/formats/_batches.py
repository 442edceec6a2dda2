"""Pieces of a file cut into records, gathered into batches that respect the limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.core.limits import RECORD_BYTES_MAX
from lineitem.ingest.events import BatchLimits, RawRecords

BLOCK_BYTES = 1 << 20
"""Bytes read from a file at once."""
RECORD_BYTES_KEPT = RECORD_BYTES_MAX + 1
"""Bytes kept of a record: one more than allowed tells the decoder that it was too long."""
_BATCH_BYTES_MAX = 1 << 30


class Piece(NamedTuple):
    """Consecutive records: their bytes without anything between them, and (n,) int64 columns.

    ``ends`` are the positions just behind each record's line end or separator.
    """

    data: bytes | memoryview
    lengths: NDArray[np.int64]
    positions: NDArray[np.int64]
    ends: NDArray[np.int64]


def piece_of(records: Sequence[bytes], positions: Sequence[int], ends: Sequence[int]) -> Piece:
    """A piece from single records; what is too long is cut."""
    kept = [record[:RECORD_BYTES_KEPT] for record in records]
    lengths = np.fromiter(map(len, kept), np.int64, len(kept))
    return Piece(b"".join(kept), lengths, np.array(positions, np.int64), np.array(ends, np.int64))


def gather(pieces: Iterator[Piece], start: int, limits: BatchLimits) -> Iterator[RawRecords]:
    """Batches of at most ``limits.records`` records and ``limits.bytes`` bytes (but at least one record)."""
    pending: list[Piece] = []
    records = size = 0
    bytes_max = min(limits.bytes, _BATCH_BYTES_MAX)
    for piece in pieces:
        rest = piece
        while len(rest.lengths):
            totals = np.cumsum(rest.lengths)
            room = int(np.searchsorted(totals, bytes_max - size, side="right"))
            take = min(len(totals), max(limits.records, 1) - records, room if records else max(room, 1))
            if take:
                head, rest = _split(rest, take, int(totals[take - 1]))
                pending.append(head)
                records, size = records + take, size + len(head.data)
            if len(rest.lengths):
                batch = _batch(pending, start)
                yield batch
                pending, records, size, start = [], 0, 0, batch.end
    if pending:
        yield _batch(pending, start)


def _split(piece: Piece, count: int, size: int) -> tuple[Piece, Piece]:
    if count == len(piece.lengths):
        return piece, Piece(b"", piece.lengths[:0], piece.positions[:0], piece.ends[:0])
    view = memoryview(piece.data)
    head = Piece(view[:size], piece.lengths[:count], piece.positions[:count], piece.ends[:count])
    return head, Piece(view[size:], piece.lengths[count:], piece.positions[count:], piece.ends[count:])


def _batch(pieces: list[Piece], start: int) -> RawRecords:
    data = b"".join([piece.data for piece in pieces])
    lengths = np.concatenate([piece.lengths for piece in pieces])
    positions = np.concatenate([piece.positions for piece in pieces])
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    records = pa.Array.from_buffers(pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    return RawRecords(records, positions, start, int(pieces[-1].ends[-1]))
