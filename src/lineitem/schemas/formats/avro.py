"""Avro: records in its binary encoding, logical types kept exact, schema resolution as Avro 1.11 has it and stricter.

Stricter, because bytes that merely resolve may bill a thousandfold: a decimal's scale, the unit of a time and any other
logical type have to stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from lineitem.schemas.formats import _avro_codec, _avro_rules, _json
from lineitem.schemas.formats._avro_codec import Names
from lineitem.schemas.model import BadSchema, Schema, Unreadable

_DROPPED = frozenset({"doc", "__fastavro_parsed__", "__named_schemas"})


@dataclass(frozen=True, slots=True)
class Avro:
    """An Avro schema, compiled. ``root``: with full names; ``names``: every named type it uses, by full name."""

    canonical: str
    warnings: Sequence[str]
    root: Any
    names: Names
    _read: _avro_codec.Read
    _check: _avro_codec.Check

    def decode(self, payload: bytes) -> Any:
        """One datum; bytes behind it are an error, for they mean another schema wrote it."""
        reading = _avro_codec.Reading(payload)
        value = self._read(reading, 0)
        if reading.at != len(payload):
            raise Unreadable(f"{len(payload) - reading.at} bytes are left behind the record")
        return value

    def problems(self, data: Any) -> list[str]:
        """What keeps JSON ``data`` from being written with the schema."""
        return list(self._check(data, "data", 0))


def parse(schema: Schema) -> Avro:
    """Understand an Avro schema. Raises BadSchema."""
    named: dict[str, Any] = {}
    for name, text in schema.needs:
        _fastavro(_json.parsed(text), named, f"reference {name}: ")
    document = _json.parsed(schema.text)
    root = _fastavro(document, named, "")
    names = {name: one for name, one in named.items() if isinstance(one, dict)}
    try:
        problems, warnings = _avro_rules.defects([*names.values(), root])
        if problems:
            raise BadSchema(problems)
        compiler = _avro_codec.Compiler(names)
        read, check = compiler.read(root), compiler.check(root)
    except (KeyError, TypeError, ValueError, RecursionError):  # what the library let pass
        raise BadSchema(["an attribute of a type has a value that it cannot have"]) from None
    own = {"schema": document, "needs": [_json.parsed(text) for _, text in schema.needs]} if schema.needs else document
    return Avro(_json.canonical(_without_docs(own)), warnings, root, names, read, check)


def _fastavro(document: Any, named: dict[str, Any], which: str) -> Any:
    try:
        return parse_schema(_floats(document), named_schemas=named, _write_hint=False)
    except UnknownType as error:
        raise BadSchema([f"{which}the type {error.name!r} is not defined"]) from None
    except (SchemaParseException, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadSchema([f"{which}{error}" if str(error) else f"{which}not an Avro schema"]) from None
    except RecursionError:
        raise BadSchema([f"{which}the schema nests too deeply"]) from None


def _floats(document: Any) -> Any:
    """Defaults of float fields as the library checks them; nothing of ours reads a number from there."""
    from decimal import Decimal

    if isinstance(document, dict):
        return {name: _floats(one) for name, one in document.items()}
    if isinstance(document, list):
        return [_floats(one) for one in document]
    return float(document) if isinstance(document, Decimal) else document


def _without_docs(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: _without_docs(one) for name, one in document.items() if name not in _DROPPED}
    return [_without_docs(one) for one in document] if isinstance(document, list) else document


def unreadable(reader: Avro, writer: Avro) -> list[str]:
    """Why data of ``writer`` would not be read by ``reader``, or not as the same amounts and times."""
    return _avro_rules.Resolution(reader.names, writer.names).check(reader.root, writer.root, "data")
