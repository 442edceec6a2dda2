"""One price of every registered model, and the plain Python ``Decimal`` formula that its kernel is measured against.

A loop does what a billing service without columns does: keep the running quantity (or the sum of charges) of every
target, work out T with Decimals, post the difference. A price that an event carries is a text to both sides, and reading it is
part of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from lineitem.catalog.expression import parse_path
from lineitem.catalog.expression_tree import Path
from lineitem.catalog.model import Aggregation, CallRate, CallStep, Cell, Peak, PeakMode, Price, Tier
from lineitem.rate.allowance import charges_in_order
from lineitem.rate.columns import Column
from lineitem.rate.exact import IntArray
from lineitem.rate.folds import FoldItems, FoldState, fold
from lineitem.rate.price import compile_price
from lineitem.rate.targets import rate_running

NANO = Decimal("0.000000001")
ZERO = Decimal(0)
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A price and its formula: T of a quantity, or the charge of ``(value, row)`` where the model prices events."""

    price: Price
    amount: Callable[[Decimal], Decimal] | None = None
    charge: Callable[[Decimal, Row], Decimal] | None = None


def _price(model: str, **fields: Any) -> Price:
    return Price("p", "m", model, "EUR", **fields)


TIERS = (
    Tier(Decimal(1_000), Decimal("0.004"), Decimal("1.5"), Decimal("0.004")),
    Tier(Decimal(5_000), Decimal("0.0035"), ZERO, Decimal("0.0035")),
    Tier(Decimal(10_000), Decimal("0.00299"), Decimal("0.75"), Decimal("0.00299")),
    Tier(Decimal(25_000), Decimal("0.0025"), Decimal(2), Decimal("0.0025")),
    Tier(None, Decimal("0.00175"), Decimal(3), Decimal("0.00175")),
)
CELLS = {
    ("m-0", "eu"): Decimal("0.000003"), ("m-0", None): Decimal("0.0000025"), ("m-1", None): Decimal("0.00001"),
    (None, None): Decimal("0.000001"),
}  # fmt: skip


CALLS = {
    "": (Decimal("0.90"), Decimal("0.75")), "33": (Decimal("0.10"), Decimal("0.04")),
    "336": (Decimal("0.20"), Decimal("0.15")), "4930": (Decimal("0.0333"), Decimal("0.02")),
}  # fmt: skip
"""A minute's rate in and out of peak hours by prefix; 30/6, connected for 0.05."""
ZONE = ZoneInfo("Europe/Paris")
ANSWERED = parse_path("data.answered_us")
FIRST_ANSWER_US = 1_790_812_800_000_000
"""2026-10-01T00:00:00Z; three weeks from here no clock is changed."""
DAYS = ("mon", "tue", "wed", "thu", "fri")


def graduated(quantity: Decimal) -> Decimal:
    """Walk the tiers."""
    amount, below = ZERO, ZERO
    for number, tier in enumerate(TIERS):
        if number and quantity <= below:
            break
        amount += tier.flat_price
        if tier.up_to is None or quantity <= tier.up_to:
            return amount + (quantity - below) * tier.unit_price
        amount += (tier.up_to - below) * tier.unit_price
        below = tier.up_to
    return amount


def reached(quantity: Decimal) -> Tier:
    """The tier the quantity falls into."""
    for tier in TIERS:
        if tier.up_to is None or quantity <= tier.up_to:
            return tier
    raise AssertionError("the last tier is open")


def volume(quantity: Decimal) -> Decimal:
    """All units at the price of the tier reached."""
    tier = reached(quantity)
    return quantity * tier.unit_price + tier.flat_price


def package(quantity: Decimal) -> Decimal:
    """Packages begun."""
    return (quantity / 1000).to_integral_value(ROUND_CEILING) * Decimal("1.25")


def percentage(value: Decimal, _row: Row) -> Decimal:
    """Share and fee, within bounds."""
    return min(max(value * Decimal("0.029") + Decimal("0.30"), Decimal("1.75")), Decimal(12))


def dynamic(value: Decimal, row: Row) -> Decimal:
    """The price the event carries."""
    return value * Decimal(row["price"])


def cost_plus(_value: Decimal, row: Row) -> Decimal:
    """The cost the event carries, and 15 %."""
    return Decimal(row["price"]) * Decimal("1.15")


def matrix(value: Decimal, row: Row) -> Decimal:
    """The most specific cell."""
    model, region = row["model"], row["region"]
    for key in ((model, region), (model, None), (None, None)):
        unit_price = CELLS.get(key)
        if unit_price is not None:
            return value * unit_price
    raise AssertionError("the last cell matches all")


def telecom(value: Decimal, row: Row) -> Decimal:
    """Longest prefix, begun increments, and each second at the rate of its time on weekdays from 8 to 18."""
    digits = row["to"][1:] if row["to"].startswith("+") else row["to"]
    rates = next(rates for length in (4, 3, 2, 0) if (rates := CALLS.get(digits[:length])) is not None)
    billed = 30 if value <= 30 else 30 + int(((value - 30) / 6).to_integral_value(ROUND_CEILING)) * 6
    local = datetime.fromtimestamp(row["answered_us"] // 1_000_000, ZONE)
    second, weekday = local.hour * 3600 + local.minute * 60 + local.second, local.weekday() < 5
    edge = next(hour * 3600 for hour in (8, 18, 24) if second < hour * 3600)
    before = min(billed, edge - second)
    first = rates[0] if weekday and edge == 18 * 3600 else rates[1]
    then = rates[0] if weekday and edge == 8 * 3600 else rates[1]
    return ((before * first + (billed - before) * then) / 60 + Decimal("0.05")).quantize(NANO, ROUND_HALF_UP)


def _telecom_price() -> Price:
    def steps(peak: Decimal, off_peak: Decimal) -> tuple[CallStep, ...]:
        bounds = ((Decimal(30), Decimal(30)), (None, Decimal(6)))
        return tuple(CallStep(up_to, peak, Decimal(60), increment, off_peak) for up_to, increment in bounds)

    rates = tuple(CallRate(prefix, steps(*pair), Decimal("0.05")) for prefix, pair in CALLS.items())
    peak = Peak((("08:00", "18:00"),), DAYS, PeakMode.SPLIT)
    return _price("telecom", destination="data.to", rates=rates, peak=peak, zone=ZONE.key)


def _when(key: tuple[str | None, str | None]) -> tuple[tuple[str, str], ...]:
    return tuple((name, text) for name, text in zip(("model", "region"), key, strict=True) if text is not None)


CASES = (
    Case(_price("per_unit", unit_price=Decimal("0.0000025")), amount=lambda quantity: quantity * Decimal("0.0000025")),
    Case(_price("graduated", tiers=TIERS), amount=graduated),
    Case(_price("volume", tiers=TIERS), amount=volume),
    Case(_price("package", package_size=Decimal(1000), package_price=Decimal("1.25")), amount=package),
    Case(_price("stairstep", tiers=TIERS), amount=lambda quantity: reached(quantity).flat_price),
    Case(_price("graduated_percentage", tiers=TIERS), amount=graduated),
    Case(
        _price(
            "percentage", rate=Decimal("0.029"), per_event=Decimal("0.30"), minimum_per_event=Decimal("1.75"),
            maximum_per_event=Decimal(12),
        ),
        charge=percentage,
    ),
    Case(_price("dynamic", price="data.price", scale=9), charge=dynamic),
    Case(_price("cost_plus", cost="data.price", multiplier=Decimal("1.15"), scale=9), charge=cost_plus),
    Case(
        _price(
            "matrix", dimensions=("data.model", "data.region"),
            cells=tuple(Cell(unit_price, _when(key)) for key, unit_price in CELLS.items()),
        ),
        charge=matrix,
    ),
    Case(_telecom_price(), charge=telecom),
)  # fmt: skip
"""A case for each registered model; ``tests/rate/test_benchmarked_models.py`` holds it against the registry."""


def inputs(rows: int) -> dict[Path, Column]:
    """What events carry, seeded: a price as decimal text, a model, a region, a number, when it answered."""
    random = np.random.default_rng(7)
    prices = [f"0.{digits:06d}" for digits in random.integers(1, 999_999, rows).tolist()]
    models = [f"m-{number}" for number in random.integers(0, 4, rows).tolist()]
    regions = [("eu", "us", None)[number] for number in random.integers(0, 3, rows).tolist()]
    heads = ("+33", "+336", "+4930", "+49", "+1", "44")
    numbers = [f"{heads[n % 6]}{n:08d}" for n in random.integers(0, 10**8, rows).tolist()]
    answers = (FIRST_ANSWER_US + random.integers(0, 21 * 86_400, rows) * 1_000_000).tolist()
    columns: dict[str, list[Any]] = {
        "price": prices, "model": models, "region": regions, "to": numbers, "answered_us": answers,
    }  # fmt: skip
    return {parse_path(f"data.{name}"): Column(values) for name, values in columns.items()}


def rows_of(columns: Mapping[Path, Column], count: int) -> list[Row]:
    """The same, one mapping an event."""
    values = {path.steps[1]: column.values[:count] for path, column in columns.items()}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def decimal_loop(case: Case, targets: int, target: list[int], value: list[Decimal], rows: list[Row]) -> list[Decimal]:
    """One event at a time: fold, price, post the difference."""
    state, posted, amounts = [ZERO] * targets, [ZERO] * targets, []
    for index, added, row in zip(target, value, rows, strict=True):
        if case.amount is not None:
            state[index] += added
            total = case.amount(state[index]).quantize(NANO, ROUND_HALF_UP)
        else:
            assert case.charge is not None
            state[index] += case.charge(added, row)
            total = state[index].quantize(NANO, ROUND_HALF_UP)
        amounts.append(total - posted[index])
        posted[index] = total
    return amounts


def kernel(
    price: Price, targets: int, target: np.ndarray, value: np.ndarray, columns: Mapping[Path, Column]
) -> IntArray:
    """The same in columns, compiling included."""
    compiled = compile_price(price, 0)
    folded: IntArray = value
    if compiled.charge is not None:
        if compiled.charge.allowance is not None:
            folded, _ = charges_in_order(compiled.charge.allowance, target, value)
        else:
            time_us = columns[ANSWERED].ints
            assert time_us is not None
            folded, flaws = compiled.charge.charges(value, time_us, columns)
            assert not flaws
    quantity, _ = fold(Aggregation.SUM, FoldItems(target, folded), FoldState.empty(targets))
    amounts, _ = rate_running(compiled, target, quantity, np.zeros(targets, dtype=np.int64))
    return amounts
