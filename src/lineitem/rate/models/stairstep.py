"""``stairstep``: the tier the whole quantity falls into is due as one sum, however much of it is used.

Bounds are inclusive; the first tier's sum is due at quantity zero already.
"""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import Charge, Model, Piece, Shape, tier_at


def shape(price: Price) -> Shape:
    """One level piece a tier: at a bound the amount jumps, down too if the next sum is smaller."""
    return Shape(
        tuple(
            Piece(None if tier.up_to is None else Fraction(tier.up_to), Fraction(0), Fraction(tier.flat_price))
            for tier in price.tiers
        )
    )


def charges(price: Price, units: Fraction) -> list[Charge]:
    """The sum of the one tier that the units reach."""
    number, tier = tier_at(price, units)
    return [Charge(f"tier {number}", units, Fraction(0), Fraction(tier.flat_price))]


PAGE = Page(
    summary=(
        "The tier the whole quantity falls into is due as one sum, its `flat_price`, however much of it is "
        "used. The first tier's is due without usage, once the account has any event of that meter in the "
        "month."
    ),
    when="Plans by size: up to 10 seats this, up to 50 that. Where units cost too, see `volume`.",
    example={
        "model": "stairstep",
        "currency": "USD",
        "tiers": [
            {"up_to": "10", "flat_price": "49"},
            {"up_to": "50", "flat_price": "199"},
            {"up_to": None, "flat_price": "499"},
        ],
    },
    usage=("10", "11"),
)
MODEL = Model(shape, charges, PAGE, whole=True)
