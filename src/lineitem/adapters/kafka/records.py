"""A Kafka message as the raw record of a CloudEvents JSON stream, in structured and in binary content mode.

Structured mode: the value is the event. Binary mode (CloudEvents Kafka protocol binding 1.0.2, 3.2): the attributes are
headers named ``ce_...`` and the value is ``data``; they are put together as JSON, the bytes of the value as they came.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence

import msgspec

_PREFIX = "ce_"
_IS_JSON = msgspec.json.Decoder(msgspec.Raw)
_OF_THE_VALUE = ("data", "data_base64", "datacontenttype")

Headers = Sequence[tuple[str, bytes | None]]


def record_of(value: bytes | None, headers: Headers | None) -> bytes:
    """The raw record. A message without a value (a tombstone) is an empty one: set aside, never passed over."""
    content = value or b""
    if not headers or not any(name == "ce_specversion" for name, _ in headers):
        return content
    if any(name == "content-type" and (text or b"").startswith(b"application/cloudevents") for name, text in headers):
        return content
    parts = [
        json.dumps(name.removeprefix(_PREFIX)).encode() + b":" + _quoted(text or b"")
        for name, text in headers
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in _OF_THE_VALUE
    ]
    if content:
        parts.append(_data(content))
    return b"{" + b",".join(parts) + b"}"


def _quoted(text: bytes) -> bytes:
    """A header as a JSON string, its bytes as they came: what is not UTF-8 becomes a dead letter, not another name."""
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _data(content: bytes) -> bytes:
    """One JSON value as ``data``; anything else cannot stand there and is carried as ``data_base64``."""
    try:
        _IS_JSON.decode(content)
    except (ValueError, RecursionError):
        return b'"data_base64":"' + b64encode(content) + b'"'
    return b'"data":' + content
