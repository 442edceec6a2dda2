"""Protobuf messages of descriptors as clients register them: exact numbers, what was not set, what is hostile."""

from __future__ import annotations

from base64 import b64encode
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from lineitem.schemas import formats
from lineitem.schemas.formats.protobuf import Protobuf, descriptor_text
from lineitem.schemas.model import BadSchema, Reference, Schema, Unreadable

KINDS = FieldDescriptorProto
TYPES = {"int64": KINDS.TYPE_INT64, "double": KINDS.TYPE_DOUBLE, "float": KINDS.TYPE_FLOAT, "bytes": KINDS.TYPE_BYTES}


def file(**fields: str) -> FileDescriptorProto:
    """A file with one message ``Usage``; a type with a dot is a message's full name."""
    made = FileDescriptorProto(name="usage.proto", package="acme", syntax="proto3")
    message = made.message_type.add(name="Usage")
    for number, (name, kind) in enumerate(fields.items(), start=1):
        field = message.field.add(name=name, number=number, label=KINDS.LABEL_OPTIONAL)
        if "." in kind:
            field.type, field.type_name = KINDS.TYPE_MESSAGE, f".{kind}"
            made.dependency.append(IMPORTS[kind])
        else:
            field.type = TYPES[kind]
    return made


IMPORTS = {
    "google.protobuf.Timestamp": "google/protobuf/timestamp.proto",
    "google.protobuf.Int64Value": "google/protobuf/wrappers.proto",
    "google.type.Decimal": "google/type/decimal.proto",
    "confluent.type.Decimal": "confluent/type/decimal.proto",
    "acme.Money": "money.proto",
}


def schema(made: FileDescriptorProto, *needs: tuple[str, FileDescriptorProto]) -> Schema:
    named = tuple((name, b64encode(one.SerializeToString()).decode()) for name, one in needs)
    references = tuple(Reference(name, name, 1) for name, _ in named)
    return Schema("PROTOBUF", b64encode(made.SerializeToString()).decode(), references, named)


def parsed(made: Schema) -> Protobuf:
    found = formats.parse(made)
    assert isinstance(found, Protobuf)
    return found


def message(found: Protobuf, index: int = 0) -> Any:
    return message_factory.GetMessageClass(found.messages[index])()


def test_numbers_and_times() -> None:
    """Whole numbers whatever their width, decimals as they are, floats as their shortest decimal, times as text."""
    found = parsed(
        schema(
            file(
                n="int64", d="double", f="float", raw="bytes", at="google.protobuf.Timestamp",
                g="google.type.Decimal", c="confluent.type.Decimal", w="google.protobuf.Int64Value",
            )
        )
    )  # fmt: skip
    one = message(found)
    one.n, one.d, one.f, one.raw, one.g.value = 2**63 - 1, 0.1, 0.1, b"\x00\x01", "12345678901234567890.000000001"
    one.at.seconds, one.at.nanos = 1_790_000_000, 5
    one.c.value, one.c.scale, one.w.value = (-1250).to_bytes(2, "big", signed=True), 3, 7
    data = found.decode(b"\x00" + one.SerializeToString())
    assert data == {
        "n": 2**63 - 1, "d": Decimal("0.1"), "f": Decimal("0.1"), "raw": "AAE=", "at": "2026-09-21T14:13:20.000000005Z",
        "g": Decimal("12345678901234567890.000000001"), "c": Decimal("-1.250"), "w": 7,
    }  # fmt: skip
    assert found.problems(data) == []
    assert found.warnings == [
        "Usage.d is a binary float, billed as its shortest decimal",
        "Usage.f is a binary float, billed as its shortest decimal",
    ]


def test_zero_is_there_and_nothing_is_not() -> None:
    """A field that cannot say whether it was set is 0; a message that was not set is left out."""
    found = parsed(schema(file(n="int64", at="google.protobuf.Timestamp")))
    assert found.decode(b"\x00") == {"n": 0}


def test_the_index_names_the_message() -> None:
    """Another message of the file, and one nested in it."""
    made = file(n="int64")
    other = made.message_type.add(name="Other")
    other.nested_type.add(name="Inner").field.add(name="x", number=1, type=KINDS.TYPE_INT64, label=1)
    found = parsed(schema(made))
    assert found.decode(bytes([4, 2, 0, 8, 5])) == {"x": 5}
    assert found.decode(bytes([2, 2])) == {}


@pytest.mark.parametrize(
    "payload", [b"", b"\x00\xff", b"\x80\x80", b"\x02\x0a", b"\x03", b"\x04\x00\x08", b"\xff\xff\xff\xff\xff\x01", b"\x02\x01"]
)  # fmt: skip
def test_bytes_that_are_no_message(payload: bytes) -> None:
    """Each is a sentence."""
    with pytest.raises(Unreadable):
        parsed(schema(file(n="int64"))).decode(payload)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("google.type.Decimal", {"value": "1e"}),
        ("google.type.Decimal", {"value": "1_0"}),
        ("google.type.Decimal", {"value": "NaN"}),
        ("confluent.type.Decimal", {"scale": 5000}),
        ("confluent.type.Decimal", {"value": b"\x7f" * 4000}),
    ],
)
def test_decimals_that_are_none(kind: str, values: dict[str, Any]) -> None:
    """A text that is no number, a scale beyond reason."""
    found = parsed(schema(file(v=kind)))
    one = message(found)
    for name, value in values.items():
        setattr(one.v, name, value)
    with pytest.raises(Unreadable, match="decimal"):
        found.decode(b"\x00" + one.SerializeToString())


def test_references() -> None:
    """A file that imports another which is registered; a path that leads elsewhere is refused."""
    money = FileDescriptorProto(name="money.proto", package="acme", syntax="proto3")
    money.message_type.add(name="Money").field.add(name="units", number=1, type=KINDS.TYPE_INT64, label=1)
    whole = schema(file(m="acme.Money"), ("money.proto", money))
    found = parsed(whole)
    one = message(found)
    one.m.units = 3
    assert found.decode(b"\x00" + one.SerializeToString()) == {"m": {"units": 3}}
    with pytest.raises(BadSchema, match="no path"):
        formats.parse(Schema("PROTOBUF", whole.text, (), (("../../x", "y"),)))
    with pytest.raises(BadSchema):
        formats.parse(schema(file(m="acme.Money")))


def test_canonical_form() -> None:
    """The file's name and JSON names that follow from the names make no other schema; the text comes back as a descriptor."""
    one = file(some_name="int64")
    same = FileDescriptorProto.FromString(one.SerializeToString())
    same.name = "elsewhere.proto"
    same.message_type[0].field[0].json_name = "someName"
    assert parsed(schema(one)).canonical == parsed(schema(same)).canonical
    assert parsed(Schema("PROTOBUF", descriptor_text(schema(same)))).canonical == parsed(schema(one)).canonical


def test_json_data_is_held_to_it() -> None:
    """Types, ranges and names."""
    found = parsed(schema(file(n="int64", d="double", g="google.type.Decimal")))
    assert found.problems({"n": 5, "d": Decimal("1.5"), "g": Decimal("1.25")}) == []
    assert [one.partition(":")[0] for one in found.problems({"n": 2**63, "d": "x", "g": "1", "q": 1})] == [
        "data/n", "data/d", "data/g", "data/q",
    ]  # fmt: skip
