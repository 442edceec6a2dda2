"""``telecom``: calls, rated by the longest prefix of the number called, in begun increments, at peak and off-peak rates.

A charge is the connect fee and, for each step of the call, its billed units times rate over per: an exact fraction, rounded
once per event. Rounding each increment instead bills 0.7002 for a call of 0.70 (a case of the published ones).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from math import ceil, lcm
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression import parse_path
from lineitem.catalog.expression_tree import Path
from lineitem.catalog.model import CallRate, CallStep, ChargeRounding, PeakMode, Price, Rounding
from lineitem.catalog.telecom import ROUND_DEFAULT, peak_minutes
from lineitem.core.errors import InputError
from lineitem.core.reasons import Reason
from lineitem.rate.columns import Column
from lineitem.rate.exact import (
    INT64_MAX,
    BoolArray,
    IntArray,
    add,
    compact,
    magnitude,
    multiply,
    select,
    subtract,
    times,
)
from lineitem.rate.models.event import (
    EventCharge,
    EventModel,
    Inputs,
    Working,
    decimals_of,
    named,
    without_flawed,
)
from lineitem.rate.models.page import Page
from lineitem.rate.readings import Flaw, Flaws, shown
from lineitem.rate.week import Week
from lineitem.rate.working import fraction_text

SPLIT_DAYS_MAX = 31
"""The longest call that is split at peak hours; a longer one is a dead letter, for each of its days costs time."""

_SECOND_US = 1_000_000
_SPLIT_SECONDS_MAX = SPLIT_DAYS_MAX * 86_400
_SEPARATORS = str.maketrans("", "", " -.()")
_PLAIN_NUMBER = re.compile(r"\+?[0-9]+", re.ASCII)
_UNDECIDED = -1


class Leg(NamedTuple):
    """Billed units of a call that have one rate. ``peak`` is None where the price has no peak hours."""

    units: Fraction
    rate: Decimal
    per: Decimal
    peak: bool | None


# --- whom the call goes to


class Prefixes:
    """Which row of the table a number belongs to: the one with the longest prefix of its digits."""

    def __init__(self, rates: tuple[CallRate, ...]) -> None:
        self._rows = {rate.prefix: row for row, rate in enumerate(rates)}
        self._lengths = sorted(set(map(len, self._rows)), reverse=True)
        self._head = self._lengths[0] + 2  # what stands in front of the digits, + or 00, is at most two characters

    def rows(self, column: Column) -> tuple[NDArray[np.int64], Flaws]:
        """(n,) the row of each number, 0 where there is a flaw: no number, or no row for it."""
        rows = np.full(len(column), _UNDECIDED, dtype=np.int64)
        if column.kinds == {str}:
            head = self._head
            heads = [text[:head] for text in column.values]
            tails = "".join([text[head:] for text in column.values])
            if not tails or (tails.isascii() and tails.isdigit()):
                found = {text: self._row_of_plain(text) for text in dict.fromkeys(heads)}
                rows = np.fromiter(map(found.__getitem__, heads), dtype=np.int64, count=len(heads))
        flaws: Flaws = {}
        for at in np.flatnonzero(rows == _UNDECIDED).tolist():
            row = self.row(column.values[at])
            if isinstance(row, Flaw):
                flaws[at] = row
            rows[at] = 0 if isinstance(row, Flaw) else row
        return rows, flaws

    def row(self, value: object) -> int | Flaw:
        """The row of one number as an event carries it."""
        if value is None or value == "":
            return Flaw(Reason.MISSING_VALUE, "is missing or empty")
        text = str(value) if value.__class__ in (int, str) else ""
        digits = _digits(text.translate(_SEPARATORS))
        if not (digits.isascii() and digits.isdigit()):
            return Flaw(Reason.BAD_VALUE, f"is {shown(value)}, not a telephone number")
        row = self._row_of(digits)
        return Flaw(Reason.NO_PRICE, f"is {shown(value)}, and no prefix of the rates matches") if row is None else row

    def _row_of_plain(self, head: str) -> int:
        row = self._row_of(_digits(head)) if _PLAIN_NUMBER.fullmatch(head) else None
        return _UNDECIDED if row is None or not _digits(head) else row

    def _row_of(self, digits: str) -> int | None:
        for length in self._lengths:
            row = self._rows.get(digits[:length]) if length <= len(digits) else None
            if row is not None:
                return row
        return None


def _digits(text: str) -> str:
    """The number without what says that it is international: one ``+`` or ``00``."""
    return text[1:] if text.startswith("+") else text.removeprefix("00")


# --- one call, in fractions


def _week(price: Price) -> Week | None:
    return None if price.peak is None else Week(price.zone or "UTC", peak_minutes(price.peak))


def _billed(steps: tuple[CallStep, ...], duration: Fraction) -> list[tuple[Fraction, Fraction, CallStep]]:
    """The begun increments of a call by step: ``(offset, units, step)``, without a gap from 0 on."""
    found, low = [], Fraction(0)
    for step in steps:
        if duration <= low:
            break
        increment = Fraction(step.increment)
        units = ceil((duration - low) / increment) * increment
        if step.up_to is not None:
            units = min(units, Fraction(step.up_to) - low)
        found.append((low, units, step))
        low += units
    return found


def _legs(price: Price, week: Week | None, row: CallRate, duration: Fraction, time_us: int) -> list[Leg]:
    """What is billed of a call of ``duration >= 0``, in order; neighbours of one rate are one leg."""
    legs: list[Leg] = []
    for low, units, step in _billed(row.steps, duration):
        for part, peak in _by_peak(price, week, time_us, low, units):
            rate = step.rate if peak in (None, True) else step.off_peak_rate
            assert rate is not None, "the catalog has an off-peak rate wherever there are peak hours"
            if legs and legs[-1][1:] == (rate, step.per, peak):
                part += legs.pop().units
            legs.append(Leg(part, rate, step.per, peak))
    return legs


def _by_peak(
    price: Price, week: Week | None, time_us: int, low: Fraction, units: Fraction
) -> list[tuple[Fraction, bool | None]]:
    """The units from ``low`` on, cut where peak hours begin or end."""
    if week is None or price.peak is None:
        return [(units, None)]
    if price.peak.mode is PeakMode.ANSWER:
        return [(units, bool(week.at(np.array([time_us]))[0][0]))]
    parts: list[tuple[Fraction, bool | None]] = []
    at, end = low, low + units
    while at < end:
        inside, until_us = week.at(np.array([time_us + int(at * _SECOND_US)], dtype=np.int64))
        until = min(Fraction(int(until_us[0]) - time_us, _SECOND_US), end)
        parts.append((until - at, bool(inside[0])))
        at = until
    return parts


def _rounded(amount: Fraction, rounding: ChargeRounding) -> int:
    """``amount >= 0`` as an integer of so many decimals."""
    scaled: Fraction = amount * 10**rounding.decimals
    numerator, denominator = scaled.as_integer_ratio()
    return (numerator + _addend(rounding.mode, denominator)) // denominator


def _addend(mode: Rounding, denominator: int) -> int:
    """What makes a division that rounds down round as ``mode`` says."""
    return {Rounding.UP: denominator - 1, Rounding.DOWN: 0, Rounding.HALF_UP: denominator // 2}[mode]


def _fee(price: Price, row: CallRate, duration: Fraction) -> Fraction:
    return Fraction(row.connect_fee or 0) if duration or price.connect_fee_unanswered else Fraction(0)


# --- many calls, in columns


class _StepColumns(NamedTuple):
    """The k-th step of every row of the table, (r,) each; all in units of the kernel, rates as numerators."""

    low: IntArray
    size: IntArray
    count_max: IntArray
    open: BoolArray
    price: IntArray
    """(2 r,): of one increment at the peak rate for each row, then at the off-peak rate."""


class _Kernel:
    """Charges of calls at one quantity scale."""

    def __init__(self, price: Price, quantity_scale: int) -> None:
        bounds = [part for row in price.rates for step in row.steps for part in (step.up_to, step.increment)]
        self._price = price
        self._rounding = price.round or ROUND_DEFAULT
        self._unit_scale = max(quantity_scale, decimals_of(*bounds))
        self._lift = 10 ** (self._unit_scale - quantity_scale)
        self._week = _week(price)
        self._prefixes = Prefixes(price.rates)
        self._path = None if price.destination is None else parse_path(price.destination)
        self._compile(price.rates)

    def charges(self, values: IntArray, time_us: NDArray[np.int64], inputs: Inputs) -> tuple[IntArray, Flaws]:
        """See ``EventCharge.charges``."""
        row, flaws = np.zeros(len(values), dtype=np.int64), Flaws()
        if self._path is not None:
            row, flaws = self._prefixes.rows(inputs[self._path])
            flaws = named(self._path, flaws)
        lifted = times(values, self._lift)
        if lifted.dtype != object and magnitude(lifted) > INT64_MAX:
            lifted = lifted.astype(object)  # the magnitude of -2**63 has no int64
        duration = compact(np.abs(lifted))
        peak, until_us = (None, None) if self._week is None else self._week.at(time_us)
        column = row if peak is None else row + len(self._price.rates) * ~peak
        numerator, billed = self._sums(duration, row, column)
        charges = add(numerator, self._addends[row])
        charges = compact(charges // self._denominators[row])
        if until_us is not None and self._splits:
            cut, flawed = self._cut(billed, until_us - time_us)
            flaws = {**flawed, **flaws}
            charges = self._split(charges, cut, duration, time_us, row, flaws)
        charges = select(np.asarray(values < 0, dtype=np.bool_), subtract(np.zeros_like(charges), charges), charges)
        return without_flawed(charges, flaws), flaws

    @property
    def _splits(self) -> bool:
        return self._price.peak is not None and self._price.peak.mode is PeakMode.SPLIT

    def _sums(self, duration: IntArray, row: NDArray[np.int64], column: NDArray[np.int64]) -> tuple[IntArray, IntArray]:
        """(n,) charges times the row's denominator, and (n,) billed units."""
        charged = np.asarray(duration > 0, dtype=np.bool_) | bool(self._price.connect_fee_unanswered)
        numerator = select(charged, self._fees[row], np.zeros(len(row), dtype=np.int64))
        billed: IntArray = np.zeros(len(row), dtype=np.int64)
        for step in self._steps:
            size = step.size[row]
            beyond = np.maximum(subtract(duration, step.low[row]), 0)
            begun = compact(-(-beyond // size))
            begun = select(step.open[row], begun, compact(np.minimum(begun, step.count_max[row])))
            numerator = add(numerator, multiply(begun, step.price[column]))
            billed = add(billed, multiply(begun, size))
        return numerator, billed

    def _cut(self, billed: IntArray, room_us: NDArray[np.int64]) -> tuple[NDArray[np.int64], Flaws]:
        """The events whose billed time reaches over an edge of the peak hours, and those that are too long for that."""
        unit_us = 6 - self._unit_scale
        spent, room = times(billed, 10 ** max(unit_us, 0)), times(room_us, 10 ** max(-unit_us, 0))
        cut = np.flatnonzero(np.asarray(spent > room, dtype=np.bool_))
        longest = _SPLIT_SECONDS_MAX * 10**self._unit_scale
        text = f"the call lasts more than {SPLIT_DAYS_MAX} days, the longest that is split at peak hours"
        return cut, {at: Flaw(Reason.VALUE_OUT_OF_RANGE, text) for at in cut.tolist() if int(billed[at]) > longest}

    def _split(
        self,
        charges: IntArray,
        cut: NDArray[np.int64],
        duration: IntArray,
        time_us: NDArray[np.int64],
        row: NDArray[np.int64],
        flaws: Flaws,
    ) -> IntArray:
        """``charges`` with those of the calls at ``cut`` made one by one."""
        if not len(cut):
            return charges
        wide = charges.astype(object)
        for at in cut.tolist():
            if at not in flaws:
                rate, units = self._price.rates[int(row[at])], Fraction(int(duration[at]), 10**self._unit_scale)
                wide[at] = charge(self._price, self._week, rate, units, int(time_us[at]))
        return compact(wide)

    def _compile(self, rates: tuple[CallRate, ...]) -> None:
        decimals, unit = self._rounding.decimals, 10**self._unit_scale
        denominators, fees, steps = [], [], []
        for rate in rates:
            prices = [
                [
                    Fraction(step.increment) * Fraction(one) / Fraction(step.per) * 10**decimals
                    for one in _rates_of(step)
                ]
                for step in rate.steps
            ]
            fee = Fraction(rate.connect_fee or 0) * 10**decimals
            denominator = lcm(fee.denominator, *(one.denominator for pair in prices for one in pair))
            denominators.append(denominator)
            fees.append(int(fee * denominator))
            steps.append([[int(one * denominator) for one in pair] for pair in prices])
        self._denominators = _column(denominators)
        self._addends = _column([_addend(self._rounding.mode, denominator) for denominator in denominators])
        self._fees = _column(fees)
        self._steps = []
        for k in range(max(len(rate.steps) for rate in rates)):
            lows, sizes, counts, opens = [], [], [], []
            for rate in rates:
                step = rate.steps[k] if k < len(rate.steps) else None
                low = int(Fraction(rate.steps[k - 1].up_to or 0) * unit) if step is not None and k else 0
                size = 1 if step is None else int(Fraction(step.increment) * unit)
                bound = 0 if step is None or step.up_to is None else int(Fraction(step.up_to) * unit) - low
                lows.append(low)
                sizes.append(size)
                counts.append(bound // size)
                opens.append(step is not None and step.up_to is None)
            prices_at = [steps[r][k][c] if k < len(steps[r]) else 0 for c in (0, 1) for r in range(len(rates))]
            is_open = np.array(opens, dtype=np.bool_)
            self._steps.append(
                _StepColumns(_column(lows), _column(sizes), _column(counts), is_open, _column(prices_at))
            )


def _rates_of(step: CallStep) -> tuple[Decimal, Decimal]:
    """At peak, off peak; the same where there are no peak hours."""
    return step.rate, step.rate if step.off_peak_rate is None else step.off_peak_rate


def _column(values: list[int]) -> IntArray:
    wide = np.empty(len(values), dtype=object)
    wide[:] = values
    return compact(wide)


def charge(price: Price, week: Week | None, row: CallRate, duration: Fraction, time_us: int) -> int:
    """The charge of one call of ``duration >= 0``, as an integer of the price's decimals."""
    legs = _legs(price, week, row, duration, time_us)
    amount = sum((leg.units * Fraction(leg.rate) / Fraction(leg.per) for leg in legs), _fee(price, row, duration))
    return _rounded(amount, price.round or ROUND_DEFAULT)


def compile_charge(price: Price, quantity_scale: int) -> EventCharge:
    """The kernel. Raises InputError for terms that leave a gap (``catalog.telecom`` accepts none)."""
    for row in price.rates:
        bounds = [step.up_to for step in row.steps]
        off_peak = {step.off_peak_rate is None for step in row.steps}
        sizes = [size for step in row.steps for size in (step.increment, step.per)]
        if bounds[-1:] != [None] or None in bounds[:-1] or off_peak != {price.peak is None} or min(sizes) <= 0:
            raise _no_rates(price, f"the rate of {row.prefix!r} leaves a gap")
    if not price.rates or (price.destination is None and [row.prefix for row in price.rates] != [""]):
        raise _no_rates(price, "a telecom price needs rates, and a destination to choose one by")
    kernel = _Kernel(price, quantity_scale)
    inputs = () if price.destination is None else (parse_path(price.destination),)
    return EventCharge(
        inputs, (price.round or ROUND_DEFAULT).decimals, kernel.charges, reads_time=price.peak is not None
    )


def _no_rates(price: Price, text: str) -> InputError:
    return InputError(text, where=f"price {price.id}", do="See the page of the telecom model.")


def working(price: Price, value: Fraction, time_us: int, _free: Fraction | None, row: Mapping[Path, Any]) -> Working:
    """The row that was chosen and every leg of the call; the price of one unit where all have the same."""
    number = None if price.destination is None else Prefixes(price.rates).row(row[parse_path(price.destination)])
    assert not isinstance(number, Flaw), "a flaw is told before a working is asked for"
    rate = price.rates[number or 0]
    week = _week(price)
    legs = _legs(price, week, rate, abs(value), time_us)
    fee = _fee(price, rate, abs(value))
    prices = {Fraction(leg.rate) / Fraction(leg.per) for leg in legs}
    label = " ".join(filter(None, [rate.name, rate.prefix and f"({rate.prefix})"]))
    billed = ", ".join(map(_leg_text, legs)) or "nothing billed"
    return Working(
        unit_price=prices.pop() if len(prices) == 1 else None,
        flat_price=fee or None,
        note=f"{label}: {billed}" if label else billed,
    )


def _leg_text(leg: Leg) -> str:
    when = {None: "", True: " peak", False: " off-peak"}[leg.peak]
    return f"{fraction_text(leg.units)} at {fraction_text(Fraction(leg.rate))} per {leg.per:f}{when}"


PAGE = Page(
    summary=(
        "Calls, by the number called and the time they last. The meter's value is the duration in seconds; the event's "
        "time is when the call was answered. Of `rates`, the row with **the longest prefix** of the number wins. A number "
        "counts by its digits: one leading `+` or `00` is left out, and so are blanks, hyphens, dots and parentheses; other "
        "ways to dial abroad (`011`) have to be made digits before. A number that no prefix matches is a dead letter "
        '`no_price`, never a zero; a row with prefix `""` is for all others.\n\n'
        "The duration is billed in **begun increments**: 30/6 is `{first: 30, next: 6}`. `steps` change rate and increment "
        "inside the call. The charge is `connect_fee` plus, for each step, rate times billed units over `per`, worked out as "
        "a fraction and **rounded once per event** as `round` says, never per increment: that is what overbills. A call of "
        "0 seconds costs nothing, unless `connect_fee_unanswered`. A negative duration takes back what the same call costs.\n\n"
        "With `peak`, every rate has an `off_peak_rate`. `mode: split` bills each second at the rate of its own time, cut "
        "exactly where peak hours begin or end on the clock of `zone`, at midnight and where the clock changes too; what is "
        "cut is the billed time, increments included. `mode: answer` takes the rate at the answer for the whole call. Either "
        "way a call is one line item.\n\n"
        "**A gap is refused at publish**, with file and line: steps whose last `up_to` is not null, a step that is no whole "
        "number of its increments, peak hours without an off-peak rate, hours that overlap, two rows for one prefix, a row "
        "without a rate."
    ),
    when=(
        "Calls, messages and data by rate deck. For the same rate for everybody, a meter whose value rounds the duration "
        "(`ceil(data.seconds, 60)`) and `per_unit` will do."
    ),
    example={
        "model": "telecom",
        "currency": "EUR",
        "destination": "data.to",
        "per": 60,
        "increments": {"first": 30, "next": 6},
        "connect_fee": "0.05",
        "zone": "Europe/Paris",
        "peak": {"hours": [["08:00", "18:00"]], "days": ["mon", "tue", "wed", "thu", "fri"], "mode": "split"},
        "rates": [
            {"prefix": "33", "name": "France", "rate": "0.10", "off_peak_rate": "0.04"},
            {"prefix": "336", "name": "France, mobile", "rate": "0.20", "off_peak_rate": "0.15"},
        ],
    },
    usage=(
        {"value": "31", "time": "2026-03-02T10:00:00Z", "data": {"to": "+33 1 23 45 67 89"}},
        {"value": "3600", "time": "2026-03-02T16:30:00Z", "data": {"to": "0033123456789"}},
        {"value": "61", "time": "2026-03-07T10:00:00Z", "data": {"to": "33612345678"}},
    ),
)
MODEL = EventModel(compile_charge, working, PAGE)
