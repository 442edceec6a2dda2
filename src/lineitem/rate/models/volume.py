"""``volume``: the tier the whole quantity falls into prices all of it, its flat price added. Bounds are inclusive."""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price, Tier
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import Charge, Model, Piece, Shape, tier_at


def shape(price: Price) -> Shape:
    """One piece a tier, each a line of its own: at a bound the amount may jump, down too."""
    return Shape(tuple(_piece(tier) for tier in price.tiers))


def _piece(tier: Tier) -> Piece:
    up_to = None if tier.up_to is None else Fraction(tier.up_to)
    return Piece(up_to, Fraction(tier.unit_price), Fraction(tier.flat_price))


def charges(price: Price, units: Fraction) -> list[Charge]:
    """All units at the price of the one tier they reach."""
    number, tier = tier_at(price, units)
    return [Charge(f"tier {number}", units, Fraction(tier.unit_price), Fraction(tier.flat_price))]


PAGE = Page(
    summary=(
        "The tier the whole quantity falls into prices all of it, and its `flat_price` is added. At a bound "
        "the amount may jump, down too: that cliff is part of the model."
    ),
    when=(
        "Contracts that say: from so many on, all of them at that price. If a lower bill for more usage is "
        "not meant, see `graduated`."
    ),
    example={
        "model": "volume",
        "currency": "USD",
        "tiers": [{"up_to": "9999", "unit_price": "0.02"}, {"up_to": None, "unit_price": "0.01"}],
    },
    usage=("9999", "10000"),
)
MODEL = Model(shape, charges, PAGE, whole=True)
