"""The elements of a JSON array, or of pretty-printed objects one after another, cut out of a file as it streams.

The scanner only follows brackets, strings and escapes; whether an element is good JSON is for the decoder to say. It
recovers where it can: a closing bracket of the wrong kind closes what it belongs to, a string that is not closed on its
line ends its element there, and the search for the next element goes on behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from lineitem.ingest.formats._batches import BLOCK_BYTES, RECORD_BYTES_KEPT, Piece, piece_of
from lineitem.ingest.formats._lines import text_start

_SEPARATORS = re.compile(rb"[ \t\r\n,\]]*+")
_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\\n]++|\\.)*+")*+')
_IN_STRING = re.compile(rb"(?:[^\"\\\n]++|\\.)*+")
_SCALAR_END = re.compile(rb"[,\]\[{\n]")
_OPENER = {ord("}"): ord("{"), ord("]"): ord("[")}
_STACK_MAX = 1 << 20
_QUOTE, _BACKSLASH, _LF = b'"\\\n'


def holds_elements(file: BinaryIO, begin: int) -> bool:
    """Whether the file is an array or a pretty-printed object, rather than one JSON text per line.

    An object counts as pretty-printed when its first line breaks off after ``{ [ ,`` and the next line goes on inside
    it (with a name or a closing bracket), which no line of NDJSON does. An array is the only line, or one that goes on in
    the next: a first line of rubbish that begins with a bracket takes no other line with it.
    """
    file.seek(begin)
    lines = file.read(RECORD_BYTES_KEPT).lstrip(b" \t\r\n").split(b"\n")
    following = next((line.lstrip() for line in lines[1:] if not line.isspace() and line), b"")
    last, first = lines[0].rstrip()[-1:], following[:1]
    if lines[0].startswith(b"["):
        return not first or last in b"[{,:" or first in b',]}:"'
    return last in (b"{", b"[", b",") and first in (b'"', b"}", b"]")


def element_pieces(file: BinaryIO, start: int) -> Iterator[Piece]:
    """The elements from byte ``start`` on, which must be the text's beginning or lie between two elements."""
    records: list[bytes] = []
    positions: list[int] = []
    ends: list[int] = []
    size = 0
    for record, position, end in _elements(file, start):
        records.append(record)
        positions.append(position)
        ends.append(end)
        size += len(record)
        if size >= BLOCK_BYTES:
            yield piece_of(records, positions, ends)
            records, positions, ends, size = [], [], [], 0
    if records:
        yield piece_of(records, positions, ends)


def _elements(file: BinaryIO, start: int) -> Iterator[tuple[bytes, int, int]]:
    """Elements with the byte offsets of their first byte and of the byte behind them; long ones are cut."""
    opening = start <= text_start(file)
    file.seek(start)
    data, base, at = file.read(BLOCK_BYTES), start, 0
    if opening and data.lstrip(b" \t\r\n").startswith(b"["):
        at = data.index(b"[") + 1
    while True:
        at = _SEPARATORS.match(data, at).end()  # type: ignore[union-attr]
        if at == len(data):
            base += at
            data, at = file.read(BLOCK_BYTES), 0
            if not data:
                return
            continue
        scanner = _Scanner(data[at])
        end = scanner.find_end(data, at)
        if end >= 0:
            yield data[at:end], base + at, base + end
            at = end
            continue
        data, base, at = data[at:], base + at, 0
        while end < 0 and len(data) <= RECORD_BYTES_KEPT and (block := file.read(BLOCK_BYTES)):
            scanned = len(data)
            data += block
            end = scanner.find_end(data, scanned)
        record, position = data[: end if 0 <= end < RECORD_BYTES_KEPT else RECORD_BYTES_KEPT], base
        while end < 0:
            base += len(data)
            data = file.read(BLOCK_BYTES)
            end = scanner.find_end(data, 0) if data else 0
        yield record, position, base + end
        at = end


class _Scanner:
    """Finds the end of one element, over as many blocks as it takes."""

    def __init__(self, first: int) -> None:
        self._scalar = first not in b"{["
        self._stack = bytearray()
        self._in_string = self._escaped = False

    def find_end(self, data: bytes, at: int) -> int:
        """Index behind the element's last byte, looking from ``at`` on; -1 if it goes on behind ``data``."""
        if self._scalar:
            match = _SCALAR_END.search(data, at)
            return match.start() if match else -1
        while at < len(data):
            if self._in_string:
                at, found = self._in_string_end(data, at)
                if found:
                    return at
                continue
            at = _TO_BRACKET.match(data, at).end()  # type: ignore[union-attr]
            if at == len(data):
                break
            self._in_string = data[at] == _QUOTE
            if not self._in_string:
                self._bracket(data[at])
                if not self._stack:
                    return at + 1
            at += 1
        return -1

    def _in_string_end(self, data: bytes, at: int) -> tuple[int, bool]:
        """Go on inside a string: where it leads, and whether the element ends there (strings hold no line feed)."""
        if not self._escaped:
            at = _IN_STRING.match(data, at).end()  # type: ignore[union-attr]
            if at == len(data):
                return at, False
            if data[at] == _QUOTE:
                self._in_string = False
                return at + 1, False
            if data[at] == _BACKSLASH:
                at += 1
                self._escaped = True
        if at < len(data):
            self._escaped = False
            return (at, True) if data[at] == _LF else (at + 1, False)
        return at, False

    def _bracket(self, byte: int) -> None:
        """An opening bracket is pushed; a closing one closes all since its partner, or everything if it has none."""
        if byte not in _OPENER:
            if len(self._stack) < _STACK_MAX:
                self._stack.append(byte)
            return
        partner = self._stack.rfind(_OPENER[byte])
        del self._stack[max(partner, 0) :]
