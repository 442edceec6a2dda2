"""``per_unit``: every unit costs the same."""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models.shape import Charge, Model, Piece, Shape, decimal_field


def shape(price: Price) -> Shape:
    """One line through zero."""
    return Shape((Piece(None, decimal_field(price, "unit_price"), Fraction(0)),))


def charges(price: Price, units: Fraction) -> list[Charge]:
    """All units at the one price."""
    return [Charge("units", units, decimal_field(price, "unit_price"))]


MODEL = Model(shape, charges, monotone=True)
