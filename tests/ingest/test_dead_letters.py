"""Envelopes of dead letters decode as their records did where they came in; patches change what they say and no more."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.errors import UsageError
from lineitem.core.reasons import Reason
from lineitem.ingest import formats
from lineitem.ingest.digest import canonical_tree
from lineitem.ingest.events import BatchLimits, DecodeContext, RawRecords
from lineitem.ingest.formats._amend import Changes, Unfit
from lineitem.ingest.formats._rows import grammar
from lineitem.ingest.formats.dead_letters import Envelope, Fix, mended, opened

NOW_US = 1_793_577_600_000_000
STREAMS: list[dict[str, Any]] = [
    {"stream": "events", "format": "cloudevents", "settings": {}},
    {
        "stream": "rows",
        "format": "csv",
        "settings": formats.get("csv").settings(BytesIO(b"id,type,subject,time\n"), None),
    },
]
GOOD = b'{"specversion":"1.0","type":"t","subject":"s","time":"2026-01-01T00:00:00Z","data":{"v":1.50}}'
RECORDS = [
    [GOOD, GOOD.replace(b'"t"', b"null"), b"broken", b"\xff"],
    [b"r-1,t,s,2026-01-01T00:00:00Z", b"only,two", b'"'],
]


def fix(**patch: Any) -> Fix:
    return Fix("ana", "because", NOW_US, patch)


def batch(envelopes: list[Envelope]) -> RawRecords:
    records = pa.array([one.encoded() for one in envelopes], pa.binary())
    return RawRecords(records, np.arange(len(envelopes)), 0, len(envelopes))


def context(stream: str, settings: Any) -> DecodeContext:
    return DecodeContext("n", stream, NOW_US, settings)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 2**62)), max_size=12))
def test_an_unpatched_letter_decodes_as_it_did_where_it_came_in(chosen: list[tuple[int, int, int]]) -> None:
    """Same event, same identity, or same reason, in the order of the batch, whatever streams and formats are mixed."""
    places = [(source, RECORDS[source][which % len(RECORDS[source])], at) for source, which, at in chosen]
    envelopes = [Envelope("00", 1, source, at, raw, ()) for source, raw, at in places]
    events, rejects = formats.get("dead-letters").decode(batch(envelopes), context("q", {"sources": STREAMS}))
    assert events.ordinal.tolist() == sorted(events.ordinal.tolist())
    found = {int(at): row for row, at in enumerate(events.ordinal)}
    failed = {one.ordinal: one for one in rejects}
    assert found.keys() | failed.keys() == set(range(len(places)))
    for at, (source, raw, position) in enumerate(places):
        stream = STREAMS[source]
        one = RawRecords(pa.array([raw], pa.binary()), np.array([position]), 0, 0)
        alone, lost = formats.get(stream["format"]).decode(one, context(stream["stream"], stream["settings"]))
        if lost:
            assert replace(failed[at], ordinal=0) == lost[0]
        else:
            row = found[at]
            assert (events.key[row], events.digest[row]) == (alone.key[0], alone.digest[0])
            assert (events.id[row], events.source[row], events.data[row]) == (
                alone.id[0],
                alone.source[0],
                alone.data[0],
            )


@given(st.binary(max_size=60), st.integers(0, 2**62), st.text(max_size=20))
def test_an_envelope_opens_to_what_was_put_in(raw: bytes, position: int, why: str) -> None:
    """Any bytes, any reason."""
    envelope = Envelope("ab", 3, 1, position, raw, [Fix("ana", why, 5, {"set": {"id": "1"}})])
    assert opened(envelope.encoded()) == envelope


def test_a_patch_that_does_not_fit_sets_the_record_aside() -> None:
    """It cannot be recorded by the commands; one that is there all the same stops nobody else."""
    envelopes = [Envelope("00", 1, 0, 0, b"broken", [fix(set={"id": "1"})]), Envelope("00", 1, 0, 0, GOOD, ())]
    events, rejects = formats.get("dead-letters").decode(batch(envelopes), context("q", {"sources": STREAMS}))
    assert [(one.ordinal, one.reason) for one in rejects] == [(0, Reason.BAD_RECORD)]
    assert events.ordinal.tolist() == [1]


def test_fixes_add_up_until_one_starts_afresh() -> None:
    """In order; a whole record replaces what came before it."""
    inner = formats.get("cloudevents")

    def after(*fixes: Fix) -> Any:
        return json.loads(mended(inner, b'{"id":"a","data":{"v":1}}', fixes, {}))

    assert after(fix(set={"id": "b"}), fix(set={"data.w": "2"})) == {"id": "b", "data": {"v": 1, "w": 2}}
    assert after(fix(set={"id": "b"}), fix(record='{"id":"c"}')) == {"id": "c"}
    assert after(fix(record='{"id":"c"}'), fix(set={"type": "t"})) == {"id": "c", "type": "t"}
    assert after(fix(set={"id": "b"}), fix(afresh=True, remove=["data.v"])) == {"id": "a", "data": {}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data.v": "12"}, {"data": {"v": 12}}),
        ({"data.v": "many"}, {"data": {"v": "many"}}),
        ({"data.v": '"12"'}, {"data": {"v": "12"}}),
        ({"data.v": "NaN"}, {"data": {"v": "NaN"}}),
        ({"data.a.b": "true"}, {"data": {"v": None, "a": {"b": True}}}),
        ({"data": '{"w":1}'}, {"data": {"w": 1}}),
        ({"id": "12"}, {"data": {"v": None}, "id": "12"}),
        ({"subject": "a=b"}, {"data": {"v": None}, "subject": "a=b"}),
    ],
)
def test_values_below_data_are_json_and_attributes_are_texts(changes: dict[str, str], expected: Any) -> None:
    """What is no JSON is a text."""
    found = formats.get("cloudevents").amend(b'{"data":{"v":null}}', Changes(changes, ()), {})
    assert json.loads(found) == expected


NUMBERS = ["1.50", "1e-400", "-0", "123456789012345678901234567890.123456789", "1E+3", "9" * 60]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_patch_leaves_other_numbers_what_they_are(number: str) -> None:
    """Beside it, and set by it: the same value to the last digit."""
    record = f'{{"data":{{"kept":{number}}}}}'.encode()
    found = json.loads(
        formats.get("cloudevents").amend(record, Changes({"data.set": number}, ()), {}),
        parse_float=Decimal,
        parse_int=Decimal,
    )
    assert found["data"]["kept"] == found["data"]["set"] == Decimal(number)
    assert canonical_tree(found)


@pytest.mark.parametrize(
    ("record", "changes", "said"),
    [
        (b"broken", Changes({"id": "1"}, ()), "not JSON"),
        (b"\xff", Changes({"id": "1"}, ()), "not JSON"),
        (b"[1]", Changes({"id": "1"}, ()), "not an object"),
        (b'{"id":"a"}', Changes({"id.b": "1"}, ()), "not an object"),
        (b'{"id":"a"}', Changes({"data..b": "1"}, ()), "no path"),
        (b'{"id":"a"}', Changes({}, ["data.v"]), "not in this record"),
        (b'{"id":"\\ud800"}', Changes({"type": "t"}, ()), "half a character"),
        (b'{"a":' * 9000 + b"1" + b"}" * 9000, Changes({"type": "t"}, ()), "not JSON"),
        (b'{"a":1e99999999999999999999}', Changes({"type": "t"}, ()), "not JSON"),
    ],
)
def test_what_cannot_be_patched_says_why(record: bytes, changes: Changes, said: str) -> None:
    """And what to do instead."""
    with pytest.raises(Unfit, match=said):
        formats.get("cloudevents").amend(record, changes, {})


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8), min_size=1, max_size=5))
def test_a_row_reads_back_as_it_was_written(fields: list[str]) -> None:
    """Quotes, delimiters and line ends included."""
    for delimiter in (",", ";", "|"):
        assert grammar(delimiter).fields(grammar(delimiter).row(fields)) == fields


def test_rows_are_patched_by_column() -> None:
    """The others stay; a removed one is empty in CSV and null in Parquet."""
    csv = formats.get("csv")
    found = csv.amend(b'1,"a, b",c,d', Changes({"type": 'x "y"'}, ["time"]), STREAMS[1]["settings"])
    assert found == b'1,"x ""y""",c,'
    with pytest.raises(Unfit, match="it has id, type, subject, time"):
        csv.amend(b"1,2,3,4", Changes({"data.v": "1"}, ()), STREAMS[1]["settings"])
    for row in (b"1,2,3", b"\xff,2,3,4", b'"1,2,3,4'):
        with pytest.raises(Unfit, match="4 columns"):
            csv.amend(row, Changes({"id": "1"}, ()), STREAMS[1]["settings"])
    parquet = formats.get("parquet").amend(b'{"n":1.10,"who":"x"}', Changes({"who": "y"}, ["n"]), {})
    assert json.loads(parquet) == {"n": None, "who": "y"}
    with pytest.raises(Unfit, match="--record"):
        formats.get("access-log").amend(b"a line", Changes({"status": "200"}, ()), {})


def test_no_file_is_of_this_format() -> None:
    """Naming it on the command line is told so; an envelope is not patched itself."""
    format_ = formats.get("dead-letters")
    with pytest.raises(UsageError, match="no format of files"):
        format_.settings(BytesIO(b""), None)
    with pytest.raises(UsageError, match="no format of files"):
        format_.read(BytesIO(b""), 0, BatchLimits(), {})
    with pytest.raises(Unfit):
        format_.amend(b"{}", Changes({}, ()), {})
