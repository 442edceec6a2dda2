"""``graduated_percentage``: the quantity is money itself; each tier charges its rate on the part that lies in it.

A tier's flat price is due once any part lies in it, the first tier's at zero already. Bounds are inclusive.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models import graduated
from lineitem.rate.models.shape import Charge, Model, Shape


def shape(price: Price) -> Shape:
    """The shape of ``graduated``: a share of one unit of money is the price of that unit."""
    return graduated.shape(_per_unit(price))


def charges(price: Price, units: Fraction) -> list[Charge]:
    """One line for every tier that is open at ``units``; its unit price is the rate."""
    return graduated.charges(_per_unit(price), units)


def _per_unit(price: Price) -> Price:
    return replace(price, tiers=tuple(replace(tier, unit_price=tier.rate or tier.unit_price) for tier in price.tiers))


MODEL = Model(shape, charges, monotone=True)
