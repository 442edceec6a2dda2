"""What a per-event price model is: the exact charge of an event, a function of that event alone, as columns.

A period's amount is T(sum of its events' charges), where T is only the discount, the maximum and the one rounding. Charges are
integers at a scale that the price fixes, so that nothing is rounded before T.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression_tree import Path
from lineitem.catalog.model import Price, Promotion
from lineitem.rate.allowance import Allowance
from lineitem.rate.columns import Column
from lineitem.rate.exact import BoolArray, IntArray, select, times
from lineitem.rate.models.page import Page
from lineitem.rate.readings import Flaw, Flaws

Inputs = Mapping[Path, Column]
"""What a price reads of n events besides the meter's value, by path."""


@dataclass(frozen=True, slots=True)
class EventCharge:
    """A per-event price compiled for one quantity scale. Immutable, shared freely between threads."""

    inputs: tuple[Path, ...]
    """What it reads of an event besides the meter's value."""
    scale: int
    """Decimals of a charge; at it every charge is exact."""
    charges: Callable[[IntArray, NDArray[np.int64], Inputs], tuple[IntArray, Flaws]]
    """``(values, time_us, inputs)``, (n,) each, values at the meter's scale, to ``(charges, flaws)``.

    Charges are (n,) integers at ``scale``, int64 if all fit, else Python ints; of either sign, 0 where there is a flaw.
    An allowance is not part of it: with one, ``allowance.charges_in_order`` and ``allowance.admit`` give the charges.
    """
    allowance: Allowance | None = None
    """What is free by the order of events, if the price says so."""
    reads_time: bool = False
    """Whether the charge depends on the event's time."""


def promoted(charge: EventCharge, promotion: Promotion) -> EventCharge:
    """``charge`` with the promotion's share off the events in its window."""
    places = decimals_of(promotion.discount_rate)
    full, reduced = 10**places, 10**places - scaled(promotion.discount_rate, places)

    def charges(values: IntArray, time_us: NDArray[np.int64], inputs: Inputs) -> tuple[IntArray, Flaws]:
        found, flaws = charge.charges(values, time_us, inputs)
        return select(in_window(promotion, time_us), times(found, reduced), times(found, full)), flaws

    return EventCharge(charge.inputs, charge.scale + places, charges, charge.allowance, reads_time=True)


def in_window(promotion: Promotion, time_us: NDArray[np.int64]) -> BoolArray:
    """(n,) bool: which events it discounts."""
    inside = np.ones(len(time_us), dtype=np.bool_)
    if promotion.from_us is not None:
        inside &= time_us >= promotion.from_us
    if promotion.until_us is not None:
        inside &= time_us < promotion.until_us
    return inside


@dataclass(frozen=True, slots=True)
class Working:
    """How one event's charge comes about: at which price, and what else had a say."""

    unit_price: Fraction | None = None
    flat_price: Fraction | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class EventModel:
    """One per-event price model.

    ``compile(price, quantity_scale)`` makes the kernel. ``working(price, value, time_us, free, row)`` explains one charge:
    the event's value and time, how much of it the allowance covers (None: no part), and what was read of it by path.
    """

    compile: Callable[[Price, int], EventCharge]
    working: Callable[[Price, Fraction, int, Fraction | None, Mapping[Path, Any]], Working]
    page: Page
    monotone: bool = True
    """Whether another event never makes the total smaller, where no value or amount read from it is negative."""

    def inputs(self, price: Price) -> tuple[Path, ...]:
        """What a price of the model reads of an event besides the meter's value."""
        return self.compile(price, 0).inputs

    def charge_scale(self, price: Price, quantity_scale: int) -> int:
        """Decimals of the charges, for values of ``quantity_scale`` decimals."""
        return self.compile(price, quantity_scale).scale


def decimals_of(*values: Decimal | None) -> int:
    """How many decimals it takes to write all of them exactly."""
    most = 0
    for value in values:
        rest, places = Fraction(value or 0), 0
        while rest.denominator != 1:
            rest, places = rest * 10, places + 1
        most = max(most, places)
    return most


def scaled(value: Decimal, scale: int) -> int:
    """``value * 10**scale``, which must be whole."""
    exact: Fraction = Fraction(value) * 10**scale
    assert exact.denominator == 1
    return exact.numerator


def named(path: Path, flaws: Flaws) -> Flaws:
    """Flaws of a column that say which path they are about."""
    text = ".".join(path.steps)
    return {row: Flaw(flaw.reason, f"{text} {flaw.text}") for row, flaw in flaws.items()}


def without_flawed(charges: IntArray, flaws: Flaws) -> IntArray:
    """Charges with 0 where there is a flaw."""
    if flaws:
        charges = charges.copy()
        charges[list(flaws)] = 0
    return charges
