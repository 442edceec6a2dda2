"""``package``: units are sold in packages of a size; a package begun is due."""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models.shape import Charge, Model, Piece, Shape, decimal_field, steps_begun


def shape(price: Price) -> Shape:
    """One line through zero over whole packages."""
    return Shape(
        (Piece(None, decimal_field(price, "package_price"), Fraction(0)),), step=decimal_field(price, "package_size")
    )


def charges(price: Price, units: Fraction) -> list[Charge]:
    """The packages begun, at the price of one."""
    packages = steps_begun(units, decimal_field(price, "package_size"))
    return [Charge("packages", packages, decimal_field(price, "package_price"))]


MODEL = Model(shape, charges, monotone=True)
