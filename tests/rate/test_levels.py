"""Levels over time: spans, slots and windows, by hand and against sampling every instant at which something changes."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Aggregation, Meter, Price, Prorate
from lineitem.catalog.snapshot import PriceRow
from lineitem.core.period import Month, day_start_us
from lineitem.rate.levels import Holder, Part, Reading, Window, beyond, held_in, parts, seats, total
from lineitem.rate.price import compile_price
from lineitem.rate.quote import quote, quote_level, quote_line

DAY_US = 86_400_000_000
APRIL = Month(2026, 4).index
METER = Meter("seats", "seats.changed", Aggregation.TIME_WEIGHTED, "data.seats", "seat", scale=0)


def row(
    key: int = 1, prorate: Prorate | None = None, unit_price: str = "10", minimum: Decimal | None = None
) -> PriceRow:
    """A price of seats."""
    price = Price("p", "seats", "per_seat", "USD", unit_price=Decimal(unit_price), prorate=prorate, minimum=minimum)
    return PriceRow(key, key, "b", key, price, METER, "")


def at(day: str, zone: str = "UTC") -> int:
    """The start of a day."""
    return day_start_us(day, zone)


def reading(day: str, value: int, number: int = 0) -> Reading:
    """A reading at the start of a day."""
    return Reading(at(day), number.to_bytes(16, "big"), value)


def owed(one: PriceRow, *readings: Reading, zone: str = "UTC", month: int = APRIL) -> Fraction:
    """What a price in force all month comes to."""
    holder = Holder("a", None, zone, None)
    start, end = holder.bounds(month)
    held = held_in([Window(start, end, one)], sorted(readings), holder, month)[one.price_key]
    nano = total(compile_price(one.price, one.quantity_scale), held, month, start, end)
    return Fraction(nano, 10**9)


def test_the_level_span_by_span() -> None:
    """The last reading before the span, then each one that lies in it; of one instant the greater identity counts."""
    found = [
        reading("2026-03-20", 4),
        reading("2026-04-10", 7, 1),
        reading("2026-04-10", 2, 2),
        reading("2026-06-01", 9),
    ]
    assert list(parts(found, at("2026-04-01"), at("2026-05-01"))) == [
        Part(at("2026-04-01"), at("2026-04-10"), 4), Part(at("2026-04-10"), at("2026-05-01"), 2),
    ]  # fmt: skip
    assert list(parts(found, at("2026-03-01"), at("2026-03-20"))) == []
    assert list(parts([], at("2026-03-01"), at("2026-03-20"))) == []


STARTS = st.lists(st.tuples(st.integers(-40, 40), st.integers(-3, 9)), max_size=8)


@given(STARTS)
def test_spans_say_at_any_instant_what_the_readings_say(drawn: list[tuple[int, int]]) -> None:
    """Without hole or overlap from the first reading on."""
    found = sorted(Reading(time, number.to_bytes(16, "big"), value) for number, (time, value) in enumerate(drawn))
    spans = list(parts(found, 0, 30))
    for time in range(30):
        inside = [span.level for span in spans if span.start_us <= time < span.end_us]
        before = [one.value for one in found if one.time_us <= time]
        assert inside == before[-1:]


@pytest.mark.parametrize(("prorate", "amount"), [(None, 200), (Prorate.DAY, 150), (Prorate.SECOND, 150)])
def test_ten_seats_become_twenty(prorate: Prorate | None, amount: int) -> None:
    """In the middle of April."""
    assert owed(row(prorate=prorate), reading("2026-04-01", 10), reading("2026-04-16", 20)) == amount


def test_a_begun_day_counts_whole() -> None:
    """As published for a plan of 24.95: 9 days of a period of 31 are 7.24."""
    august = Month(2026, 8).index
    found = owed(
        row(prorate=Prorate.DAY, unit_price="24.95"), Reading(at("2026-08-23") + 5, bytes(16), 1), month=august
    )
    assert round(found, 2) == Fraction("7.24")


def test_a_day_of_25_hours_is_a_day_and_25_hours() -> None:
    """The clock goes back in Paris on 25 October 2026: by day 1/31, by the second 25 of 745 hours."""
    october, zone = Month(2026, 10).index, "Europe/Paris"
    day = [Reading(at("2026-10-25", zone), bytes(16), 1), Reading(at("2026-10-26", zone), bytes(16), 0)]
    assert owed(row(prorate=Prorate.DAY, unit_price="31"), *day, zone=zone, month=october) == 1
    assert owed(row(prorate=Prorate.SECOND, unit_price="745"), *day, zone=zone, month=october) == 25


def test_seats_below_zero_and_none_at_all() -> None:
    """What a month counts is clamped as a whole; a minimum is owed where there is a reading."""
    second = row(prorate=Prorate.SECOND)
    assert owed(second, reading("2026-04-01", -5), reading("2026-04-11", 10)) == Fraction(1000 - 250, 15)
    assert owed(second, reading("2026-04-01", -5)) == 0
    assert owed(second) == 0
    least = row(prorate=Prorate.SECOND, minimum=Decimal(7))
    assert owed(least) == owed(least, reading("2026-05-01", 3)) == 0
    assert owed(least, reading("2026-04-30", 0)) == 7


def test_a_day_belongs_to_the_price_in_force_where_its_first_seat_is_held() -> None:
    """A price changes at noon of the 16th: the day is owed once; a seat that comes in the afternoon pays the new price."""
    noon, holder = at("2026-04-16") + DAY_US // 2, Holder("a", None, "UTC", None)
    start, end = holder.bounds(APRIL)
    windows = [Window(start, noon, row(1, Prorate.DAY)), Window(noon, end, row(2, Prorate.DAY))]
    found = held_in(windows, [reading("2026-04-16", 4), Reading(noon + 1, bytes(16), 6)], holder, APRIL)
    assert {key: held.quantity for key, held in found.items()} == {1: 6, 2: 14 * 6}
    found = held_in(windows, [Reading(noon + 1, bytes(16), 6)], holder, APRIL)
    assert {key: held.quantity for key, held in found.items()} == {1: 0, 2: 15 * 6}
    assert [held.used for held in found.values()] == [False, True]
    assert sum(held.length_us for held in found.values()) == end - start


def test_seats_of_a_quantity() -> None:
    """What the model prices: the quantity by days, or by the length of the month."""
    start, end = Holder("a", None, "UTC", None).bounds(APRIL)
    assert seats(row(prorate=Prorate.DAY), 45, APRIL, start, end) == Fraction(3, 2)
    assert seats(row(prorate=Prorate.SECOND), 3 * (end - start), APRIL, start, end) == 3
    assert seats(row(), 7, APRIL, start, end) == 7


def test_what_a_ledger_cannot_hold() -> None:
    """As a quantity over the month, or as an amount."""
    values = np.array([1, -(10**30), 10**30, 10**20], dtype=object)
    dear = row(unit_price="10000000000")
    found = beyond(dear, compile_price(dear.price, dear.quantity_scale), values, np.full(4, 30 * DAY_US))
    assert found.tolist() == [False, True, True, True]


def test_quoting_a_level() -> None:
    """Readings with times and a month; what is counted and what that costs, exactly."""
    price = {"model": "per_seat", "currency": "USD", "unit_price": "10", "prorate": "second"}
    events = [{"value": "1", "time": "2026-03-31T00:00:00Z"}, {"value": "2", "time": "2026-04-16T00:00:00Z"}]
    assert quote_level(price, events, "2026-04") == {"quantity": "3888000", "amount": "15"}
    assert quote(price, ["10", "1.5"]) == ["100", "15"]
    hours = {"model": "per_unit", "currency": "USD", "unit_price": "0.01", "transform": {"divide_by": "3600"}}
    line = {"id": 7, "price": hours, "period": "2026-03", "timezone": "Europe/Paris", "events": events[:1]}
    assert quote_line(line) == {"id": 7, "quantity": "79200", "amount": "0.22"}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"period": "April"}, "period"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"events": ["3"]}, "events"),
        ({"events": []}, "events"),
        ({"events": [{"value": "x", "time": "2026-04-01T00:00:00Z"}]}, "events[0]"),
        ({"price": {"model": "percentage", "currency": "USD", "rate": "0.1"}}, "period"),
        ({"price": {"model": "flat", "currency": "USD", "amount": "1"}}, "period"),
    ],
)
def test_what_is_no_level_to_quote(change: dict[str, object], where: str) -> None:
    """Each says where the mistake is and what to do."""
    good = {"id": 1, "price": {"model": "per_seat", "currency": "USD", "unit_price": "10"}, "period": "2026-04",
            "events": [{"value": "1", "time": "2026-04-01T00:00:00Z"}]}  # fmt: skip
    assert quote_line(good) == {"id": 1, "quantity": "1", "amount": "10"}
    error = quote_line(good | change)["error"]
    assert (error["where"], bool(error["what"]), bool(error["do"])) == (where, True, True)
