"""The laws every registered price model keeps; a new model is tried as soon as it stands in the registry.

Prices of each model come from ``tests.strategies.MODEL_PRICES``, as values; what they cost is read independently, in
fractions, by ``oracle`` and ``event_oracle``.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineitem.catalog.document import catalog_document, catalog_from_document
from lineitem.catalog.model import CallRate, CallStep, Catalog, Cell, Price, Pricebook, Tier
from lineitem.core.reasons import Reason
from lineitem.rate.columns import Column
from lineitem.rate.exact import INT64_MAX, IntArray, total
from lineitem.rate.models import MODELS
from lineitem.rate.models.event import EventModel
from lineitem.rate.models.shape import Model
from lineitem.rate.price import CompiledPrice, compile_price
from lineitem.rate.readings import Flaws
from lineitem.rate.targets import rate_running
from tests.rate import event_oracle, oracle, telecom_oracle
from tests.strategies import MODEL_PRICES

CUMULATIVE = [name for name, model in MODELS.items() if isinstance(model, Model)]
PER_EVENT = [name for name, model in MODELS.items() if isinstance(model, EventModel)]
SCALES = st.integers(0, 18)
QUANTITIES = st.one_of(st.integers(-(10**6), 10**6), st.integers(0, 10**18), st.integers(0, 10**30))
VALUES = st.one_of(st.integers(-(10**6), 10**6), st.integers(0, 10**18), st.integers(-(10**25), 10**25))


class Used(NamedTuple):
    """One event: its value as a scaled integer, what it carries, its time."""

    value: int
    data: dict[str, Any]
    time_us: int = 0


EVENTS = st.lists(st.builds(Used, VALUES, event_oracle.DATA, telecom_oracle.TIMES_US), min_size=1, max_size=10)


def column(values: list[int]) -> IntArray:
    """int64 where it fits, else Python ints."""
    wide = np.empty(len(values), dtype=object)
    wide[:] = values
    return wide.astype(np.int64) if all(-INT64_MAX <= value <= INT64_MAX for value in values) else wide


def charged(compiled: CompiledPrice, events: list[Used]) -> tuple[IntArray, Flaws]:
    """The kernel's charges of events."""
    assert compiled.charge is not None
    inputs = {path: Column([event.data.get(path.steps[1]) for event in events]) for path in compiled.charge.inputs}
    times = np.array([event.time_us for event in events], dtype=np.int64)
    return compiled.charge.charges(column([event.value for event in events]), times, inputs)


def nano(amount: Fraction) -> int:
    """``amount >= 0`` in nano-units, half away from zero."""
    return int(amount * 10**9 + Fraction(1, 2))


def test_every_model_brings_its_prices() -> None:
    """A registered model without a strategy would pass no law; a strategy without a model tests nothing."""
    assert set(MODEL_PRICES) == set(MODELS)


@pytest.mark.parametrize("name", CUMULATIVE)
@given(data=st.data(), scale=SCALES, drawn=st.lists(QUANTITIES, min_size=1, max_size=8))
def test_amounts_are_exact(name: str, data: st.DataObject, scale: int, drawn: list[int]) -> None:
    """T of a column is what the oracle says, at every scale, beside every bound, within int64 and beyond."""
    price = data.draw(MODEL_PRICES[name])
    quantities = drawn + oracle.turning_points(price, scale)
    expected = [oracle.amount_nano(price, quantity, scale) for quantity in quantities]
    assert compile_price(price, scale).amount_nano(column(quantities)).tolist() == expected


@pytest.mark.parametrize("name", CUMULATIVE)
@given(data=st.data(), scale=SCALES, quantities=st.lists(QUANTITIES, min_size=1, max_size=12))
def test_differences_sum_to_the_total(name: str, data: st.DataObject, scale: int, quantities: list[int]) -> None:
    """However a period is split, what its parts owe sums to T of the whole: nothing accumulates."""
    compiled = compile_price(data.draw(MODEL_PRICES[name]), scale)
    cut = data.draw(st.integers(0, len(quantities)))
    posted: IntArray = np.zeros(1, dtype=np.int64)
    owed = 0
    for part in (quantities[:cut], quantities[cut:]):
        amounts, posted = rate_running(compiled, np.zeros(len(part), dtype=np.int64), column(part), posted)
        owed += total(amounts)
    assert owed == compiled.amount_nano(column(quantities[-1:])).tolist()[0] == posted.tolist()[0]


@pytest.mark.parametrize("name", [name for name in CUMULATIVE if MODELS[name].monotone])
@given(data=st.data(), scale=SCALES, quantities=st.lists(QUANTITIES, min_size=2, max_size=12))
def test_more_usage_never_costs_less(name: str, data: st.DataObject, scale: int, quantities: list[int]) -> None:
    """Of the models that say so."""
    amounts = compile_price(data.draw(MODEL_PRICES[name]), scale).amount_nano(column(sorted(quantities))).tolist()
    assert amounts == sorted(amounts)


@pytest.mark.parametrize("name", PER_EVENT)
@given(data=st.data(), scale=SCALES, events=EVENTS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_charges_are_exact(name: str, data: st.DataObject, scale: int, events: list[Used]) -> None:
    """Each charge is the oracle's, to the last digit, and T of their sum too; what has no price is a flaw, not zero."""
    price = data.draw(MODEL_PRICES[name])
    compiled = compile_price(price, scale)
    assert compiled.charge is not None
    charges, flaws = charged(compiled, events)
    alone = without_allowance(price)
    expected = [event_oracle.charge(alone, Fraction(e.value, 10**scale), e.data, e.time_us) for e in events]
    assert {row for row, charge in enumerate(expected) if charge is None} == set(flaws)
    assert {flaw.reason for flaw in flaws.values()} <= {Reason.NO_PRICE, Reason.VALUE_OUT_OF_RANGE}
    found = [Fraction(int(charge), 10**compiled.charge.scale) for charge in charges.tolist()]
    assert found == [charge or Fraction(0) for charge in expected]
    amount = compiled.amount_nano(column([total(charges)])).tolist()[0]
    assert amount == nano(event_oracle.amount(price, found))


@pytest.mark.parametrize("name", PER_EVENT)
@given(data=st.data(), scale=SCALES, events=EVENTS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_an_event_costs_the_same_in_any_company(name: str, data: st.DataObject, scale: int, events: list[Used]) -> None:
    """Order and batches change no charge: the kernel sees each event alone."""
    compiled = compile_price(data.draw(MODEL_PRICES[name]), scale)
    charges = charged(compiled, events)[0].tolist()
    order = data.draw(st.permutations(range(len(events))))
    cut = data.draw(st.integers(0, len(events)))
    shuffled = [events[row] for row in order]
    again = [*charged(compiled, shuffled[:cut])[0].tolist(), *charged(compiled, shuffled[cut:])[0].tolist()]
    assert again == [charges[row] for row in order]


@pytest.mark.parametrize("name", [name for name in PER_EVENT if MODELS[name].monotone])
@given(data=st.data(), scale=SCALES, events=EVENTS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_another_event_never_makes_it_cheaper(name: str, data: st.DataObject, scale: int, events: list[Used]) -> None:
    """Of the models that say so, where no value is negative."""
    compiled = compile_price(data.draw(MODEL_PRICES[name]), scale)
    charges, _ = charged(compiled, [event._replace(value=abs(event.value)) for event in events])
    sums = [sum(charges.tolist()[: count + 1]) for count in range(len(events))]
    amounts = compiled.amount_nano(column(sums)).tolist()
    assert amounts == sorted(amounts)


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_a_price_survives_being_stored(name: str, data: st.DataObject) -> None:
    """The canonical document of a catalog gives the same price back."""
    price = data.draw(MODEL_PRICES[name])
    catalog = Catalog("EUR", (), (Pricebook("b", 1, 0, None, (price,)),))
    [book] = catalog_from_document(catalog_document(catalog)).pricebooks
    assert book.prices == (price,)


TIERS: dict[str, Any] = {
    "tiers": (Tier(Decimal(10), Decimal(0), Decimal("2.5")), Tier(None, Decimal(0), Decimal("7.25")))
}
SHARED = (
    Tier(Decimal(10), flat_price=Decimal("0.5"), rate=Decimal("0.029")),
    Tier(None, flat_price=Decimal(1), rate=Decimal("0.0125")),
)
CELLS = (Cell(Decimal("0.0000025"), (("a", "x"),)), Cell(Decimal("0.01")))
CALLS = (
    CallRate("", (CallStep(Decimal(30), Decimal("0.1"), Decimal(60), Decimal(30)),
                  CallStep(None, Decimal("0.1"), Decimal(60), Decimal(6)))),
    CallRate("33", (CallStep(None, Decimal("0.2"), Decimal(60), Decimal(60)),), Decimal("0.05")),
)  # fmt: skip
IN_SQL: dict[str, tuple[dict[str, Any], str]] = {
    "per_unit": ({"unit_price": Decimal("0.0000025")}, "sum(v) * 0.0000025"),
    "per_seat": ({"unit_price": Decimal("24.95")}, "sum(v) * 24.95"),
    "package": (
        {"package_size": Decimal(7), "package_price": Decimal("1.25")},
        "((sum(v)::hugeint + 6) // 7)::decimal(20,0) * 1.25",
    ),
    "stairstep": (TIERS, "case when sum(v) <= 10 then 2.5 else 7.25 end"),
    "volume": (
        {"tiers": (Tier(Decimal(10), Decimal("0.2")), Tier(None, Decimal("0.1"), Decimal(3)))},
        "case when sum(v) <= 10 then sum(v) * 0.2 else sum(v) * 0.1 + 3 end",
    ),
    "graduated": (
        {"tiers": (Tier(Decimal(10), Decimal("0.2")), Tier(None, Decimal("0.1"), Decimal(3)))},
        "least(sum(v), 10) * 0.2 + case when sum(v) > 10 then (sum(v) - 10) * 0.1 + 3 else 0 end",
    ),
    "graduated_percentage": (
        {"tiers": SHARED},
        "least(sum(v), 10) * 0.029 + 0.5 + case when sum(v) > 10 then (sum(v) - 10) * 0.0125 + 1 else 0 end",
    ),
    "percentage": (
        {"rate": Decimal("0.0299"), "per_event": Decimal("0.3"), "minimum_per_event": Decimal("1.75"),
         "maximum_per_event": Decimal(12)},
        "sum(least(greatest(v * 0.0299 + 0.3, 1.75), 12))",
    ),
    "dynamic": ({"price": "data.price", "scale": 4}, "sum(v * p)"),
    "cost_plus": ({"cost": "data.cost", "scale": 4, "multiplier": Decimal("1.15")}, "sum(p * 1.15)"),
    "matrix": (
        {"dimensions": ("data.a", "data.b"), "cells": CELLS}, "sum(v * case when a = 'x' then 0.0000025 else 0.01 end)",
    ),
    "telecom": (
        {"destination": "data.to", "rates": CALLS},
        ("sum(case when v = 0 then 0 when a = 'x' then ((v::hugeint + 59) // 60)::decimal(20,0) * 0.2 + 0.05 "
        "else (5 + greatest((v::hugeint - 30 + 5) // 6, 0))::decimal(20,0) * 0.01 end)"),
    ),
    "flat": ({"amount": "49.99"}, "min(49.99)"),
    "commitment": ({"amount": "1234567.5"}, "greatest(1234567.5 - sum(v), 0)"),
}  # fmt: skip


NUMBERS = {"x": "+33 1", "y": "0049"}


@pytest.mark.parametrize("name", MODELS)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from("xy")), min_size=1, max_size=5
    )
)
def test_a_database_agrees(name: str, events: list[tuple[int, int, str]]) -> None:
    """DuckDB's exact DECIMAL, told the rule in SQL, comes to the same nano-units."""
    fields, sql = IN_SQL[name]
    compiled = compile_price(Price("p", "m", name, "EUR", **fields), 0)
    used = [
        Used(v, {"price": Decimal(p).scaleb(-4), "cost": Decimal(p).scaleb(-4), "a": a, "to": NUMBERS[a]})
        for v, p, a in events
    ]
    quantity = column([sum(event.value for event in used)])
    if compiled.charge is not None:
        quantity = column([total(charged(compiled, used)[0])])
    rows = ", ".join(f"({v}::decimal(12,0), ({p}::decimal(12,0) * 0.0001)::decimal(16,4), '{a}')" for v, p, a in events)
    found = duckdb.execute(f"select ({sql})::decimal(38,9) from (values {rows}) as e(v, p, a)").fetchone()
    assert found is not None
    assert compiled.amount_nano(quantity).tolist() == [int(found[0].scaleb(9))]


def test_every_model_stands_in_sql() -> None:
    """A registered model is compared with the database too."""
    assert set(IN_SQL) == set(MODELS)


def without_allowance(price: Price) -> Price:
    """The price as a function of one event alone."""
    fields = {field: getattr(price, field) for field in Price.__slots__}
    return Price(**fields | {"free_events": None, "free_units": None})
