"""Access logs in common or combined format (Apache, nginx and the like): each request is an ``http.request`` event.

The fields a mapping may name: host, ident, user, time, request, method, path, protocol, status, bytes, referer,
user_agent, and ``client``: the authenticated user, or the host where there is none. ``-`` is nothing (null), except
for bytes, where it is 0. What follows the user agent (an extended format's extras) is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import msgspec

from lineitem.core.reasons import Reason
from lineitem.ingest.columns import map_columns
from lineitem.ingest.decode import Candidates, Slice, decode_records
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.formats._amend import Changes, Unfit
from lineitem.ingest.formats._batches import gather
from lineitem.ingest.formats._lines import line_pieces, text_start
from lineitem.ingest.mapping import FieldMapping, Spec, TimeSpec, fitted
from lineitem.ingest.validate import Problem, Problems

_QUOTED = r'"((?:[^"\\]|\\.)*+)"'
_LINE = re.compile(
    rf"(\S+) (\S+) (.+?) \[([^\[\]]{{1,40}})\] {_QUOTED} (\d{{3}}) (\d{{1,18}}|-)(?: {_QUOTED} {_QUOTED}(?: .*)?)?\s*",
    re.ASCII,
)
_REQUEST = re.compile(r"(\S+) (.+) (HTTP/\S+)")
_ESCAPE = re.compile(r'\\(["\\])')

FIELDS = (
    "host", "ident", "user", "time", "request", "status", "bytes", "referer", "user_agent",
    "method", "path", "protocol", "client",
)  # fmt: skip
"""The fields of a line."""

_DATA = ("host", "user", "method", "path", "protocol", "status", "bytes", "referer", "user_agent")
_DEFAULT = FieldMapping(
    type=Spec(const="http.request"),
    subject=Spec(column="client"),
    time=TimeSpec("time", "%d/%b/%Y:%H:%M:%S %z"),
    data={name: Spec(column=name, type="integer" if name in ("status", "bytes") else "string") for name in _DATA},
)


class AccessLog:
    """The ``access-log`` format."""

    name = "access-log"
    suffixes = (".log",)

    def settings(self, file: BinaryIO, mapping: FieldMapping | None) -> dict[str, Any]:
        """The mapping in use: the default one where the given one is silent."""
        given = {} if mapping is None else {k: v for k, v in msgspec.structs.asdict(mapping).items() if v is not None}
        return {"mapping": fitted(msgspec.structs.replace(_DEFAULT, **given), FIELDS, "access-log").to_settings()}

    def read(
        self, file: BinaryIO, start: int, limits: BatchLimits, settings: Mapping[str, Any]
    ) -> Iterator[RawRecords]:
        """Raw lines and their byte offsets, from byte ``start`` on."""
        return gather(line_pieces(file, max(start, text_start(file))), start, limits)

    def amend(self, record: bytes, changes: Changes, settings: Mapping[str, Any]) -> bytes:
        """A line has no names to set by. Raises Unfit."""
        raise Unfit("a log line is mended as a whole, with --record")

    def decode(self, raw: RawRecords, context: DecodeContext) -> tuple[EventColumns, list[Reject]]:
        """Events and rejects of a batch; pure."""
        return decode_records(raw, context, _parse)


def _parse(piece: Slice, context: DecodeContext) -> Candidates:
    lost: Problems = {}
    rows: list[int] = []
    lines: list[tuple[str | None, ...]] = []
    for row, record in enumerate(piece.records):
        match = _LINE.fullmatch(record.decode())
        if match:
            rows.append(row)
            lines.append(_fields(*match.groups()))
        else:
            lost[row] = Problem(Reason.BAD_RECORD, "the line is not in common or combined log format")
    values = list(zip(*lines, strict=True)) if lines else [()] * len(FIELDS)
    mapping = FieldMapping.from_settings(context.settings["mapping"])
    return map_columns(mapping, dict(zip(FIELDS, values, strict=True)), rows, lost)


def _fields(
    host: str, ident: str, user: str, time: str, request: str, status: str, size: str, *quoted: str | None
) -> tuple[str | None, ...]:
    """The fields of one line, in the order of ``FIELDS``; ``quoted`` are referer and user agent."""
    referer, agent = quoted
    account = _present(user)
    method, path, protocol = _request(request)
    return (
        host, _present(ident), account, time, _present(request), status, "0" if size == "-" else size,
        _present(referer), _present(agent), method, path, protocol, account or host,
    )  # fmt: skip


def _present(text: str | None) -> str | None:
    """A field's text without its escapes; ``-`` and the empty text are nothing."""
    if text is None or text in ("-", ""):
        return None
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text


def _request(request: str) -> tuple[str | None, str | None, str | None]:
    """Method, path and protocol; of a request line that is none, the whole text is the path."""
    match = _REQUEST.fullmatch(request)
    if match:
        return match[1], _present(match[2]), match[3]
    method, _, path = request.partition(" ")
    if method.isupper() and method.isalpha() and path and " " not in path:
        return method, _present(path), None
    return None, _present(request), None
