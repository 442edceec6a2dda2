"""What a price model is: a piecewise linear function of the billable units, in exact fractions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from lineitem.catalog.model import Price, Tier
from lineitem.core.errors import InputError
from lineitem.rate.models.page import Page


@dataclass(frozen=True, slots=True)
class Piece:
    """``intercept + slope * units`` for units above the previous piece's ``up_to``, up to and including its own."""

    up_to: Fraction | None
    slope: Fraction
    intercept: Fraction

    def at(self, units: Fraction) -> Fraction:
        """The amount at ``units``, which must lie in this piece."""
        return self.intercept + self.slope * units


@dataclass(frozen=True, slots=True)
class Shape:
    """All pieces in ascending order; the last has no ``up_to``.

    ``step`` sells the units in steps of that size, a step begun being due: the pieces then take whole steps.
    """

    pieces: tuple[Piece, ...]
    step: Fraction | None = None

    def at(self, units: Fraction) -> Fraction:
        """The amount at ``units >= 0``."""
        if self.step is not None:
            units = steps_begun(units, self.step)
        bounds = [piece.up_to for piece in self.pieces if piece.up_to is not None]
        return self.pieces[bisect_left(bounds, units)].at(units)


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the working: ``quantity`` of ``label`` at ``unit_price``, ``flat_price`` added."""

    label: str
    quantity: Fraction
    unit_price: Fraction
    flat_price: Fraction = Fraction(0)

    @property
    def amount(self) -> Fraction:
        """What this line comes to."""
        return self.quantity * self.unit_price + self.flat_price


@dataclass(frozen=True, slots=True)
class Model:
    """One price model.

    ``shape(price)`` is the function from billable units (after transform and included units) to the amount before
    discount and maximum. ``charges(price, units)`` shows how that amount comes about; their sum is ``shape``'s.
    """

    shape: Callable[[Price], Shape]
    charges: Callable[[Price, Fraction], list[Charge]]
    page: Page
    monotone: bool = False
    """Whether more usage never costs less, whatever the price says. (``volume`` and ``stairstep`` may step down.)"""
    whole: bool = False
    """Whether the tier reached prices the whole quantity: no unit comes before another."""


def decimal_field(price: Price, name: str) -> Fraction:
    """A decimal the model cannot do without. Raises InputError where the price lacks it."""
    value = getattr(price, name)
    if value is None:
        raise InputError(f"a {price.model} price needs {name}", where=f"price {price.id}", do=f"Add {name}.")
    return Fraction(value)


def steps_begun(units: Fraction, step: Fraction) -> Fraction:
    """How many steps of size ``step`` the units touch, the last one begun counting whole."""
    return Fraction(-(-units // step))


def tier_at(price: Price, units: Fraction) -> tuple[int, Tier]:
    """The tier that ``units`` reach, bounds inclusive, and its number counted from 1."""
    for number, tier in enumerate(price.tiers, 1):
        if tier.up_to is None or units <= Fraction(tier.up_to):
            return number, tier
    raise AssertionError("the last tier has no upper bound")
