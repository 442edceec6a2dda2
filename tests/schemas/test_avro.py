"""Avro is read as its own library writes it, decimals to the last digit; what may change between versions, and what may not."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.schemas import formats
from lineitem.schemas.model import BadSchema, Schema, Unreadable
from lineitem.schemas.values import NODES_MAX


def avro(document: Any) -> Schema:
    return Schema("AVRO", json.dumps(document))


def record(*fields: tuple[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields]} | more


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def encoded(document: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(document), value)
    return out.getvalue()


def problems(reader: Any, writer: Any) -> list[str]:
    return list(formats.unreadable(avro(record(("v", reader))), avro(record(("v", writer)))))


LEAVES: list[tuple[Any, st.SearchStrategy[Any], Any]] = [
    ("null", st.none(), lambda value: None),
    ("boolean", st.booleans(), lambda value: value),
    ("int", st.integers(-(2**31), 2**31 - 1), lambda value: value),
    ("long", st.integers(-(2**63), 2**63 - 1), lambda value: value),
    ("double", st.floats(allow_nan=False, allow_infinity=False), lambda value: Decimal(repr(value))),
    ("string", st.text(), lambda value: value),
    ("bytes", st.binary(), lambda value: b64encode(value).decode()),
    (decimal(38, 9), st.integers(-(10**28), 10**28).map(lambda n: Decimal(n).scaleb(-9)), lambda value: value),
    (
        {"type": "long", "logicalType": "timestamp-millis"},
        st.integers(0, 10**12).map(lambda ms: datetime.fromtimestamp(ms // 1000, UTC)),
        lambda value: value.strftime("%Y-%m-%dT%H:%M:%SZ"),
    ),
    ({"type": "int", "logicalType": "date"}, st.dates(date(1970, 1, 1)), date.isoformat),
]


@st.composite
def written(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """A schema, a value for the library to write, and what we have to read."""
    fields: list[tuple[str, Any]] = []
    value: dict[str, Any] = {}
    wanted: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 5))):
        kind, values, expected = draw(st.sampled_from(LEAVES))
        shape, name = draw(st.sampled_from(["plain", "array", "map", "optional"])), f"f{number}"
        one = draw(values)
        if shape == "array":
            fields.append((name, {"type": "array", "items": kind}))
            value[name], wanted[name] = [one, one], [expected(one)] * 2
        elif shape == "map":
            fields.append((name, {"type": "map", "values": kind}))
            value[name], wanted[name] = {"k": one}, {"k": expected(one)}
        elif shape == "optional" and kind != "null":
            fields.append((name, ["null", kind]))
            value[name], wanted[name] = one, expected(one)
        else:
            fields.append((name, kind))
            value[name], wanted[name] = one, expected(one)
    return record(*fields), value, wanted


@given(written())
def test_what_the_library_writes_is_read(case: tuple[Any, Any, Any]) -> None:
    """Every type, nested; and what was read satisfies the schema it was read by."""
    document, value, wanted = case
    parsed = formats.parse(avro(document))
    data = parsed.decode(encoded(document, value))
    assert data == wanted
    assert parsed.problems(data) == []


@pytest.mark.parametrize(
    ("precision", "scale", "value", "good"),
    [
        (38, 2, "999999999999999999999999999999999999.99", True),
        (38, 2, "123456789012345678901234567890.123", False),
        (38, 2, "1000000000000000000000000000000000000.00", False),
        (4, 2, "1.230", True),
        (4, 2, "1E+1", True),
        (4, 2, "1E+999999999", False),
    ],
)
def test_a_decimal_is_held_to_all_of_its_digits(precision: int, scale: int, value: str, good: bool) -> None:
    """More of them than a context of 28 knows."""
    parsed = formats.parse(avro(record(("v", decimal(precision, scale)))))
    assert (list(parsed.problems({"v": Decimal(value)})) == []) is good


def test_a_single_precision_number_is_its_shortest_decimal() -> None:
    """0.1 in four bytes is not 0.1; what a producer meant is."""
    document = record(("f", "float"), ("d", "double"))
    assert formats.parse(avro(document)).decode(encoded(document, {"f": 0.1, "d": 0.1})) == {
        "f": Decimal("0.1"),
        "d": Decimal("0.1"),
    }
    assert len(formats.parse(avro(document)).warnings) == 2


def test_recursive_types_and_enums() -> None:
    """A type that contains itself; symbols by their names."""
    document = record(
        ("e", {"type": "enum", "name": "E", "symbols": ["A", "B"]}), ("next", ["null", "R"]), namespace="n"
    )
    value = {"e": "A", "next": {"e": "B", "next": None}}
    assert formats.parse(avro(document)).decode(encoded(document, value)) == value


@pytest.mark.parametrize(
    ("document", "payload", "why"),
    [
        (record(("v", "long")), b"", "ends"),
        (record(("v", "long")), b"\x02\x02", "left behind"),
        (record(("v", "long")), b"\xff" * 11, "64 bits"),
        (record(("v", "int")), b"\xfe\xff\xff\xff\xff\x01", "32 bits"),
        (record(("v", "boolean")), b"\x02", "neither"),
        (record(("v", "string")), b"\x02\xff", "UTF-8"),
        (record(("v", "string")), b"\x01", "ends"),
        (record(("v", ["null", "int"])), b"\x08", "branch"),
        (record(("v", "double")), b"\x00\x00\x00\x00\x00\x00\xf8\x7f", "nan"),
        (record(("v", decimal(3, 2))), b"\x04\x7f\xff", "precision"),
        (record(("v", decimal(38, 0))), b"\xc0\x3e" + b"\x7f" * 4000, "4096 bits"),
        (record(("v", {"type": "array", "items": "null"})), b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f", f"{NODES_MAX}"),
        (record(("v", ["null", "R"])), b"\x02" * 100 + b"\x00", "deeper"),
    ],
)
def test_bytes_that_are_not_what_the_schema_says(document: Any, payload: bytes, why: str) -> None:
    """Each is a sentence, never a crash, a wrong number or an endless loop."""
    with pytest.raises(Unreadable, match=why):
        formats.parse(avro(document)).decode(payload)


@pytest.mark.parametrize(
    ("reader", "writer", "says"),
    [
        (decimal(18, 6), decimal(18, 9), "scale may not change"),
        (decimal(18, 9), decimal(18, 6), "scale may not change"),
        (decimal(12, 9), decimal(18, 9), "fewer digits"),
        (["null", decimal(18, 6)], ["null", decimal(18, 9)], "scale may not change"),
        ({"type": "array", "items": decimal(18, 6)}, {"type": "array", "items": decimal(18, 9)}, r"data/v/\*"),
        ("bytes", decimal(18, 9), "logical type"),
        (decimal(18, 9), "bytes", "logical type"),
        (
            {"type": "long", "logicalType": "timestamp-millis"},
            {"type": "long", "logicalType": "timestamp-micros"},
            "logical type",
        ),
        ({"type": "long", "logicalType": "timestamp-millis"}, {"type": "int", "logicalType": "date"}, "logical type"),
        ("string", "int", "is read as"),
        ("int", "long", "is read as"),
        ("int", ["null", "int"], "null is read as int"),
    ],
)
def test_what_may_not_change(reader: Any, writer: Any, says: str) -> None:
    """The same bytes would be another amount or instant, or could not be read."""
    found = problems(reader, writer)
    assert len(found) == 1
    assert says.replace("\\", "") in found[0]


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        (decimal(20, 9), decimal(18, 9)),
        ("long", "int"),
        ("double", "long"),
        (["null", "int"], "int"),
        ("bytes", "string"),
    ],
)
def test_what_may_change(reader: Any, writer: Any) -> None:
    """More digits, promotions of Avro, a union around what there was."""
    assert problems(reader, writer) == []


def test_fields_come_and_go() -> None:
    """A new field needs a default; a removed one does not matter to the reader; a renamed one changes what meters read."""
    old = avro(record(("v", "int")))
    new = record(("v", "int"), ("w", "int"))
    assert formats.unreadable(old, avro(new)) == ()
    assert "no default" in formats.unreadable(avro(new), old)[0]
    new["fields"][1]["default"] = 0
    assert formats.unreadable(avro(new), old) == ()
    renamed = record(("x", "int"))
    renamed["fields"][0]["aliases"] = ["v"]
    assert "renamed" in formats.unreadable(avro(renamed), old)[0]


def test_canonical_form() -> None:
    """Spaces, order of keys and documentation make no other schema; a default does."""
    one = formats.parse(Schema("AVRO", '{"type": "record", "name": "R", "doc": "x", "fields": []}')).canonical
    assert one == formats.parse(Schema("AVRO", '{"fields":[],"name":"R","type":"record"}')).canonical
    assert one != formats.parse(Schema("AVRO", '{"fields":[],"name":"S","type":"record"}')).canonical


@pytest.mark.parametrize(
    "text",
    [
        "", "3", '{"type":"record"', '{"type":"rec","name":"x"}', '"foo"',
        '{"type":"record","name":"R","fields":[{"name":"v","type":"Nope"}]}', '{"a":1,"a":2}',
        json.dumps(record(("v", decimal(3, 5)))), json.dumps(record(("v", decimal(39, 5)))),
        json.dumps(record(("v", {"type": "string", "logicalType": "decimal", "precision": 3}))),
        json.dumps(record(("v", {"type": "fixed", "name": "F", "size": "x"}))),
        json.dumps(record(("v", {"type": "long", "logicalType": []}))),
        "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_schema(text: str) -> None:
    """Each is refused with a sentence."""
    with pytest.raises(BadSchema) as error:
        formats.parse(Schema("AVRO", text))
    assert all(error.value.problems)


def test_json_data_is_held_to_it() -> None:
    """Every problem is named with its place; a decimal's digits count."""
    parsed = formats.parse(avro(record(("n", "int"), ("d", decimal(4, 2)), ("o", ["null", "string"]))))
    assert parsed.problems({"n": 1, "d": Decimal("1.25"), "o": None}) == []
    found = parsed.problems({"n": True, "d": Decimal("1.255"), "x": 1, "o": 3})
    assert [one.partition(":")[0] for one in found] == ["data/n", "data/d", "data/o", "data/x"]
    assert "is missing" in parsed.problems({"n": 1, "d": 1})[0]
    assert parsed.problems([]) == ["data: not an object as record R has to be"]
