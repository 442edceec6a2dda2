"""``per_unit``: every unit costs the same."""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import Charge, Model, Piece, Shape, decimal_field


def shape(price: Price) -> Shape:
    """One line through zero."""
    return Shape((Piece(None, decimal_field(price, "unit_price"), Fraction(0)),))


def charges(price: Price, units: Fraction) -> list[Charge]:
    """All units at the one price."""
    return [Charge("units", units, decimal_field(price, "unit_price"))]


PAGE = Page(
    summary=(
        "Every unit costs the same: quantity times `unit_price`. Sub-cent prices are fine, nothing is rounded"
        " before the total."
    ),
    when=(
        "The simplest price, and the one to start with. For a price per thousand or per million, keep the "
        "unit price exact and use `transform`. Where units are sold in bundles, see `package`."
    ),
    example={"model": "per_unit", "currency": "USD", "unit_price": "0.004", "included": "1000"},
    usage=("500", "25000"),
)
MODEL = Model(shape, charges, PAGE, monotone=True)
