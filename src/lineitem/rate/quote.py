"""What would it cost? Exact amounts for a price and quantities, without a ledger, a meter or a rounding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from lineitem.catalog.model import Rounding
from lineitem.catalog.price_doc import MODEL_FIELDS, parse_price
from lineitem.catalog.price_reader import DECIMALS_MAX, path_text, shorten
from lineitem.core.errors import InputError
from lineitem.core.exact_json import exact_json
from lineitem.core.limits import RECORD_BYTES_MAX
from lineitem.rate.models.shape import Model
from lineitem.rate.price import CompiledPrice, compile_price
from lineitem.rate.quote_events import event_amounts, event_steps, read_decimal, read_events, reductions
from lineitem.rate.quote_levels import read_level
from lineitem.rate.quote_promoted import Used, promoted_amounts, promotion_steps, used_by
from lineitem.rate.working import Step, fraction_text


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
    zero. Raises InputError (what, where, what to do) for a price or a quantity that is not one, and for a price that
    charges each event.
    """
    price = price_from_doc(price_doc)
    if price.promoted is not None:
        what = f"this {price.price.model} price has a promotion, which asks when its units are used"
        raise InputError(what, where="quantities", do=f"Give events with their times. {LINE_HELP}")
    if price.charge is not None:
        raise InputError(
            f"this {price.price.model} price charges each event", where="quantities", do=f"Give events. {LINE_HELP}"
        )
    return [fraction_text(price.exact(_quantity(value, index))) for index, value in enumerate(quantities)]


def quote_line(line: object) -> dict[str, Any]:
    """One line of the JSON Lines form: ``{"id", "price", "quantities" or "events"}`` to ``{"id", "amounts"}``.

    Events get the sum of their amounts as ``amount`` too. A line that cannot be quoted becomes
    ``{"id", "error": {"what", "where", "do"}}``; it never raises for bad input.
    """
    identity = line.get("id") if isinstance(line, Mapping) else None
    try:
        return {"id": identity, **_quote_mapping(line)}
    except InputError as error:
        return {"id": identity, "error": {"what": error.what, "where": error.where, "do": error.do}}


def quote_text(text: str | bytes) -> dict[str, Any]:
    """``quote_line`` of one line of JSON text; text that is not JSON becomes an error line with a null id."""
    try:
        return quote_line(decode(text))
    except InputError as error:
        return {"id": None, "error": {"what": error.what, "where": error.where, "do": error.do}}


def quote_explain(price_doc: object, quantity: object) -> list[Step]:
    """How the charge at one quantity comes about: conversion, included units, what is charged, discount, maximum, minimum."""
    return price_steps(price_from_doc(price_doc), Fraction(_quantity(quantity, 0)))


def promoted_steps(price: CompiledPrice, used: Used, *, settled: bool = True) -> list[Step]:
    """The same under a promotion on the month's quantity."""
    return price_steps(price, used.total, settled=settled, off=promotion_steps(price, used))


def price_steps(
    compiled: CompiledPrice, metered: Fraction, *, settled: bool = True, off: Sequence[Step] = ()
) -> list[Step]:
    """The same for a price that is compiled; the minimum does not count before the period is ``settled``.

    ``off``: what a promotion takes off the charges, before the percentage discount.
    """
    price = compiled.price
    steps = [Step("quantity", metered)]
    if metered < 0:
        steps.append(Step("below zero bills as zero", Fraction(0)))
    units = compiled.converted(metered)
    if price.transform is not None:
        steps.append(Step(_transform_label(price.transform.divide_by, price.transform.round), units))
    billable = compiled.billable(units)
    if price.included is not None:
        steps.append(Step(f"less {fraction_text(Fraction(price.included))} included", billable))
    assert isinstance(compiled.model, Model), "events are explained one by one"
    charges = compiled.model.charges(price, billable)
    steps += [
        Step(charge.label, charge.quantity, charge.unit_price, charge.flat_price, charge.amount) for charge in charges
    ]
    gross = sum((step.amount or Fraction(0) for step in (*steps, *off)), Fraction(0))
    return [*steps, *off, *reductions(compiled, gross, settled=settled)]


def quote_events(price_doc: object, events: Sequence[object]) -> tuple[list[str], str]:
    """What each event costs under a per-event price or one with a promotion, and all of them together, as decimal text.

    An event is a value, or ``{"value", "data", "time"}`` where the price reads more. The sum is at least the price's
    minimum, which no single event bears. Raises InputError as ``quote``.
    """
    price = _per_event(price_doc)
    found = read_events(events)
    amounts = event_amounts(price, found) if price.promoted is None else promoted_amounts(price, found)
    return list(map(fraction_text, amounts)), fraction_text(price.raised(sum(amounts, Fraction(0))))


def quote_events_explain(price_doc: object, events: Sequence[object]) -> list[Step]:
    """How the charges of events come about, one step an event, then discount and maximum; they sum to the amount.

    Under a promotion on the month's quantity the steps are those of the whole quantity.
    """
    price, found = _per_event(price_doc), read_events(events)
    return event_steps(price, found) if price.promoted is None else promoted_steps(price, used_by(price, found))


def quote_level(
    price_doc: object, events: Sequence[object], period: object, timezone: object = "UTC"
) -> dict[str, str]:
    """What readings of a level cost in one month, and what they count, as plain decimal text.

    A reading is ``{"value", "time"}``: the level from then on. Raises InputError as ``quote``.
    """
    price = _over_time(price_doc)
    level = read_level(price, events, period, timezone)
    amount = price.exact(level.opening()[1]) if level.held.used else Fraction(0)
    return {"quantity": fraction_text(level.quantity), "amount": fraction_text(amount)}


def quote_level_explain(
    price_doc: object, events: Sequence[object], period: object, timezone: object = "UTC"
) -> list[Step]:
    """How that comes about."""
    price = _over_time(price_doc)
    level = read_level(price, events, period, timezone)
    return level_steps(price, *level.opening()) if level.held.used else [Step("nothing is held", level.quantity)]


def level_steps(price: CompiledPrice, opening: list[Step], metered: Fraction) -> list[Step]:
    """The steps of a settled month of a level; see ``quote_levels.opening_steps``."""
    steps = price_steps(price, metered)
    return [*opening, *steps[1:]] if opening else steps


def _over_time(price_doc: object) -> CompiledPrice:
    price = price_from_doc(price_doc)
    if price.charge is not None or not MODEL_FIELDS[price.price.model].metered:
        raise InputError(
            f"a {price.price.model} price does not charge a level over time",
            where="period",
            do="Leave out the period, or name a price that charges the quantity of a month.",
        )
    return price


def _per_event(price_doc: object) -> CompiledPrice:
    price = price_from_doc(price_doc)
    if price.charge is None:
        raise InputError(
            f"a {price.price.model} price charges the period's quantity, not events",
            where="events",
            do=f"Give quantities. {LINE_HELP}",
        )
    return price


def _quote_mapping(line: object) -> dict[str, Any]:
    if not isinstance(line, Mapping):
        raise InputError(f"{shorten(line)} is not a line to quote", do=LINE_HELP)
    price = line.get("price")
    model = price.get("model") if isinstance(price, Mapping) else None
    fields = MODEL_FIELDS.get(model) if isinstance(model, str) else None
    promoted = isinstance(price, Mapping) and price.get("promotion") is not None
    level = line.get("period") is not None
    usage = "events" if level or promoted or (fields is not None and fields.per_event) else "quantities"
    for key, kind in (("price", Mapping), (usage, list)):
        if line.get(key) is None:
            raise InputError(f"{key} is missing", where=key, do=LINE_HELP)
        if not isinstance(line[key], kind):
            raise InputError(f"{shorten(line[key])} is not what {key} holds", where=key, do=LINE_HELP)
    if level:
        return quote_level(price, line[usage], line["period"], line.get("timezone", "UTC"))
    if usage == "quantities":
        return {"amounts": quote(price, line[usage])}
    amounts, amount = quote_events(price, line[usage])
    return {"amounts": amounts, "amount": amount}


LINE_HELP = (
    'Write {"id": "a", "price": {...}, "quantities": ["1", "2.5"]}, one object a line; "events" for some prices, and with'
    ' a "period" for readings of a level.'
)


def _quantity(value: object, index: int) -> Decimal:
    return read_decimal(value, f"quantities[{index}]")


def decode(text: str | bytes) -> object:
    """JSON with fractions as Decimal. Raises InputError for anything that is not one JSON value."""
    if len(text) > RECORD_BYTES_MAX:
        raise InputError(f"the line is longer than {RECORD_BYTES_MAX} bytes", do=LINE_HELP)
    try:
        return exact_json(text, unique_keys=True)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the line is not JSON: {shorten(str(error))}", do=LINE_HELP) from None


def _transform_label(divide_by: Decimal, rounding: Rounding) -> str:
    label = f"divided by {fraction_text(Fraction(divide_by))}"
    words = {Rounding.UP: "rounded up", Rounding.DOWN: "rounded down", Rounding.HALF_UP: "rounded half up"}
    return f"{label}, {words[rounding]}" if rounding in words else label
