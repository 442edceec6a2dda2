"""How a recorded patch changes a record: JSON by path, a row of columns by name. Numbers keep the digits they came with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import msgspec

from lineitem.core.exact_json import exact_json
from lineitem.core.limits import NESTING_MAX
from lineitem.ingest.events import DecodeContext, EventColumns, RawRecords, Reject

_ENCODER = msgspec.json.Encoder(decimal_format="number")


class Unfit(ValueError):
    """A patch that a record cannot take; the message says why, for people."""


class Changes(NamedTuple):
    """What to set, ``path -> text``, and which paths to remove. ``set`` comes first."""

    set: Mapping[str, str]
    remove: Sequence[str]


class Inner(Protocol):
    """What is asked of the format that enveloped records came in."""

    def decode(self, raw: RawRecords, context: DecodeContext) -> tuple[EventColumns, list[Reject]]:
        """See ``formats.Format``."""
        ...

    def amend(self, record: bytes, changes: Changes, settings: Mapping[str, Any]) -> bytes:
        """See ``formats.Format``."""
        ...


def parsed(record: bytes) -> dict[str, Any]:
    """A record that is a JSON object. Raises Unfit."""
    try:
        found = exact_json(record.decode(), integer=Decimal)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"the record is not JSON ({error}); give a whole one with --record") from None
    if not isinstance(found, dict):
        raise Unfit("the record is JSON, but not an object; give a whole one with --record")
    return found


def encoded(document: Mapping[str, Any]) -> bytes:
    """The document as a record."""
    try:
        return _ENCODER.encode(document)
    except UnicodeEncodeError:
        raise Unfit("a string of the record holds half a character; give a whole record with --record") from None


def value_of(text: str) -> Any:
    """What a text stands for where any JSON value may stand: the JSON it is, else the text itself."""
    try:
        return exact_json(text, integer=Decimal)
    except (ValueError, RecursionError):
        return text


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Set what ``path`` (names joined by dots) leads to; objects on the way are made. Raises Unfit."""
    *parents, name = _names(path)
    at: Any = document
    for parent in parents:
        if at.get(parent) is None:
            at[parent] = {}
        at = at[parent]
        if not isinstance(at, dict):
            raise Unfit(f"{path}: {parent} is not an object in this record")
    at[name] = value


def drop(document: dict[str, Any], path: str) -> None:
    """Remove what ``path`` leads to. Raises Unfit where there is nothing."""
    *parents, name = _names(path)
    at: Any = document
    for parent in parents:
        at = at.get(parent) if isinstance(at, dict) else None
    if not isinstance(at, dict) or name not in at:
        raise Unfit(f"{path} is not in this record")
    del at[name]


def _names(path: str) -> list[str]:
    names = path.split(".")
    if len(names) > NESTING_MAX:
        raise Unfit(f"the path has {len(names)} names; a record has at most {NESTING_MAX} levels")
    if not all(names):
        raise Unfit(f"{path!r} is no path: write names joined by dots, e.g. data.tokens")
    return names


def column(path: str, columns: Sequence[str]) -> int:
    """The place of a column. Raises Unfit with those there are."""
    try:
        return list(columns).index(path)
    except ValueError:
        known = ", ".join(columns[:20])
        raise Unfit(f"the record has no column {path!r}; it has {known}") from None
