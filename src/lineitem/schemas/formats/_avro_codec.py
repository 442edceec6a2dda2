"""Avro's binary encoding, read by closures made once per schema; and the check that JSON data could be written by it.

Decimals are read from their bytes as they are: libraries round them to the context's or the schema's precision.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from lineitem.schemas.model import Unreadable
from lineitem.schemas.values import DEPTH_MAX, NODES_MAX, from_double, from_single, instant, unless

Names = Mapping[str, Any]
_TIMES = {
    "timestamp-millis": 1_000, "timestamp-micros": 1_000_000, "timestamp-nanos": 1_000_000_000,
    "local-timestamp-millis": 1_000, "local-timestamp-micros": 1_000_000, "local-timestamp-nanos": 1_000_000_000,
}  # fmt: skip
"""Logical type -> units a second; those that are local have no zone and lose the ``Z``."""
_INT_MAX, _LONG_MAX = 1 << 31, 1 << 63
_EXPONENT_END = 400
"""A number this large or small is no value of any decimal type there is."""
_DECIMAL_BITS_MAX = 4096
"""Far beyond what can be billed, and below what Python writes out as text."""


@dataclass(slots=True)
class Reading:
    """A payload and how far it was read. ``nodes``: values read so far."""

    data: bytes
    at: int = 0
    nodes: int = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        end = self.at + size
        if size < 0 or end > len(self.data):
            raise Unreadable(f"the payload ends at byte {len(self.data)}, inside a value")
        found = self.data[self.at : end]
        self.at = end
        return found

    def long(self) -> int:
        """A zigzag varint of up to 64 bits."""
        value = shift = 0
        while True:
            if self.at >= len(self.data):
                raise Unreadable(f"the payload ends at byte {len(self.data)}, inside a number")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise Unreadable("a number has more than 64 bits")
        return (value >> 1) ^ -(value & 1)

    def count(self, more: int) -> None:
        """Account for values to come."""
        self.nodes += more
        if more < 0 or self.nodes > NODES_MAX:
            raise Unreadable(f"the payload holds more than {NODES_MAX} values")


Read = Callable[[Reading, int], Any]
Check = Callable[[Any, str, int], Iterator[str]]


def _deeper(depth: int) -> int:
    if depth >= DEPTH_MAX:
        raise Unreadable(f"the payload nests deeper than {DEPTH_MAX} levels")
    return depth + 1


def text_of(data: bytes) -> str:
    """A string's characters."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unreadable("a string of the payload is not UTF-8") from None


def decimal_of(data: bytes, scale: int) -> Decimal:
    """Avro 1.11, Decimal: two's complement, big-endian, unscaled."""
    unscaled = int.from_bytes(data, "big", signed=True)
    if unscaled.bit_length() > _DECIMAL_BITS_MAX:
        raise Unreadable(f"a decimal of more than {_DECIMAL_BITS_MAX} bits")
    return Decimal((unscaled < 0, tuple(map(int, str(abs(unscaled)))), -scale))


class Compiler:
    """Makes readers and checks of a schema's types; named ones once, so that they may contain themselves."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._reads: dict[str, Read] = {}
        self._checks: dict[str, Check] = {}

    # --- reading

    def read(self, schema: Any) -> Read:
        """What reads a value of ``schema``."""
        if isinstance(schema, list):
            return self._union([self.read(branch) for branch in schema])
        kind = schema["type"] if isinstance(schema, dict) else schema
        if isinstance(kind, dict | list):
            return self.read(kind)
        if kind in self._names and not (isinstance(schema, dict) and "name" in schema):
            return self._named(kind)
        if isinstance(schema, dict) and "name" in schema:
            self._names = {**self._names, schema["name"]: schema}
            return self._named(schema["name"])
        return self._plain(kind, schema if isinstance(schema, dict) else {})

    def _named(self, name: str) -> Read:
        if name not in self._reads:
            made: list[Read] = []
            self._reads[name] = lambda reading, depth: made[0](reading, depth)
            made.append(self._structure(self._names[name]))
            self._reads[name] = made[0]
        return self._reads[name]

    def _structure(self, schema: Mapping[str, Any]) -> Read:
        if schema["type"] == "record" or schema["type"] == "error":
            fields = [(field["name"], self.read(field["type"])) for field in schema["fields"]]

            def record(reading: Reading, depth: int) -> Any:
                depth = _deeper(depth)
                reading.count(len(fields))
                return {name: read(reading, depth) for name, read in fields}

            return record
        if schema["type"] == "enum":
            symbols = schema["symbols"]

            def enum(reading: Reading, depth: int) -> Any:
                at = reading.long()
                if not 0 <= at < len(symbols):
                    raise Unreadable(f"symbol {at} of enum {schema['name']}, which has {len(symbols)}")
                return symbols[at]

            return enum
        size, finish = int(schema["size"]), _finish(schema)
        return lambda reading, depth: finish(reading.take(size))

    def _plain(self, kind: str, schema: Mapping[str, Any]) -> Read:
        if kind in ("array", "map"):
            return self._blocks(self.read(schema["items" if kind == "array" else "values"]), keyed=kind == "map")
        finish = _finish({**schema, "type": kind})
        return {
            "null": lambda reading, depth: None,
            "boolean": lambda reading, depth: _boolean(reading.take(1)),
            "int": lambda reading, depth: finish(_int(reading.long())),
            "long": lambda reading, depth: finish(reading.long()),
            "float": lambda reading, depth: from_single(struct.unpack("<f", reading.take(4))[0]),
            "double": lambda reading, depth: from_double(struct.unpack("<d", reading.take(8))[0]),
            "bytes": lambda reading, depth: finish(reading.take(reading.long())),
            "string": lambda reading, depth: text_of(reading.take(reading.long())),
        }[kind]

    @staticmethod
    def _union(branches: list[Read]) -> Read:
        def union(reading: Reading, depth: int) -> Any:
            at = reading.long()
            if not 0 <= at < len(branches):
                raise Unreadable(f"branch {at} of a union that has {len(branches)}")
            return branches[at](reading, depth)

        return union

    @staticmethod
    def _blocks(item: Read, *, keyed: bool) -> Read:
        def blocks(reading: Reading, depth: int) -> Any:
            depth = _deeper(depth)
            values: list[Any] = []
            while count := reading.long():
                if count < 0:  # its size in bytes follows, for readers that skip it
                    count = -count
                    reading.long()
                reading.count(count)
                for _ in range(count):
                    key = text_of(reading.take(reading.long())) if keyed else ""
                    values.append((key, item(reading, depth)))
            return dict(values) if keyed else [value for _, value in values]

        return blocks

    # --- checking JSON data

    def check(self, schema: Any) -> Check:
        """What finds why JSON data is no value of ``schema``."""
        if isinstance(schema, list):
            return self._check_union([self.check(branch) for branch in schema], schema)
        kind = schema["type"] if isinstance(schema, dict) else schema
        if isinstance(kind, dict | list):
            return self.check(kind)
        if kind in self._names and not (isinstance(schema, dict) and "name" in schema):
            return self._check_named(kind)
        if isinstance(schema, dict) and "name" in schema:
            self._names = {**self._names, schema["name"]: schema}
            return self._check_named(schema["name"])
        return self._check_plain(kind, schema if isinstance(schema, dict) else {})

    def _check_named(self, name: str) -> Check:
        if name not in self._checks:
            made: list[Check] = []
            self._checks[name] = lambda value, place, depth: made[0](value, place, depth)
            made.append(self._check_structure(self._names[name]))
            self._checks[name] = made[0]
        return self._checks[name]

    def _check_structure(self, schema: Mapping[str, Any]) -> Check:
        if schema["type"] == "enum":
            return lambda value, place, depth: unless(
                value in schema["symbols"] if isinstance(value, str) else False, place, f"a symbol of {schema['name']}"
            )
        if schema["type"] == "fixed":
            return _check_value({**schema, "type": "bytes"})
        fields = [(one["name"], self.check(one["type"]), "default" in one) for one in schema["fields"]]
        known = {name for name, *_ in fields}

        def record(value: Any, place: str, depth: int) -> Iterator[str]:
            if not isinstance(value, dict) or depth > DEPTH_MAX:
                yield f"{place}: not an object as record {schema['name']} has to be"
                return
            for name, check, optional in fields:
                if name in value:
                    yield from check(value[name], f"{place}/{name}", depth + 1)
                elif not optional:
                    yield f"{place}/{name}: is missing"
            for name in sorted(value.keys() - known):
                yield f"{place}/{name}: record {schema['name']} has no such field"

        return record

    def _check_plain(self, kind: str, schema: Mapping[str, Any]) -> Check:
        if kind not in ("array", "map"):
            return _check_value({**schema, "type": kind})
        item = self.check(schema["items" if kind == "array" else "values"])

        def items(value: Any, place: str, depth: int) -> Iterator[str]:
            if not isinstance(value, list if kind == "array" else dict) or depth > DEPTH_MAX:
                yield f"{place}: not {'a list' if kind == 'array' else 'an object'}"
                return
            for key, one in enumerate(value) if isinstance(value, list) else value.items():
                yield from item(one, f"{place}/{key}", depth + 1)

        return items

    @staticmethod
    def _check_union(branches: list[Check], schemas: list[Any]) -> Check:
        def union(value: Any, place: str, depth: int) -> Iterator[str]:
            found = [list(branch(value, place, depth)) for branch in branches]
            if all(found):
                real = [one for one, schema in zip(found, schemas, strict=True) if schema != "null"]
                yield from real[0] if len(real) == 1 else [f"{place}: fits no branch of the union"]

        return union


def _boolean(byte: bytes) -> bool:
    if byte not in (b"\0", b"\1"):
        raise Unreadable("a boolean is neither 0 nor 1")
    return byte == b"\1"


def _int(value: int) -> int:
    if not -_INT_MAX <= value < _INT_MAX:
        raise Unreadable("an int has more than 32 bits")
    return value


def _finish(schema: Mapping[str, Any]) -> Callable[[Any], Any]:
    """What a primitive's logical type makes of it (Avro 1.11, Logical Types); one that is not known means nothing."""
    logical, kind = schema.get("logicalType"), schema["type"]
    if logical == "decimal" and kind in ("bytes", "fixed"):
        scale, bound = int(schema.get("scale", 0)), 10 ** int(schema["precision"])

        def decimal(data: bytes) -> Decimal:
            value = decimal_of(data, scale)
            if abs(int.from_bytes(data, "big", signed=True)) >= bound:
                raise Unreadable(f"the decimal {value:f} has more digits than its precision, {schema['precision']}")
            return value

        return decimal
    if logical in _TIMES and kind == "long":
        end = "" if logical.startswith("local") else "Z"
        return lambda units: instant(units, _TIMES[logical]).removesuffix("Z") + end
    if logical == "date" and kind == "int":
        return lambda days: instant(days * 86_400, 1)[:10]
    if kind in ("bytes", "fixed"):
        return lambda data: b64encode(data).decode()
    return lambda value: value


def _check_value(schema: Mapping[str, Any]) -> Check:
    kind, logical = schema["type"], schema.get("logicalType")
    if logical == "decimal" and kind == "bytes":
        scale, bound = int(schema.get("scale", 0)), 10 ** int(schema["precision"])
        what = f"a decimal of precision {schema['precision']} and scale {scale}"
        return lambda value, place, depth: unless(_is_decimal(value, scale, bound), place, what)
    text = "a string" if logical is None else f"a string ({logical})"
    if kind in ("bytes", "string") or logical in _TIMES or logical == "date":
        return lambda value, place, depth: unless(isinstance(value, str), place, text)
    if kind in ("int", "long"):
        bound = _INT_MAX if kind == "int" else _LONG_MAX
        return lambda value, place, depth: unless(
            type(value) is int and -bound <= value < bound, place, f"an integer ({kind})"
        )
    if kind in ("float", "double"):
        return lambda value, place, depth: unless(type(value) in (int, Decimal), place, "a number")
    if kind == "boolean":
        return lambda value, place, depth: unless(isinstance(value, bool), place, "true or false")
    return lambda value, place, depth: unless(value is None, place, "null")


def _is_decimal(value: Any, scale: int, bound: int) -> bool:
    if type(value) not in (int, Decimal) or abs(Decimal(value).adjusted()) >= _EXPONENT_END:
        return False
    scaled: Fraction = Fraction(value) * 10**scale  # a Decimal's own operations round at 28 digits
    return scaled.denominator == 1 and abs(scaled) < bound
