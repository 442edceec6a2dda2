"""``graduated_percentage``: the quantity is money itself; each tier charges its rate on the part that lies in it.

A tier's flat price is due once any part lies in it, the first tier's at zero already. Bounds are inclusive.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models import graduated
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import Charge, Model, Shape


def shape(price: Price) -> Shape:
    """The shape of ``graduated``: a share of one unit of money is the price of that unit."""
    return graduated.shape(_per_unit(price))


def charges(price: Price, units: Fraction) -> list[Charge]:
    """One line for every tier that is open at ``units``; its unit price is the rate."""
    return graduated.charges(_per_unit(price), units)


def _per_unit(price: Price) -> Price:
    return replace(price, tiers=tuple(replace(tier, unit_price=tier.rate or tier.unit_price) for tier in price.tiers))


PAGE = Page(
    summary=(
        "The metered quantity is money itself, such as a turnover; each tier charges its `rate` on the part "
        "that lies in it. A tier's `flat_price` is due once any part lies in it, the first tier's at zero "
        "already."
    ),
    when=(
        "Revenue shares that fall with turnover. For a share of each payment, with a fee or a floor for each,"
        " see `percentage`."
    ),
    example={
        "model": "graduated_percentage",
        "currency": "USD",
        "tiers": [{"up_to": "10000", "rate": "0.03", "flat_price": "20"}, {"up_to": None, "rate": "0.01"}],
    },
    usage=("25000",),
)
MODEL = Model(shape, charges, PAGE, monotone=True)
