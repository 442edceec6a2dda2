"""``cost_plus``: the event carries what it cost us; the charge is that times a ``multiplier`` (1.15 adds 15 %)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from lineitem.catalog.expression_tree import Path
from lineitem.catalog.model import Price
from lineitem.rate.models import dynamic
from lineitem.rate.models.event import EventCharge, EventModel, Working
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import decimal_field


def compile_charge(price: Price, quantity_scale: int) -> EventCharge:
    """The kernel of ``dynamic`` whose amount is the cost."""
    decimal_field(price, "multiplier")
    return dynamic.compile_charge(replace(price, amount=price.cost), quantity_scale)


def working(price: Price, value: Fraction, time_us: int, free: Fraction | None, row: Mapping[Path, Any]) -> Working:
    """The cost, and what it is multiplied by."""
    return dynamic.working(replace(price, amount=price.cost), value, time_us, free, row)


PAGE = Page(
    summary=(
        "The event carries what it cost; the charge is that times `multiplier`. The meter's value is not "
        "read: a meter that counts will do."
    ),
    when="Passing on a provider's bill with a margin. For a price the event carries by unit, see `dynamic`.",
    example={"model": "cost_plus", "currency": "USD", "cost": "data.cost", "multiplier": "1.15"},
    usage=({"data": {"cost": "10"}}, {"data": {"cost": "3.333333"}}),
)
MODEL = EventModel(compile_charge, working, PAGE)
