"""A promotion on the month's quantity: exact in every model, fair at every edge, the same in whatever order events come."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Price, Promotion, Tier
from lineitem.catalog.promotion import WHOLE
from lineitem.core.errors import InputError
from lineitem.core.limits import QUANTITY_DIGITS_MAX
from lineitem.rate.exact import compact
from lineitem.rate.models import MODELS
from lineitem.rate.models.shape import Model
from lineitem.rate.price import CompiledPrice, compile_price
from lineitem.rate.promoted import clamped, place, sum_of, sums_of
from lineitem.rate.quote import quote, quote_events, quote_events_explain, quote_line
from lineitem.rate.targets import Base, total_nano
from tests.rate import oracle

FROM_US, UNTIL_US = -2, 3
NAMES = tuple(name for name in oracle.MODEL_NAMES if name != "per_seat")
RATES = st.sampled_from(["0", "0.125", "0.333333333333", "1"])
EVENTS = st.lists(
    st.tuples(st.integers(-(10**6), 10**7) | st.integers(-(10**21), 10**21), st.integers(-4, 5)), min_size=1, max_size=8
)
Events = list[tuple[int, int]]


def promoted(price: Price, rate: str) -> Price:
    """``price`` with a promotion of microseconds -2 to 2."""
    return replace(price, promotion=Promotion(Decimal(rate), FROM_US, UNTIL_US))


def placed(price: CompiledPrice, events: Events) -> list[int]:
    """What each event counts."""
    assert price.charge is not None
    values = compact(np.array([value for value, _ in events], dtype=object))
    found, flaws = price.charge.charges(values, np.array([time for _, time in events]), {})
    assert not flaws
    return [int(value) for value in found.tolist()]


def parts(events: Events) -> tuple[int, int, int]:
    """Quantities before, in and after the window."""
    before = sum(value for value, time in events if time < FROM_US)
    inside = sum(value for value, time in events if FROM_US <= time < UNTIL_US)
    return before, inside, sum(value for value, _ in events) - before - inside


def expected(price: Price, scale: int, before: int, inside: int, after: int) -> Fraction:
    """T in fractions, by the words of the explanation."""
    share = Fraction(price.promotion.discount_rate) if price.promotion is not None else Fraction(0)
    bare = replace(price, promotion=None, discount_rate=None, maximum=None)

    def listed(quantity: int) -> Fraction:
        return oracle.amount(bare, Fraction(quantity, 10**scale))

    everything = before + inside + after
    if price.model in WHOLE:
        part = Fraction(min(max(inside, 0), everything), everything) if everything > 0 else Fraction(0)
        off = share * part * listed(everything)
    else:
        off = share * max(listed(before + inside) - listed(before), Fraction(0))
        off = min(off, max(listed(everything) - listed(0), Fraction(0)))
    net = (listed(everything) - off) * (1 - Fraction(price.discount_rate or 0))
    return net if price.maximum is None else min(net, Fraction(price.maximum))


def nano(amount: Fraction) -> int:
    """Half away from zero; nothing is negative."""
    return int(amount * 10**9 + Fraction(1, 2))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), rate=RATES, scale=st.sampled_from([0, 2, 9, 18]), events=EVENTS)
def test_it_is_exact_in_every_model(name: str, data: st.DataObject, rate: str, scale: int, events: Events) -> None:
    """T of the sums is the oracle's, for any quantities of either sign, and the sums are those of the three parts."""
    price = promoted(data.draw(oracle.prices((name,))), rate)
    compiled = compile_price(price, scale)
    total = sum(placed(compiled, events))
    column = compact(np.array([total], dtype=object))
    assert tuple(int(part[0]) for part in sums_of(column)) == parts(events)
    assert compiled.amount_nano(column).tolist() == [nano(expected(price, scale, *parts(events)))]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE])
@given(data=st.data(), rate=RATES, used=st.tuples(*[st.integers(0, 10**9)] * 3))
def test_it_is_what_versions_that_continue_come_to(
    name: str, data: st.DataObject, rate: str, used: tuple[int, int, int]
) -> None:
    """Three parts of a month, the middle one with a discount, each going on with the tiers before it."""
    drawn = data.draw(oracle.prices((name,)))
    bare = replace(drawn, discount_rate=None, maximum=None)
    before, inside, _ = used
    through, everything = before + inside, sum(used)

    def listed(quantity: int) -> Fraction:
        return oracle.amount(bare, Fraction(quantity, 1000))

    middle = (1 - Fraction(rate)) * (listed(through) - listed(before))
    owed = listed(before) + middle + listed(everything) - listed(through)
    assert expected(promoted(bare, rate), 3, *used) == owed
    times = (FROM_US - 1, FROM_US, UNTIL_US)
    compiled = compile_price(promoted(bare, rate), 3)
    total = sum(placed(compiled, list(zip(used, times, strict=True))))
    assert compiled.amount_nano(np.array([total], dtype=object)).tolist() == [nano(owed)]


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), rate=RATES, events=EVENTS)
def test_it_never_costs_more_nor_less_than_nothing(name: str, data: st.DataObject, rate: str, events: Events) -> None:
    """Never more than the price without it; and with the whole of it off, what is due without usage stays."""
    price = data.draw(oracle.prices((name,)))
    bare, compiled = compile_price(price, 3), compile_price(promoted(price, rate), 3)
    total = compact(np.array([sum(placed(compiled, events))], dtype=object))
    owed = int(compiled.amount_nano(total)[0])
    least = 0 if name in WHOLE else int(bare.amount_nano(np.zeros(1, dtype=np.int64))[0])
    assert least <= owed <= int(bare.amount_nano(sum_of(total))[0])


@given(EVENTS, st.integers(-(10**20), 10**20))
def test_what_others_used_comes_first(events: Events, others: int) -> None:
    """Tiers that continue, and pools, add a quantity to what lies before the window."""
    tiers = (Tier(Decimal(100), Decimal("0.5"), Decimal(2)), Tier(None, Decimal("0.1")))
    price = promoted(Price("p", "m", "graduated", "EUR", tiers=tiers, on_change="continue"), "0.25")
    compiled = compile_price(price, 0)
    total = compact(np.array([sum(placed(compiled, events))], dtype=object))
    base = Base(compact(np.array([others], dtype=object)), np.array([True]))
    before, inside, after = parts(events)
    alone = nano(expected(replace(price, promotion=None), 0, others, 0, 0))
    owed = nano(expected(price, 0, before + others, inside, after))
    assert total_nano(compiled, total, base).tolist() == [owed - alone]


@given(EVENTS)
def test_nothing_counts_below_zero(events: Events) -> None:
    """Usage that comes to less than zero takes nothing from a pool."""
    promotion = Promotion(Decimal(1), FROM_US, UNTIL_US)
    values = compact(np.array([value for value, _ in events], dtype=object))
    total = np.array([sum(place(promotion, values, np.array([time for _, time in events])).tolist())], dtype=object)
    found = [int(part[0]) for part in sums_of(clamped(total))]
    assert found == ([0, 0, 0] if sum(parts(events)) < 0 else list(parts(events)))


def test_the_largest_values_keep_their_places() -> None:
    """A billion events of 38 digits and either sign do not reach into the next place."""
    most = 10**QUANTITY_DIGITS_MAX - 1
    values = np.array([most, -most, most], dtype=object)
    column = place(Promotion(Decimal(1), 0, 1), values, np.array([-1, 0, 1])) * 10**9
    total = np.array([sum(column.tolist())], dtype=object)
    assert [int(part[0]) for part in sums_of(total)] == [most * 10**9, -most * 10**9, most * 10**9]


def test_usage_before_the_window_stays_in_int64() -> None:
    """So an account pays for a promotion only from its begin on."""
    compiled = compile_price(promoted(Price("p", "m", "per_unit", "EUR", unit_price=Decimal("0.5")), "0.5"), 3)
    assert compiled.charge is not None
    found, _ = compiled.charge.charges(np.array([5, 7]), np.array([-9, -3]), {})
    assert found.dtype == np.int64


def test_models_are_told_apart() -> None:
    """The catalog names the models whose tier prices the whole quantity; the models say so themselves."""
    assert {name for name, model in MODELS.items() if isinstance(model, Model) and model.whole} == set(WHOLE)


# --- quotes

NOVEMBER = {"discount_rate": "0.2", "from": "2026-11-10T00:00:00Z", "until": "2026-11-20T00:00:00+01:00"}
GRADUATED = {
    "model": "graduated", "currency": "EUR", "promotion": NOVEMBER,
    "tiers": [{"up_to": "100", "unit_price": "1", "flat_price": "5"}, {"up_to": None, "unit_price": "0.5"}],
}  # fmt: skip


def used(*events: tuple[str, str]) -> list[dict[str, str]]:
    """Events of values and days of November."""
    return [{"value": value, "time": f"2026-11-{day}Z"} for value, day in events]


THREE = used(("80", "09T23:59:59"), ("40", "10T00:00:00"), ("40", "19T23:00:00"))


def test_a_quote_shows_its_working() -> None:
    """80 units before, 20 at 1 and 20 at 0.5 in the window, the rest behind it: 20 % off 30."""
    amounts, amount = quote_events(GRADUATED, THREE)
    assert (amounts, amount) == (["85", "24", "20"], "129")
    assert quote_events(GRADUATED, THREE[::-1]) == (["20", "24", "85"], "129")
    assert quote_line({"id": 1, "price": GRADUATED, "events": THREE}) == {"id": 1, "amounts": amounts, "amount": amount}
    steps = quote_events_explain(GRADUATED, THREE)
    assert [step.label for step in steps] == [
        "quantity", "tier 1", "tier 2", "promotion 20 % off 30, for 40 units in its window, behind 80",
    ]  # fmt: skip
    assert sum(step.amount or 0 for step in steps) == 129


@pytest.mark.parametrize(
    ("price", "amount", "label"),
    [
        ({"model": "volume", "tiers": [{"up_to": "100", "unit_price": "2"}, {"up_to": None, "unit_price": "1"}]},
         "152", "promotion 20 % off 40 of 160 units"),
        ({"model": "stairstep", "tiers": [{"up_to": "100", "flat_price": "49"}, {"up_to": None, "flat_price": "160"}]},
         "152", "promotion 20 % off 40 of 160 units"),
        ({"model": "package", "package_size": "50", "package_price": "10"},
         "38", "promotion 20 % off 10, for 40 units in its window, behind 80"),
        ({"model": "per_unit", "unit_price": "1", "included": "90", "transform": {"divide_by": "1"}},
         "64", "promotion 20 % off 30, for 40 units in its window, behind 80"),
        ({"model": "per_unit", "unit_price": "1", "discount_rate": "0.5", "maximum": "75"},
         "75", "promotion 20 % off 40, for 40 units in its window, behind 80"),
        ({"model": "per_unit", "unit_price": "1", "discount_rate": "0.5", "minimum": "80"},
         "80", "promotion 20 % off 40, for 40 units in its window, behind 80"),
        ({"model": "graduated_percentage", "tiers": [{"up_to": None, "rate": "0.1"}]},
         "15.2", "promotion 20 % off 4, for 40 units in its window, behind 80"),
    ],
)  # fmt: skip
def test_models_and_keys_are_quoted(price: dict[str, Any], amount: str, label: str) -> None:
    """The promotion first, then the percentage discount, the maximum and the minimum."""
    document = {"currency": "EUR", "promotion": NOVEMBER} | price
    assert quote_events(document, THREE)[1] == amount
    steps = quote_events_explain(document, THREE)
    assert label in [step.label for step in steps]
    assert sum(step.amount or 0 for step in steps) == Fraction(amount)


def test_a_quote_asks_for_times() -> None:
    """Neither a quantity nor events without a time say what lies in the window."""
    with pytest.raises(InputError, match="asks when its units are used"):
        quote(GRADUATED, ["5"])
    assert quote_line({"id": 1, "price": GRADUATED, "quantities": ["2"]})["error"]["where"] == "events"
    assert quote_line({"id": 1, "price": GRADUATED, "events": ["2"]})["error"]["where"] == "events[0].time"
