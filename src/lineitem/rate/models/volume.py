"""``volume``: the tier the whole quantity falls into prices all of it, its flat price added. Bounds are inclusive."""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price, Tier
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


MODEL = Model(shape, charges)
