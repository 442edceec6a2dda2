"""``stairstep``: the tier the whole quantity falls into is due as one sum, however much of it is used.

Bounds are inclusive; the first tier's sum is due at quantity zero already.
"""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price
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


MODEL = Model(shape, charges)
