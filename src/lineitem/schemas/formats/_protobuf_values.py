"""Protobuf messages as JSON values with exact numbers, and the check that JSON data could be such a message."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from lineitem.schemas.formats._avro_codec import decimal_of
from lineitem.schemas.model import Unreadable
from lineitem.schemas.values import DEPTH_MAX, from_double, from_single, instant, unless

_WRAPPERS = "google.protobuf."
_SCALE_MAX = 1000
_DECIMAL = re.compile(r"[+-]?(\d{1,1000}(\.\d{0,1000})?|\.\d{1,1000})([eE][+-]?\d{1,9})?", re.ASCII)
"""The grammar of ``google.type.Decimal``, bounded."""
_WHOLE = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), 1 << 31),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), 1 << 63),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1 << 32),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1 << 64),
}


def json_of(message: Message, depth: int = 0) -> Any:
    """A message's value (see ``formats.protobuf``). Raises Unreadable."""
    if depth > DEPTH_MAX:
        raise Unreadable(f"the message nests deeper than {DEPTH_MAX} levels")
    special = _SPECIAL.get(message.DESCRIPTOR.full_name)
    if special is not None:
        return special(message)
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            found[field.name] = _many(field, value, depth)
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = _one(field, value, depth)
    return found


def _many(field: FieldDescriptor, values: Any, depth: int) -> Any:
    kind = field.message_type
    if kind is None or not kind.GetOptions().map_entry:
        return [_one(field, value, depth) for value in values]
    key, value = kind.fields_by_name["key"], kind.fields_by_name["value"]
    return {_key(key, name): _one(value, values[name], depth) for name in values}


def _key(field: FieldDescriptor, value: Any) -> str:
    return ("true" if value else "false") if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else str(value)


def _one(field: FieldDescriptor, value: Any, depth: int) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        return json_of(value, depth + 1)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        named = field.enum_type.values_by_number.get(value)
        return int(value) if named is None else named.name
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return from_double(value)
    if kind == FieldDescriptor.CPPTYPE_FLOAT:
        return from_single(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b64encode(value).decode()
    return value


# --- messages that stand for one value


def _google_decimal(message: Any) -> Decimal:
    text = message.value or "0"
    if not _DECIMAL.fullmatch(text):
        raise Unreadable(f"the decimal {text[:60]!r} is not a number")
    return Decimal(text)


def _confluent_decimal(message: Any) -> Decimal:
    if abs(message.scale) > _SCALE_MAX:
        raise Unreadable(f"a decimal of scale {message.scale}")
    return decimal_of(message.value, message.scale)


def _timestamp(message: Any) -> str:
    if not 0 <= message.nanos < 1_000_000_000:
        raise Unreadable(f"a timestamp with {message.nanos} nanoseconds")
    return instant(message.seconds * 1_000_000_000 + message.nanos, 1_000_000_000)


def _duration(message: Any) -> str:
    nanos = message.seconds * 1_000_000_000 + message.nanos
    return f"{Decimal(nanos).scaleb(-9).normalize():f}s"


def _wrapped(message: Any) -> Any:
    return _one(message.DESCRIPTOR.fields_by_name["value"], message.value, 0)


def _value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind in (None, "null_value"):
        return None
    if kind == "number_value":
        return from_double(message.number_value)
    if kind in ("struct_value", "list_value"):
        return _SPECIAL[getattr(message, kind).DESCRIPTOR.full_name](getattr(message, kind))
    return getattr(message, kind)


_SPECIAL: dict[str, Any] = {
    "google.type.Decimal": _google_decimal,
    "confluent.type.Decimal": _confluent_decimal,
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Value": _value,
    "google.protobuf.Struct": lambda message: {name: _value(message.fields[name]) for name in message.fields},
    "google.protobuf.ListValue": lambda message: [_value(one) for one in message.values],
    **{
        f"{_WRAPPERS}{name}Value": _wrapped
        for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
    },
}
_NUMBERS = ("google.type.Decimal", "confluent.type.Decimal")
_TEXTS = ("google.protobuf.Timestamp", "google.protobuf.Duration")


def floats_in(messages: Iterable[Descriptor]) -> list[str]:
    """Fields that are binary floats, as ``Message.field``."""
    found, seen, todo = [], set(), list(messages)
    while todo:
        one = todo.pop(0)
        if one.full_name in seen or one.full_name in _SPECIAL:
            continue
        seen.add(one.full_name)
        todo += one.nested_types
        for field in one.fields:
            if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
                found.append(f"{one.name}.{field.name}")
            if field.message_type is not None:
                todo.append(field.message_type)
    return found


# --- checking JSON data


def check_message(data: Any, kind: Descriptor, place: str, depth: int = 0) -> Iterator[str]:
    """Why ``data``, as ``json_of`` would give it, is no message of ``kind``."""
    name = kind.full_name
    if name in _NUMBERS:
        yield from unless(type(data) in (int, Decimal), place, "a number")
    elif name in _TEXTS:
        yield from unless(isinstance(data, str), place, f"a text ({name})")
    elif name in _SPECIAL:
        field = kind.fields_by_name.get("value") if name.endswith("Value") and name != "google.protobuf.Value" else None
        if field is not None:
            yield from _check_one(data, field, place, depth)
    elif not isinstance(data, dict) or depth > DEPTH_MAX:
        yield f"{place}: not an object, as message {name} has to be"
    else:
        for key, value in data.items():
            known = kind.fields_by_name.get(key)
            if known is None:
                yield f"{place}/{key}: message {name} has no such field"
            else:
                yield from _check_field(value, known, f"{place}/{key}", depth + 1)


def _check_field(value: Any, field: FieldDescriptor, place: str, depth: int) -> Iterator[str]:
    if not field.is_repeated:
        yield from _check_one(value, field, place, depth)
        return
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        if not isinstance(value, dict):
            yield f"{place}: not an object"
            return
        for key, one in value.items():
            yield from _check_one(one, kind.fields_by_name["value"], f"{place}/{key}", depth)
    elif not isinstance(value, list):
        yield f"{place}: not a list"
    else:
        for at, one in enumerate(value):
            yield from _check_one(one, field, f"{place}/{at}", depth)


def _check_one(value: Any, field: FieldDescriptor, place: str, depth: int) -> Iterator[str]:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        yield from check_message(value, field.message_type, place, depth)
    elif kind in _WHOLE:
        low, end = _BITS[kind]
        yield from unless(type(value) is int and low <= value < end, place, f"an integer from {low} to {end - 1}")
    elif kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        yield from unless(type(value) in (int, Decimal), place, "a number")
    elif kind == FieldDescriptor.CPPTYPE_BOOL:
        yield from unless(isinstance(value, bool), place, "true or false")
    elif kind == FieldDescriptor.CPPTYPE_ENUM:
        yield from unless(_is_symbol(value, field.enum_type), place, f"a name of enum {field.enum_type.name}")
    else:
        yield from unless(isinstance(value, str), place, "a text")


def _is_symbol(value: Any, kind: EnumDescriptor) -> bool:
    return type(value) is int or (isinstance(value, str) and value in kind.values_by_name)
