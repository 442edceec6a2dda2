"""Data in the wire format of Kafka clients: decoded by the schema its first bytes name, or set aside with a code."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from lineitem.adapters.objectstore.folder import FolderStore
from lineitem.core.reasons import Reason
from lineitem.ingest import formats, segments
from lineitem.ingest.events import DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.segments import Segment
from lineitem.schemas.model import Schema
from tests.acceptance.command import event

NOW_US = 1_790_000_000_000_000
AVRO = {
    "type": "record",
    "name": "Usage",
    "fields": [
        {"name": "tokens", "type": "long"},
        {"name": "cost", "type": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 9}},
    ],
}
SCHEMAS = {
    "1": Schema("AVRO", json.dumps(AVRO)).document(),
    "2": Schema("JSON", '{"properties": {"tokens": {"type": "integer"}}}').document(),
    "3": Schema("AVRO", '"string"').document(),
    "4": Schema("AVRO", "broken").document(),
    "5": {"format": "AVRO"},
}


def avro(tokens: int, cost: str) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(AVRO), {"tokens": tokens, "cost": Decimal(cost)})
    return out.getvalue()


def packed(schema_id: int, payload: bytes, **attributes: Any) -> bytes:
    value = b"\x00" + schema_id.to_bytes(4, "big") + payload
    whole = event("e", **({"data": ..., "data_base64": b64encode(value).decode()} | attributes))
    return json.dumps(whole).encode()


def context(schemas: Mapping[str, Mapping[str, Any]] = SCHEMAS, away: frozenset[str] = frozenset()) -> DecodeContext:
    return DecodeContext("n", "s", NOW_US, {}, schemas, away)


def raw(*records: bytes) -> RawRecords:
    return RawRecords(pa.array(records, pa.binary()), np.arange(len(records), dtype=np.int64), 0, len(records))


def decode(*records: bytes, within: DecodeContext | None = None) -> tuple[EventColumns, list[Reject]]:
    return formats.get("cloudevents").decode(raw(*records), within or context())


def test_it_is_the_event_that_json_would_be() -> None:
    """The same identity, the same digest, the same data, to the last digit; only what named the schema differs."""
    cost = "123456789012345678901.000000001"
    plain = json.dumps(event("e", data={"tokens": 5, "cost": "@"})).encode().replace(b'"@"', cost.encode())
    events, rejects = decode(packed(1, avro(5, cost)), plain, packed(2, b'{"tokens": 5.0}'))
    assert rejects == []
    assert events.data == [{"tokens": 5, "cost": Decimal(cost)}] * 2 + [{"tokens": 5}]
    assert events.digest[0] == events.digest[1]
    assert events.key[0] == events.key[1]
    assert events.dataschema == [1, None, 2]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (packed(9, b""), Reason.UNKNOWN_SCHEMA),
        (packed(8, b""), Reason.REGISTRY_AWAY),
        (packed(1, avro(1, "1") + b"\x00"), Reason.SCHEMA_MISMATCH),
        (packed(1, b""), Reason.SCHEMA_MISMATCH),
        (packed(2, b'{"tokens": 1.5}'), Reason.SCHEMA_MISMATCH),
        (packed(2, b"[]"), Reason.SCHEMA_MISMATCH),
        (packed(3, b"\x02a"), Reason.SCHEMA_MISMATCH),
        (packed(4, b""), Reason.SCHEMA_MISMATCH),
        (packed(5, b""), Reason.SCHEMA_MISMATCH),
        (packed(1, avro(1, "1"), data={"tokens": 1}), Reason.BAD_FIELD),
        (packed(1, b"", data_base64="AAAA"), Reason.BAD_FIELD),
        (packed(1, b"", data_base64="no base64"), Reason.BAD_FIELD),
        (packed(1, b"", data_base64=5), Reason.BAD_FIELD),
    ],
)
def test_what_cannot_be_read_is_set_aside(record: bytes, reason: Reason) -> None:
    """With its identity, beside neighbours that go on."""
    events, rejects = decode(record, json.dumps(event("good")).encode(), within=context(away=frozenset({"8"})))
    assert len(events) == 1
    assert [(one.ordinal, one.reason) for one in rejects] == [(0, reason)]
    assert (rejects[0].key is None) == (b'"data_base64": 5' in record)


def test_a_segment_needs_no_registry(tmp_path: Path) -> None:
    """The schemas lie in it: what was decoded once is decoded again, whatever became of the registry."""
    store = FolderStore(tmp_path)
    records = raw(packed(1, avro(5, "0.1")))
    segments.write(store, "p/a", Segment(records, "cloudevents", context({"1": SCHEMAS["1"]})))
    found = segments.read(store, "p/a", NOW_US)
    assert found.context == context({"1": SCHEMAS["1"]})
    events, rejects = formats.get(found.format).decode(found.raw, found.context)
    assert (events.data, rejects) == ([{"tokens": 5, "cost": Decimal("0.1")}], [])
