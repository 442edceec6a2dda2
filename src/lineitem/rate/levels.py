"""Levels over time: what readings come to in a month, under each price that counts a part of it. Pure.

A reading sets its account's level from its time on, until the next one in (time, identity) order, over months and whatever
price is in force. So quantities, and T, are functions of the set of readings and of when prices are in force.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.canary import arm_at
from lineitem.catalog.levels import PER_SEAT
from lineitem.catalog.model import Price, Prorate
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.core.money import NANO, round_half_away
from lineitem.core.period import Month, day_start_us, month_start_us
from lineitem.rate.dues import whole
from lineitem.rate.exact import BoolArray, IntArray, exceeds_ledger, times
from lineitem.rate.price import CompiledPrice

SECOND_US = 1_000_000


class Reading(NamedTuple):
    """An event of a ``time_weighted`` meter; they order by (time, identity). ``value`` is at the meter's scale."""

    time_us: int
    key: bytes
    value: int


class Part(NamedTuple):
    """A span in which the level stood still; instants in microseconds since the epoch, half-open."""

    start_us: int
    end_us: int
    level: int


class Window(NamedTuple):
    """A part of a month in which one version of a price counts."""

    start_us: int
    end_us: int
    row: PriceRow


@dataclass(frozen=True, slots=True)
class Holder:
    """An account as levels need it; nothing counts from ``until_us`` on."""

    account: str
    pricebook: str | None
    timezone: str
    until_us: int | None

    def bounds(self, month: int) -> tuple[int, int]:
        """Start and end of a service month."""
        return month_start_us(month, self.timezone), month_start_us(month + 1, self.timezone)


@dataclass(frozen=True, slots=True)
class Held:
    """What one content of a price counts of a month. ``used``: there was a level, or a reading, that it counts."""

    windows: tuple[Window, ...]
    quantity: int
    used: bool

    @property
    def row(self) -> PriceRow:
        """Its price."""
        return self.windows[0].row

    @property
    def length_us(self) -> int:
        """How long it is in force in the month."""
        return sum(one.end_us - one.start_us for one in self.windows)


def windows_of(snapshot: Snapshot, holder: Holder, month: int, meter: str) -> dict[str, list[Window]]:
    """Price id -> when which of its versions counts in a service month, in order of time; empty windows are left out."""
    start, end = holder.bounds(month)
    end = end if holder.until_us is None else min(end, holder.until_us)
    own = snapshot.own_books.get(holder.account)
    book = arm_at(snapshot.arms(holder.account, holder.pricebook), month) or holder.pricebook
    found: dict[str, list[Window]] = {}
    for since, until, rows in snapshot.schedule(book, own, meter):
        if max(since, start) < min(until, end):
            for at in rows:
                row = snapshot.rows[at]
                found.setdefault(row.price.id, []).append(Window(max(since, start), min(until, end), row))
    return found


def parts(readings: Sequence[Reading], start_us: int, end_us: int) -> Iterator[Part]:
    """The level in ``[start_us, end_us)``, span by span; nothing before the first reading. ``readings`` in order."""
    at = bisect_right(readings, start_us, key=lambda one: one.time_us) - 1
    for index in range(max(at, 0), len(readings)):
        since = max(readings[index].time_us, start_us)
        if since >= end_us:
            return
        until = min(readings[index + 1].time_us, end_us) if index + 1 < len(readings) else end_us
        if since < until:
            yield Part(since, until, readings[index].value)


def held_in(windows: Sequence[Window], readings: Sequence[Reading], holder: Holder, month: int) -> dict[int, Held]:
    """What each content of one price counts: price key -> quantity. ``windows`` are those of one price id in a month.

    In order of each content's first window.
    """
    contents: dict[int, list[Window]] = {}
    for window in windows:
        contents.setdefault(window.row.price_key, []).append(window)
    found = {}
    for key, own in contents.items():
        slots = _slots(own[0].row.price, holder, month)
        if slots is None:
            spans = [part for one in own for part in parts(readings, one.start_us, one.end_us)]
            quantity = sum((part.end_us - part.start_us) * part.level for part in spans)
            used = any(part.level for part in spans) or _read_in(own, readings)
        else:
            levels = [_slot_level(slot, windows, key, readings) for slot in slots]
            quantity, used = sum(levels), any(levels)
        found[key] = Held(tuple(own), quantity, used)
    return found


def _read_in(windows: Sequence[Window], readings: Sequence[Reading]) -> bool:
    """Whether a reading lies in a window."""
    at = [bisect_right(readings, one.end_us - 1, key=lambda reading: reading.time_us) - 1 for one in windows]
    return any(i >= 0 and readings[i].time_us >= one.start_us for i, one in zip(at, windows, strict=True))


def _slots(price: Price, holder: Holder, month: int) -> list[tuple[int, int]] | None:
    """The spans of which the greatest level counts whole; None where the level counts over time."""
    if price.model != PER_SEAT or price.prorate is Prorate.SECOND:
        return None
    start, end = holder.bounds(month)
    if price.prorate is None:
        return [(start, end)]
    days = whole(price, month, start, end)
    label = Month.from_index(month)
    starts = [day_start_us(f"{label}-{day:02d}", holder.timezone) for day in range(1, days + 1)]
    return list(zip(starts, [*starts[1:], end], strict=True))


def _slot_level(slot: tuple[int, int], windows: Sequence[Window], key: int, readings: Sequence[Reading]) -> int:
    """The greatest level of a slot, if it is due under the price ``key``: that in force where the first unit is held."""
    spans = [
        (part.level, window.row.price_key)
        for window in windows
        for part in parts(readings, max(window.start_us, slot[0]), min(window.end_us, slot[1]))
        if part.level > 0
    ]
    return max(level for level, _ in spans) if spans and spans[0][1] == key else 0


def seats(row: PriceRow, quantity: int, month: int, start_us: int, end_us: int) -> Fraction:
    """How many seats a month counts under a ``per_seat`` price, of ``quantity`` at the row's scale."""
    of = Fraction(whole(row.price, month, start_us, end_us))
    return Fraction(quantity, 10**row.quantity_scale) / (of / SECOND_US if row.price.prorate is Prorate.SECOND else of)


def total(price: CompiledPrice, held: Held, month: int, start_us: int, end_us: int) -> int:
    """T in nano-units of a settled month, rounded once. The service period is ``[start_us, end_us)``."""
    if not held.used:
        return 0
    if price.price.model == PER_SEAT:
        exact = price.running(seats(held.row, held.quantity, month, start_us, end_us)) * NANO
        amount = round_half_away(exact.numerator, exact.denominator)
    else:
        amount = int(price.amount_nano(np.array([held.quantity], dtype=object))[0])
    return max(amount, price.minimum_nano)


def beyond(row: PriceRow, price: CompiledPrice, value: IntArray, period_us: NDArray[np.int64]) -> BoolArray:
    """(n,) bool: readings that a ledger cannot hold, should the level stay there for the whole of their period.

    ``value``: (n,) at the meter's scale; ``period_us``: (n,), how long each one's service period is.
    """
    longest = int(period_us.max(initial=0))
    quantity = times(value, longest)
    month = times(value, 10 ** (row.quantity_scale - row.meter.scale))
    billed = month if price.price.model == PER_SEAT else quantity
    return exceeds_ledger(quantity) | exceeds_ledger(price.amount_nano(billed))
