"""CloudEvents: every bad record is set aside with its reason, and its neighbours never notice."""

from __future__ import annotations

import json
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.errors import MappingError
from lineitem.core.ids import identity_key
from lineitem.core.limits import NESTING_MAX, RECORD_BYTES_MAX
from lineitem.core.reasons import Reason
from lineitem.ingest import formats
from lineitem.ingest.digest import record_ids
from lineitem.ingest.mapping import FieldMapping
from tests.ingest.samples import context_of, decode_all, event, line, read_all, rows


def raw_data(data: str) -> bytes:
    """An event whose data is exactly this text."""
    return line(data="@").replace(b'"@"', data.encode())


def nested(levels: int) -> bytes:
    """An event with that many levels, itself and data included."""
    return raw_data('{"x":' + "[" * (levels - 2) + "]" * (levels - 2) + "}")


BAD: list[tuple[str, bytes, Reason]] = [
    ("not JSON", b"{nope}", Reason.BAD_JSON),
    ("truncated", line()[:-5], Reason.BAD_JSON),
    ("two objects on a line", line() + line(), Reason.BAD_JSON),
    ("NaN", raw_data('{"x":NaN}'), Reason.BAD_JSON),
    ("Infinity", raw_data('{"x":-Infinity}'), Reason.BAD_JSON),
    ("leading zero", raw_data('{"x":01}'), Reason.BAD_JSON),
    ("NUL byte", raw_data('{"x":"\0"}'), Reason.BAD_JSON),
    ("broken behind a wrong version", b'{"specversion":"2.0", nope}', Reason.BAD_JSON),
    ("a number", b"12", Reason.BAD_RECORD),
    ("a text", b'"text"', Reason.BAD_RECORD),
    ("null", b"null", Reason.BAD_RECORD),
    ("bad UTF-8", line(subject="@").replace(b"@", b"\xff"), Reason.BAD_ENCODING),
    ("bad UTF-8 in an unknown name", line(zz="@").replace(b"zz", b"\xff\xfe"), Reason.BAD_ENCODING),
    ("UTF-8 surrogate", line(subject="@").replace(b"@", b"\xed\xa0\x80"), Reason.BAD_ENCODING),
    ("lone high surrogate", line(subject="@").replace(b"@", b"\\ud800"), Reason.BAD_ENCODING),
    ("lone low surrogate in data", raw_data('{"x":"\\udc00"}'), Reason.BAD_ENCODING),
    ("high surrogate before a letter", raw_data('{"x":"\\ud83d\\u0041"}'), Reason.BAD_ENCODING),
    ("too deep", nested(NESTING_MAX + 1), Reason.TOO_DEEP),
    ("far too deep", nested(5000), Reason.TOO_DEEP),
    ("too large", raw_data('{"x":"' + "a" * RECORD_BYTES_MAX + '"}'), Reason.TOO_LARGE),
    ("huge", raw_data('{"x":"' + "a" * 10_000_000 + '"}'), Reason.TOO_LARGE),
    ("no specversion", line(specversion=None), Reason.MISSING_FIELD),
    ("other specversion", line(specversion="0.3"), Reason.BAD_FIELD),
    ("specversion as a number", line(specversion=1), Reason.BAD_FIELD),
    ("no type", line(type=None), Reason.MISSING_FIELD),
    ("empty type", line(type=""), Reason.MISSING_FIELD),
    ("null subject", line(subject="@").replace(b'"@"', b"null"), Reason.MISSING_FIELD),
    ("no subject", line(subject=None), Reason.MISSING_FIELD),
    ("no time", line(time=None), Reason.MISSING_FIELD),
    ("empty time", line(time=""), Reason.MISSING_FIELD),
    ("subject as a number", line(subject=5), Reason.BAD_FIELD),
    ("id as a number", line(id=5), Reason.BAD_FIELD),
    ("source as an object", line(source={}), Reason.BAD_FIELD),
    ("time as a number", line(time=1_790_000_000), Reason.BAD_FIELD),
    ("NUL in subject", line(subject="a\0b"), Reason.BAD_FIELD),
    ("line feed in id", line(id="a\nb"), Reason.BAD_FIELD),
    ("DEL in source", line(source="a\x7fb"), Reason.BAD_FIELD),
    ("C1 control in type", line(type="a\x85b"), Reason.BAD_FIELD),
    ("long id", line(id="x" * 1025), Reason.BAD_FIELD),
    ("long subject", line(subject="é" * 1025), Reason.BAD_FIELD),
    ("data as a list", line(data=[1]), Reason.BAD_FIELD),
    ("data as a text", line(data="x"), Reason.BAD_FIELD),
    ("data_base64", line(data=None, data_base64="aGk="), Reason.BAD_FIELD),
    ("time without offset", line(time="2026-09-01T12:00:00"), Reason.BAD_TIME),
    ("date only", line(time="2026-09-01"), Reason.BAD_TIME),
    ("leap second", line(time="2016-12-31T23:59:60Z"), Reason.BAD_TIME),
    ("year 10000", line(time="10000-01-01T00:00:00Z"), Reason.BAD_TIME),
    ("year 1", line(time="0001-01-01T00:00:00Z"), Reason.TIME_OUT_OF_RANGE),
    ("year 1999", line(time="1999-12-31T23:59:59.999999Z"), Reason.TIME_OUT_OF_RANGE),
    ("year 9999", line(time="9999-12-31T23:59:59Z"), Reason.TIME_OUT_OF_RANGE),
    ("an exponent beyond decimals", raw_data('{"x":1e99999999999999999999}'), Reason.VALUE_OUT_OF_RANGE),
    ("an integer of 5000 digits", raw_data('{"x":' + "7" * 5000 + "}"), Reason.VALUE_OUT_OF_RANGE),
]


@pytest.mark.parametrize(("record", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_record_is_one_reject_and_loses_no_neighbour(record: bytes, reason: Reason) -> None:
    """One reject with its code; the events around it are what they would be without it, places included."""
    data = b"\n".join([line(id="a"), record, line(id="b"), b""])
    events, rejects = decode_all("cloudevents", data)
    assert [(reject.ordinal, reject.reason) for reject in rejects] == [(1, reason)]
    assert events.ordinal.tolist() == [0, 2]
    assert events.id == ["a", "b"]
    assert flat_positions(data) == [0, len(line(id="a")) + 1, len(line(id="a")) + len(record) + 2]


def flat_positions(data: bytes) -> list[int]:
    return [position for batch in read_all("cloudevents", data) for position in batch.positions.tolist()]


def test_all_bad_records_at_once() -> None:
    """Many kinds of bad records in one batch are each found; the detail is short enough to show."""
    records = [item for _, bad, _ in BAD for item in (bad, line())]
    events, rejects = decode_all("cloudevents", b"\n".join(records))
    assert [reject.reason for reject in rejects] == [reason for _, _, reason in BAD]
    assert [reject.ordinal for reject in rejects] == list(range(0, len(records), 2))
    assert len(events) == len(BAD)
    assert all(0 < len(reject.detail) < 200 for reject in rejects)


def test_a_good_event() -> None:
    """Every column of an event, numbers exact, the trace parent kept."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    record = raw_data('{"a":1.10,"b":19,"c":"0.1","d":{"e":[true,null]},"f":123456789012345678901234567890}')
    record = record[:-1] + f', "traceparent": "{trace}", "region": "eu"}}'.encode()
    events, rejects = decode_all("cloudevents", record)
    assert not rejects
    assert events.data == [
        {"a": Decimal("1.1"), "b": 19, "c": "0.1", "d": {"e": [True, None]}, "f": 123456789012345678901234567890}
    ]
    assert (events.id, events.source, events.type, events.subject) == (
        ["e-1"], ["/gateway"], ["llm.completion"], ["team-1"],
    )  # fmt: skip
    assert events.time_us.tolist() == [1_788_264_000_000_000]
    assert events.traceparent == [trace]
    assert bytes(events.key[0]) == identity_key("default", "/gateway", "e-1")


def test_what_is_missing_is_filled() -> None:
    """No id: the place and bytes; no source: the stream; no or null data: an empty object."""
    first, second = line(id=None, source=None, data=None), line(id="", source="", traceparent="bad")
    events, rejects = decode_all("cloudevents", first + b"\n" + second)
    assert not rejects
    assert events.id == record_ids("stream-1", [0, len(first) + 1], [first, second])
    assert events.source == ["stream-1", "stream-1"]
    assert events.data == [{}, {"tokens": 5}]
    assert events.traceparent == [None, None]


def test_limits_are_inclusive() -> None:
    """64 levels, 1024 characters, a day ahead, the year 2000 and 1 MiB are still good."""
    full = raw_data('{"x":""}')
    full = full.replace(b'""', b'"' + b"a" * (RECORD_BYTES_MAX - len(full)) + b'"')
    lines = [
        nested(NESTING_MAX), line(id="x" * 1024), line(time="2026-09-22T14:13:20Z"), line(time="2000-01-01T00:00:00Z"),
        full, raw_data('{"x":"' + "[{" * 100 + '"}'),
    ]  # fmt: skip
    events, rejects = decode_all("cloudevents", b"\n".join(lines))
    assert not rejects
    assert len(events) == len(lines)


def test_extreme_numbers_stay_exact_and_small() -> None:
    """1e400 and 1e999999999 are finite decimals; a meter decides what to make of them."""
    events, rejects = decode_all("cloudevents", raw_data('{"a":1e400,"b":1e999999999,"c":-0,"d":9223372036854775808}'))
    assert not rejects
    assert events.data == [{"a": Decimal("1e400"), "b": Decimal("1e999999999"), "c": 0, "d": 2**63}]


@given(st.integers(0, 40), st.integers(40, 60), st.integers(0, 20))
def test_long_integers_have_one_form_wherever_they_stand(before: int, digits: int, after: int) -> None:
    """An integer of many digits and the same number with an exponent have one digest, at any place of the slice."""
    pad, end = "p" * before, "q" * after
    plain = f'{{"a":"{pad}","n":{"7" * digits},"z":"{end}"}}'
    other = f'{{"a":"{pad}","n":{"7" * digits}.0,"z":"{end}"}}'
    events, rejects = decode_all("cloudevents", b"\n".join([raw_data(plain), raw_data(other)]))
    assert not rejects
    assert events.digest[0] == events.digest[1]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(NESTING_MAX - 1, NESTING_MAX + 2)), min_size=1, max_size=5))
def test_depth_is_found_wherever_a_record_stands(cases: list[tuple[int, int]]) -> None:
    """Exactly the records of more than 64 levels are set aside, whatever lies beside them."""
    lines = [nested(levels).replace(b"e-1", b"e" * (pad + 1)) for pad, levels in cases]
    _, rejects = decode_all("cloudevents", b"\n".join(lines))
    assert [reject.ordinal for reject in rejects] == [
        row for row, (_, levels) in enumerate(cases) if levels > NESTING_MAX
    ]


def test_rejects_know_the_identity_where_it_can_be_read() -> None:
    """A bad time does not hide who the event is; a bad id does."""
    _, rejects = decode_all("cloudevents", line(time="soon") + b"\n" + line(id="\0", time="soon"))
    assert [reject.key for reject in rejects] == [identity_key("default", "/gateway", "e-1"), None]


def test_a_mapping_is_refused() -> None:
    """CloudEvents have names for their attributes."""
    with pytest.raises(MappingError, match="no mapping"):
        formats.get("cloudevents").settings(BytesIO(b"{}"), FieldMapping())


def test_no_records_at_all() -> None:
    """An empty file, and one of blank lines, hold nothing and are fine."""
    for data in (b"", b"\xef\xbb\xbf", b"\n \r\n\t\n", b"[]", b"[\n]\n"):
        events, rejects = decode_all("cloudevents", data)
        assert len(events) == 0
        assert rejects == []


lines = st.lists(
    st.one_of(
        st.builds(lambda n, t: line(id=f"e{n}", data={"n": n, "t": t}), st.integers(0, 10**25), st.text(max_size=5)),
        st.sampled_from([case[1] for case in BAD if len(case[1]) < 3000]),
        st.binary(min_size=1, max_size=30).filter(lambda b: b"\n" not in b and not b.isspace() and b != b"\r"),
    ),
    min_size=1,
    max_size=20,
)


@given(lines, st.data())
def test_decoding_a_batch_is_decoding_its_parts(records: list[bytes], draw: st.DataObject) -> None:
    """Decoding is a function of the records alone: a batch gives what its splits give, in order."""
    data = line(id="first") + b"\n" + b"\n".join(records)
    raw = read_all("cloudevents", data)[0]
    context = context_of("cloudevents", data)
    decode = formats.get("cloudevents").decode
    cut = draw.draw(st.integers(0, len(raw.records)))
    events, rejects = decode(raw, context)
    halves = [type(raw)(raw.records[a:b], raw.positions[a:b], 0, 0) for a, b in ((0, cut), (cut, len(raw.records)))]
    (left, left_rejects), (right, right_rejects) = (decode(half, context) for half in halves)
    assert rows(events) == rows(left) + rows(right, cut)
    assert [(r.ordinal, r.reason, r.detail, r.key) for r in rejects] == [
        (r.ordinal + base, r.reason, r.detail, r.key)
        for base, part in ((0, left_rejects), (cut, right_rejects))
        for r in part
    ]
    assert len(events) + len(rejects) == len(raw.records)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3), min_size=1, max_size=6))
def test_arrays_and_pretty_printing_hold_the_same_events(payloads: list[dict[str, Any]]) -> None:
    """NDJSON, an array on one line, an indented array, and indented objects one after another are the same events."""
    all_events = [event(id=f"e{n}", data=payload) for n, payload in enumerate(payloads)]
    ndjson = "\n".join(map(json.dumps, all_events))
    forms = [
        json.dumps(all_events),
        json.dumps(all_events, indent=2, ensure_ascii=False),
        "\n".join(json.dumps(item, indent="\t") for item in all_events),
    ]
    expected = rows(decode_all("cloudevents", ndjson.encode())[0])
    for form in forms:
        events, rejects = decode_all("cloudevents", form.encode())
        assert not rejects
        assert rows(events) == expected


@pytest.mark.parametrize("first", [b"[]0", b"[]", b"[1, 2]", b'["', b"[{}] x"])
def test_a_first_line_of_rubbish_takes_no_other_with_it(first: bytes) -> None:
    """It looks like an array: found by ``make faults SEED=13``, where a broken line further on then swallowed all behind it."""
    good = [json.dumps(event(id=f"e{n}")).encode() for n in range(3)]
    broken = b'{"specversion":"1.0","id":131'
    events, rejects = decode_all("cloudevents", b"\n".join([first, good[0], broken, *good[1:]]) + b"\n")
    assert events.id == ["e0", "e1", "e2"]
    assert [reject.ordinal for reject in rejects] == [0, 2]


@pytest.mark.parametrize(
    "form", ["[\n{0},\n{1}\n]", "[{0}\n,{1}]", "[{0},\n{1}]", "\n\n[{0},{1}]\n\n", "[\n\n{0}\n,\n{1}\n]\n"]
)
def test_arrays_over_several_lines(form: str) -> None:
    """Wherever the lines break between the events."""
    both = [json.dumps(event(id=f"e{n}")) for n in range(2)]
    text = form.replace("{0}", both[0]).replace("{1}", both[1])
    events, rejects = decode_all("cloudevents", text.encode())
    assert (events.id, rejects) == (["e0", "e1"], [])
