"""One price of every registered model, and the plain Python ``Decimal`` formula that its kernel is measured against.

A loop does what a billing service without columns does: keep the running quantity (or the sum of charges) of every
target, work out T with Decimals, post the difference. A price that an event carries is a text to both sides, and reading it is
part of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np

from lineitem.catalog.expression import parse_path
from lineitem.catalog.expression_tree import Path
from lineitem.catalog.model import Aggregation, Cell, Price, Tier
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
)  # fmt: skip
"""A case for each registered model; ``tests/rate/test_benchmarked_models.py`` holds it against the registry."""


def inputs(rows: int) -> dict[Path, Column]:
    """What events carry, seeded: a price as decimal text, a model, a region."""
    random = np.random.default_rng(7)
    prices = [f"0.{digits:06d}" for digits in random.integers(1, 999_999, rows).tolist()]
    models = [f"m-{number}" for number in random.integers(0, 4, rows).tolist()]
    regions = [("eu", "us", None)[number] for number in random.integers(0, 3, rows).tolist()]
    columns: dict[str, list[Any]] = {"price": prices, "model": models, "region": regions}
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
            folded, flaws = compiled.charge.charges(value, np.zeros(len(value), dtype=np.int64), columns)
            assert not flaws
    quantity, _ = fold(Aggregation.SUM, FoldItems(target, folded), FoldState.empty(targets))
    amounts, _ = rate_running(compiled, target, quantity, np.zeros(targets, dtype=np.int64))
    return amounts
