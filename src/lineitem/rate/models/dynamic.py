"""``dynamic``: the event carries its price, of one unit (``price``) or of all of it (``amount``); ``multiplier`` scales it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression import parse_path
from lineitem.catalog.expression_tree import Path
from lineitem.catalog.model import Price
from lineitem.core.errors import InputError
from lineitem.core.reasons import Reason
from lineitem.rate.columns import Column
from lineitem.rate.exact import IntArray, multiply, times
from lineitem.rate.models.event import (
    EventCharge,
    EventModel,
    Inputs,
    Working,
    decimals_of,
    named,
    scaled,
    without_flawed,
)
from lineitem.rate.models.page import Page
from lineitem.rate.readings import Flaw, Flaws, read_quantities, shown

SCALE_DEFAULT = 12
"""Decimals kept of what the event says, unless the price has a ``scale``: prices of one token have that many."""


def compile_charge(price: Price, quantity_scale: int) -> EventCharge:
    """Value times price, or the amount; times the multiplier."""
    per_unit = price.price is not None
    text = price.price if per_unit else price.amount
    if text is None:
        raise InputError(
            "a dynamic price needs price or amount", where=f"price {price.id}", do="Add one: a path into the event."
        )
    path = parse_path(text)
    currency_path = None if price.currency_from is None else parse_path(price.currency_from)
    kept = SCALE_DEFAULT if price.scale is None else price.scale
    multiplier_scale = decimals_of(price.multiplier)
    multiplier = scaled(Decimal(1) if price.multiplier is None else price.multiplier, multiplier_scale)

    def charges(values: IntArray, _time_us: NDArray[np.int64], inputs: Inputs) -> tuple[IntArray, Flaws]:
        amounts, flaws = read_quantities(inputs[path], kept)
        flaws = named(path, flaws)
        if currency_path is not None:
            flaws = {**named(currency_path, _currency_flaws(inputs[currency_path], price.currency)), **flaws}
        amounts = times(multiply(values, amounts) if per_unit else amounts, multiplier)
        return without_flawed(amounts, flaws), flaws

    paths = (path,) if currency_path is None else (path, currency_path)
    return EventCharge(paths, (quantity_scale if per_unit else 0) + kept + multiplier_scale, charges)


def _currency_flaws(column: Column, currency: str) -> Flaws:
    if set(map(type, column.values)) == {str} and set(column.values) == {currency}:
        return {}
    missing = Flaw(Reason.MISSING_VALUE, "is missing or null")
    return {
        row: missing
        if value is None
        else Flaw(Reason.CURRENCY_MISMATCH, f"is {shown(value)}, but the price is in {currency}")
        for row, value in enumerate(column.values)
        if value != currency
    }


def working(price: Price, _value: Fraction, _time_us: int, _free: Fraction | None, row: Mapping[Path, Any]) -> Working:
    """The price of one unit or the amount that the event carries, and what it is multiplied by."""
    read = Fraction(Decimal(row[parse_path(price.price or price.amount or "")]))
    note = "" if price.multiplier is None else f"times {price.multiplier:f}"
    return Working(unit_price=read, note=note) if price.price else Working(flat_price=read, note=note)


PAGE = Page(
    summary=(
        "The event carries its price: of one unit (`price`, times the meter's value) or of all of it "
        "(`amount`, whatever the value is). `multiplier` scales either. An event without it, or whose price "
        "is no decimal, is a dead letter, never a zero."
    ),
    when=(
        "Where the price is decided elsewhere, when the usage happens: auctions, spot markets, orders. For a "
        "margin on costs, see `cost_plus`."
    ),
    example={"model": "dynamic", "currency": "USD", "price": "data.unit_price", "currency_from": "data.currency"},
    usage=(
        {"value": "1000", "data": {"unit_price": "0.0000025", "currency": "USD"}},
        {"value": "3", "data": {"unit_price": "0.5", "currency": "USD"}},
    ),
)
MODEL = EventModel(compile_charge, working, PAGE)
