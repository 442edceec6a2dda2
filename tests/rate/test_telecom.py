"""Calls: the published cases by name, the longest prefix, the edges of peak hours, and an oracle second by second."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineitem.catalog.model import CallRate, CallStep, Price
from lineitem.core.errors import InputError
from lineitem.core.reasons import Reason
from lineitem.rate.columns import Column
from lineitem.rate.price import compile_price
from lineitem.rate.quote import quote, quote_events, quote_events_explain, quote_line
from tests.rate import telecom_oracle

Document = dict[str, Any]


def telecom(**keys: Any) -> Document:
    """A price as a catalog writes it."""
    return {"model": "telecom", "currency": "EUR", **keys}


def amounts(document: Document, *seconds: int | str, time: str | None = None, to: str | None = None) -> list[str]:
    """What calls of these durations cost."""
    events: list[Document] = [{"value": str(value)} for value in seconds]
    for event in events:
        event |= ({"time": time} if time else {}) | ({"data": {"to": to}} if to else {})
    return quote_events(document, events)[0]


# --- the published cases


@pytest.mark.parametrize(
    ("first", "following", "billed"), [(30, 6, [30, 36, 66]), (60, 60, [60, 60, 120]), (1, 1, [10, 31, 61])]
)
def test_increments(first: int, following: int, billed: list[int]) -> None:
    """10, 31 and 61 seconds at 30/6, 60/60 and 1/1: begun increments are billed whole; an unanswered call is free."""
    price = telecom(rate="1", per=1, increments={"first": first, "next": following})
    assert amounts(price, 10, 31, 61, 0) == [*map(str, billed), "0"]
    assert amounts(price | {"connect_fee": "0.40"}, 0, 10) == ["0", f"{billed[0]}.4"]
    assert amounts(price | {"connect_fee": "0.40", "connect_fee_unanswered": True}, 0) == ["0.4"]


GROUPED_STEPS = [
    {"up_to": 60, "rate": "0.20", "per": 60, "increment": 60},
    {"up_to": None, "rate": "0.10", "per": 60, "increment": 1},
]


def test_connect_fee_and_steps_are_rounded_once() -> None:
    """0.40, 0.20 for the first minute, 0.10 a minute by the second, up at 4 decimals: 0.7000, not 0.7002, for 120 s."""
    price = telecom(connect_fee="0.40", steps=GROUPED_STEPS, round={"decimals": 4, "mode": "up"})
    assert amounts(price, 120, 85) == ["0.7", "0.6417"]


def test_grouped_rates_a() -> None:
    """2 a second for 900 s, then 1 a second: 1800 s cost 2700."""
    steps = [{"up_to": 900, "rate": 2, "increment": 1}, {"up_to": None, "rate": 1, "increment": 1}]
    assert amounts(telecom(per=1, steps=steps), 1800) == ["2700"]


def test_grouped_rates_b() -> None:
    """2 a second for 30 s, then 1 a second in increments of a minute: 60 s are billed as 90 and cost 120."""
    steps = [{"up_to": 30, "rate": 2, "increment": 1}, {"up_to": None, "rate": 1, "increment": 60}]
    price = telecom(per=1, steps=steps)
    assert amounts(price, 60) == ["120"]
    [step] = quote_events_explain(price, [{"value": "60"}])
    assert step.label == "event 1: 30 at 2 per 1, 60 at 1 per 1"


@pytest.mark.parametrize(("mode", "amount"), [("up", "0.4"), ("down", "0.3"), ("half_up", "0.3")])
def test_grouped_rates_c(mode: str, amount: str) -> None:
    """0.033 a second for 10 s is 0.33, at one decimal up 0.4 and down 0.3."""
    assert amounts(telecom(rate="0.033", per=1, round={"decimals": 1, "mode": mode}), 10) == [amount]


@pytest.mark.parametrize(("model", "total"), [("graduated", "739.4"), ("volume", "279.8")])
def test_all_tier_and_top_tier(model: str, total: str) -> None:
    """1500 minutes in blocks of ten and 2048 MB: every tier its part (739.40), or all at the tier reached (279.80)."""
    minutes: Document = {"model": model, "currency": "USD", "transform": {"divide_by": "10", "round": "up"}}
    minutes |= {"tiers": [{"up_to": "100", "unit_price": "1"}, {"up_to": None, "unit_price": "0.5"}]}
    mbytes: Document = {"model": model, "currency": "USD"}
    mbytes |= {"tiers": [{"up_to": "1024", "unit_price": "0.5"}, {"up_to": None, "unit_price": "0.1"}]}
    assert Decimal(quote(minutes, ["1500"])[0]) + Decimal(quote(mbytes, ["2048"])[0]) == Decimal(total)


def paris(mode: str, **keys: Any) -> Document:
    """0.10 a minute from 8 to 18, 0.04 otherwise."""
    peak = {"hours": [["08:00", "18:00"]], "mode": mode}
    return telecom(rate="0.10", off_peak_rate="0.04", per=60, zone="Europe/Paris", peak=peak, **keys)


@pytest.mark.parametrize(("mode", "amount"), [("split", "4.2"), ("answer", "6")])
def test_a_call_over_the_end_of_peak_hours(mode: str, amount: str) -> None:
    """Answered in Paris at 17:30 for an hour: 4.20 split at 18:00, 6.00 at the rate of the answer. One event, one charge."""
    assert amounts(paris(mode), 3600, time="2026-03-02T17:30:00+01:00") == [amount]


def test_both_legs_are_shown() -> None:
    """The working of the one charge names what is billed at which rate."""
    [step] = quote_events_explain(paris("split"), [{"value": "3600", "time": "2026-03-02T16:30:00Z"}])
    assert step.label == "event 1: 1800 at 0.1 per 60 peak, 1800 at 0.04 per 60 off-peak"
    assert (step.unit_price, step.flat_price, step.amount) == (None, None, Fraction("4.2"))


# --- whom the call goes to

TABLE = telecom(
    destination="data.to",
    per=60,
    increments={"first": 60, "next": 60},
    connect_fee="1",
    rates=[
        {"prefix": "33", "name": "France", "rate": "10"},
        {"prefix": "336", "rate": "20", "increments": {"first": 1, "next": 1}, "connect_fee": "0"},
        {
            "prefix": "44",
            "steps": [{"up_to": 60, "rate": "5", "increment": 60}, {"up_to": None, "rate": "6", "increment": 6}],
        },
    ],
)


@pytest.mark.parametrize(
    ("to", "amount"),
    [
        ("33123", "11"), ("+33123", "11"), ("0033123", "11"), ("+33 1-2.3", "11"), ("33", "11"),
        ("33612", "10"), ("+336", "10"), ("4420", "6"),
    ],
)  # fmt: skip
def test_the_longest_prefix_wins(to: str, amount: str) -> None:
    """However the number is written; a row says only what differs from the price."""
    assert amounts(TABLE, 30, to=to) == [amount]


def charge_of(document: Document, numbers: list[object]) -> tuple[list[int], dict[int, tuple[Reason, str]]]:
    """Charges (of 60 s) and flaws of events with these numbers."""
    from lineitem.catalog.price_doc import parse_price

    price, problems = parse_price(document, standalone=True)
    assert price is not None, problems
    kernel = compile_price(price, 0).charge
    assert kernel is not None
    columns = {path: Column(numbers) for path in kernel.inputs}
    charges, flaws = kernel.charges(np.full(len(numbers), 60), np.zeros(len(numbers), np.int64), columns)
    return charges.tolist(), {row: (flaw.reason, flaw.text) for row, flaw in flaws.items()}


def test_a_number_without_a_row_has_no_price() -> None:
    """Never a zero: no row is `no_price`, no number is a missing or a bad value; neighbours are charged."""
    numbers: list[object] = ["4915", "33123", None, "", "sip:a", 33123, True, {"a": 1}, "+", "00", "3", "33x"]
    charges, flaws = charge_of(TABLE, numbers)
    assert [row for row, charge in enumerate(charges) if charge] == [1, 5]
    assert {row: reason for row, (reason, _) in flaws.items()} == {
        0: Reason.NO_PRICE, 2: Reason.MISSING_VALUE, 3: Reason.MISSING_VALUE, 4: Reason.BAD_VALUE, 6: Reason.BAD_VALUE,
        7: Reason.BAD_VALUE, 8: Reason.BAD_VALUE, 9: Reason.BAD_VALUE, 10: Reason.NO_PRICE, 11: Reason.BAD_VALUE,
    }  # fmt: skip
    assert flaws[0][1] == "data.to is '4915', and no prefix of the rates matches"
    texts: list[object] = [number for number in numbers if isinstance(number, str)]
    assert charge_of(TABLE, texts)[1] == {
        at: flaws[numbers.index(text)] for at, text in enumerate(texts) if numbers.index(text) in flaws
    }


def test_a_row_for_all_others() -> None:
    """The empty prefix matches every number, but not what is none."""
    document = TABLE | {"rates": [*TABLE["rates"], {"prefix": "", "rate": "99"}]}
    charges, flaws = charge_of(document, ["4915", "33123", "sip:a"])
    assert charges == [100 * 10**9, 11 * 10**9, 0]
    assert list(flaws) == [2]


# --- clocks


@pytest.mark.parametrize(
    ("time", "seconds", "amount"),
    [
        ("2026-03-02T18:00:00+01:00", 60, "0.04"),  # the end is excluded
        ("2026-03-02T08:00:00+01:00", 60, "0.1"),  # the start is included
        ("2026-03-02T17:59:30+01:00", 60, "0.07"),
        ("2026-03-02T07:59:00+01:00", 36_120, "60.08"),  # a minute, ten hours, a minute
        ("2026-07-02T18:00:00+02:00", 60, "0.04"),  # summer
        ("2026-03-28T17:00:00+01:00", 86_400, "97.2"),  # the night has 13 hours when the clock goes forward
        ("2026-10-24T17:00:00+02:00", 86_400, "90"),  # and 15 when it goes back
    ],
)
def test_edges_of_peak_hours(time: str, seconds: int, amount: str) -> None:
    """On the clock of the zone, to the second, over changes of the clock and midnight."""
    assert amounts(paris("split"), seconds, time=time) == [amount]


def test_hours_over_midnight_on_some_days() -> None:
    """Friday's night reaches into Saturday; Sunday's is none."""
    peak = {"hours": [["22:00", "06:00"]], "days": ["fri"]}
    price = telecom(rate="2", off_peak_rate="1", per=1, peak=peak)
    assert amounts(price, 3, time="2026-10-02T21:59:58Z") == ["4"]
    assert amounts(price, 3, time="2026-10-03T05:59:58Z") == ["5"]
    assert amounts(price, 3, time="2026-10-03T22:00:00Z") == ["3"]
    assert amounts(price, 3, time="2026-10-02T23:59:59Z") == ["6"]


def test_the_billed_time_is_cut_not_the_talk() -> None:
    """At 60/60 a call of 5 s from 17:59:30 on is billed to 18:00:30, half of it off-peak."""
    assert amounts(paris("split", increments={"first": 60, "next": 60}), 5, time="2026-03-02T16:59:30Z") == ["0.07"]


def test_a_call_too_long_to_be_cut() -> None:
    """31 days are split, more are set aside; at the rate of the answer any length has a price."""
    month = 31 * 86_400
    assert amounts(paris("answer"), month + 1, time="2026-03-02T16:30:00Z") == ["4464.001666667"]
    line = {"id": 1, "price": paris("split"), "events": [{"value": month + 1, "time": "2026-03-02T16:30:00Z"}]}
    assert "31 days" in quote_line(line)["error"]["what"]
    assert amounts(paris("split"), month, time="2026-01-01T00:00:00Z") == [str(31 * (60 + Decimal("33.6")))]


def test_peak_hours_ask_for_a_time() -> None:
    """A quote without one is refused, not worked out for 1970."""
    line = {"id": 1, "price": paris("split"), "events": ["60"]}
    assert quote_line(line)["error"]["where"] == "events[0].time"
    assert quote_line(line | {"events": []})["amounts"] == []


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_ends_of_time_have_a_clock(time: str) -> None:
    """No year that can be written fails."""
    assert amounts(paris("split"), 60, time=time) == ["0.04"]


# --- laws


def second_by_second(price: Price, seconds: int, number: str, time_us: int) -> Fraction | None:
    """Bill one second after the other until the increments cover the call."""
    row = telecom_oracle.row_of(price, number)
    if row is None:
        return None
    total = Fraction(row.connect_fee or 0) if seconds or price.connect_fee_unanswered else Fraction(0)
    second = 0
    while second < seconds:
        step = next(one for one in row.steps if one.up_to is None or second < one.up_to)
        for _ in range(int(step.increment)):
            peak = price.peak
            at_us = time_us if peak is not None and peak.mode == "answer" else time_us + second * 10**6
            rate = (
                step.rate
                if peak is None or telecom_oracle.is_peak(peak, price.zone or "UTC", at_us)
                else step.off_peak_rate
            )
            assert rate is not None
            total += Fraction(rate) / Fraction(step.per)
            second += 1
    return total


@given(
    telecom_oracle.telecoms(whole=True),
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["33612", "+331", "0044", "4930"]), telecom_oracle.TIMES_US),
             min_size=1, max_size=4),
)  # fmt: skip
@settings(max_examples=2 * settings().max_examples)
def test_a_charge_is_the_sum_of_its_seconds(price: Price, calls: list[tuple[int, str, int]]) -> None:
    """Each billed second at the rate of its step and of the wall clock, rounded once at the end."""
    calls = [(seconds, number, time_us // 10**6 * 10**6) for seconds, number, time_us in calls]
    kernel = compile_price(price, 0).charge
    assert kernel is not None
    columns = {path: Column([number for _, number, _ in calls]) for path in kernel.inputs}
    times = np.array([time_us for _, _, time_us in calls], dtype=np.int64)
    charges, flaws = kernel.charges(np.array([seconds for seconds, _, _ in calls]), times, columns)
    for at, call in enumerate(calls):
        expected = second_by_second(price, *call)
        assert (expected is None) == (at in flaws)
        if expected is not None:
            from lineitem.catalog.telecom import ROUND_DEFAULT

            found = Fraction(int(charges[at]), 10**kernel.scale)
            assert found == telecom_oracle.rounded(expected, price.round or ROUND_DEFAULT)


def rate(**changes: Any) -> CallStep:
    """One step to the end of the call."""
    return CallStep(**({"up_to": None, "rate": Decimal(1), "per": Decimal(60), "increment": Decimal(1)} | changes))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rates": (CallRate("", ()),)},
        {"rates": (CallRate("33", (rate(),)),)},
        {"rates": (CallRate("", (rate(up_to=Decimal(60)),)),)},
        {"rates": (CallRate("", (rate(off_peak_rate=Decimal(1)),)),)},
        {"rates": (CallRate("", (rate(rate=Decimal(-1)),)),)},
        {"rates": (CallRate("", (rate(increment=Decimal(0)),)),)},
    ],
)
def test_terms_with_a_gap_do_not_compile(fields: dict[str, Any]) -> None:
    """What the catalog would refuse is refused here too."""
    with pytest.raises(InputError) as caught:
        compile_price(Price("p", "m", "telecom", "EUR", **fields), 0)
    assert caught.value.where == "price p"


def test_the_clock_of_a_far_zone() -> None:
    """A day that a zone left out is no time at all: Samoa went from the 29th to the 31st of December 2011."""
    peak = {"hours": [["00:00", "24:00"]], "days": ["fri"]}
    price = telecom(rate="1", off_peak_rate="0", per=1, zone="Pacific/Apia", peak=peak)
    skipped = datetime(2011, 12, 30, 9, 0, tzinfo=UTC).isoformat()
    assert amounts(price, 7200, time=skipped) == ["0"]
