"""``per_unit``: every unit costs the same."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression_tree import Path
from lineitem.catalog.model import Price
from lineitem.rate.exact import IntArray, times
from lineitem.rate.models.event import EventCharge, EventModel, Inputs, Working, decimals_of
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import Charge, Model, Piece, Shape, decimal_field
from lineitem.rate.readings import Flaws


def shape(price: Price) -> Shape:
    """One line through zero."""
    return Shape((Piece(None, decimal_field(price, "unit_price"), Fraction(0)),))


def charges(price: Price, units: Fraction) -> list[Charge]:
    """All units at the one price."""
    return [Charge("units", units, decimal_field(price, "unit_price"))]


def compile_charge(price: Price, quantity_scale: int) -> EventCharge:
    """The value at the one price, event by event."""
    price_scale = decimals_of(price.unit_price)
    factor = int(decimal_field(price, "unit_price") * 10**price_scale)

    def charges(values: IntArray, _time_us: NDArray[np.int64], _inputs: Inputs) -> tuple[IntArray, Flaws]:
        return times(values, factor), {}

    return EventCharge((), quantity_scale + price_scale, charges)


def working(price: Price, _value: Fraction, _time_us: int, _free: Fraction | None, _row: Mapping[Path, Any]) -> Working:
    """The one price."""
    return Working(unit_price=decimal_field(price, "unit_price"))


PAGE = Page(
    summary=(
        "Every unit costs the same: quantity times `unit_price`. Sub-cent prices are fine, nothing is rounded"
        " before the total. With a `promotion` each event is charged by itself, at its own time: then without"
        " `included`, `transform` and `on_change`, and `quote` takes events."
    ),
    when=(
        "The simplest price, and the one to start with. For a price per thousand or per million, keep the "
        "unit price exact and use `transform`. Where units are sold in bundles, see `package`."
    ),
    example={"model": "per_unit", "currency": "USD", "unit_price": "0.004", "included": "1000"},
    usage=("500", "25000"),
)
MODEL = Model(shape, charges, PAGE, monotone=True)
BY_EVENT = EventModel(compile_charge, working, PAGE)
"""The same where a promotion makes the price of a unit depend on the event's time."""
