"""`data_base64` of an event that holds a schema's id and data in the wire format of Kafka clients."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any, NamedTuple

from lineitem.core.reasons import Reason
from lineitem.ingest.contracts import missing
from lineitem.ingest.digest import canonical_tree
from lineitem.ingest.events import DecodeContext
from lineitem.ingest.validate import Problem
from lineitem.schemas import wire
from lineitem.schemas.model import Unreadable
from lineitem.schemas.source import Absent


class Unpacked(NamedTuple):
    """``data``, its numbers canonical, and the id of the schema it was decoded by."""

    data: dict[str, Any]
    schema_id: int


def unpacked(text: str, context: DecodeContext) -> Unpacked | Problem:
    """What a `data_base64` holds, or why it cannot be used. Depends on its arguments only."""
    try:
        value = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return Problem(Reason.BAD_FIELD, "data_base64 is not base64")
    message = wire.framed(value)
    if message is None:
        return Problem(
            Reason.BAD_FIELD, "data_base64 names no schema; send data as a JSON object, or with a schema's id before it"
        )
    name = str(message.id)
    document = context.schemas.get(name)
    if document is None:
        absent = Absent.AWAY if name in context.away else Absent.UNKNOWN
        return missing(absent, f"schema {name}")
    try:
        data = wire.decode(message, document)
    except Unreadable as error:
        return Problem(Reason.SCHEMA_MISMATCH, f"schema {name}: {error}")
    return Unpacked(canonical_tree(data), message.id)
