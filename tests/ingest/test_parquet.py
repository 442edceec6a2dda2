"""Parquet: rows become canonical JSON, exactly, and decode by a mapping."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lineitem.core.errors import InputError, MappingError
from lineitem.core.reasons import Reason
from tests.ingest.samples import decode_all, flat, read_all

WHEN = datetime(2026, 9, 1, 12, 0, 0, 123456, tzinfo=UTC)


def parquet(**columns: Any) -> bytes:
    count = len(next(iter(columns.values())))
    base: dict[str, Any] = {
        "id": [f"e{n}" for n in range(count)],
        "type": ["llm"] * count,
        "subject": ["team-1"] * count,
        "time": pa.array([WHEN] * count, pa.timestamp("us", "Europe/Paris")),
    }
    sink = BytesIO()
    pq.write_table(pa.table({**base, **columns}), sink, row_group_size=2)
    return sink.getvalue()


def test_values_stay_exact() -> None:
    """Decimals and wide integers as they are, floats as their shortest decimal, NaN as a text that is no number."""
    data = parquet(
        amount=pa.array([Decimal("1.500"), Decimal("-0.000"), None], pa.decimal128(38, 3)),
        big=pa.array([2**64 - 1, 0, None], pa.uint64()),
        double=[0.1, float("nan"), 1e300],
        single=pa.array([0.1, 3.0, None], pa.float32()),
        flag=[True, False, None],
        kind=pa.array(["a", "b", None]).dictionary_encode(),
    )
    events, rejects = decode_all("parquet", data)
    assert not rejects
    assert events.data == [
        {"amount": Decimal("1.5"), "big": 2**64 - 1, "double": Decimal("0.1"), "single": Decimal("0.1"),
         "flag": True, "kind": "a"},
        {"amount": 0, "big": 0, "double": "NaN", "single": 3, "flag": False, "kind": "b"},
        {"amount": None, "big": None, "double": Decimal("1E+300"), "single": None, "flag": None, "kind": None},
    ]  # fmt: skip
    assert events.id == ["e0", "e1", "e2"]
    assert set(events.time_us.tolist()) == {1_788_264_000_123_456}


def test_times_dates_and_nested_values() -> None:
    """A timestamp without a zone is a local text, a date a date; structs and lists are objects and arrays."""
    data = parquet(
        local=pa.array([1_788_264_000_123_456_789], pa.timestamp("ns")),
        day=[date(2026, 9, 1)],
        nested=[{"a": [1, None], "b": {"c": Decimal("2.50")}}],
        bytes=[b"left out"],
    )
    record = json.loads(flat(read_all("parquet", data))[0][1])
    assert record["local"] == "2026-09-01T12:00:00.123456789"
    assert record["time"] == "2026-09-01T12:00:00.123456Z"
    assert record["day"] == "2026-09-01"
    assert record["nested"] == {"a": [1, None], "b": {"c": 2.5}}
    assert "bytes" not in record


def test_a_mapping_reads_numbers_as_texts_and_times() -> None:
    """A numeric customer is a subject, Unix seconds are a time, a local timestamp has the mapping's zone."""
    table = pa.table({"customer": [17850], "at": [1_788_264_000], "local": pa.array([WHEN.replace(tzinfo=None)])})
    sink = BytesIO()
    pq.write_table(table, sink)
    mapping = "type: {const: x}\nsubject: customer\ntime: {column: %s, format: %s}\ndata: {}\n"
    events, _ = decode_all("parquet", sink.getvalue(), mapping % ("at", "unix"))
    assert events.subject == ["17850"]
    assert events.time_us.tolist() == [1_788_264_000_000_000]
    events, _ = decode_all("parquet", sink.getvalue(), mapping % ("local", "iso, timezone: Europe/Paris"))
    assert events.time_us.tolist() == [1_788_264_000_123_456 - 7_200_000_000]


def test_a_bad_row_is_one_reject_and_loses_no_neighbour() -> None:
    """Rows are set aside by the same rules as records of text."""
    data = parquet(subject=["a", None, "c", "d\0", "e"], note=["x", "x", "y" * 2_000_000, "x", "x"])
    events, rejects = decode_all("parquet", data)
    assert [(r.ordinal, r.reason) for r in rejects] == [
        (1, Reason.MISSING_FIELD), (2, Reason.TOO_LARGE), (3, Reason.BAD_FIELD),
    ]  # fmt: skip
    assert events.id == ["e0", "e4"]


def test_files_that_do_not_fit() -> None:
    """A file that is no Parquet, a truncated one, and a schema without the attributes are refused at once."""
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_all("parquet", b"PAR1 but not really")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_all("parquet", parquet(n=[1, 2, 3])[:-20])
    sink = BytesIO()
    pq.write_table(pa.table({"a": [1]}), sink)
    with pytest.raises(MappingError, match="columns are 'a'"):
        read_all("parquet", sink.getvalue())


def test_a_damaged_row_group_is_an_error_with_its_number() -> None:
    """What cannot be read is not skipped."""
    data = bytearray(parquet(n=list(range(6))))
    data[len(data) // 3 : len(data) // 3 + 60] = b"\xff" * 60
    with pytest.raises(InputError, match=r"row group \d|not a readable"):
        read_all("parquet", bytes(data))
