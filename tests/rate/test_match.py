"""Meters over a batch: which events they count, what they read, and what is set aside."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Aggregation, Meter
from lineitem.core.reasons import Reason
from lineitem.ingest.events import KEY_DTYPE, EventColumns
from lineitem.rate.match import MeterMatch, dimension_names, match

SUM = Meter("tokens", "llm", Aggregation.SUM, "data.n", scale=2, dimensions=("data.model",))
COUNT = Meter("calls", "http", Aggregation.COUNT, scale=3, filter="data.status < 500")


def events_of(*events: tuple[str, dict[str, Any]]) -> EventColumns:
    n = len(events)
    return EventColumns(
        ordinal=np.arange(n, dtype=np.int32) * 2 + 1,  # every other record of the batch was not an event
        id=[f"e{i}" for i in range(n)],
        source=["s"] * n,
        type=[type_ for type_, _ in events],
        subject=["a"] * n,
        time_us=np.zeros(n, dtype=np.int64),
        data=[data for _, data in events],
        traceparent=[None] * n,
        key=np.frombuffer(b"".join(bytes([i + 1]) * 16 for i in range(n)), dtype=KEY_DTYPE),
        digest=np.frombuffer(b"".join(bytes([i + 101]) * 16 for i in range(n)), dtype=KEY_DTYPE),
    )


def values_of(one: MeterMatch) -> list[int]:
    return [int(value) for value in one.value.tolist()]


def test_meters_count_events_of_their_type_that_pass_their_filter() -> None:
    """Mixed types in one batch; rows keep the order of the batch, meters the order they were given in."""
    events = events_of(
        ("http", {"status": 200}),
        ("llm", {"n": 5, "model": "big"}),
        ("http", {"status": 503}),
        ("other", {}),
        ("llm", {"n": Decimal("0.5")}),
        ("http", {}),
        ("http", {"status": 404}),
    )
    matches, rejects = match(events, [SUM, COUNT])
    assert rejects == []
    tokens, calls = matches
    assert (tokens.meter, calls.meter) == (SUM, COUNT)
    assert tokens.rows.tolist() == [1, 4]
    assert values_of(tokens) == [500, 50]
    assert tokens.dimensions is not None
    assert tokens.dimension_index is not None
    assert [tokens.dimensions[i] for i in tokens.dimension_index] == [("big",), ("",)]
    assert calls.rows.tolist() == [0, 6]
    assert values_of(calls) == [1, 1]
    assert (calls.member, calls.dimensions, calls.dimension_index) == (None, None, None)
    dtypes = [column.dtype.name for column in (tokens.rows, tokens.value, tokens.dimension_index)]
    assert dtypes == ["int64", "int64", "int32"]


def test_a_meter_that_counts_nothing_is_not_there() -> None:
    """No rows, no match; an empty batch has neither matches nor rejects."""
    assert match(events_of(("http", {"status": 500}), ("http", {})), [SUM, COUNT]) == ([], [])
    assert match(events_of(), [SUM, COUNT]) == ([], [])
    assert match(events_of(("http", {})), []) == ([], [])


def test_an_event_is_accepted_whole_or_not_at_all() -> None:
    """What one meter cannot read, none counts; the neighbours stay."""
    other = Meter("requests", "llm", Aggregation.COUNT)
    events = events_of(("llm", {"n": 1}), ("llm", {}), ("llm", {"n": "x"}), ("llm", {"n": 2}))
    matches, rejects = match(events, [other, SUM])
    assert [one.rows.tolist() for one in matches] == [[0, 3], [0, 3]]
    assert [(reject.ordinal, reject.reason, reject.detail) for reject in rejects] == [
        (3, Reason.MISSING_VALUE, "meter tokens: data.n is missing or null"),
        (5, Reason.BAD_VALUE, "meter tokens: data.n is 'x', not a finite decimal number"),
    ]
    assert (rejects[0].key, rejects[0].digest) == (bytes([2]) * 16, bytes([102]) * 16)


def test_an_event_is_rejected_once_for_the_first_meter_that_fails() -> None:
    """In the order of the meters, whichever defect there is; rejects come in the order of the batch."""
    first = Meter("a", "llm", Aggregation.MAX, "data.n", scale=0)
    second = Meter("b", "llm", Aggregation.SUM, "data.m", scale=0, dimensions=("data.d",))
    events = events_of(
        ("llm", {"n": 1, "m": 1, "d": []}),
        ("llm", {"n": Decimal("0.5"), "m": None, "d": []}),
        ("x", {}),
        ("llm", {"n": 1, "m": 10**38}),
    )
    matches, rejects = match(events, [first, second])
    assert matches == []
    assert [(reject.ordinal, reject.reason) for reject in rejects] == [
        (1, Reason.BAD_VALUE), (3, Reason.TOO_PRECISE), (7, Reason.VALUE_OUT_OF_RANGE),
    ]  # fmt: skip


def test_an_expression_is_read_like_a_path() -> None:
    """Only of the events the filter lets through; a reject names meter and path, and takes the event from all meters."""
    value = "data.kind == 'gpu' && data.n > 2 ? data.n * 10 : ceil(data.n)"
    meter = Meter("load", "t", Aggregation.SUM, value, scale=0, filter="data.use != false")
    plain = Meter("calls", "t", Aggregation.COUNT)
    events = events_of(
        ("t", {"kind": "gpu", "n": 3}),
        ("t", {"kind": "cpu", "n": Decimal("2.01")}),
        ("t", {"kind": "gpu", "n": "nonsense", "use": False}),
        ("t", {"kind": "gpu"}),
        ("t", {"kind": "cpu", "n": []}),
        ("t", {"kind": "gpu", "n": Decimal("2.01")}),
    )
    (load, calls), rejects = match(events, [meter, plain])
    assert (load.rows.tolist(), values_of(load)) == ([0, 1], [30, 3])
    assert calls.rows.tolist() == [0, 1, 2]
    assert [(reject.ordinal, reject.reason, reject.detail) for reject in rejects] == [
        (7, Reason.MISSING_VALUE, "meter load: data.n is missing or null"),
        (9, Reason.BAD_VALUE, "meter load: data.n is a list, not a finite decimal number"),
        (11, Reason.TOO_PRECISE, "meter load: the value is 20.1, but the meter keeps 0 decimals"),
    ]


def test_what_a_filter_keeps_out_cannot_be_wrong() -> None:
    """Values and dimensions of events the meter does not count are not looked at."""
    meter = Meter("m", "t", Aggregation.SUM, "data.n", scale=0, dimensions=("data.d",), filter="data.use == true")
    events = events_of(("t", {"use": True, "n": 1, "d": "a"}), ("t", {"use": False, "n": "x", "d": []}))
    (one,), rejects = match(events, [meter])
    assert rejects == []
    assert one.rows.tolist() == [0]


def test_values_beyond_int64_are_exact() -> None:
    """The wide path takes over by itself, and gives way again when the values are small."""
    meter = Meter("m", "t", Aggregation.LATEST, "data.n", scale=9)
    big = 12_345_678_901_234
    (wide,), _ = match(events_of(("t", {"n": big}), ("t", {"n": -1})), [meter])
    assert wide.value.dtype == object
    assert wide.value.tolist() == [big * 10**9, -(10**9)]
    (narrow,), _ = match(events_of(("t", {"n": "1.5"}), ("t", {"n": -1})), [meter])
    assert narrow.value.dtype == np.int64
    assert narrow.value.tolist() == [1_500_000_000, -1_000_000_000]


def test_unique_carries_members() -> None:
    """One unit per event; who is counted is in `member`."""
    meter = Meter("users", "t", Aggregation.UNIQUE, "data.user", scale=1)
    events = events_of(("t", {"user": "ann"}), ("t", {"user": 7}), ("t", {"user": Decimal("7.0")}), ("t", {}))
    (one,), rejects = match(events, [meter])
    assert values_of(one) == [1, 1, 1]
    assert one.member is not None
    assert one.member.dtype == KEY_DTYPE
    assert one.member[1] == one.member[2] != one.member[0]
    assert [reject.reason for reject in rejects] == [Reason.MISSING_VALUE]


def test_paths_may_lead_anywhere_in_the_event() -> None:
    """Nested data, and the attributes of the event itself."""
    meter = Meter("m", "t", Aggregation.SUM, "data.usage.n", scale=0, dimensions=("data.usage.kind", "source"))
    (one,), rejects = match(events_of(("t", {"usage": {"n": 3, "kind": "k"}}), ("t", {"usage": [1]})), [meter])
    assert one.dimensions == [("k", "s"), ("", "s")]
    assert values_of(one) == [3]
    assert [reject.detail for reject in rejects] == ["meter m: data.usage.n is missing or null"]
    assert dimension_names(meter) == ("usage.kind", "source")


def test_select_keeps_columns_together() -> None:
    """A mask takes the same rows of every column."""
    meter = Meter("m", "t", Aggregation.UNIQUE, "data.u", dimensions=("data.d",))
    (one,), _ = match(events_of(("t", {"u": 1, "d": "a"}), ("t", {"u": 2, "d": "b"})), [meter])
    part = one.select(np.array([False, True]))
    assert part.rows.tolist() == [1]
    assert part.member is not None
    assert part.dimensions is not None
    assert part.dimension_index is not None
    assert part.dimensions[part.dimension_index[0]] == ("b",)
    assert len(part.member) == len(part.value) == 1
    assert one.select(np.array([True, True])) is one


EVENTS = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.fixed_dictionaries(
        {},
        optional={
            "n": st.sampled_from([1, -2, 2**63, "3", "x", None, True, Decimal("0.5"), Decimal("0.125")]),
            "d": st.sampled_from(["x", "y", 1, None, True, []]),
            "e": st.sampled_from(["x", 2]),
        },
    ),
)
METERS = [
    Meter("m1", "a", Aggregation.SUM, "data.n", scale=1, dimensions=("data.d", "data.e", "data.n")),
    Meter("m2", "a", Aggregation.COUNT, scale=0, filter="data.n > 0", dimensions=("data.e",)),
    Meter("m3", "b", Aggregation.UNIQUE, "data.n", scale=0, filter="data.e == 2"),
    Meter("m4", "b", Aggregation.MAX, "data.n", scale=9, filter="data.d in ['x', 1]", dimensions=("data.d",)),
]


def content(matches: Sequence[MeterMatch], rows_from: int = 0) -> list[tuple[Any, ...]]:
    """Every counted row as a tuple that does not depend on how the batch was cut."""
    found = []
    for one in matches:
        for i, row in enumerate(one.rows.tolist()):
            member = None if one.member is None else one.member[i].tobytes()
            texts = None
            if one.dimensions is not None and one.dimension_index is not None:
                texts = one.dimensions[one.dimension_index[i]]
            found.append((row + rows_from, one.meter.id, values_of(one)[i], member, texts))
    return sorted(found, key=lambda row: row[:2])


@given(st.lists(EVENTS, max_size=10))
def test_a_batch_is_read_as_its_events_one_by_one(events: list[tuple[str, dict[str, Any]]]) -> None:
    """Batching never changes what an event counts for, nor which event is set aside and why."""
    together, rejects = match(events_of(*events), METERS)
    alone: list[tuple[Any, ...]] = []
    alone_rejects = []
    for i, event in enumerate(events):
        found, refused = match(events_of(event), METERS)
        alone += content(found, i)
        alone_rejects += [(2 * i + 1, reject.reason, reject.detail) for reject in refused]
    assert content(together) == sorted(alone, key=lambda row: row[:2])
    assert [(reject.ordinal, reject.reason, reject.detail) for reject in rejects] == alone_rejects
    counted = {row for one in together for row in one.rows.tolist()}
    assert not counted & {(reject.ordinal - 1) // 2 for reject in rejects}
