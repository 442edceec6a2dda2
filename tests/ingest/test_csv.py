"""CSV: rows by a mapping, quotes as RFC 4180 has them, bad rows set aside one by one."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from io import BytesIO, StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.errors import MappingError
from lineitem.core.reasons import Reason
from lineitem.ingest import formats
from lineitem.ingest.formats._rows import grammar
from tests.ingest.samples import decode_all, flat, read_all

HEADER = b"id,type,subject,time,data.tokens,model\n"
MAPPING = """
type: {const: order}
subject: {column: customer, default: guest}
time: {column: at, format: iso, timezone: UTC}
id: {template: "{order}/{line}"}
data:
  n: {column: qty, type: integer}
  price: {column: price, type: decimal}
  paid: {column: paid, type: boolean}
  note: note
"""
MAPPED = b"order,line,customer,at,qty,price,paid,note\n"
AT = b"2026-09-01 12:00:00"


def row(number: int) -> bytes:
    return b"e%d,llm,team-1,2026-09-01T12:00:00Z,%d,m\n" % (number, number)


def test_columns_named_like_attributes_need_no_mapping() -> None:
    """Attributes by name, ``data.x`` and every other column into the payload, as texts."""
    events, rejects = decode_all("csv", HEADER + row(1) + row(2))
    assert not rejects
    assert events.id == ["e1", "e2"]
    assert events.source == ["stream-1", "stream-1"]
    assert events.data == [{"tokens": "1", "model": "m"}, {"tokens": "2", "model": "m"}]


def test_a_mapping_types_and_fills() -> None:
    """Types, defaults and templates; an empty value of a type is null."""
    rows = b'7,1,,%b,3,2.50,true,"a, ""b"""\n7,2,c9,%b,,,no,\n' % (AT, AT)
    events, rejects = decode_all("csv", MAPPED + rows, MAPPING)
    assert not rejects
    assert events.id == ["7/1", "7/2"]
    assert events.subject == ["guest", "c9"]
    assert events.data == [
        {"n": 3, "price": Decimal("2.5"), "paid": True, "note": 'a, "b"'},
        {"n": None, "price": None, "paid": False, "note": ""},
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"7,1,c,%b,3,2\n" % AT, Reason.BAD_RECORD),
        (b"7,1,c,%b,3,2,1,a,b\n" % AT, Reason.BAD_RECORD),
        (b'7,1,c,%b,3,2,1,"open\n' % AT, Reason.BAD_RECORD),
        (b'7,1,c,%b,3,2,1,"a"b\n' % AT, Reason.BAD_RECORD),
        (b"7,1,c,%b,3,2,1,\xff\n" % AT, Reason.BAD_ENCODING),
        (b"7,1,c,%b,3.5,2,1,\n" % AT, Reason.BAD_FIELD),
        (b"7,1,c,%b,NaN,2,1,\n" % AT, Reason.BAD_FIELD),
        (b"7,1,c,%b,3,1_0,1,\n" % AT, Reason.BAD_FIELD),
        (b"7,1,c,%b,3,2,maybe,\n" % AT, Reason.BAD_FIELD),
        (b"7,1,c\0d,%b,3,2,1,\n" % AT, Reason.BAD_FIELD),
        (b"7,1,c,yesterday,3,2,1,\n", Reason.BAD_TIME),
        (b"7,1,c,,3,2,1,\n", Reason.MISSING_FIELD),
        (b"7,1,c,1999-01-01 00:00:00,3,2,1,\n", Reason.TIME_OUT_OF_RANGE),
        (b"7,1,c,%b,3,2,1,%b\n" % (AT, b"x" * 2_000_000), Reason.TOO_LARGE),
    ],
)
def test_a_bad_row_is_one_reject_and_loses_no_neighbour(bad: bytes, reason: Reason) -> None:
    """One reject with its code; the rows around it are events."""
    good = b'7,%d,c,%b,3,2,1,"two\nlines"\r\n'
    events, rejects = decode_all("csv", MAPPED + good % (8, AT) + bad + good % (9, AT), MAPPING)
    assert [(reject.ordinal, reject.reason) for reject in rejects] == [(1, reason)]
    assert events.id == ["7/8", "7/9"]
    assert [data["note"] for data in events.data] == ["two\nlines", "two\nlines"]


def test_a_quote_without_end_costs_its_line_only() -> None:
    """The line of a stray quote is a bad row; the rows behind it stay rows, wherever the next quote is."""
    data = HEADER + row(1) + b'e2,"llm,team-1,2026-09-01T12:00:00Z,2,m\n' + row(3) + row(4).replace(b"llm", b'"llm"')
    events, rejects = decode_all("csv", data + row(5))
    assert [reject.reason for reject in rejects] == [Reason.BAD_RECORD]
    assert events.id == ["e1", "e3", "e4", "e5"]


fields = st.text(st.sampled_from(list('ab",;\n é')), max_size=6)


@given(st.lists(st.lists(fields, min_size=3, max_size=3), max_size=8), st.sampled_from([",", ";", "\t", "|"]))
def test_rows_and_fields_agree_with_the_standard_library(table: list[list[str]], delimiter: str) -> None:
    """What the csv module writes is read back, row for row and field for field."""
    text = StringIO()
    csv.writer(text, delimiter=delimiter).writerows([["type", "subject", "time"], *table])
    mapping = f"type: type\nsubject: subject\ntime: time\ndelimiter: {json.dumps(delimiter)}"
    records = [record for _, record in flat(read_all("csv", text.getvalue().encode(), mapping=mapping))]
    assert [grammar(delimiter).fields(record.decode()) for record in records] == table


def test_header_and_mapping_must_fit() -> None:
    """Nothing is ingested when a column is not there, is there twice, or the header cannot be read."""
    cases = [
        (b"type,subject\n", None, "nothing says where time"),
        (b"order,line,at\n", MAPPING, "'customer', 'note', 'paid', 'price', 'qty'"),
        (b"type,type,subject,time\n", None, "twice"),
        (b'type,"a"b\n', None, "quote"),
        ("type,subject\n".encode("utf-16"), None, "UTF-8"),
    ]
    for header, mapping, words in cases:
        with pytest.raises(MappingError, match=words):
            read_all("csv", header, mapping=mapping)


def test_no_rows() -> None:
    """An empty file and a header alone hold nothing and are fine."""
    for data in (b"", b"\n\n", HEADER, b"\xef\xbb\xbf" + HEADER, HEADER.rstrip()):
        events, rejects = decode_all("csv", data)
        assert (len(events), rejects) == (0, [])


def test_a_byte_order_mark_is_not_part_of_the_first_name() -> None:
    """Spreadsheets write one; positions count it."""
    data = b"\xef\xbb\xbf" + HEADER + row(1)
    assert decode_all("csv", data)[0].id == ["e1"]
    assert [at for at, _ in flat(read_all("csv", data))] == [3 + len(HEADER)]


def test_a_column_without_a_name_goes_by_its_number() -> None:
    """As exports with an index column have them."""
    settings = formats.get("csv").settings(BytesIO(b",type,subject,time\n"), None)
    assert settings["columns"] == ["column_1", "type", "subject", "time"]
