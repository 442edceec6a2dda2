"""What events would cost under a per-event price: read as people write them, charged by the kernel that bills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression_tree import Path
from lineitem.catalog.price_reader import DECIMALS_MAX, decimal_of, shorten
from lineitem.core.errors import InputError
from lineitem.ingest.times import parse_rfc3339
from lineitem.rate.allowance import charges_in_order, uncovered
from lineitem.rate.columns import Column
from lineitem.rate.exact import IntArray, compact
from lineitem.rate.models.event import EventModel, Inputs, in_window
from lineitem.rate.price import CompiledPrice
from lineitem.rate.working import Step, fraction_text

EVENT_KEYS = ("value", "time", "data", "type", "source", "subject", "id")
HELP = 'Write "12.5", or {"value": "12.5", "data": {"region": "eu"}, "time": "2026-10-01T12:00:00Z"}.'


@dataclass(frozen=True, slots=True)
class QuotedEvents:
    """n events in the order they were given."""

    values: IntArray
    """(n,) with ``DECIMALS_MAX`` decimals."""
    time_us: NDArray[np.int64]
    contents: list[Mapping[str, Any]]
    timed: bool
    """Whether no event lacks a time."""

    def inputs(self, paths: Sequence[Path]) -> Inputs:
        """The columns at ``paths``."""
        return {path: Column([_at(content, path.steps) for content in self.contents]) for path in paths}

    def order(self) -> NDArray[np.int64]:
        """The rows by time; those of one instant as they were given."""
        return np.argsort(self.time_us, kind="stable")


def read_decimal(value: object, where: str) -> Decimal:
    """A quantity or a value of either sign. Raises InputError."""
    number, defect = decimal_of(value, negative=True)
    if number is None:
        raise InputError(defect or "", where=where, do='Write a decimal in quotes, such as "12.5".')
    return number


def read_events(events: Sequence[object]) -> QuotedEvents:
    """Events as values or as objects. Raises InputError that names the event and the key.

    Without times the order is the one given. Some with a time and some without have no order: that is an error.
    """
    contents = [event if isinstance(event, Mapping) else {"value": event} for event in events]
    for index, content in enumerate(contents):
        for key in content:
            if key not in EVENT_KEYS:
                raise InputError(
                    f"unknown key {shorten(key)}; known are {', '.join(EVENT_KEYS)}", where=f"events[{index}]", do=HELP
                )
        if not isinstance(content.get("data", {}), Mapping):
            raise InputError("data is an object", where=f"events[{index}].data", do=HELP)
    values = [
        int(Fraction(read_decimal(content.get("value", 1), f"events[{index}]")) * 10**DECIMALS_MAX)
        for index, content in enumerate(contents)
    ]
    column = np.empty(len(values), dtype=object)
    column[:] = values
    timed = not contents or any(content.get("time") is not None for content in contents)
    return QuotedEvents(
        compact(column), _times(contents) if timed else np.zeros(len(values), np.int64), contents, timed
    )


def _times(contents: list[Mapping[str, Any]]) -> NDArray[np.int64]:
    texts = [content.get("time") for content in contents]
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not parse_rfc3339([text])[1][0]:
            raise InputError(
                f"{shorten(text)} is not an RFC 3339 time; all events have one, or none",
                where=f"events[{index}].time",
                do=HELP,
            )
    return parse_rfc3339([str(text) for text in texts])[0]


def _at(value: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def event_amounts(price: CompiledPrice, events: QuotedEvents) -> list[Fraction]:
    """What each event adds to the amount, in the order given: its charge, after discount and maximum.

    Their sum is the amount before the minimum: T of all charges. Raises InputError for an event that cannot be charged.
    """
    charges = _charges(price, events)
    amounts = [Fraction(0)] * len(charges)
    charged, billed = Fraction(0), Fraction(0)
    for row in events.order().tolist():
        charged += charges[row]
        amounts[row] = price.running(charged) - billed
        billed += amounts[row]
    return amounts


def event_steps(price: CompiledPrice, events: QuotedEvents) -> list[Step]:
    """One step an event, then what is below zero, discount and maximum; the amounts sum to the amount."""
    charges, free = _charges(price, events), _free(price, events)
    steps = []
    for row, charge in enumerate(charges):
        step = _step(price, events, row, free[row], charge)
        steps.append(replace(step, label=f"event {row + 1}" + (f": {step.label}" if step.label else "")))
    return steps + reductions(price, sum(charges, Fraction(0)))


def one_event_step(price: CompiledPrice, event: Mapping[str, Any]) -> Step:
    """How one event is charged under a price without an allowance; the label is empty where nothing else had a say.

    ``price`` is compiled for ``DECIMALS_MAX``. Raises InputError for an event that cannot be charged.
    """
    events = read_events([event])
    [charge] = _charges(price, events)
    return _step(price, events, 0, None, charge)


def _step(price: CompiledPrice, events: QuotedEvents, row: int, free: Fraction | None, charge: Fraction) -> Step:
    assert price.charge is not None
    assert isinstance(price.model, EventModel)
    value = Fraction(int(events.values[row]), 10**DECIMALS_MAX)
    read = {path: _at(events.contents[row], path.steps) for path in price.charge.inputs}
    working = price.model.working(price.price, value, int(events.time_us[row]), free, read)
    promotion, notes = price.price.promotion, [working.note] if working.note else []
    if promotion is not None and in_window(promotion, events.time_us[row : row + 1])[0]:
        notes.append(f"promotion {fraction_text(100 * Fraction(promotion.discount_rate))} % off")
    return Step(", ".join(notes), value, working.unit_price, working.flat_price, charge)


def reductions(price: CompiledPrice, gross: Fraction, *, settled: bool = True) -> list[Step]:
    """The steps from the sum of all charges to the amount; the minimum is none of them until the period is ``settled``."""
    steps = []
    if gross < 0:
        steps.append(Step("below zero bills as zero", amount=-gross))
        gross = Fraction(0)
    net = price.discounted(gross)
    if price.price.discount_rate is not None:
        steps.append(Step(f"discount {fraction_text(100 * Fraction(price.price.discount_rate))} %", amount=net - gross))
    capped = price.capped(net)
    if capped != net:
        steps.append(Step(f"maximum {fraction_text(capped)}", amount=capped - net))
    raised = price.raised(capped)
    if settled and raised != capped:
        steps.append(Step(f"minimum {fraction_text(raised)}", amount=raised - capped))
    return steps


def _charges(price: CompiledPrice, events: QuotedEvents) -> list[Fraction]:
    charge = price.charge
    assert charge is not None
    if charge.reads_time and not events.timed:
        raise InputError("the price asks for the event's time", where="events[0].time", do=HELP)
    charges, flaws = charge.charges(events.values, events.time_us, events.inputs(charge.inputs))
    if flaws:
        row = min(flaws)
        raise InputError(
            flaws[row].text, where=f"events[{row}]", do=f"A ledger would set it aside as {flaws[row].reason.code}."
        )
    if charge.allowance is not None:
        order = events.order()
        charges = charges.astype(object)
        charges[order], _ = charges_in_order(charge.allowance, np.zeros_like(order), events.values[order])
    return [Fraction(int(value), 10**charge.scale) for value in charges]


def _free(price: CompiledPrice, events: QuotedEvents) -> list[Fraction | None]:
    """How much of each event's value the allowance covers; None where it covers nothing."""
    free: list[Fraction | None] = [None] * len(events.values)
    allowance = price.charge.allowance if price.charge is not None else None
    if allowance is not None:
        order = events.order()
        rest, member, whole = uncovered(allowance, np.zeros_like(order), events.values[order])
        for place, row in enumerate(order.tolist()):
            value = Fraction(int(events.values[row]), 10**DECIMALS_MAX)
            paid = Fraction(int(rest[place]), allowance.lift * 10**DECIMALS_MAX)
            if member[place]:
                free[row] = value if whole[place] else value - paid
    return free
