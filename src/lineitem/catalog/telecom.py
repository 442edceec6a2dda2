"""The terms of a ``telecom`` price: read from a document, and checked so that no second of a call is without a rate.

A rate with ``increments`` is two steps (the first increment, then the others), so all that comes out of here is steps.
What would leave a gap or give a second two rates is a defect: steps that do not reach to the call's end, peak hours
without a rate outside of them, two rows for one prefix, hours that overlap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from lineitem.catalog.model import CallRate, CallStep, ChargeRounding, Peak, PeakMode, Rounding
from lineitem.catalog.price_reader import DECIMALS_MAX, Reader, shorten
from lineitem.core.period import zone_exists

RATES_MAX = 50_000
STEPS_MAX = 100
PREFIX_DIGITS_MAX = 15
"""Digits of a number (ITU-T E.164, 6.1)."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
ROUND_DEFAULT = ChargeRounding(9, Rounding.HALF_UP)

TERM_KEYS = ("rate", "per", "off_peak_rate", "increments", "steps", "connect_fee")
"""What a row of the table may say for itself, and a price without a table for every call."""
STEP_KEYS = ("up_to", "rate", "per", "increment", "off_peak_rate")
_CLOCK = re.compile(r"(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)", re.ASCII)


class _Inherited(NamedTuple):
    """What rows take from the price where they do not say it themselves."""

    per: Decimal | None
    increments: tuple[Decimal, Decimal]
    connect_fee: Decimal | None
    has_peak: bool


def read_telecom(reader: Reader) -> dict[str, Any]:
    """The fields of a price that only this model has, by name; defects go to the reader. Rows come back sorted."""
    peak = _read_peak(reader)
    base = _Inherited(
        reader.decimal("per", positive=True),
        _read_increments(reader) or (Decimal(1), Decimal(1)),
        reader.decimal("connect_fee"),
        reader.doc.get("peak") is not None,
    )
    return {
        "destination": reader.event_path("destination"),
        "rates": _read_rates(reader, base),
        "connect_fee_unanswered": _read_flag(reader, "connect_fee_unanswered"),
        "peak": peak,
        "zone": reader.doc.get("zone") if peak else None,
        "round": _read_round(reader),
    }


def peak_minutes(peak: Peak) -> list[tuple[int, int]]:
    """The peak hours as ``[start, end)`` in minutes of the week from Monday 00:00, sorted; cut where the week ends."""
    found = []
    for day in peak.days:
        for first, last in peak.hours:
            start, end = minute_of_day(first), minute_of_day(last)
            start += DAYS.index(day) * DAY_MINUTES
            end += DAYS.index(day) * DAY_MINUTES + (DAY_MINUTES if minute_of_day(last) <= minute_of_day(first) else 0)
            found.append((start, min(end, WEEK_MINUTES)))
            if end > WEEK_MINUTES:
                found.append((0, end - WEEK_MINUTES))
    return sorted(found)


def minute_of_day(clock: str) -> int:
    """``"08:30" -> 510``; ``"24:00"`` is the end of the day."""
    return int(clock[:2]) * 60 + int(clock[3:])


# --- the table


def _read_rates(reader: Reader, base: _Inherited) -> tuple[CallRate, ...]:
    documents = reader.doc.get("rates")
    if documents is None:
        if reader.doc.get("destination") is not None:
            reader.problem("destination", "is read to find a row of rates, and there are none; add rates or remove it")
        return (CallRate("", _read_terms(reader, base, ()), base.connect_fee),)
    for key in ("rate", "steps", "off_peak_rate"):
        if reader.doc.get(key) is not None:
            reader.problem(key, 'stands in each row where there are rates; a row with prefix "" is for all other calls')
    if not isinstance(documents, list | tuple) or not 0 < len(documents) <= RATES_MAX:
        reader.problem("rates", f"rates are a list of 1 to {RATES_MAX} rows")
        return ()
    rows: dict[str, CallRate] = {}
    first: dict[str, int] = {}
    for index, doc in enumerate(documents):
        if not isinstance(doc, Mapping):
            reader.problem(("rates", index), f"a row is a mapping of keys, not {shorten(doc)}")
            continue
        row = _read_row(Reader(doc, (*reader.where, "rates", index), reader.problems), base)
        if row is not None and row.prefix in first:
            text = f"the prefix {row.prefix!r} has a rate already, in rates[{first[row.prefix]}]; remove one"
            reader.problem(("rates", index, "prefix"), text)
        elif row is not None:
            rows[row.prefix], first[row.prefix] = row, index
    if reader.doc.get("destination") is None and list(rows) != [""]:
        reader.problem("destination", "is missing: the path to the number called, such as data.to")
    return tuple(rows[prefix] for prefix in sorted(rows))


def _read_row(reader: Reader, base: _Inherited) -> CallRate | None:
    reader.check_keys(("prefix", "name", *TERM_KEYS), "a row of rates")
    prefix = _read_prefix(reader)
    fee = reader.decimal("connect_fee")
    own = base._replace(
        per=reader.decimal("per", positive=True) or base.per,
        increments=_read_increments(reader) or base.increments,
        connect_fee=base.connect_fee if fee is None else fee,
    )
    steps = _read_terms(reader, own, ("in this row",))
    name = reader.text("name") or ""
    return None if prefix is None else CallRate(prefix, steps, own.connect_fee, name)


def _read_prefix(reader: Reader) -> str | None:
    written = reader.doc.get("prefix")
    if written is None:
        reader.problem("prefix", 'is missing; "" is for calls that no other row matches')
    elif not isinstance(written, str):
        reader.problem("prefix", f'{shorten(written)} is not a text; write the digits in quotes: "33"')
    elif written and not (written.isascii() and written.isdigit() and len(written) <= PREFIX_DIGITS_MAX):
        text = f"is not 1 to {PREFIX_DIGITS_MAX} digits; a country is its code alone, without + or 00"
        reader.problem("prefix", f"{shorten(written)} {text}")
    elif written.startswith("00"):
        reader.problem("prefix", f"{written} never matches: 00 in front of a number is read as +; leave it out")
    else:
        return written
    return None


# --- rates and steps


def _read_terms(reader: Reader, base: _Inherited, where: tuple[str, ...]) -> tuple[CallStep, ...]:
    """The steps of one row, or of a price without rows."""
    has_rate, has_steps = (reader.doc.get(key) is not None for key in ("rate", "steps"))
    if has_rate == has_steps:
        which = "rate and steps are both there" if has_rate else "a gap: no rate"
        text = " ".join((which, *where)) + "; give rate"
        reader.problem((), f"{text}, or steps{'' if where else ', or rates by destination'}")
        return ()
    if not has_steps:
        return _simple_steps(reader, base)
    for key in ("increments", "off_peak_rate"):
        if reader.doc.get(key) is not None:
            reader.problem(key, "stands in each step where there are steps")
    return _read_steps(reader, base)


def _simple_steps(reader: Reader, base: _Inherited) -> tuple[CallStep, ...]:
    rate, per = reader.decimal("rate"), _per(reader, base.per)
    off_peak = _read_off_peak(reader, base.has_peak)
    if rate is None or per is None:
        return ()
    first, following = base.increments
    rest = CallStep(None, rate, per, following, off_peak)
    return (rest,) if first == following else (CallStep(first, rate, per, first, off_peak), rest)


def _read_steps(reader: Reader, base: _Inherited) -> tuple[CallStep, ...]:
    documents = reader.doc["steps"]
    if not isinstance(documents, list | tuple) or not 0 < len(documents) <= STEPS_MAX:
        reader.problem("steps", f"steps are a list of 1 to {STEPS_MAX} steps")
        return ()
    steps: list[CallStep] = []
    below = Decimal(0)
    for index, doc in enumerate(documents):
        if not isinstance(doc, Mapping):
            reader.problem(("steps", index), f"a step is a mapping of keys, not {shorten(doc)}")
            continue
        inner = Reader(doc, (*reader.where, "steps", index), reader.problems)
        step = _read_step(inner, base, below, last=index == len(documents) - 1)
        if step is not None:
            steps.append(step)
            below = below if step.up_to is None else step.up_to
    return tuple(steps)


def _read_step(reader: Reader, base: _Inherited, below: Decimal, *, last: bool) -> CallStep | None:
    reader.check_keys(STEP_KEYS, "a step")
    for key in ("rate", "increment"):
        reader.require(key)
    rate, per = reader.decimal("rate"), _per(reader, base.per)
    increment = reader.decimal("increment", positive=True)
    off_peak = _read_off_peak(reader, base.has_peak)
    up_to = reader.decimal("up_to")
    if last and up_to is not None:
        reader.problem("up_to", f"a gap: beyond {up_to:f} no step has a rate; up_to of the last step is null")
    elif not last and reader.doc.get("up_to") is None:
        reader.problem("up_to", "only the last step may be without an upper bound")
    elif up_to is not None and up_to <= below:
        reader.problem(
            "up_to", f"steps must ascend: {up_to:f} does not lie above {below:f}, where the step before it ends"
        )
    elif up_to is not None and increment and (Fraction(up_to) - Fraction(below)) % Fraction(increment):
        text = f"the step from {below:f} to {up_to:f} is no whole number of its increments of {increment:f}"
        reader.problem("increment", f"{text}; an increment would reach into the next step")
    if rate is None or per is None or increment is None:
        return None
    return CallStep(up_to, rate, per, increment, off_peak)


def _per(reader: Reader, inherited: Decimal | None) -> Decimal | None:
    per = reader.decimal("per", positive=True) or inherited
    if per is None and reader.doc.get("per") is None:
        reader.problem(
            "per", 'is missing: how many units the rate is for; a price per minute of a meter in seconds has "60"'
        )
    return per


def _read_off_peak(reader: Reader, has_peak: bool) -> Decimal | None:
    if has_peak and reader.doc.get("off_peak_rate") is None:
        reader.problem("off_peak_rate", "a gap: outside the peak hours nothing has a rate here; give one")
    elif not has_peak and reader.doc.get("off_peak_rate") is not None:
        reader.problem("off_peak_rate", "never applies: the price has no peak hours; add peak or remove it")
    return reader.decimal("off_peak_rate")


def _read_increments(reader: Reader) -> tuple[Decimal, Decimal] | None:
    inner = reader.mapping("increments")
    if inner is None:
        return None
    inner.check_keys(("first", "next"), "increments")
    for key in ("first", "next"):
        inner.require(key)
    first, following = inner.decimal("first", positive=True), inner.decimal("next", positive=True)
    return None if first is None or following is None else (first, following)


# --- peak hours and rounding


def _read_peak(reader: Reader) -> Peak | None:
    inner = reader.mapping("peak")
    zone = reader.text("zone")
    if inner is None:
        if zone is not None and reader.doc.get("peak") is None:
            reader.problem("zone", "is the clock of the peak hours, and there are none; add peak or remove it")
        return None
    if zone is not None and not zone_exists(zone):
        reader.problem("zone", f"the time zone {shorten(zone)} does not exist; use an IANA name such as Europe/Paris")
    inner.check_keys(("hours", "days", "mode"), "peak")
    inner.require("hours")
    mode = inner.choice("mode", PeakMode) or PeakMode.SPLIT
    hours, days = _read_hours(inner), _read_days(inner)
    if not hours or not days:
        return None
    peak = Peak(hours, days, mode)
    for (start, end), (later, _) in pairwise(peak_minutes(peak)):
        if later < end:
            both = f"{_week_text(start)} to {_week_text(end)} and those from {_week_text(later)}"
            inner.problem("hours", f"hours overlap: those from {both}; every second is in one of them at most")
            return None
    return peak


def _read_hours(reader: Reader) -> tuple[tuple[str, str], ...]:
    written = reader.doc.get("hours")
    if written is None:
        return ()
    if not isinstance(written, list | tuple) or not written:
        reader.problem("hours", 'hours are a list of pairs: [["08:00", "18:00"]]')
        return ()
    pairs: list[tuple[str, str]] = []
    for index, pair in enumerate(written):
        good = isinstance(pair, list | tuple) and len(pair) == 2
        if not good or not all(isinstance(one, str) and _CLOCK.fullmatch(one) for one in pair):
            text = f'{shorten(pair)} is not a pair such as ["08:00", "18:00"], from 00:00 to 24:00'
            reader.problem(("hours", index), text)
        elif pair[0] in (pair[1], "24:00"):
            reader.problem(("hours", index), f"{pair[0]} to {pair[1]} is no time; the whole day is 00:00 to 24:00")
        else:
            pairs.append((pair[0], pair[1]))
    return tuple(sorted(pairs))


def _read_days(reader: Reader) -> tuple[str, ...]:
    written = reader.doc.get("days")
    if written is None:
        return DAYS
    if not isinstance(written, list | tuple) or not written or not all(day in DAYS for day in written):
        reader.problem("days", f"{shorten(written)} is not a list of days: {', '.join(DAYS)}")
        return ()
    return tuple(day for day in DAYS if day in written)


def _week_text(minute: int) -> str:
    day, rest = divmod(minute, DAY_MINUTES)
    return f"{DAYS[day % 7]} {rest // 60:02}:{rest % 60:02}"


def _read_round(reader: Reader) -> ChargeRounding | None:
    inner = reader.mapping("round")
    if inner is None:
        return None
    inner.check_keys(("decimals", "mode"), "round")
    decimals = inner.integer("decimals", DECIMALS_MAX)
    mode = inner.choice("mode", Rounding)
    if mode is Rounding.NONE:
        inner.problem("mode", "none would leave charges without an end (0.10 a minute); use one of up, down, half_up")
    return ChargeRounding(
        ROUND_DEFAULT.decimals if decimals is None else decimals, ROUND_DEFAULT.mode if mode is None else mode
    )


def _read_flag(reader: Reader, key: str) -> bool | None:
    value = reader.doc.get(key)
    if value is not None and not isinstance(value, bool):
        reader.problem(key, f"{shorten(value)} is not true or false")
        return None
    return value or None
