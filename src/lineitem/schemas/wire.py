"""The wire format of Confluent's clients: a zero byte, the schema's id in four bytes, then the data as the schema has it.

Source: Confluent Schema Registry documentation, "Wire format" (magic byte 0). Protobuf has a message index list in between,
which its format reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lineitem.schemas import formats
from lineitem.schemas.model import BadSchema, Unreadable, schema_of

MAGIC = 0
HEAD_BYTES = 5


class Framed(NamedTuple):
    """A message's schema id and what lies behind it."""

    id: int
    payload: bytes


def framed(value: bytes) -> Framed | None:
    """A value's frame; None for one that has none. No JSON text begins with a zero byte."""
    if len(value) < HEAD_BYTES or value[0] != MAGIC:
        return None
    return Framed(int.from_bytes(value[1:HEAD_BYTES], "big"), value[HEAD_BYTES:])


def decode(message: Framed, document: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` of a message. ``document``: its schema's (``Schema.document``). Raises Unreadable."""
    try:
        parsed = formats.parse(schema_of(document))
    except BadSchema as error:
        raise Unreadable(f"schema {message.id} cannot be used: {error.problems[0]}") from None
    except (KeyError, TypeError, ValueError):
        raise Unreadable(f"schema {message.id} cannot be read") from None
    data = parsed.decode(message.payload)
    if not isinstance(data, dict):
        raise Unreadable(f"schema {message.id} describes no object, so nothing of it can be metered")
    return data
