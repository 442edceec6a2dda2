"""Lines of a text file as pieces: found a block at a time, in bounded memory, without a Python step per line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lineitem.ingest.formats._batches import BLOCK_BYTES, RECORD_BYTES_KEPT, Piece, piece_of

BOM = b"\xef\xbb\xbf"
_LF, _CR = 10, 13


def text_start(file: BinaryIO) -> int:
    """Where the text of a file begins: behind a UTF-8 byte order mark, if it has one."""
    file.seek(0)
    return len(BOM) if file.read(len(BOM)) == BOM else 0


def line_pieces(file: BinaryIO, start: int) -> Iterator[Piece]:
    """The lines from byte ``start`` on, which must begin a line. Blank lines are left out.

    A line ends with LF or CR LF, the last one also with the file. Of a line longer than a record may be, only the
    first bytes are kept in memory.
    """
    file.seek(start)
    rest, position = b"", start
    while True:
        block = file.read(BLOCK_BYTES)
        data = rest + block
        last = data.rfind(b"\n") + 1
        if not block:
            if data:
                yield complete_lines(data + b"\n", position, position + len(data))
            return
        if last:
            yield complete_lines(data[:last], position, position + last)
            rest, position = data[last:], position + last
        elif len(data) < RECORD_BYTES_KEPT + 1:
            rest = data
        else:
            end, rest = skip_line(file, position + len(data))
            yield piece_of([data[:RECORD_BYTES_KEPT]], [position], [end])
            position = end


def skip_line(file: BinaryIO, position: int) -> tuple[int, bytes]:
    """Read past the line that goes on at ``position``: where the next one starts, and what was read of it."""
    while block := file.read(BLOCK_BYTES):
        end = block.find(b"\n") + 1
        if end:
            return position + end, block[end:]
        position += len(block)
    return position, b""


def complete_lines(data: bytes, position: int, end_max: int) -> Piece:
    """Cut ``data``, which lies at ``position`` and ends with LF; the last LF may be added, so ``end_max`` bounds."""
    characters = np.frombuffer(data, np.uint8)
    feeds = np.flatnonzero(characters == _LF)
    starts = np.concatenate([[0], feeds[:-1] + 1])
    returns = np.zeros(len(feeds), np.bool_)
    if b"\r" in data:
        returns = (characters[np.maximum(feeds, 1) - 1] == _CR) & (feeds > starts)
    lengths = feeds - returns - starts
    ends = np.minimum(position + feeds + 1, end_max)
    if lengths.max() > RECORD_BYTES_KEPT or _may_be_blank(characters, starts, lengths).any():
        return _single_lines(data, starts, lengths, position, ends)
    compact = (data.replace(b"\r\n", b"\n") if returns.any() else data).replace(b"\n", b"")
    full = lengths > 0
    return Piece(compact, lengths[full], position + starts[full], ends[full])


def _may_be_blank(
    characters: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Lines that are not empty and begin with white space."""
    result: NDArray[np.bool_] = (characters[starts] <= 0x20) & (lengths > 0)
    return result


def _single_lines(
    data: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64], position: int, ends: NDArray[np.int64]
) -> Piece:
    """The same, line by line: for blocks with very long lines or lines of white space."""
    lines = [data[start : start + size] for start, size in zip(starts.tolist(), lengths.tolist(), strict=True)]
    kept = [row for row, line in enumerate(lines) if not line.isspace() and line]
    return piece_of([lines[row] for row in kept], (position + starts[kept]).tolist(), ends[kept].tolist())
