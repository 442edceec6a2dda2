"""What needs no broker: addresses, settings files, and messages as raw records."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lineitem.adapters.address import Address, parse_address, read_settings
from lineitem.adapters.kafka.records import Headers, record_of
from lineitem.adapters.kafka.settings import OWN
from lineitem.adapters.streams import work_of
from lineitem.core.errors import EnvironmentProblem, InputError, UsageError
from lineitem.core.reasons import Reason
from lineitem.ingest import formats
from lineitem.ingest.events import DecodeContext, EventColumns, RawRecords, Reject

NOW_US = 1_800_000_000_000_000
HEADERS = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"one"),
    ("ce_source", b"/api"),
    ("ce_type", b"api.call"),
    ("ce_subject", b"acme"),
    ("ce_time", b"2026-01-01T00:00:00Z"),
    ("content-type", b"application/json"),
    ("other", b"ignored"),
]


def decoded(record: bytes, **settings: str) -> tuple[EventColumns, list[Reject]]:
    raw = RawRecords(pa.array([record], pa.binary()), np.array([7], np.int64), 7, 8)
    return formats.get("cloudevents").decode(raw, DecodeContext("default", "kafka:c/t/i/0", NOW_US, settings))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("kafka://localhost/usage", Address("localhost:9092", "usage")),
        ("kafka://a:1,b:2,c/usage.v1_x-y", Address("a:1,b:2,c:9092", "usage.v1_x-y")),
        ("kafka://[::1]:9093/u", Address("[::1]:9093", "u")),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    """One broker or several, with ports or without."""
    assert parse_address(url, "kafka", 9092) == address


@pytest.mark.parametrize(
    "url",
    [
        "kafka://",
        "kafka:///t",
        "kafka://h",
        "kafka://h/",
        "kafka://h/a/b",
        "kafka://h/..",
        "http://h/t",
        "kafka://h:x/t",
    ],
)
def test_what_is_no_address(url: str) -> None:
    """Said so, with the form it should have."""
    with pytest.raises(UsageError, match="no "):
        parse_address(url, "kafka", 9092)


def test_a_password_has_no_place_in_an_address() -> None:
    """It would stand in the list of processes."""
    with pytest.raises(UsageError) as raised:
        parse_address("kafka://user:secret@host/topic", "kafka", 9092)
    assert "secret" not in str(raised.value)
    assert "--config" in str(raised.value)


def test_settings(tmp_path: Path) -> None:
    """Names and values; a value may hold anything behind the first equals sign."""
    file = tmp_path / "client.properties"
    file.write_text("# comment\n\nsasl.password = a=b \nsecurity.protocol=SSL\n")
    assert read_settings(file, refused=OWN) == {"sasl.password": "a=b", "security.protocol": "SSL"}


@pytest.mark.parametrize(
    "text", ["no equals secret", "=secret", "a:secret=", "a=1\na=secret", *(f"{name}=secret" for name in OWN)]
)
def test_wrong_settings_are_named_by_line(tmp_path: Path, text: str) -> None:
    """Never with what they say."""
    file = tmp_path / "client.properties"
    file.write_text(text)
    with pytest.raises(InputError) as raised:
        read_settings(file, refused=OWN)
    assert raised.value.where == f"{file}:{len(text.splitlines())}"
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "headers", [None, [], [("trace", b"x")], [*HEADERS[:6], ("content-type", b"application/cloudevents+json")]]
)
def test_structured_mode_is_the_value(headers: Headers | None) -> None:
    """Untouched."""
    assert record_of(b'{"a": 1}', headers) == b'{"a": 1}'


def test_binary_mode_is_put_together() -> None:
    """The same event as in structured mode: same identity, same digest."""
    events, rejects = decoded(record_of(b'{"tokens": 0.10}', HEADERS))
    whole = {name.removeprefix("ce_"): text.decode() for name, text in HEADERS if name.startswith("ce_")}
    same, _ = decoded(json.dumps(whole)[:-1].encode() + b', "data": {"tokens": 0.10}}')
    assert not rejects
    assert (events.id, events.subject, events.source) == (["one"], ["acme"], ["/api"])
    assert events.key.tolist() == same.key.tolist()
    assert events.digest.tolist() == same.digest.tolist()


@pytest.mark.parametrize(
    ("value", "changed", "reason"),
    [
        (b'{"a":1},"subject":"other"', {}, Reason.BAD_FIELD),
        (b"\x00\x01", {}, Reason.BAD_FIELD),
        (b"{}", {"ce_id": b"\xff"}, Reason.BAD_ENCODING),
        (b"{}", {"ce_id": b""}, None),
        (b"{}", {"ce_subject": b""}, Reason.MISSING_FIELD),
        (b"{}", {"ce_data": b"x", "ce_id": b'quote " and \\ stay'}, None),
        (None, {}, None),
    ],
)
def test_binary_mode_never_makes_another_event(
    value: bytes | None, changed: dict[str, bytes], reason: Reason | None
) -> None:
    """What is not one JSON value cannot reach over into the attributes; what is not text is set aside."""
    record = record_of(value, list((dict(HEADERS) | changed).items()))
    events, rejects = decoded(record)
    assert [reject.reason for reject in rejects] == ([reason] if reason else [])
    if not reason:
        assert events.subject == ["acme"]
        assert changed.get("ce_id", b"one").decode() in events.id[0]


def test_a_message_without_a_value_is_set_aside() -> None:
    """A tombstone is an empty record, not nothing."""
    _, rejects = decoded(record_of(None, None))
    assert [reject.reason for reject in rejects] == [Reason.BAD_RECORD]


def test_partitions_of_a_topic_share_a_source_name() -> None:
    """An event without a source is one event in whichever partition it comes; without an id, it is one for each place."""
    bare = b'{"specversion":"1.0","id":"x","type":"t","subject":"a","time":"2026-01-01T00:00:00Z"}'
    events, _ = decoded(bare, source="kafka:t")
    assert events.source == ["kafka:t"]
    assert decoded(bare)[0].source == ["kafka:c/t/i/0"]


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is an optional extra."""
    for name in [name for name in sys.modules if name.startswith("lineitem.adapters.kafka.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(EnvironmentProblem) as raised:
        work_of("kafka://host/topic")
    assert "pip install 'lineitem[kafka]'" in str(raised.value)


def test_an_unknown_scheme_is_named() -> None:
    """With those that are known."""
    with pytest.raises(UsageError, match="no stream") as raised:
        work_of("amqp://host/queue")
    assert "kafka://" in str(raised.value)
