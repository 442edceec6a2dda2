"""Schemas on a real ledger: whatever encoding usage comes in it is billed alike; what breaks its schema, or names none that is
there, waits where a person or the registry can help it."""

from __future__ import annotations

import io
import json
import random
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import Any

import fastavro
import pytest

from lineitem.adapters.schemaregistry.remote import RemoteRegistry
from lineitem.adapters.schemaregistry.settings import Address
from lineitem.app import App
from lineitem.core.reasons import Reason
from lineitem.files import Source, ingest
from lineitem.ingest import segments
from lineitem.ingest.events import BatchLimits
from lineitem.kit.db import connect
from lineitem.ledger.schema_desk import SchemaDesk
from lineitem.reread import Asked
from lineitem.schemas.model import BadSchema, Reference, Schema
from lineitem.schemas.registry import COMPATIBILITY, ENFORCE, GLOBAL, Incompatible
from lineitem.schemas.source import Absent
from tests.integration.drive import Space, World, microseconds, nothing

NOW = datetime(2026, 11, 2, tzinfo=UTC)
AVRO = {
    "type": "record",
    "name": "Usage",
    "fields": [{"name": "v", "type": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 9}}],
}
OBJECT = '{"type":"object","properties":{"v":{"type":"number"}},"required":["v"]}'
PROTO = 'syntax = "proto3"; import "google/type/decimal.proto"; message Usage { google.type.Decimal v = 1; }'


def catalog() -> dict[str, Any]:
    return {
        "currency": "USD",
        "meters": [{"id": "m", "event_type": "used", "aggregation": "sum", "value": "data.v"}],
        "pricebooks": [
            {
                "id": "book", "version": 1, "effective_from": "2020-01-01T00:00:00Z",
                "prices": [{"id": "p", "meter": "m", "model": "graduated", "tiers": [
                    {"up_to": "100", "unit_price": "2"}, {"up_to": None, "unit_price": "0.5"},
                ]}],
            }
        ],
        "accounts": {"defaults": {"pricebook": "book", "timezone": "UTC"}},
    }  # fmt: skip


@pytest.fixture
def space(ledger: App) -> Space:
    return World(ledger).space(catalog(), NOW)


def desk(space: Space) -> SchemaDesk:
    found: SchemaDesk = space.act(lambda app: app.schema_desk(space.name))
    return found


def line(id_: str, **more: Any) -> bytes:
    whole = {"specversion": "1.0", "id": id_, "source": "/s", "type": "used", "subject": "acme"}
    return json.dumps(whole | {"time": "2026-11-01T00:00:00Z"} | more).encode() + b"\n"


def wired(id_: str, schema_id: int, payload: bytes) -> bytes:
    value = b"\x00" + schema_id.to_bytes(4, "big") + payload
    return line(id_, data_base64=b64encode(value).decode())


def plain(id_: str, value: str, **more: Any) -> bytes:
    return line(id_, data={"v": "@"}, **more).replace(b'"@"', value.encode())


def protobuf(value: str) -> bytes:
    """Message 0; field 1 is a message whose field 1 is a text."""
    inner = b"\x0a" + bytes([len(value)]) + value.encode()
    return b"\x00\x0a" + bytes([len(inner)]) + inner


def avro(value: str) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(AVRO), {"v": Decimal(value)})
    return out.getvalue()


def owed(values: list[Fraction]) -> Fraction:
    """The oracle: two tiers over the sum, rounded half away from zero at 9 decimals."""
    total = sum(values, Fraction(0))
    amount = min(total, Fraction(100)) * 2 + max(total - 100, Fraction(0)) / 2
    return Fraction(int(amount * 10**9 + Fraction(1, 2)), 10**9)


def billed(space: Space) -> Fraction:
    rows = space.world.app.control.execute(
        "select sum(amount_nano) from ledger.line_item where namespace_key ="
        " (select namespace_key from catalog.namespace where namespace = %s)",
        [space.name],
    ).fetchone()
    assert rows is not None
    return Fraction(int(rows[0] or 0), 10**9)


@pytest.mark.parametrize("seed", [1, 2])
def test_an_encoding_changes_nothing(space: Space, seed: int) -> None:
    """Each event in some encodings, in any order and in any batches: billed once, as the oracle says."""
    chance = random.Random(seed)
    ids = {
        name: desk(space).register(f"{name}-value", schema, "ana").id
        for name, schema in {
            "a": Schema("AVRO", json.dumps(AVRO)), "j": Schema("JSON", OBJECT), "p": Schema("PROTOBUF", PROTO),
        }.items()
    }  # fmt: skip
    records, values = [], []
    for number in range(40):
        text = str(Decimal(chance.randrange(1, 10**12)).scaleb(-9))
        values.append(Fraction(text))
        ways = [
            plain(f"e{number}", text),
            wired(f"e{number}", ids["a"], avro(text)),
            wired(f"e{number}", ids["j"], b'{"v":' + text.encode() + b"}"),
            wired(f"e{number}", ids["p"], protobuf(text)),
        ]
        records += chance.choices(ways, k=chance.randrange(1, 5))
    chance.shuffle(records)
    half = len(records) // 2
    first = space.send(b"".join(records[:half]), "one", 7)
    second = space.send(b"".join(records[half:]), "two", 13)
    counts = first.counts + second.counts
    assert (counts.itemized, counts.duplicate, counts.dead_lettered) == (40, len(records) - 40, 0)
    assert billed(space) == owed(values)
    assert space.world.findings(deep=True) == []


def test_events_are_held_to_what_they_name_or_to_the_latest(space: Space) -> None:
    """A version named counts always, the latest where the subject says so; a foreign name is none of ours."""
    held = desk(space)
    held.register("used-value", Schema("JSON", OBJECT), "ana")
    other = held.register("other-value", Schema("JSON", '{"type":"object"}'), "ana").id
    mine = "http://registry/subjects/used-value/versions/1"
    sent = [
        plain("a", '"5"'), plain("b", '"5"', dataschema=mine), plain("c", "5", dataschema=mine),
        plain("d", "5", dataschema="subjects/used-value/versions/2"), plain("e", "5", dataschema="urn:theirs"),
        plain("f", "5", dataschema=f"/schemas/ids/{other}"), plain("g", "5", dataschema="/schemas/ids/99"),
        plain("h", "5", dataschema=5), plain("i", '"5"', dataschema="urn:theirs"),
    ]  # fmt: skip
    summary = space.send(b"".join(sent), "free")
    assert (summary.counts.itemized, summary.counts.dead_lettered) == (6, 3)
    assert len(space.letters("schema_mismatch")) == 1
    assert len(space.letters("unknown_schema")) == 2
    held.put("used-value", {ENFORCE: "yes"}, "ana")
    more = [
        plain("a2", '"5"'), plain("c2", "5"), plain("i2", '"5"', dataschema="urn:theirs"),
        plain("f2", "5", dataschema=f"/schemas/ids/{other}"), plain("o2", "5", dataschema="subjects/other-value/versions/1"),
        wired("w2", other, b'{"v": 5}'), wired("x2", 1, b'{"v": 5}'),
    ]  # fmt: skip
    summary = space.send(b"".join(more), "held")
    assert (summary.counts.itemized, summary.counts.dead_lettered) == (2, 5)
    assert len(space.letters("schema_mismatch")) == 6
    assert space.world.findings(deep=True) == []


def test_a_schema_that_comes_late(space: Space) -> None:
    """What named it waits, and is tried again by itself when one is registered; mended by hand, it is read with it, too."""
    space.send(wired("e", 1, avro("1.5")) + wired("f", 1, b"\x02"), "early")
    assert len(space.letters("unknown_schema")) == 2
    assert space.act(lambda app: app.retry_letters(space.name)) is None
    desk(space).register("used-value", Schema("AVRO", json.dumps(AVRO)), "ana")
    done = space.act(lambda app: app.retry_letters(space.name, {Reason.UNKNOWN_SCHEMA}))
    assert (done.tried, done.summary.counts.itemized) == (2, 1)
    (broken,) = space.letters("schema_mismatch")
    value = b64encode(b"\x00\x00\x00\x00\x01" + avro("2.5")).decode()
    mended = space.act(
        lambda app: app.fix_letter(space.name, broken, {"set": {"data_base64": value}}, "ana", "its producer said so")
    )
    assert mended.reason is None
    assert space.replay([broken]).summary.counts.itemized == 1
    assert billed(space) == 8
    assert space.world.findings(deep=True) == []


def test_reading_again_knows_the_schemas(space: Space) -> None:
    """Of one account: what nobody could read when it came in is an event of that account now."""
    space.send(wired("e", 1, avro("1.5")), "early")
    desk(space).register("used-value", Schema("AVRO", json.dumps(AVRO)), "ana")
    done = space.reread(Asked(account="acme"))
    assert (done.summary.counts.received, done.summary.counts.itemized) == (1, 1)
    assert space.reread(Asked(account="another")).summary.counts.received == 0
    assert space.world.findings(deep=True) == []


def test_text_that_is_none_stops_nobody(space: Space) -> None:
    """Half of a surrogate pair, in a value, a key or deep inside, and UTF-16: dead letters, and their neighbours are billed."""
    id_ = desk(space).register("used-value", Schema("JSON", '{"type":"object"}'), "ana").id
    wrong = [
        rb'{"v":1,"x":"\ud800"}',
        rb'{"v":1,"\udfff":2}',
        rb'{"v":1,"x":[{"y":"\uDc00"}]}',
        '{"v":1}'.encode("utf-16"),
    ]
    good = [wired("a", id_, b'{"v":1}'), wired("z", id_, rb'{"v":2,"x":"\ud83d\ude00"}')]
    summary = space.send(good[0] + b"".join(wired(f"e{n}", id_, one) for n, one in enumerate(wrong)) + good[1], "s")
    assert (summary.counts.itemized, summary.counts.dead_lettered) == (2, 4)
    assert len(space.letters("schema_mismatch")) == 4
    assert billed(space) == 6
    assert space.world.findings(deep=True) == []


def test_a_registry_that_is_away(space: Space) -> None:
    """One that does not answer leaves letters of their own code, which are tried again once it may answer."""
    away = RemoteRegistry(Address("http://127.0.0.1:9"), patience_s=0, pause=nothing)
    pipeline = space.pipeline()
    pipeline.registry = away
    file = wired("e", 7, b'{"v": 2}') + wired("f", 8, b"x") + plain("g", "5")
    source = Source(io.BytesIO(file), sha256(file).hexdigest(), "s", "cloudevents", {})
    summary = ingest(pipeline, source, BatchLimits(), nothing)
    assert (summary.counts.itemized, summary.counts.dead_lettered) == (1, 2)
    assert len(space.letters("registry_away")) == 2
    assert space.act(lambda app: app.retry_letters(space.name)) is None, "nothing says that it may be back"
    back = space.pipeline()
    back.registry = _Elsewhere()
    app = space.world.app
    vars(app)["registry"] = back.registry  # as a worker with that registry has it
    done = space.act(lambda app: app.retry_letters(space.name, pipeline=back))
    del vars(app)["registry"]
    assert (done.tried, done.summary.counts.itemized) == (2, 1)
    assert len(space.letters("unknown_schema")) == 1
    assert space.world.findings(deep=True) == []


class _Elsewhere:
    """A registry that has one schema, 7."""

    def by_id(self, id_: int) -> Schema | Absent:
        return Schema("JSON", OBJECT) if id_ == 7 else Absent.UNKNOWN

    def by_version(self, subject: str, version: int | None) -> Absent:
        return Absent.UNKNOWN

    def subjects(self, id_: int) -> Absent:
        return Absent.UNKNOWN


def test_a_segment_whose_schema_was_altered(space: Space) -> None:
    """The schema in a segment says what its bytes are worth: one that says otherwise is found, of the right batch."""
    id_ = desk(space).register("used-value", Schema("AVRO", json.dumps(AVRO)), "ana").id
    space.send(wired("e", id_, avro("1.5")), "s")
    store = space.world.app.segments
    (name,) = list(store.names())
    found = segments.read(store, name, microseconds(NOW))
    wrong = Schema("AVRO", json.dumps(AVRO).replace('"scale": 9', '"scale": 6')).document()
    (space.world.app.config.data_dir / "segments" / name).unlink()
    segments.write(store, name, replace(found, context=replace(found.context, schemas={str(id_): wrong})))
    (finding,) = space.world.findings(deep=True)
    assert "an accepted event is not in its raw records" in finding["what"]


def test_a_setting_of_all_is_no_setting_of_a_subject_called_so(space: Space) -> None:
    """The setting of all subjects, moved to a subject of the name that it is shown by: it would bind nobody, and is found."""
    desk(space).put(GLOBAL, {COMPATIBILITY: "NONE"}, "ana")
    assert space.world.findings() == []
    with connect(space.world.app.dsn) as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("alter table schemas.setting disable trigger all")
        superuser.execute("update schemas.setting set subject = 'all subjects' where subject = ''")
    said = [one["what"] for one in space.world.findings()]
    assert any(
        one.startswith("setting compatibility of all subjects") and "not what was recorded" in one for one in said
    )


def test_registering(space: Space) -> None:
    """The same again is found again, whatever its spaces; another subject shares the id; what may not change does not."""
    held = desk(space)
    first = held.register("used-value", Schema("JSON", OBJECT), "ana")
    again = held.register("used-value", Schema("JSON", OBJECT.replace(",", " , ")), "ben")
    assert (first.fresh, again.fresh, again.id, again.version) == (True, False, first.id, first.version)
    assert held.register("more-value", Schema("JSON", OBJECT), "ana")[:2] == (first.id, 1)
    wrong = Schema("JSON", OBJECT.replace("number", "string"))
    with pytest.raises(Incompatible, match="data/v"):
        held.register("used-value", wrong, "ana")
    held.put("used-value", {COMPATIBILITY: "NONE"}, "ana")
    assert held.register("used-value", wrong, "ana")[:2] == (2, 2)
    held.put("used-value", {COMPATIBILITY: None}, "ana")
    with pytest.raises(BadSchema, match="not registered"):
        held.register("x-value", Schema("JSON", "{}", (Reference("urn:x", "none-value", 1),)), "ana")
    with pytest.raises(BadSchema):
        held.register("x-value", Schema("PROTOBUF", "message {"), "ana")
    assert sorted(held.book().versions) == ["more-value", "used-value"]
    assert space.world.findings(deep=True) == []


def test_what_protobuf_may_change(space: Space) -> None:
    """Fields come and go; a type, a name or a number that moves is refused, each with the field."""
    held = desk(space)
    text = 'syntax = "proto3"; message U { int64 tokens = 1; string model = 2; }'
    held.register("u-value", Schema("PROTOBUF", text), "ana")
    held.register("u-value", Schema("PROTOBUF", text.replace("string model = 2;", "double x = 3;")), "ana")
    for change in (("int64 tokens", "string tokens"), ("tokens = 1", "spent = 1")):
        with pytest.raises(Incompatible, match='Field "1"'):
            held.register("u-value", Schema("PROTOBUF", text.replace(*change)), "ana")
