"""``package``: units are sold in packages of a size; a package begun is due."""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models.page import Page
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


PAGE = Page(
    summary="Units are sold in packages of `package_size`; a package begun is due whole.",
    when="Bundles: messages by the hundred, storage by the terabyte.",
    example={"model": "package", "currency": "USD", "package_size": "1000", "package_price": "10"},
    usage=("3200",),
)
MODEL = Model(shape, charges, PAGE, monotone=True)
