"""The languages a schema may be written in: a new one is a file here, a line in ``FORMATS`` and its test."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

from lineitem.core.errors import EnvironmentProblem, UsageError
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
    try:
        module: Any = importlib.import_module(FORMATS[name])
    except ModuleNotFoundError as error:
        if (error.name or "lineitem").startswith("lineitem"):
            raise  # ours: a defect
        raise EnvironmentProblem(
            f"schemas in {name} need a package that is not installed: {error.name}",
            do="pip install 'lineitem[schemas]'",
        ) from error
    found: Format = module
    return found


def detect(path: str) -> str:
    """The format of a file by its ending. Raises UsageError naming the known ones."""
    for ending, name in _ENDINGS.items():
        if path.lower().endswith(ending):
            return name
    known = ", ".join(f"{ending} ({name})" for ending, name in _ENDINGS.items())
    raise UsageError("cannot tell the schema's format", where=path, do=f"Name it with --format; endings: {known}.")


@lru_cache(maxsize=256)
def parse(schema: Schema) -> Parsed:
    """Understand a schema, once in a process. Raises BadSchema, and what ``get`` does."""
    if len(schema.text) > SCHEMA_CHARS_MAX:
        raise BadSchema([f"the schema has more than {SCHEMA_CHARS_MAX} characters"])
    return get(schema.format).parse(schema)


def unreadable(reader: Schema, writer: Schema) -> list[str]:
    """Why ``reader`` could not read what ``writer`` wrote; none where it can."""
    if reader.format != writer.format:
        return [f"the format changes from {writer.format} to {reader.format}"]
    return get(reader.format).unreadable(parse(reader), parse(writer))
