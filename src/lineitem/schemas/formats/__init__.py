"""The languages a schema may be written in: a new one is a file here, a line in ``FORMATS`` and its test."""

from __future__ import annotations

from functools import lru_cache

from lineitem.core.errors import UsageError
from lineitem.kit.extras import load
from lineitem.schemas.model import SCHEMA_CHARS_MAX, BadSchema, Format, Parsed, Schema

FORMATS = {
    "JSON": "lineitem.schemas.formats.json_schema",
    "AVRO": "lineitem.schemas.formats.avro",
    "PROTOBUF": "lineitem.schemas.formats.protobuf",
}
"""Name (as Confluent's registry has it) -> module. Loaded when used: their libraries are an optional extra."""
_ENDINGS = {".json": "JSON", ".avsc": "AVRO", ".proto": "PROTOBUF"}


def get(name: str) -> Format:
    """The format called ``name``. Raises UsageError for an unknown one, EnvironmentProblem where its library is missing."""
    if name not in FORMATS:
        raise UsageError(f"unknown schema format {name!r}", do=f"Known are {', '.join(FORMATS)}.")
    found: Format = load(FORMATS[name], "schemas", f"the schema format {name}")
    return found


def detect(path: str) -> str:
    """The format of a file by its ending. Raises UsageError naming the known ones."""
    for ending, name in _ENDINGS.items():
        if path.lower().endswith(ending):
            return name
    known = ", ".join(f"{ending} ({name})" for ending, name in _ENDINGS.items())
    raise UsageError("cannot tell the schema's format", where=path, do=f"Name it with --format; endings: {known}.")


def parse(schema: Schema) -> Parsed:
    """Understand a schema, once in a process. Raises BadSchema, and what ``get`` does."""
    found = _parsed(schema)
    if isinstance(found, BadSchema):
        raise BadSchema(found.problems)
    return found


@lru_cache(maxsize=256)
def _parsed(schema: Schema) -> Parsed | BadSchema:
    """What is no schema is remembered, too: each of many messages may name it."""
    if len(schema.text) > SCHEMA_CHARS_MAX:
        return BadSchema([f"the schema has more than {SCHEMA_CHARS_MAX} characters"])
    try:
        return get(schema.format).parse(schema)
    except BadSchema as error:
        return error.with_traceback(None)


@lru_cache(maxsize=256)
def unreadable(reader: Schema, writer: Schema) -> tuple[str, ...]:
    """Why ``reader`` could not read what ``writer`` wrote; none where it can. Raises as ``parse`` does."""
    if reader.format != writer.format:
        return (f"the format changes from {writer.format} to {reader.format}",)
    return tuple(get(reader.format).unreadable(parse(reader), parse(writer)))
