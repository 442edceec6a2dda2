"""An independent reading of ``telecom`` prices in fractions: by the wall clock, a quarter of an hour after the other.

Peak hours of the strategies begin and end at quarters, and so do the clock changes and offsets of their zones.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from lineitem.catalog.model import CallRate, CallStep, ChargeRounding, Peak, PeakMode, Price, Rounding
from tests.rate.oracle import DECIMALS, RATES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
QUARTER_US = 900_000_000
DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NUMBERS = ("+33612345678", "0033 1 23-45.67", "(44) 20", "4930123", "33", "3", "0049305", 336123, "1")
ZONES = (
    "UTC", "Europe/Paris", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"
)  # fmt: skip


def is_peak(peak: Peak, zone: str, at_us: int) -> bool:
    """What the clock on the wall shows at an instant, held against the hours."""
    local = (EPOCH + timedelta(microseconds=at_us)).astimezone(ZoneInfo(zone))
    minute, today = local.hour * 60 + local.minute, DAY_NAMES[local.weekday()]
    yesterday = DAY_NAMES[local.weekday() - 1]
    for pair in peak.hours:
        start, end = (int(text[:2]) * 60 + int(text[3:]) for text in pair)
        if start < end and today in peak.days and start <= minute < end:
            return True
        if start >= end and ((today in peak.days and minute >= start) or (yesterday in peak.days and minute < end)):
            return True
    return False


def row_of(price: Price, number: object) -> CallRate | None:
    """The row with the longest prefix."""
    digits = "".join(char for char in str(number) if char.isdigit())
    digits = digits[2:] if digits.startswith("00") else digits
    matching = [row for row in price.rates if digits.startswith(row.prefix)]
    return max(matching, key=lambda row: len(row.prefix), default=None)


def cells(peak: Peak | None, zone: str, start_us: int, low: Fraction, high: Fraction) -> list[tuple[Fraction, bool]]:
    """The seconds from ``low`` to ``high`` of a call in pieces of at most a quarter: ``(seconds, peak)``."""
    if peak is None:
        return [(high - low, True)]
    if peak.mode is PeakMode.ANSWER:
        return [(high - low, is_peak(peak, zone, start_us))]
    found = []
    while low < high:
        at_us = start_us + floor(low * 10**6)
        end = min(Fraction((at_us // QUARTER_US + 1) * QUARTER_US - start_us, 10**6), high)
        found.append((end - low, is_peak(peak, zone, at_us)))
        low = end
    return found


def rounded(amount: Fraction, rounding: ChargeRounding) -> Fraction:
    """``amount >= 0``, rounded."""
    units = amount * 10**rounding.decimals
    whole = {Rounding.UP: ceil(units), Rounding.DOWN: floor(units)}.get(rounding.mode, floor(units + Fraction(1, 2)))
    return Fraction(whole, 10**rounding.decimals)


def charge(price: Price, value: Fraction, data: Mapping[str, Any], time_us: int) -> Fraction | None:
    """The charge of one call; None where no row matches, or it is too long to be split."""
    row = row_of(price, data["to"])
    if row is None:
        return None
    duration, low = abs(value), Fraction(0)
    amount = Fraction(row.connect_fee or 0) if duration or price.connect_fee_unanswered else Fraction(0)
    billed = []
    for step in row.steps:
        high = (
            low
            if duration <= low
            else low + ceil((duration - low) / Fraction(step.increment)) * Fraction(step.increment)
        )
        high = high if step.up_to is None else min(high, Fraction(step.up_to))
        billed.append((low, high, step))
        low = high
    if price.peak is not None and price.peak.mode is PeakMode.SPLIT and low > 31 * 86_400:
        return None
    for start, end, step in billed:
        for seconds, peak in cells(price.peak, price.zone or "UTC", time_us, start, end):
            rate = step.rate if peak else step.off_peak_rate
            assert rate is not None
            amount += seconds * Fraction(rate) / Fraction(step.per)
    result = rounded(amount, price.round or ChargeRounding(9, Rounding.HALF_UP))
    return result if value > 0 or not value else -result


@st.composite
def peaks(draw: st.DrawFn) -> Peak:
    """Peak hours: within a day, over midnight, whole days, two a day."""
    hours = draw(
        st.sampled_from(
            [(("08:00", "18:00"),), (("22:00", "06:00"),), (("00:00", "24:00"),), (("02:15", "02:45"),),
             (("08:00", "12:15"), ("13:30", "24:00"))]
        )
    )  # fmt: skip
    days = draw(st.lists(st.sampled_from(DAY_NAMES), min_size=1, unique=True))
    ordered = tuple(day for day in DAY_NAMES if day in days)
    return Peak(hours, ordered, draw(st.sampled_from(PeakMode)))


@st.composite
def steps(draw: st.DrawFn, *, has_peak: bool, whole: bool = False) -> tuple[CallStep, ...]:
    """One to three steps, each a whole number of its increments long."""
    increments = ["1", "6", "30", "60"] if whole else ["1", "6", "60", "0.5", "0.001", "100000"]
    found: list[CallStep] = []
    below = Decimal(0)
    for last in (False,) * draw(st.integers(0, 2)) + (True,):
        increment = Decimal(draw(st.sampled_from(increments)))
        up_to = None if last else below + increment * draw(st.integers(1, 12))
        off_peak = draw(DECIMALS) if has_peak else None
        found.append(
            CallStep(up_to, draw(DECIMALS), Decimal(draw(st.sampled_from([1, 7, 60, 1000]))), increment, off_peak)
        )
        below = below if up_to is None else up_to
    return tuple(found)


@st.composite
def telecoms(draw: st.DrawFn, *, whole: bool = False) -> Price:
    """A telecom price with any of its options; ``whole``: in whole seconds."""
    prefixes = draw(st.lists(st.sampled_from(["", "3", "33", "336", "44", "4930", "49305"]), min_size=1, unique=True))
    destination = "data.to" if prefixes != [""] or draw(st.booleans()) else None
    peak = draw(st.none() | peaks())
    rows = tuple(
        CallRate(prefix, draw(steps(has_peak=peak is not None, whole=whole)), draw(st.none() | DECIMALS))
        for prefix in sorted(prefixes)
    )
    rounding = draw(st.none() | st.builds(ChargeRounding, st.integers(0, 18), st.sampled_from(list(Rounding)[1:])))
    return Price(
        "p", "m", "telecom", "EUR", destination=destination, rates=rows, peak=peak, round=rounding,
        zone=draw(st.none() | st.sampled_from(ZONES)) if peak else None,
        connect_fee_unanswered=draw(st.sampled_from([None, True])),
        discount_rate=draw(RATES), maximum=draw(st.none() | DECIMALS),
    )  # fmt: skip


_EDGES = ("2026-03-29T01:00:00", "2026-10-25T01:00:00", "2026-03-02T17:00:00", "2026-10-03T15:30:00", "2025-12-31T23:59:59",
          "2026-02-15T02:00:00", "2026-03-22T02:00:00", "2011-12-30T10:00:00")  # fmt: skip
TIMES_US = st.one_of(
    st.builds(
        lambda text, us: (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) + us,
        st.sampled_from(_EDGES), st.integers(-4_000_000_000, 4_000_000_000),
    ),
    st.integers(946_684_800_000_000, 1_893_456_000_000_000),
)  # fmt: skip
"""Answer times: around changes of the clocks and edges of peak hours, and anywhere in thirty years."""
