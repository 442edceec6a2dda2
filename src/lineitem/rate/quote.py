"""What would it cost? Exact amounts for a price and quantities, without a ledger, a meter or a rounding."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from lineitem.catalog.model import Rounding
from lineitem.catalog.price_doc import DECIMALS_MAX, decimal_of, parse_price, path_text, shorten
from lineitem.core.errors import InputError
from lineitem.core.limits import RECORD_BYTES_MAX
from lineitem.core.money import round_half_away, scaled_to_text
from lineitem.rate.price import CompiledPrice, compile_price

SIGNIFICANT_DIGITS = 38
"""Digits shown of an amount whose decimal expansion does not end (a ``divide_by`` of 3)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the working. ``amount`` is what the step adds: the amounts of all steps sum to the quote."""

    label: str
    quantity: Fraction | None = None
    unit_price: Fraction | None = None
    flat_price: Fraction | None = None
    amount: Fraction | None = None


def price_from_doc(price_doc: object) -> CompiledPrice:
    """A price as the catalog writes it, ready to quote (``id`` and ``meter`` may be left out).

    Raises InputError that names every defect.
    """
    price, problems = parse_price(price_doc, standalone=True)
    if price is None:
        paths = [path_text(("price", *problem.path)) for problem in problems]
        one = len(problems) == 1
        raise InputError(
            problems[0].text if one else "; ".join(str(problem) for problem in problems),
            where=paths[0] if one else "price",
            do="Write the price as in a catalog, its decimals as text in quotes.",
        )
    return compile_price(price, DECIMALS_MAX)


def quote(price_doc: object, quantities: Iterable[object]) -> list[str]:
    """The exact charge at each quantity (cumulative readings of one period), as plain decimal text.

    Amounts are exact. Only one whose decimal expansion never ends is cut: to 38 significant digits, half away from
    zero. Raises InputError (what, where, what to do) for a price or a quantity that is not one.
    """
    price = price_from_doc(price_doc)
    return [fraction_text(price.exact(_quantity(value, index))) for index, value in enumerate(quantities)]


def quote_line(line: object) -> dict[str, Any]:
    """One line of the JSON Lines form: ``{"id", "price", "quantities"}`` to ``{"id", "amounts"}``.

    A line that cannot be quoted becomes ``{"id", "error": {"what", "where", "do"}}``; it never raises for bad input.
    """
    identity = line.get("id") if isinstance(line, Mapping) else None
    try:
        return {"id": identity, "amounts": _quote_mapping(line)}
    except InputError as error:
        return {"id": identity, "error": {"what": error.what, "where": error.where, "do": error.do}}


def quote_text(text: str | bytes) -> dict[str, Any]:
    """``quote_line`` of one line of JSON text; text that is not JSON becomes an error line with a null id."""
    try:
        return quote_line(_decode(text))
    except InputError as error:
        return {"id": None, "error": {"what": error.what, "where": error.where, "do": error.do}}


def quote_explain(price_doc: object, quantity: object) -> list[Step]:
    """How the charge at one quantity comes about: conversion, included units, what is charged, discount, maximum."""
    compiled = price_from_doc(price_doc)
    price = compiled.price
    metered = Fraction(_quantity(quantity, 0))
    steps = [Step("quantity", metered)]
    if metered < 0:
        steps.append(Step("below zero bills as zero", Fraction(0)))
    units = compiled.converted(metered)
    if price.transform is not None:
        steps.append(Step(_transform_label(price.transform.divide_by, price.transform.round), units))
    billable = compiled.billable(units)
    if price.included is not None:
        steps.append(Step(f"less {fraction_text(Fraction(price.included))} included", billable))
    charges = compiled.model.charges(price, billable)
    steps += [
        Step(charge.label, charge.quantity, charge.unit_price, charge.flat_price, charge.amount) for charge in charges
    ]
    gross = sum((charge.amount for charge in charges), Fraction(0))
    net = compiled.discounted(gross)
    if price.discount_rate is not None:
        steps.append(Step(f"discount {fraction_text(100 * Fraction(price.discount_rate))} %", amount=net - gross))
    capped = compiled.capped(net)
    if capped != net:
        steps.append(Step(f"maximum {fraction_text(capped)}", amount=capped - net))
    return steps


def fraction_text(value: Fraction) -> str:
    """An exact value as plain decimal text: no exponent, no trailing zeros; see ``quote`` for one that never ends."""
    scale, rest = 0, value.denominator
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest, power = rest // prime, power + 1
        scale = max(scale, power)
    if rest != 1:
        scale = _scale_of_digits(value, SIGNIFICANT_DIGITS)
    return scaled_to_text(round_half_away(value.numerator * 10**scale, value.denominator), scale)


def _scale_of_digits(value: Fraction, digits: int) -> int:
    """The decimals that show ``value`` with ``digits`` significant digits; whole units are never cut."""
    whole = abs(value.numerator) // value.denominator
    if whole:
        return max(0, digits - len(str(whole)))
    zeros = 0
    while abs(value) * 10 ** (zeros + 1) < 1:
        zeros += 1
    return digits + zeros


def _quote_mapping(line: object) -> list[str]:
    if not isinstance(line, Mapping):
        raise InputError(f"{shorten(line)} is not a line to quote", do=_LINE_HELP)
    for key, kind in (("price", Mapping), ("quantities", list)):
        if line.get(key) is None:
            raise InputError(f"{key} is missing", where=key, do=_LINE_HELP)
        if not isinstance(line[key], kind):
            raise InputError(f"{shorten(line[key])} is not what {key} holds", where=key, do=_LINE_HELP)
    return quote(line["price"], line["quantities"])


_LINE_HELP = 'Write {"id": "a", "price": {...}, "quantities": ["1", "2.5"]}, one object a line.'


def _quantity(value: object, index: int) -> Decimal:
    quantity, defect = decimal_of(value, negative=True)
    if quantity is None:
        raise InputError(defect or "", where=f"quantities[{index}]", do='Write a decimal in quotes, such as "12.5".')
    return quantity


def _decode(text: str | bytes) -> object:
    """JSON with fractions as Decimal. Raises InputError for anything that is not one JSON value."""
    if len(text) > RECORD_BYTES_MAX:
        raise InputError(f"the line is longer than {RECORD_BYTES_MAX} bytes", do=_LINE_HELP)
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the line is not JSON: {shorten(str(error))}", do=_LINE_HELP) from None


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return mapping


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _transform_label(divide_by: Decimal, rounding: Rounding) -> str:
    label = f"divided by {fraction_text(Fraction(divide_by))}"
    words = {Rounding.UP: "rounded up", Rounding.DOWN: "rounded down", Rounding.HALF_UP: "rounded half up"}
    return f"{label}, {words[rounding]}" if rounding in words else label
