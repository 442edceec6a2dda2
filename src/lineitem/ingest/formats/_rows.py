"""CSV rows as pieces: RFC 4180 quoting, rows that span lines included, recovering at the line after a stray quote.

A quoted field must end before a delimiter or the line's end. Where it does not, or goes on for longer than a record
may be, the quote was a mistake: that one line is a (bad) row of its own and the next line starts afresh.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import BinaryIO

from lineitem.ingest.formats._batches import BLOCK_BYTES, RECORD_BYTES_KEPT, Piece, piece_of
from lineitem.ingest.formats._lines import complete_lines, skip_line


class RowGrammar:
    """The grammar of rows with a one-character ASCII ``delimiter``."""

    def __init__(self, delimiter: str) -> None:
        d = re.escape(delimiter)
        quoted = r'"[^"]*+(?:""[^"]*+)*+"'
        field = rf'(?:{quoted}|[^"{d}\n][^{d}\n]*+|)'
        row = rf"{field}(?:{d}{field})*+"
        self.delimiter = delimiter
        self.row_line = re.compile(rf"{row}\r?\n".encode())
        self._row = re.compile(row)
        self._field = re.compile(rf'(?:^|{d})(?:"([^"]*+(?:""[^"]*+)*+)"|([^{d}]*+))')

    def fields(self, row: str) -> list[str] | None:
        """The fields of a row without its line end; None if its quotes are wrong."""
        if '"' not in row:
            return row.split(self.delimiter)
        if not self._row.fullmatch(row):
            return None
        return [m[2] if m[1] is None else m[1].replace('""', '"') for m in self._field.finditer(row)]

    def row(self, fields: Sequence[str]) -> str:
        """Fields as a row: the inverse of ``fields``."""
        return self.delimiter.join(map(self._quoted, fields))

    def _quoted(self, field: str) -> str:
        special = any(mark in field for mark in ('"', "\n", "\r", self.delimiter))
        return '"' + field.replace('"', '""') + '"' if special else field


@lru_cache(maxsize=64)
def grammar(delimiter: str) -> RowGrammar:
    """The grammar for ``delimiter``."""
    return RowGrammar(delimiter)


def row_pieces(file: BinaryIO, start: int, delimiter: str) -> Iterator[Piece]:
    """The rows from byte ``start`` on, which must begin a row, with their byte offsets. Blank lines are left out."""
    file.seek(start)
    data, position, at_end = b"", start, False
    row_line = grammar(delimiter).row_line
    while not at_end:
        block = file.read(BLOCK_BYTES)
        at_end = not block
        data += block
        size = len(data)
        if at_end and data:
            data += b"\n"
        last = data.rfind(b"\n") + 1
        if not last and len(data) > RECORD_BYTES_KEPT:
            end, rest = skip_line(file, position + size)
            yield piece_of([data[:RECORD_BYTES_KEPT]], [position], [end])
            data, position = rest, end
        elif last and b'"' not in data[:last]:
            yield complete_lines(data[:last], position, position + size)
            data, position = data[last:], position + last
        elif last:
            piece, used = _quoted_rows(data, last, position, position + size, at_end, row_line)
            yield piece
            data, position = data[used:], position + used


def _quoted_rows(
    data: bytes, last: int, position: int, end_max: int, at_end: bool, row_line: re.Pattern[bytes]
) -> tuple[Piece, int]:
    """Cut ``data[:last]``, which ends with LF and lies at ``position``, into rows; also how many bytes were used.

    A row that may go on behind ``data`` is left for the next call, unless the file ends or it is already too long.
    """
    rows: list[bytes] = []
    positions: list[int] = []
    ends: list[int] = []
    at = 0
    while at < last:
        end = data.find(b"\n", at) + 1
        if data.find(b'"', at, end) >= 0:
            match = row_line.match(data, at)
            if match and match.end() - at <= RECORD_BYTES_KEPT:
                end = match.end()
            elif not at_end and len(data) - at <= RECORD_BYTES_KEPT:
                break
        row = data[at : end - 2] if data[end - 2 : end] == b"\r\n" and end - 2 >= at else data[at : end - 1]
        if row and not row.isspace():
            rows.append(row)
            positions.append(position + at)
            ends.append(min(position + end, end_max))
        at = end
    return piece_of(rows, positions, ends), at
