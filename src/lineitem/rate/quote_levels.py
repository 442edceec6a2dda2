"""What readings of a level would cost in one month: read as people write them, counted by the kernel that settles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from lineitem.catalog.levels import PER_SEAT
from lineitem.catalog.model import Aggregation, Meter, Prorate
from lineitem.catalog.price_reader import DECIMALS_MAX, shorten
from lineitem.catalog.snapshot import PriceRow
from lineitem.core.errors import InputError, UsageError
from lineitem.core.money import scaled_to_text
from lineitem.core.period import Month, zone_exists
from lineitem.rate.dues import whole
from lineitem.rate.levels import Held, Holder, Reading, Window, held_in, seats
from lineitem.rate.price import CompiledPrice
from lineitem.rate.quote_events import read_events
from lineitem.rate.working import Step

_METER = Meter("level", "reading", Aggregation.TIME_WEIGHTED, value="data.value", unit="unit", scale=DECIMALS_MAX)


@dataclass(frozen=True, slots=True)
class QuotedLevel:
    """What one price counts of a month; instants in microseconds since the epoch."""

    held: Held
    month: int
    start_us: int
    end_us: int

    @property
    def quantity(self) -> Fraction:
        """What is counted: unit-seconds, or what a ``per_seat`` price counts."""
        return Fraction(self.held.quantity, 10**self.held.row.quantity_scale)

    def opening(self) -> tuple[list[Step], Fraction]:
        """The steps that lead to what the price's own rules work on, and that."""
        return opening_steps(self.held.row, self.held.quantity, self.month, self.start_us, self.end_us)


def read_level(price: CompiledPrice, events: Sequence[object], period: object, timezone: object) -> QuotedLevel:
    """Count readings under a price that is in force all month. Each has a ``time``; before the first the level is 0.

    Raises InputError that names what is wrong.
    """
    if not isinstance(timezone, str) or not zone_exists(timezone):
        raise InputError(f"{shorten(timezone)} is not a time zone", where="timezone", do="Write one as Europe/Paris.")
    try:
        month = Month.parse(str(period))
    except UsageError as error:
        raise InputError(error.what, where="period", do=error.do) from None
    read = read_events(events)
    if not read.timed or not len(read.values):
        raise InputError(
            "a reading has a time", where="events", do='Write {"value": "10", "time": "2026-10-01T00:00:00Z"}.'
        )
    readings = sorted(
        Reading(time_us, number.to_bytes(16, "big"), int(value))
        for number, (time_us, value) in enumerate(zip(read.time_us.tolist(), read.values.tolist(), strict=True))
    )
    holder = Holder("", None, timezone, None)
    start, end = holder.bounds(month.index)
    row = PriceRow(0, 0, "", 0, price.price, _METER, "")
    [held] = held_in([Window(start, end, row)], readings, holder, month.index).values()
    return QuotedLevel(held, month.index, start, end)


def opening_steps(row: PriceRow, quantity: int, month: int, start_us: int, end_us: int) -> tuple[list[Step], Fraction]:
    """How a counted ``quantity``, at the row's scale, becomes what the price's own rules work on; no step where it is that."""
    counted = Fraction(quantity, 10**row.quantity_scale)
    if row.price.model != PER_SEAT:
        return [], counted
    held = seats(row, quantity, month, start_us, end_us)
    of = whole(row.price, month, start_us, end_us)
    if row.price.prorate is None:
        return [Step("greatest level of the month", counted)], held
    if row.price.prorate is Prorate.DAY:
        return [Step("greatest levels of its days", counted), Step(f"by {of} days of the month", held)], held
    return [Step("level over time", counted), Step(f"by {scaled_to_text(of, 6)} seconds of the month", held)], held
