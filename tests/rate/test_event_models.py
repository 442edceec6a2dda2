"""Per-event prices where the laws do not reach: what cannot be read, what is refused, how it is shown."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lineitem.catalog.expression import parse_path
from lineitem.catalog.model import Cell, Price
from lineitem.catalog.price_doc import parse_price
from lineitem.core.errors import InputError
from lineitem.core.reasons import Reason
from lineitem.rate.columns import Column
from lineitem.rate.models import MODELS
from lineitem.rate.models.event import EventModel
from lineitem.rate.price import compile_price
from lineitem.rate.quote import quote_events, quote_events_explain, quote_line


def price(model: str, **fields: Any) -> Price:
    """A price in euros."""
    return Price("p", "m", model, "EUR", **fields)


def charge_of(one: Price, data: list[dict[str, Any]]) -> tuple[list[int], dict[int, tuple[Reason, str]]]:
    """Charges of events of value 1 at scale 0, and flaws as (reason, text)."""
    charge = compile_price(one, 0).charge
    assert charge is not None
    columns = {path: Column([event.get(path.steps[1]) for event in data]) for path in charge.inputs}
    ones = np.ones(len(data), dtype=np.int64)
    charges, flaws = charge.charges(ones, ones, columns)
    return charges.tolist(), {row: (flaw.reason, flaw.text) for row, flaw in flaws.items()}


def test_what_an_event_does_not_carry_is_a_flaw() -> None:
    """Missing, no number, too precise, too large: each with its reason and the path; neighbours are charged."""
    data: list[dict[str, Any]] = [{"p": 2}, {}, {"p": "x"}, {"p": Decimal("0.001")}, {"p": 10**40}, {"p": "1.5"}]
    charges, flaws = charge_of(price("dynamic", price="data.p", scale=2), data)
    assert charges == [200, 0, 0, 0, 0, 150]
    assert {row: reason for row, (reason, _) in flaws.items()} == {
        1: Reason.MISSING_VALUE, 2: Reason.BAD_VALUE, 3: Reason.TOO_PRECISE, 4: Reason.VALUE_OUT_OF_RANGE,
    }  # fmt: skip
    assert flaws[1][1] == "data.p is missing or null"
    assert flaws[3][1] == "data.p is 0.001, but 2 decimals are kept"


def test_another_currency_is_a_flaw() -> None:
    """An amount in dollars is never billed as euros; no currency at all is a missing value."""
    data: list[dict[str, Any]] = [{"c": 1, "cur": "EUR"}, {"c": 1, "cur": "USD"}, {"c": 1}, {"c": 1, "cur": 978}]
    one = price("cost_plus", cost="data.c", multiplier=Decimal("1.15"), currency_from="data.cur", scale=0)
    charges, flaws = charge_of(one, data)
    assert charges == [115, 0, 0, 0]
    assert [flaws[row][0] for row in (1, 2, 3)] == [
        Reason.CURRENCY_MISMATCH, Reason.MISSING_VALUE, Reason.CURRENCY_MISMATCH,
    ]  # fmt: skip
    assert flaws[1][1] == "data.cur is 'USD', but the price is in EUR"


def test_no_cell_is_no_price() -> None:
    """An event that no cell matches is set aside, with what it carries; a missing dimension matches `any` cells only."""
    cells = (Cell(Decimal(3), (("a", "x"), ("b", "y"))), Cell(Decimal(2), (("a", "x"),)))
    one = price("matrix", dimensions=("data.a", "data.b"), cells=cells)
    charges, flaws = charge_of(one, [{"a": "x", "b": "y"}, {"a": "x"}, {"b": "y"}, {"a": ["x"]}])
    assert charges == [3, 2, 0, 0]
    assert flaws[2] == (Reason.NO_PRICE, "no cell of the price matches a=None, b='y'")
    assert flaws[3][0] is Reason.BAD_VALUE


def test_many_combinations_are_told_apart() -> None:
    """Where a table of all combinations would be too large, the same cells are found."""
    cells = (Cell(Decimal(1)), Cell(Decimal(2), (("a", "1500"), ("b", "7"))))
    one = price("matrix", dimensions=("data.a", "data.b"), cells=cells)
    data = [{"a": n, "b": n % 1493} for n in range(3000)]
    charges, flaws = charge_of(one, data)
    assert not flaws
    assert [row for row, charge in enumerate(charges) if charge == 2] == [1500]


@pytest.mark.parametrize(
    ("model", "fields", "inputs", "scale"),
    [
        ("percentage", {"rate": Decimal("0.0299"), "free_units": Decimal("0.125")}, [], 7),
        ("percentage", {"rate": Decimal("0.0300"), "per_event": Decimal("0.123456")}, [], 6),
        ("dynamic", {"price": "data.p"}, ["data.p"], 14),
        ("dynamic", {"amount": "data.x", "currency_from": "data.c", "scale": 4}, ["data.x", "data.c"], 4),
        ("cost_plus", {"cost": "data.x", "multiplier": Decimal("1.15")}, ["data.x"], 14),
        ("matrix", {"dimensions": ("data.a",), "cells": (Cell(Decimal("0.5")),)}, ["data.a"], 3),
    ],
)
def test_a_model_says_what_it_reads_and_how_exact_it_is(
    model: str, fields: dict[str, Any], inputs: list[str], scale: int
) -> None:
    """The paths a price reads, and the decimals of its charges for values of two decimals."""
    found = MODELS[model]
    assert isinstance(found, EventModel)
    assert found.inputs(price(model, **fields)) == tuple(map(parse_path, inputs))
    assert found.charge_scale(price(model, **fields), 2) == scale


@pytest.mark.parametrize(
    "bad",
    [
        price("dynamic"),
        price("cost_plus", cost="data.c"),
        price("percentage"),
        price("matrix"),
        price("percentage", rate=Decimal("-0.1")),
        price("percentage", rate=Decimal("0.1"), included=Decimal(1)),
    ],
)
def test_a_price_that_is_none_does_not_compile(bad: Price) -> None:
    """What the catalog would refuse is refused here too."""
    with pytest.raises(InputError) as caught:
        compile_price(bad, 0)
    assert caught.value.where == "price p"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"model": "percentage", "rate": "2.9"}, 'rate: 2.9 is more than 1; it is a share: 15 % is "0.15"'),
        ({"model": "percentage", "rate": "0", "free_events": "3"}, "free_events: '3' is not a whole number"),
        ({"model": "percentage", "rate": "0", "free_events": True}, "free_events: True is not a whole number"),
        (
            {"model": "percentage", "rate": "0", "minimum_per_event": "2", "maximum_per_event": "1"},
            "minimum_per_event: 2 is more than maximum_per_event, 1",
        ),
        ({"model": "percentage", "rate": "0", "transform": {"divide_by": "2"}}, "transform: unknown key"),
        ({"model": "dynamic"}, "name one of them"),
        ({"model": "dynamic", "price": "data.p", "amount": "data.a"}, "name one of them"),
        ({"model": "dynamic", "price": "price"}, "price: the path"),
        ({"model": "dynamic", "price": "data.p", "scale": 19}, "scale: 19 is not a whole number from 0 to 18"),
        ({"model": "cost_plus", "cost": "data.c"}, "multiplier: is missing"),
    ],
)
def test_defects_of_a_document_are_told(document: dict[str, Any], text: str) -> None:
    """Each at its key."""
    _, found = parse_price({"currency": "EUR", **document}, standalone=True)
    assert any(text in str(problem) for problem in found), found


def test_amounts_of_events_sum_to_the_amount() -> None:
    """Discount and maximum are those of the period, so each event adds what it really adds."""
    document = {"model": "percentage", "currency": "EUR", "rate": "0.1", "discount_rate": "0.5", "maximum": "8"}
    assert quote_events(document, ["100", "-50", "200"]) == (["5", "-2.5", "5.5"], "8")


def test_times_decide_who_is_free() -> None:
    """With times, the first event is the earliest; amounts stand in the order the events were given."""
    document = {"model": "percentage", "currency": "EUR", "rate": "0.1", "free_events": 1}
    events = [
        {"value": "10", "time": "2026-10-01T02:00:00Z"},
        {"value": "20", "time": "2026-10-01T01:00:00Z"},
    ]
    assert quote_events(document, events) == (["1", "0"], "1")
    del events[1]["time"]
    assert quote_line({"id": 1, "price": document, "events": events})["error"]["where"] == "events[1].time"


def test_the_working_of_events() -> None:
    """One line an event, with its price and what else had a say; then discount and maximum."""
    document = {
        "model": "percentage", "currency": "EUR", "rate": "0.1", "per_event": "1", "free_units": "30",
        "minimum_per_event": "4", "maximum_per_event": "9", "discount_rate": "0.5",
    }  # fmt: skip
    steps = [(step.label, step.flat_price, step.amount) for step in quote_events_explain(document, ["10", "40", "100"])]
    expected: list[tuple[str, Any, Any]] = [
        ("event 1: free", None, 0),
        ("event 2: 20 of it free, at least 4", 1, 4),
        ("event 3: at most 9", 1, 9),
        ("discount 50 %", None, Fraction("-6.5")),
    ]
    assert steps == expected


def test_the_working_says_where_a_price_came_from() -> None:
    """The cell that matched; the price that was read, and its multiplier."""
    cells = [{"when": {"m": "x"}, "unit_price": "3"}, {"when": {}, "unit_price": "2"}]
    document = {"model": "matrix", "currency": "EUR", "dimensions": ["data.m"], "cells": cells}
    steps = quote_events_explain(document, [{"data": {"m": "x"}}, {"value": "2"}, {"value": "-9"}])
    expected: list[tuple[str, Any, Any]] = [
        ("event 1: m=x", 3, 3), ("event 2: any other", 2, 4), ("event 3: any other", 2, -18),
        ("below zero bills as zero", None, 11),
    ]  # fmt: skip
    assert [(step.label, step.unit_price, step.amount) for step in steps] == expected
    document = {"model": "dynamic", "currency": "EUR", "price": "data.p", "multiplier": "1.5"}
    [step] = quote_events_explain(document, [{"value": "4", "data": {"p": "0.25"}}])
    assert (step.label, step.unit_price, step.amount) == ("event 1: times 1.5", Fraction(1, 4), Fraction(3, 2))


@pytest.mark.parametrize(
    ("events", "where"),
    [
        (["x"], "events[0]"),
        ([{"value": "1", "date": {}}], "events[0]"),
        ([{"value": "1", "data": []}], "events[0].data"),
        ([{"value": "1", "time": "yesterday"}], "events[0].time"),
        ([{"value": "1", "data": {"p": "1"}}, "1"], "events[1]"),
        ({}, "events"),
        (None, "events"),
    ],
)
def test_an_event_that_cannot_be_charged_is_answered(events: object, where: str) -> None:
    """An error line with what, where and what to do."""
    document = {"model": "dynamic", "currency": "EUR", "price": "data.p"}
    error = quote_line({"id": "a", "price": document, "events": events})["error"]
    assert error["where"] == where
    assert error["what"]
    assert error["do"]


def test_a_promotion_asks_for_a_time() -> None:
    """Its window is a matter of time, as peak hours are; of no events none lacks it."""
    promotion = {"discount_rate": "0.5", "until": "2026-12-01T00:00:00Z"}
    line: dict[str, Any] = {
        "id": 1, "price": {"model": "percentage", "currency": "EUR", "rate": "0.1", "promotion": promotion},
    }  # fmt: skip
    assert quote_line(line | {"events": ["5"]})["error"]["where"] == "events[0].time"
    times = ["2026-11-30T23:59:59.999999Z", "2026-12-01T00:00:00Z"]
    assert quote_line(line | {"events": [{"value": "5", "time": time} for time in times]})["amounts"] == ["0.25", "0.5"]
    assert quote_line(line | {"events": []})["amounts"] == []


def test_a_promoted_unit_price_is_quoted_by_events() -> None:
    """With the working of each."""
    promotion = {"discount_rate": "0.5", "until": "2026-12-01T00:00:00Z"}
    price = {"model": "per_unit", "currency": "EUR", "unit_price": "3", "promotion": promotion}
    events = [{"value": "2", "time": "2026-11-30T00:00:00Z"}, {"value": "2", "time": "2026-12-02T00:00:00Z"}]
    assert quote_line({"id": 1, "price": price, "events": events}) == {"id": 1, "amounts": ["3", "6"], "amount": "9"}
    assert quote_line({"id": 1, "price": price, "quantities": ["2"]})["error"]["where"] == "events"


def test_each_price_says_what_it_takes() -> None:
    """Quantities for a price per event, or events for one over the period, are refused by name."""
    with pytest.raises(InputError, match="charges the period's quantity"):
        quote_events({"model": "per_unit", "currency": "EUR", "unit_price": "1"}, ["1"])
    answer = quote_line(
        {"id": 1, "price": {"model": "percentage", "currency": "EUR", "rate": "0"}, "quantities": ["1"]}
    )
    assert answer["error"]["where"] == "events"
