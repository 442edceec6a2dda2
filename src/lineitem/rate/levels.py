"""Levels over time: what readings come to in a month, under each price that counts a part of it. Pure.

A reading sets its account's level from its time on, until the next one in (time, identity) order, over months and whatever
price is in force. So quantities, and T, are functions of the set of readings and of when prices are in force.
"""

from __future__ import annotations

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
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
    own = snapshot.own_books.get(holder.account)
    book = arm_at(snapshot.arms(holder.account, holder.pricebook), month) or holder.pricebook
    key = (book, own, holder.timezone, holder.until_us, month, meter)
    found = snapshot.level_windows.get(key)  # most accounts share them
    if found is None:
        start, end = holder.bounds(month)
        end = end if holder.until_us is None else min(end, holder.until_us)
        found = snapshot.level_windows[key] = _windows(snapshot, book, own, (start, end), meter)
    return found


def _windows(
    snapshot: Snapshot, book: str | None, own: str | None, bounds: tuple[int, int], meter: str
) -> dict[str, list[Window]]:
    found: dict[str, list[Window]] = {}
    for since, until, rows in snapshot.schedule(book, own, meter):
        start, end = max(since, bounds[0]), min(until, bounds[1])
        for at in rows if start < end else ():
            row = snapshot.rows[at]
            found.setdefault(row.price.id, []).append(Window(start, end, row))
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
    spans = [(part, one.row.price_key) for one in windows for part in parts(readings, one.start_us, one.end_us)]
    found = {}
    for key, own in contents.items():
        slots = _slots(own[0].row.price, holder, month)
        if slots is None:
            mine = [part for part, price_key in spans if price_key == key]
            quantity = sum((part.end_us - part.start_us) * part.level for part in mine)
            used = any(part.level for part in mine) or _read_in(own, readings)
        else:
            quantity = sum(_slot_levels(slots, [span for span in spans if span[0].level > 0], key))
            used = quantity > 0
        found[key] = Held(tuple(own), quantity, used)
    return found


def _read_in(windows: Sequence[Window], readings: Sequence[Reading]) -> bool:
    """Whether a reading lies in a window."""
    at = [bisect_right(readings, one.end_us - 1, key=lambda reading: reading.time_us) - 1 for one in windows]
    return any(i >= 0 and readings[i].time_us >= one.start_us for i, one in zip(at, windows, strict=True))


Slots = list[tuple[int, int]]
"""Spans of a month of which the greatest level counts whole, in order."""


def _slots(price: Price, holder: Holder, month: int) -> Slots | None:
    """The slots of a price; None where the level counts over time."""
    if price.model != PER_SEAT or price.prorate is Prorate.SECOND:
        return None
    return [holder.bounds(month)] if price.prorate is None else _days(month, holder.timezone)


@lru_cache(maxsize=1024)
def _days(month: int, timezone: str) -> Slots:
    label = Month.from_index(month)
    starts = [
        day_start_us(f"{label}-{day:02d}", timezone) for day in range(1, monthrange(label.year, label.month)[1] + 1)
    ]
    return list(pairwise([*starts, month_start_us(month + 1, timezone)]))


def _slot_levels(slots: Slots, spans: Sequence[tuple[Part, int]], key: int) -> Iterator[int]:
    """The greatest level of each slot that is due under the price ``key``: that in force where its first unit is held.

    ``spans``: where there is a level, with the price that counts it, in order of time.
    """
    first = 0
    for start_us, end_us in slots:
        while first < len(spans) and spans[first][0].end_us <= start_us:
            first += 1
        last, greatest = first, 0
        while last < len(spans) and spans[last][0].start_us < end_us:
            greatest = max(greatest, spans[last][0].level)
            last += 1
        if greatest and spans[first][1] == key:
            yield greatest


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
