"""``percentage``: a share of each event's value and a fixed fee, within a least and a most per event, the first ones free.

An event the allowance covers whole costs nothing, its fee and its least included; one it covers in part pays the rate on the
rest, and the fee. (Cases pct-1 to pct-7 of the published vectors.)
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression_tree import Path
from lineitem.catalog.model import Price
from lineitem.rate.allowance import Allowance
from lineitem.rate.exact import IntArray, at_least, cap, plus, times
from lineitem.rate.models.event import EventCharge, EventModel, Inputs, Working, decimals_of, scaled
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import decimal_field
from lineitem.rate.readings import Flaws
from lineitem.rate.working import fraction_text


def compile_charge(price: Price, quantity_scale: int) -> EventCharge:
    """One multiplication, one addition, two bounds."""
    unit_scale = max(quantity_scale, decimals_of(price.free_units))
    rate = decimal_field(price, "rate")
    limits = (price.per_event, price.minimum_per_event, price.maximum_per_event)
    scale = max(unit_scale + decimals_of(price.rate), decimals_of(*limits))
    factor = int(rate * 10 ** (scale - unit_scale))
    fee, least, most = (None if limit is None else scaled(limit, scale) for limit in limits)
    lift = 10 ** (unit_scale - quantity_scale)

    def charge(units: IntArray) -> IntArray:
        charges = plus(times(units, factor), fee or 0)
        charges = charges if least is None else at_least(charges, least)
        return charges if most is None else cap(charges, most)

    def charges(values: IntArray, _time_us: NDArray[np.int64], _inputs: Inputs) -> tuple[IntArray, Flaws]:
        return charge(times(values, lift)), {}

    allowance = None
    if price.free_events is not None or price.free_units is not None:
        units = None if price.free_units is None else scaled(price.free_units, unit_scale)
        allowance = Allowance(price.free_events, units, lift, charge)
    return EventCharge((), scale, charges, allowance)


def working(price: Price, value: Fraction, _time_us: int, free: Fraction | None, _row: Mapping[Path, Any]) -> Working:
    """The rate, the fee, and which bound had a say."""
    if free is not None and free >= value:
        return Working(note="free")
    part = free or Fraction(0)
    raw = (value - part) * Fraction(price.rate or 0) + Fraction(price.per_event or 0)
    notes = [f"{fraction_text(part)} of it free"] if part else []
    if price.minimum_per_event is not None and raw < price.minimum_per_event:
        notes.append(f"at least {price.minimum_per_event:f}")
    if price.maximum_per_event is not None and raw > price.maximum_per_event:
        notes.append(f"at most {price.maximum_per_event:f}")
    fee = None if price.per_event is None else Fraction(price.per_event)
    return Working(Fraction(price.rate or 0), fee, ", ".join(notes))


PAGE = Page(
    summary=(
        "Each event costs `rate` times its value, plus `per_event`, and not less than `minimum_per_event` or "
        "more than `maximum_per_event`. Free events come first, by event time and identity, however late they"
        " arrive: one that is wholly free costs nothing at all; one that is free in part pays the rate on the"
        " rest, and the fee. A negative value takes its share back."
    ),
    when=(
        "Payment fees, marketplace commissions. For a share of the month's turnover in tiers, see "
        "`graduated_percentage`."
    ),
    example={
        "model": "percentage",
        "currency": "USD",
        "rate": "0.013",
        "per_event": "2",
        "free_events": 3,
        "free_units": "250",
    },
    usage=("50", "100", "250", "400"),
)
MODEL = EventModel(compile_charge, working, PAGE)
