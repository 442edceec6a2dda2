"""An independent reading of the per-event prices in fractions: one event after the other, by the words of the rules."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from lineitem.catalog.model import Cell, Price
from tests.rate import telecom_oracle
from tests.rate.oracle import DECIMALS, RATES, SHARES

MODEL_NAMES = ("percentage", "dynamic", "cost_plus", "matrix", "telecom")
NAMES = ("a", "b", "c")
VALUES = ("x", "y", "7", "true")


def percentage_charges(price: Price, values: list[Fraction]) -> tuple[list[Fraction], int]:
    """The charges of events in order, and how many found the allowance open."""
    charges, inside = [], 0
    events_left = price.free_events
    units_left = None if price.free_units is None else Fraction(price.free_units)
    has_allowance = events_left is not None or units_left is not None
    for value in values:
        is_open = has_allowance and (events_left is None or events_left > 0) and (units_left is None or units_left > 0)
        free = Fraction(0)
        if is_open:
            inside += 1
            used = max(value, Fraction(0))
            free = used if units_left is None else min(used, units_left)
            events_left = None if events_left is None else events_left - 1
            units_left = None if units_left is None else units_left - free
            if free == used:
                charges.append(Fraction(0))
                continue
        charge = (value - free) * Fraction(price.rate or 0) + Fraction(price.per_event or 0)
        if price.minimum_per_event is not None:
            charge = max(charge, Fraction(price.minimum_per_event))
        if price.maximum_per_event is not None:
            charge = min(charge, Fraction(price.maximum_per_event))
        charges.append(charge)
    return charges, inside


def charge(price: Price, value: Fraction, data: Mapping[str, Any], time_us: int = 0) -> Fraction | None:
    """The charge of one event of a price without an allowance; None where no cell and no row matches."""
    if price.model == "telecom":
        return telecom_oracle.charge(price, value, data, time_us)
    if price.model == "percentage":
        return percentage_charges(price, [value])[0][0]
    if price.model == "matrix":
        texts = {name: _text(data.get(name)) for name in NAMES}
        matching = [cell for cell in price.cells if all(texts.get(name) == text for name, text in cell.when)]
        if not matching:
            return None
        most = max(len(cell.when) for cell in matching)
        [cell] = [cell for cell in matching if len(cell.when) == most]
        return value * Fraction(cell.unit_price)
    multiplier = Fraction(1 if price.multiplier is None else price.multiplier)
    if price.price is not None:
        return value * Fraction(Decimal(data["price"])) * multiplier
    return Fraction(Decimal(data["amount" if price.amount else "cost"])) * multiplier


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def amount(price: Price, charges: list[Fraction]) -> Fraction:
    """T of a target with these charges."""
    total = max(sum(charges, Fraction(0)), Fraction(0))
    total -= total * Fraction(price.discount_rate or 0)
    return total if price.maximum is None else min(total, Fraction(price.maximum))


def percentage(**fields: Any) -> Price:
    """A percentage price; decimals as text."""
    values: dict[str, Any] = {k: v if isinstance(v, int) else Decimal(v) for k, v in fields.items()}
    return Price("p", "m", "percentage", "EUR", **values)


_MAYBE = (
    st.none()
    | st.sampled_from([Decimal("0.5"), Decimal(1), Decimal("2.5")])
    | st.builds(lambda n, p: Decimal(n).scaleb(-p), st.integers(0, 5000), st.integers(0, 4))
)


@st.composite
def percentages(draw: st.DrawFn, *, free: bool | None = None) -> Price:
    """A percentage price with any of its options; ``free``: with or without an allowance."""
    allowed = draw(st.booleans()) if free is None else free
    events = draw(st.none() | st.integers(0, 5)) if allowed else None
    units = draw(_MAYBE if events is not None else _MAYBE.filter(lambda v: v is not None)) if allowed else None
    low, high = draw(_MAYBE), draw(_MAYBE)
    if low is not None and high is not None and low > high:
        low, high = high, low
    return Price(
        "p", "m", "percentage", "EUR", rate=draw(SHARES), per_event=draw(_MAYBE), free_events=events, free_units=units,
        minimum_per_event=low, maximum_per_event=high, **_reductions(draw),
    )  # fmt: skip


def _reductions(draw: st.DrawFn) -> dict[str, Any]:
    return {"discount_rate": draw(RATES), "maximum": draw(st.none() | DECIMALS)}


@st.composite
def carried(draw: st.DrawFn, model: str) -> Price:
    """A dynamic or cost_plus price."""
    multiplier = draw(DECIMALS if model == "cost_plus" else st.none() | DECIMALS)
    path = "cost" if model == "cost_plus" else draw(st.sampled_from(["price", "amount"]))
    reads: dict[str, Any] = {path: f"data.{path}"}
    return Price(
        "p", "m", model, "EUR", multiplier=multiplier, scale=draw(st.none() | st.integers(6, 17)),
        **reads, **_reductions(draw),
    )  # fmt: skip


@st.composite
def matrices(draw: st.DrawFn) -> Price:
    """A matrix whose cells name dimensions from the left, so that no two of them are undecided."""
    whens = draw(
        st.lists(
            st.lists(st.sampled_from(VALUES), max_size=len(NAMES)).map(lambda texts: tuple(zip(NAMES, texts, strict=False))),
            min_size=1, max_size=8, unique=True,
        )
    )  # fmt: skip
    cells = tuple(Cell(draw(DECIMALS), when) for when in whens)
    dimensions = tuple(f"data.{name}" for name in NAMES)
    return Price("p", "m", "matrix", "EUR", dimensions=dimensions, cells=cells, **_reductions(draw))


DATA = st.fixed_dictionaries(
    {
        **dict.fromkeys(NAMES, st.none() | st.sampled_from([*VALUES, 7, True])),
        **dict.fromkeys(
            ("price", "amount", "cost"),
            st.integers(0, 10**6) | st.sampled_from(["0.000001", "12.5", "123456789012345678901"]),
        ),
        "to": st.sampled_from(telecom_oracle.NUMBERS),
    }
)
"""What events carry; nothing negative."""
