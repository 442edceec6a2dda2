"""``graduated``: each tier prices the units that lie in it; a tier's flat price is due once any part of a unit does.

The first tier's flat price is due at quantity zero already. Bounds are inclusive.
"""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import Charge, Model, Piece, Shape


def shape(price: Price) -> Shape:
    """One piece a tier; it starts where the tiers below end, its own flat price added."""
    pieces = []
    below, amount_below = Fraction(0), Fraction(0)
    for tier in price.tiers:
        slope = Fraction(tier.unit_price)
        amount_below += Fraction(tier.flat_price)
        up_to = None if tier.up_to is None else Fraction(tier.up_to)
        pieces.append(Piece(up_to, slope, amount_below - slope * below))
        if up_to is not None:
            amount_below += slope * (up_to - below)
            below = up_to
    return Shape(tuple(pieces))


def charges(price: Price, units: Fraction) -> list[Charge]:
    """One line for every tier that is open at ``units``."""
    lines = []
    below = Fraction(0)
    for number, tier in enumerate(price.tiers, 1):
        if number > 1 and units <= below:
            break
        end = units if tier.up_to is None else min(units, Fraction(tier.up_to))
        lines.append(Charge(f"tier {number}", end - below, Fraction(tier.unit_price), Fraction(tier.flat_price)))
        below = end if tier.up_to is None else Fraction(tier.up_to)
    return lines


PAGE = Page(
    summary=(
        "Each unit pays the price of the tier it lies in. A tier's `flat_price` is due once any part of a "
        "unit lies in it; the first tier's is due without usage, once the account has any event of that meter"
        " in the month."
    ),
    when=(
        "Prices that fall (or rise) with volume without a jump: one more unit never makes the month cheaper. "
        "Where the tier reached prices everything, see `volume`."
    ),
    example={
        "model": "graduated",
        "currency": "USD",
        "tiers": [
            {"up_to": "100", "unit_price": "1", "flat_price": "5"},
            {"up_to": "200", "unit_price": "0.5"},
            {"up_to": None, "unit_price": "0.1"},
        ],
    },
    usage=("250",),
)
MODEL = Model(shape, charges, PAGE, monotone=True)
