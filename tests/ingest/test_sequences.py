"""Sequence numbers: what is read as one, and that ranges say what sets of numbers say."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.limits import SEQUENCE_MAX
from lineitem.ingest import sequences
from lineitem.ingest.events import Sighting
from lineitem.ingest.sequences import BLOCK_BITS, NONE, UNREADABLE, Sightings, common, joined, multirange, without
from tests.ingest.samples import decode_all, line

EDGE = 1 << BLOCK_BITS
NUMBERS = st.one_of(st.integers(0, 20), st.integers(EDGE - 4, EDGE + 4), st.integers(SEQUENCE_MAX - 3, SEQUENCE_MAX))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("1", 1), ("0", 0), ("007", 7), (str(SEQUENCE_MAX), SEQUENCE_MAX), ("0" * 30 + "12", 12), (12, 12),
        (None, NONE), ("", NONE),
        (str(SEQUENCE_MAX + 1), UNREADABLE), (SEQUENCE_MAX + 1, UNREADABLE), ("-1", UNREADABLE), (-1, UNREADABLE),
        ("+1", UNREADABLE), (" 1", UNREADABLE), ("1.0", UNREADABLE), ("0x1A", UNREADABLE), ("1_000", UNREADABLE),
        ("٣", UNREADABLE), ("²", UNREADABLE), ("\ud800", UNREADABLE), ("2026-11-01T00:00:00Z", UNREADABLE),
        (True, UNREADABLE), (Decimal("1.5"), UNREADABLE), ([1], UNREADABLE), ({}, UNREADABLE),
    ],
)  # fmt: skip
def test_what_is_a_number(value: Any, wanted: int) -> None:
    """Decimal digits or a JSON integer; whatever its neighbours are, it reads the same."""
    assert sequences.number(value) == wanted
    for neighbours in (["5"], [None, "5"], ["x"], [7], ["5", ""]):
        found = sequences.numbers([*neighbours, value])
        assert found is not None
        assert found[-1] == wanted


def test_none_of_a_batch() -> None:
    """Nothing is kept where no event has a sequence, so that those without one cost nothing."""
    assert sequences.numbers([None, None]) is None
    assert sequences.numbers(["", None]) is None
    assert sequences.numbers([]) is None
    events, _ = decode_all("cloudevents", line())
    assert events.sequence is None
    assert sequences.sightings(events, []) is None


def test_only_integers_are_counted() -> None:
    """A sequence of another declared type may look like a number and is none."""
    found = sequences.numbers(["1", "2", "3", None], ["Integer", None, "Timestamp", "Timestamp"])
    assert found is not None
    assert found.tolist() == [1, 2, UNREADABLE, NONE]


def test_a_cloud_event_has_one_and_is_the_same_event() -> None:
    """Identity and digest know nothing of it."""
    plain, _ = decode_all("cloudevents", line())
    for sequence in ("41", 41, "0041"):
        events, rejects = decode_all("cloudevents", line(sequence=sequence, sequencetype="Integer"))
        assert not rejects
        assert events.sequence is not None
        assert events.sequence.tolist() == [41]
        assert (events.key[0], events.digest[0]) == (plain.key[0], plain.digest[0])


def test_a_bad_sequence_costs_nothing() -> None:
    """Whatever stands there, the event is one; that its sequence could not be read is remembered."""
    texts = [
        b'"x"',
        b"1.5",
        b"[]",
        b"9" * 40,
        b"9" * 5000,
        b"1e400",
        b"1e99999999999999999999",
        b"-1",
        b"true",
    ]
    records = [line(id=str(n)).replace(b'"data"', b'"sequence":' + text + b',"data"') for n, text in enumerate(texts)]
    for some in (records, *([one] for one in records)):
        events, rejects = decode_all("cloudevents", b"\n".join(some))
        assert not rejects
        assert events.sequence is not None
        assert events.sequence.tolist() == [UNREADABLE] * len(some)


def test_what_is_set_aside_was_seen() -> None:
    """A bad event that still tells its producer and number; one that does not parse tells nothing."""
    records = [
        line(id="1", sequence="1", time="yesterday"),
        line(id="2", sequence="2", subject=None),
        line(id="3", sequence=3, source=None, data=[]),
        line(id="4", sequence="x", time="yesterday"),
        line(id="5", sequence="5", source="a\x01b", time="yesterday"),
        line(id="6", sequence="6", source="a\x01b", subject=None),
        line(id="7", sequence="7")[:-1],
        line(id="8", sequence="8"),
    ]
    events, rejects = decode_all("cloudevents", b"\n".join(records))
    assert events.sequence is not None
    assert events.sequence.tolist() == [8]
    assert [one.sighting for one in rejects] == [
        Sighting("/gateway", 1), Sighting("/gateway", 2), Sighting("stream-1", 3), Sighting("/gateway", UNREADABLE),
        None, None, None,
    ]  # fmt: skip
    found = sequences.sightings(events, rejects)
    assert found is not None
    assert found.sources == ["/gateway", "stream-1"]
    assert sorted(zip(found.ordinal.tolist(), found.producer.tolist(), found.number.tolist(), strict=True)) == [
        (0, 0, 1), (1, 0, 2), (2, 1, 3), (3, 0, UNREADABLE), (7, 0, 8),
    ]  # fmt: skip


def test_a_column_may_hold_it() -> None:
    """In CSV by a mapping, or by its name; no part of the payload then."""
    rows = [f"a,b,2026-09-01T00:00:00Z,{sequence},1" for sequence in ("7", "", "x")]
    text = "\n".join(["type,subject,time,line,n", *rows]).encode()
    events, _ = decode_all("csv", text, "{type: type, subject: subject, time: time, sequence: line}")
    assert events.sequence is not None
    assert events.sequence.tolist() == [7, NONE, UNREADABLE]
    assert events.data[0] == {"n": "1"}
    named, _ = decode_all("csv", text.replace(b",line,", b",sequence,"))
    assert named.sequence is not None
    assert named.sequence.tolist() == [7, NONE, UNREADABLE]


def test_parquet_and_access_logs_may_hold_it() -> None:
    """A column of integers; a field of a log line that a mapping names."""
    content = BytesIO()
    columns = {"type": ["a"], "subject": ["b"], "time": ["2026-09-01T00:00:00Z"], "sequence": [12]}
    pq.write_table(pa.table(columns), content)
    log = b'1.2.3.4 77 ann [01/Sep/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 5\n'
    for name, data, mapping, wanted in (
        ("parquet", content.getvalue(), None, 12),
        ("access-log", log, "sequence: ident", 77),
    ):
        events, rejects = decode_all(name, data, mapping)
        assert not rejects
        assert events.sequence is not None
        assert events.sequence.tolist() == [wanted]


RECORDS = st.lists(
    st.tuples(st.sampled_from(["/a", "/b", "/é"]), st.one_of(st.just(UNREADABLE), NUMBERS), st.sampled_from("ard")),
    max_size=40,
)


@given(RECORDS)
def test_ranges_say_what_sets_say(records: list[tuple[str, int, str]]) -> None:
    """By producer, what was accepted, repeated, set aside, accepted twice and unreadable; whole and block by block."""
    sources = sorted({source for source, *_ in records})
    place = {source: at for at, source in enumerate(sources)}
    found = Sightings(
        sources,
        np.array([place[source] for source, *_ in records], np.int32),
        np.arange(len(records), dtype=np.int32),
        np.array([number for _, number, _ in records], np.int64),
    )
    fates = {fate: [at for at, (*_, was) in enumerate(records) if was == fate] for fate in "ard"}
    seen = sequences.seen(found, np.array(fates["a"], np.int32), fates["d"])
    wanted: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for source, number, fate in records:
        wanted[source, fate][number] += 1
    assert [row.source for row in seen.rows] == sources
    for at, row in enumerate(seen.rows):
        kinds = [wanted[row.source, fate] for fate in "ard"]
        assert row.unreadable == sum(kind.pop(UNREADABLE, 0) for kind in kinds)
        twice = [number for number, times in kinds[0].items() if times > 1]
        blocks = [block for block in seen.blocks if block.producer == at]
        for name, numbers in zip(("accepted", "repeated", "set_aside", "doubled"), [*kinds, twice], strict=True):
            assert getattr(row, name) == multirange(joined([(number, number) for number in numbers], []))
            for block in blocks:
                part = [(number, number) for number in numbers if number >> BLOCK_BITS == block.block]
                assert getattr(block, name) == multirange(joined(part, []))
        everything = {number >> BLOCK_BITS for kind in kinds for number in kind}
        assert {block.block for block in blocks} == everything


RUNS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)).map(lambda one: (one[0], sum(one))), max_size=6)


@given(RUNS, RUNS)
def test_runs_are_sets(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    """Joined, without and common are union, difference and intersection, in as few runs as there can be."""

    def numbers(runs: list[tuple[int, int]]) -> set[int]:
        return {number for first, last in runs for number in range(first, last + 1)}

    for found, wanted in (
        (joined(some, others), numbers(some) | numbers(others)),
        (without(some, others), numbers(some) - numbers(others)),
        (common(some, others), numbers(some) & numbers(others)),
    ):
        assert numbers(found) == wanted
        assert all(before[1] + 1 < after[0] for before, after in pairwise(found))
