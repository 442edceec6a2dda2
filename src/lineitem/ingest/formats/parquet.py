"""Parquet with a mapping: the raw record of a row is its canonical JSON, its position the row number.

Decimals and integers stay exact. A binary float becomes the shortest decimal that reads back as the same float (0.1
is 0.1), NaN and the infinities become texts, which no meter takes for a number. Instants become RFC 3339 in UTC,
timestamps without a zone and dates ISO texts for the mapping to read. Columns of other types (bytes, times, durations,
maps) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, BinaryIO

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from lineitem.core.errors import InputError
from lineitem.core.reasons import Reason
from lineitem.ingest.columns import map_columns
from lineitem.ingest.decode import Candidates, Slice, decode_records
from lineitem.ingest.digest import canonical_decimal, number_hook
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.formats._amend import Changes, column, encoded, parsed, value_of
from lineitem.ingest.formats._batches import Piece, gather, piece_of
from lineitem.ingest.mapping import FieldMapping, by_name, fitted
from lineitem.ingest.validate import Problem, Problems

_ROWS_AT_ONCE = 8192
_ENCODER = msgspec.json.Encoder(order="sorted", decimal_format="number")


class Parquet:
    """The ``parquet`` format."""

    name = "parquet"
    suffixes = (".parquet", ".pq")

    def settings(self, file: BinaryIO, mapping: FieldMapping | None) -> dict[str, Any]:
        """The mapping made complete. Raises MappingError if it does not fit, InputError if it is no Parquet file."""
        present = _readable_columns(_open(file))
        return {"mapping": fitted(mapping or by_name(present), present, "parquet schema").to_settings()}

    def read(
        self, file: BinaryIO, start: int, limits: BatchLimits, settings: Mapping[str, Any]
    ) -> Iterator[RawRecords]:
        """Raw rows and their numbers, from row ``start`` on; one row group is open at a time."""
        return gather(_row_pieces(_open(file), start), start, limits)

    def decode(self, raw: RawRecords, context: DecodeContext) -> tuple[EventColumns, list[Reject]]:
        """Events and rejects of a batch; pure."""
        return decode_records(raw, context, _parse)

    def amend(self, record: bytes, changes: Changes, settings: Mapping[str, Any]) -> bytes:
        """Columns are set to JSON, or to a text where it is none."""
        document = parsed(record)
        names = list(document)
        for name, text in changes.set.items():
            document[names[column(name, names)]] = value_of(text)
        for name in changes.remove:
            document[names[column(name, names)]] = None
        return encoded(document)


def _open(file: BinaryIO) -> pq.ParquetFile:
    try:
        file.seek(0)
        return pq.ParquetFile(file, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable Parquet file: {error}", do="Check that the file is complete.") from None


def _readable_columns(file: pq.ParquetFile) -> list[str]:
    return [field.name for field in file.schema_arrow if _converter(field.type) is not None]


def _row_pieces(file: pq.ParquetFile, start: int) -> Iterator[Piece]:
    names = _readable_columns(file)
    first = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if start < first + count:
            position = first
            try:
                for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=names):
                    skipped = min(max(start - position, 0), len(batch))
                    rows = _json_rows(batch.slice(skipped))
                    numbers = np.arange(position + skipped, position + len(batch))
                    position += len(batch)
                    yield piece_of(rows, numbers.tolist(), (numbers + 1).tolist())
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"row group {group} of the Parquet file is damaged: {error}") from None
        first += count


def _json_rows(batch: pa.RecordBatch) -> list[bytes]:
    """Each row as one canonical JSON object."""
    if not len(batch):
        return []
    names = batch.schema.names
    columns = [_values(column) for column in batch.columns]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return _ENCODER.encode_lines(rows).split(b"\n")[:-1]


def _values(column: pa.Array) -> list[Any]:
    converter = _converter(column.type)
    assert converter is not None
    return converter(column)


def _converter(type_: pa.DataType) -> Callable[[pa.Array], list[Any]] | None:
    """How an array of ``type_`` becomes JSON values; None for types that have no place in JSON."""
    for fits, convert in _CONVERTERS:
        if fits(type_):
            return convert
    if pt.is_dictionary(type_) and _converter(type_.value_type):
        return lambda column: _values(column.dictionary_decode())
    if (pt.is_list(type_) or pt.is_large_list(type_)) and _converter(type_.value_type):
        return _list_values
    if pt.is_struct(type_) and all(_converter(field.type) for field in type_):
        return _struct_values
    return None


def _plain_values(column: pa.Array) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return values


def _float_values(column: pa.Array) -> list[Any]:
    """Shortest decimals; ``str`` of a NumPy float of the column's own width gives them."""
    width = {16: np.float16, 32: np.float32, 64: np.float64}[column.type.bit_width]
    return [None if value is None else _float_value(str(width(value))) for value in column.to_pylist()]


def _float_value(text: str) -> int | Decimal | str:
    value = Decimal(text)
    return canonical_decimal(value) if value.is_finite() else str(value)


def _decimal_values(column: pa.Array) -> list[Any]:
    return [None if value is None else canonical_decimal(value) for value in column.to_pylist()]


def _timestamp_values(column: pa.Array) -> list[Any]:
    """``2026-10-01T12:00:00.5``, and a Z where the column has a zone."""
    mark = "" if column.type.tz is None else "Z"
    texts = column.cast(pa.timestamp(column.type.unit)).cast(pa.string())
    return [None if text is None else text.replace(" ", "T") + mark for text in texts.to_pylist()]


def _date_values(column: pa.Array) -> list[Any]:
    return _plain_values(column.cast(pa.date32()).cast(pa.string()))


def _list_values(column: pa.Array) -> list[Any]:
    values, offsets, present = _values(column.values), column.offsets.to_pylist(), column.is_valid().to_pylist()
    return [values[a:b] if there else None for (a, b), there in zip(pairwise(offsets), present, strict=True)]


def _struct_values(column: pa.Array) -> list[Any]:
    names = [field.name for field in column.type]
    children: Sequence[list[Any]] = [_values(child) for child in column.flatten()]
    present = column.is_valid().to_pylist()
    rows = zip(*children, strict=True) if children else iter([()] * len(column))
    return [dict(zip(names, row, strict=True)) if there else None for row, there in zip(rows, present, strict=True)]


_CONVERTERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], list[Any]]], ...] = (
    (pt.is_integer, _plain_values),
    (pt.is_boolean, _plain_values),
    (pt.is_null, _plain_values),
    (pt.is_string, _plain_values),
    (pt.is_large_string, _plain_values),
    (pt.is_string_view, _plain_values),
    (pt.is_floating, _float_values),
    (pt.is_decimal, _decimal_values),
    (pt.is_timestamp, _timestamp_values),
    (pt.is_date, _date_values),
)


def _parse(piece: Slice, context: DecodeContext) -> Candidates:
    decode = msgspec.json.Decoder(dict[str, Any], float_hook=number_hook()).decode
    lost: Problems = {}
    rows: list[int] = []
    table: list[dict[str, Any]] = []
    for row, record in enumerate(piece.records):
        try:
            table.append(decode(record))
            rows.append(row)
        except (ValueError, ArithmeticError, RecursionError) as error:
            lost[row] = Problem(Reason.BAD_JSON, f"the row cannot be read again: {error}")
    mapping = FieldMapping.from_settings(context.settings["mapping"])
    columns = {name: [record.get(name) for record in table] for name in mapping.columns()}
    return map_columns(mapping, columns, rows, lost)
