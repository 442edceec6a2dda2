"""CSV with a header line and a mapping; without a mapping, columns named like the attributes are those attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from lineitem.core.errors import MappingError
from lineitem.core.reasons import Reason
from lineitem.ingest.columns import map_columns
from lineitem.ingest.decode import Candidates, Slice, decode_records
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.formats._amend import Changes, Unfit, column
from lineitem.ingest.formats._batches import gather
from lineitem.ingest.formats._lines import text_start
from lineitem.ingest.formats._rows import grammar, row_pieces
from lineitem.ingest.mapping import FieldMapping, by_name, fitted
from lineitem.ingest.validate import Problem, Problems


class Csv:
    """The ``csv`` format."""

    name = "csv"
    suffixes = (".csv",)

    def settings(self, file: BinaryIO, mapping: FieldMapping | None) -> dict[str, Any]:
        """The header's columns, the mapping made complete, the delimiter, and the byte offset of the first row.

        Raises MappingError if mapping and header do not fit. An empty file has no columns and needs no mapping.
        """
        delimiter = (mapping.delimiter if mapping else None) or ","
        header = next((piece for piece in row_pieces(file, text_start(file), delimiter) if len(piece.lengths)), None)
        if header is None:
            return {"columns": [], "delimiter": delimiter, "first": 0}
        columns = _header(bytes(header.data[: header.lengths[0]]), delimiter)
        complete = fitted(mapping or by_name(columns), columns, "csv header")
        return {
            "columns": columns,
            "delimiter": delimiter,
            "first": int(header.ends[0]),
            "mapping": complete.to_settings(),
        }

    def read(
        self, file: BinaryIO, start: int, limits: BatchLimits, settings: Mapping[str, Any]
    ) -> Iterator[RawRecords]:
        """Raw rows behind the header and their byte offsets, from byte ``start`` on."""
        pieces = row_pieces(file, max(start, settings["first"]), settings["delimiter"])
        return gather(pieces, start, limits)

    def decode(self, raw: RawRecords, context: DecodeContext) -> tuple[EventColumns, list[Reject]]:
        """Events and rejects of a batch; pure."""
        return decode_records(raw, context, _parse)

    def amend(self, record: bytes, changes: Changes, settings: Mapping[str, Any]) -> bytes:
        """Columns are set to texts; removing one leaves it empty."""
        names: list[str] = settings["columns"]
        try:
            row = grammar(settings["delimiter"]).fields(record.decode())
        except UnicodeDecodeError:
            row = None
        if row is None or len(row) != len(names):
            raise Unfit(f"the row does not have the header's {len(names)} columns; give a whole one with --record")
        fields = list(row)
        for name, text in changes.set.items():
            fields[column(name, names)] = text
        for name in changes.remove:
            fields[column(name, names)] = ""
        return grammar(settings["delimiter"]).row(fields).encode()


def _header(line: bytes, delimiter: str) -> list[str]:
    """The column names; one without a name is called by its number (``column_3``)."""
    try:
        fields = grammar(delimiter).fields(line.decode())
    except UnicodeDecodeError:
        raise MappingError("the header line is not UTF-8", where="csv header", do="Save the file as UTF-8.") from None
    if fields is None:
        raise MappingError("the header line has a quote in the wrong place", where="csv header")
    names = [field.strip() or f"column_{number}" for number, field in enumerate(fields, 1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MappingError(f"the header names {', '.join(map(repr, twice))} twice", where="csv header")
    return names


def _parse(piece: Slice, context: DecodeContext) -> Candidates:
    names: list[str] = context.settings["columns"]
    fields_of = grammar(context.settings["delimiter"]).fields
    lost: Problems = {}
    rows: list[int] = []
    table: list[list[str]] = []
    for row, record in enumerate(piece.records):
        fields = fields_of(record.decode())
        if fields is not None and len(fields) == len(names):
            rows.append(row)
            table.append(fields)
        elif fields is None:
            lost[row] = Problem(Reason.BAD_RECORD, "a quote is not closed, or stands in the wrong place")
        else:
            lost[row] = Problem(Reason.BAD_RECORD, f"the row has {len(fields)} columns, the header {len(names)}")
    columns = list(zip(*table, strict=True)) if table else [()] * len(names)
    mapping = FieldMapping.from_settings(context.settings["mapping"])
    return map_columns(mapping, dict(zip(names, columns, strict=True)), rows, lost)
