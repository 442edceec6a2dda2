"""From usage to line items: however batches cut it, quantities sum to the fold and amounts to what the fold costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Aggregation, Itemize, Meter, Price, Tier
from lineitem.catalog.snapshot import PriceRow
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.folds import FOLDS, FoldState
from lineitem.rate.itemize import Rows, TargetState, Waiting, itemize, post
from lineitem.rate.price import compile_price
from tests.rate.oracle import amount_nano

HOUR_US = 3_600_000_000
TARGETS = 3
TIERS = (Tier(Decimal(5), Decimal("0.333333333333"), Decimal(2)), Tier(None, Decimal("0.1"), Decimal(1)))
MODELS = {
    "per_unit": {"unit_price": Decimal("0.0000000005")},
    "graduated": {"tiers": TIERS},
    "volume": {"tiers": TIERS},
    "package": {"package_size": Decimal(3), "package_price": Decimal("1.1")},
}


class Reading(NamedTuple):
    """One event of one target."""

    target: int
    time_us: int
    value: int
    tag_set: int
    version: int


_VALUES = st.integers(-20, 20) | st.sampled_from([2**62, -(2**62), 10**30])
READINGS = st.lists(
    st.builds(Reading, st.integers(0, TARGETS - 1), st.integers(0, 5 * HOUR_US), _VALUES, st.integers(0, 1), st.integers(0, 1)),
    min_size=1, max_size=14,
)  # fmt: skip


def row_of(aggregation: str, model: str, window: str) -> PriceRow:
    meter = Meter("m", "t", Aggregation(aggregation), None if aggregation == "count" else "data.v", scale=0)
    price = Price("p", "m", model, "USD", itemize=Itemize(window), **MODELS[model])  # type: ignore[arg-type]
    return PriceRow(1, 1, "b", 1, price, meter, "")


def usage_of(row: PriceRow, readings: Sequence[tuple[int, Reading]]) -> tuple[PriceUsage, np.ndarray]:
    """Usage in the order itemize wants it, and each row's target; the first of each pair is the event's number."""
    ordered = sorted(readings, key=lambda pair: (pair[1].target, pair[1].time_us))
    number = np.array([event for event, _ in ordered], dtype=np.int64)
    one = [reading for _, reading in ordered]
    target = np.array([reading.target for reading in one], dtype=np.int64)
    values = np.array([1 if row.meter.aggregation in ("count", "unique") else r.value for r in one], dtype=object)
    zeros = np.zeros(len(one), dtype=np.int64)
    usage = PriceUsage(
        row, np.array([r.version for r in one], np.int32), number, target.astype(np.int32),
        values if any(abs(value) >= 2**63 for value in values) else values.astype(np.int64),
        np.array([r.value.to_bytes(16, "big", signed=True) for r in one], "V16"), None,
        np.array([r.tag_set for r in one], np.int32), zeros.astype(np.int32), zeros, zeros + 10 * HOUR_US,
        np.array([r.time_us for r in one], np.int64), np.array([event.to_bytes(16, "big") for event, _ in ordered], "V16"),
    )  # fmt: skip
    return usage, target


def folded(aggregation: str, readings: list[tuple[int, Reading]]) -> int:
    values = [reading.value for _, reading in readings]
    if aggregation == "latest":
        return max(readings, key=lambda pair: (pair[1].time_us, pair[0]))[1].value
    of_all: dict[str, Callable[[list[int]], int]] = {
        "sum": sum, "max": max, "count": len, "unique": lambda every: len(set(every)),
    }  # fmt: skip
    return of_all[aggregation](values)


def _taken(state: TargetState, present: np.ndarray) -> TargetState:
    inner = FoldState(*(getattr(state.fold, one.name)[present] for one in fields(FoldState)))
    return TargetState(
        state.events[present],
        state.last_event_us[present],
        inner,
        state.posted_quantity[present],
        state.posted_nano[present],
        state.charge[present],
        state.posted_charge[present],
        state.settled[present],
    )


def _put(state: TargetState, present: np.ndarray, after: TargetState) -> TargetState:
    def merged(before: np.ndarray, new: np.ndarray) -> np.ndarray:
        column = before.astype(new.dtype if new.dtype == object else before.dtype)
        column[present] = new
        return column

    inner = FoldState(
        *(merged(getattr(state.fold, one.name), getattr(after.fold, one.name)) for one in fields(FoldState))
    )
    names = ("events", "last_event_us", "posted_quantity", "posted_nano", "charge", "posted_charge", "settled")
    return TargetState(
        fold=inner, base=state.base, **{name: merged(getattr(state, name), getattr(after, name)) for name in names}
    )


def run(
    row: PriceRow, batches: list[list[tuple[int, Reading]]], now_us: int
) -> tuple[TargetState, list[Rows], list[Waiting]]:
    state, price = TargetState.empty(TARGETS), compile_price(row.price, row.meter.quantity_scale)
    members: set[tuple[int, int]] = set()
    rows, waiting = [], []
    for batch in batches:
        usage, target = usage_of(row, batch)
        fresh = []
        for at in range(len(target)):
            member = (int(target[at]), int.from_bytes(bytes(usage.member[at]), "big", signed=True))  # type: ignore[index]
            fresh.append(member not in members)
            members.add(member)
        present = np.unique(target)  # only targets that have usage are locked, and so given
        local = np.searchsorted(present, target)
        done, waits, after = itemize(
            usage, local, _taken(state, present), price, now_us, np.array(fresh, dtype=np.bool_)
        )
        state = _put(state, present, after)
        done.target, waits.target = present[done.target], present[waits.target]
        rows.append(done)
        waiting.append(waits)
    return state, rows, waiting


def _check(
    row: PriceRow, numbered: list[tuple[int, Reading]], batches: list[list[tuple[int, Reading]]], now_us: int
) -> None:
    state, rows, waiting = run(row, batches, now_us)
    items = [
        i
        for part in rows
        for i in zip(part.target.tolist(), part.quantity.tolist(), part.amount_nano.tolist(), strict=True)
    ]
    waits_of = [i for part in waiting for i in zip(part.target.tolist(), part.quantity.tolist(), strict=True)]
    for target in range(TARGETS):
        mine = [pair for pair in numbered if pair[1].target == target]
        quantity = sum(q for t, q, _ in items if t == target)
        amount = sum(a for t, _, a in items if t == target)
        waits = sum(q for t, q in waits_of if t == target)
        assert int(state.events[target]) == len(mine)
        assert (int(state.posted_quantity[target]), int(state.posted_nano[target])) == (quantity, amount)
        if not mine:
            assert (quantity, amount, waits) == (0, 0, 0)
            continue
        assert quantity + waits == folded(row.meter.aggregation, mine) == int(state.fold.quantity[target])
        assert amount == amount_nano(row.price, quantity, row.meter.quantity_scale)


@pytest.mark.parametrize("window", ["each", "hour"])
@pytest.mark.parametrize("aggregation", [one.value for one in FOLDS])
def test_batches_come_to_the_fold(aggregation: str, window: str) -> None:
    """Line items plus what waits sum to the fold's quantity, and what is posted costs what each model says."""
    rows = [row_of(aggregation, model, window) for model in MODELS]

    @given(READINGS, st.lists(st.integers(0, 14), max_size=3), st.sampled_from([0, 2 * HOUR_US + 5, 9 * HOUR_US]))
    def holds(readings: list[Reading], cuts: list[int], now_us: int) -> None:
        numbered = list(enumerate(readings, start=1))
        bounds = [0, *sorted(min(cut, len(numbered)) for cut in cuts), len(numbered)]
        batches = [numbered[a:b] for a, b in pairwise(bounds) if b > a]
        for row in rows:  # drawing usage costs more than rating it, so every model gets the same
            _check(row, numbered, batches, now_us)

    holds()


@given(READINGS)
def test_what_waits_is_posted_later_at_the_same_price(readings: list[Reading]) -> None:
    """Windows posted once they are over come to the same amount as if they had been over at once."""
    row = row_of("sum", "graduated", "hour")
    price = compile_price(row.price, 0)
    numbered = list(enumerate(readings, start=1))
    state, _, (waits,) = run(row, [numbered], 0)
    _, after = post(price, waits.target, waits.quantity, waits.charge, state)
    at_once, _, (none,) = run(row, [numbered], 9 * HOUR_US)
    assert len(none.target) == 0
    assert after.posted_quantity.tolist() == at_once.posted_quantity.tolist()
    assert after.posted_nano.tolist() == at_once.posted_nano.tolist()


def _windows(part: Rows | Waiting, start_us: np.ndarray) -> list[tuple[int, int, int, int]]:
    columns = (part.target, start_us // HOUR_US, part.tag_set, part.version_key)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(READINGS)
def test_each_event_is_one_line_item_and_each_window_one(readings: list[Reading]) -> None:
    """`each` makes a line item an event; a window makes one for all events of one target, tag set and version in it."""
    numbered = list(enumerate(readings, start=1))
    _, (rows,), _ = run(row_of("sum", "per_unit", "each"), [numbered], 0)
    assert sorted(rows.event.tolist()) == [number for number, _ in numbered]
    _, (rows,), (waiting,) = run(row_of("sum", "per_unit", "hour"), [numbered], 2 * HOUR_US)
    windows = {(r.target, r.time_us // HOUR_US, r.tag_set, r.version) for r in readings}
    found = _windows(rows, rows.time_us) + _windows(waiting, waiting.start_us)
    assert sorted(found) == sorted(windows)
    assert {us // HOUR_US for us in rows.time_us.tolist()} <= {0, 1}
    for at, (_, reading) in enumerate(sorted(numbered, key=lambda pair: (pair[1].target, pair[1].time_us))):
        assert (waiting.usage[at] >= 0) == (reading.time_us // HOUR_US >= 2)


def test_a_fixed_due_is_posted_once() -> None:
    """The first tier's flat price stands in a line of its own, with the target's first batch, and never again."""
    row = row_of("sum", "graduated", "each")
    first, second = [(1, Reading(0, 5, 1, 0, 0))], [(2, Reading(0, 6, 1, 0, 0)), (3, Reading(1, 6, 0, 0, 0))]
    _, rows, _ = run(row, [first, second], 0)
    assert [part.recurring.tolist() for part in rows] == [[True, False], [False, True, False]]
    assert Fraction(int(rows[0].amount_nano[0]), 10**9) == 2
