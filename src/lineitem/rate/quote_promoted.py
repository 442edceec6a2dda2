"""A promotion on the month's quantity in exact fractions: what it takes off, event by event and as a step of the working."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from lineitem.catalog.model import Promotion
from lineitem.catalog.price_reader import DECIMALS_MAX
from lineitem.core.errors import InputError
from lineitem.rate.models.event import in_window
from lineitem.rate.price import CompiledPrice
from lineitem.rate.promoted import sums_of
from lineitem.rate.quote_events import HELP, QuotedEvents, read_events
from lineitem.rate.working import Step, fraction_text


class Used(NamedTuple):
    """Quantities before, in and after the window of a promotion, in the meter's unit."""

    before: Fraction = Fraction(0)
    inside: Fraction = Fraction(0)
    after: Fraction = Fraction(0)

    @classmethod
    def of(cls, placed: int, scale: int) -> Used:
        """From one sum of placed values with ``scale`` decimals."""
        found = (column.tolist()[0] for column in sums_of(np.array([placed], dtype=object)))
        return cls(*(Fraction(value, 10**scale) for value in found))

    @property
    def total(self) -> Fraction:
        """The whole quantity."""
        return self.before + self.inside + self.after

    def behind(self, quantity: Fraction) -> Used:
        """The same where ``quantity`` was used before by others."""
        return self._replace(before=self.before + quantity)


def taken_off(price: CompiledPrice, used: Used) -> Fraction:
    """What the promotion takes off the model's charge, see ``promoted``."""
    assert price.promoted is not None
    share, total = price.promoted.discount, price.listed(used.total)
    if price.promoted.whole:
        units = max(used.total, Fraction(0))
        return total * share * min(max(used.inside, Fraction(0)), units) / units if units else Fraction(0)
    added = max(price.listed(used.before + used.inside) - price.listed(used.before), Fraction(0))
    return min(added * share, max(total - price.listed(0), Fraction(0)))


def promoted_amounts(price: CompiledPrice, events: QuotedEvents) -> list[Fraction]:
    """What each event adds to the amount, by time, in the order given. Raises InputError where times are missing."""
    amounts, billed = [Fraction(0)] * len(events.values), Fraction(0)
    used = Used()
    for row in events.order().tolist():
        used = _with_event(price, events, row, used)
        total = price.capped(price.discounted(price.listed(used.total) - taken_off(price, used)))
        amounts[row], billed = total - billed, total
    return amounts


def used_by(price: CompiledPrice, events: QuotedEvents) -> Used:
    """All events together."""
    used = Used()
    for row in range(len(events.values)):
        used = _with_event(price, events, row, used)
    return used


def _with_event(price: CompiledPrice, events: QuotedEvents, row: int, used: Used) -> Used:
    promotion = price.price.promotion
    assert promotion is not None
    if not events.timed:
        raise InputError("the price asks for the event's time", where="events[0].time", do=HELP)
    value, time_us = Fraction(int(events.values[row]), 10**DECIMALS_MAX), events.time_us[row : row + 1]
    if in_window(promotion, time_us)[0]:
        return used._replace(inside=used.inside + value)
    if promotion.from_us is not None and time_us[0] < promotion.from_us:
        return used._replace(before=used.before + value)
    return used._replace(after=used.after + value)


def promotion_steps(price: CompiledPrice, used: Used) -> list[Step]:
    """The step that takes it off; none where nothing is used in its window."""
    assert price.promoted is not None
    if not used.inside:
        return []
    percent, off = fraction_text(100 * price.promoted.discount), taken_off(price, used)
    inside = fraction_text(used.inside)
    if price.promoted.whole:
        label = f"promotion {percent} % off {inside} of {fraction_text(used.total)} units"
    else:
        added = price.listed(used.before + used.inside) - price.listed(used.before)
        behind = f", behind {fraction_text(used.before)}" if used.before else ""
        label = f"promotion {percent} % off {fraction_text(added)}, for {inside} units in its window{behind}"
    return [Step(label, amount=-off)]


def promotion_at(promotion: Promotion, time: str) -> str | None:
    """What units used at ``time`` (RFC 3339) get off; None outside of the window."""
    if not in_window(promotion, read_events([{"time": time}]).time_us)[0]:
        return None
    return f"{fraction_text(100 * Fraction(promotion.discount_rate))} % off"
