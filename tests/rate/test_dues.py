"""How much of a month is due, and what a target owes once its period is settled."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.canary import CanaryAct, Change, Step
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Catalog, Charge, Price, Pricebook, Prorate
from lineitem.catalog.published import content_of
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.core.period import Month
from lineitem.rate.dues import Due, dues, whole
from lineitem.rate.price import compile_price
from lineitem.rate.targets import NOT_SETTLED, SETTLED, SETTLED_ACTIVE, rate_running, totals
from tests.rate import oracle

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OCTOBER = Month(2026, 10).index


def us(time: datetime) -> int:
    """Microseconds since the epoch."""
    return (time - EPOCH) // timedelta(microseconds=1)


def snapshot(price: str, account: str) -> Snapshot:
    """A catalog of one price and one account."""
    catalog: Catalog = parse_catalog(
        f"""
        currency: USD
        meters: [{{id: m, event_type: e, aggregation: count}}]
        pricebooks: [{{id: b, version: 1, effective_from: 2020-01-01T00:00:00Z, prices: [{price}]}}]
        accounts: {{list: [{{id: a, pricebook: b, {account}}}]}}
        """,
        "c.yaml",
    )
    (found,) = catalog.pricebooks[0].prices
    meter = found.meter_of({meter.id: meter for meter in catalog.meters})
    assert meter is not None
    row = PriceRow(1, 1, "b", 1, found, meter, content_of(found, meter).hex())
    return Snapshot("n", 1, 1, catalog, catalog.pricebooks, (row,))


def due(price: str, account: str, months: list[int], now: datetime) -> list[Due]:
    """What is due without usage."""
    return list(dues(snapshot(price, account), months, us(now), lambda row: compile_price(row.price, 0)))


FEE = '{id: p, model: flat, amount: "49"}'


def test_a_month_is_due_when_it_has_ended_where_the_account_is() -> None:
    """In Paris that is at 23:00 in UTC, an instant before it is not."""
    active = "timezone: Europe/Paris, active_from: 2020-01-01"
    end = datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert due(FEE, active, [OCTOBER], end - timedelta(microseconds=1)) == []
    (one,) = due(FEE, active, [OCTOBER], end)
    assert (one.month, one.end_us, one.parts) == (OCTOBER, us(end), SETTLED_ACTIVE)


def test_a_member_of_a_canary_owes_what_its_prices_say() -> None:
    """From the canary's first month on, and never the fee of the pricebook as well."""
    before = snapshot(FEE, "active_from: 2020-01-01")
    (row,) = before.rows
    tried = Pricebook("@canary/x", 1, 0, None, (replace(row.price, amount="59"),))
    start = Change("x", CanaryAct.START, "b", 2, OCTOBER, "some", accounts=("a",))
    rows = (row, PriceRow(2, 2, tried.id, 1, tried.prices[0], row.meter, ""))
    after = replace(before, pricebooks=(*before.pricebooks, tried), rows=rows, canaries=(Step(2, start),))
    owed = dues(
        after, [OCTOBER - 1, OCTOBER], us(datetime(2026, 11, 1, tzinfo=UTC)), lambda r: compile_price(r.price, 0)
    )
    assert [(one.month, one.row.price.amount) for one in owed] == [(OCTOBER - 1, "49"), (OCTOBER, "59")]


def test_where_tiers_go_on_through_a_month_nobody_owes_it_idle() -> None:
    """In the month of the change neither part is due without usage; before and after it the price in force is."""
    tiers = (
        'model: graduated, tiers: [{up_to: "10", unit_price: "0", flat_price: "FLAT"}, {up_to: null, unit_price: "1"}]'
    )
    first = "{id: p, meter: m, " + tiers.replace("FLAT", "20") + "}"
    before = snapshot(first, "active_from: 2020-01-01")
    (row,) = before.rows
    price = replace(
        row.price,
        on_change="continue",
        tiers=(replace(row.price.tiers[0], flat_price=Decimal(30)), *row.price.tiers[1:]),
    )
    changed = us(datetime(2026, 10, 16, tzinfo=UTC))
    book = Pricebook("b", 2, changed, None, (price,))
    rows = (row, PriceRow(2, 2, "b", 2, price, row.meter, "other"))
    after = replace(before, pricebooks=(*before.pricebooks, book), rows=rows)
    months = [OCTOBER - 1, OCTOBER, OCTOBER + 1]
    owed = list(dues(after, months, us(datetime(2026, 12, 1, tzinfo=UTC)), lambda r: compile_price(r.price, 0)))
    assert [(one.month, one.row.version) for one in owed] == [(OCTOBER - 1, 1), (OCTOBER + 1, 2)]


def test_in_advance_the_month_after_is_due_too() -> None:
    """As soon as it begins; the month itself is due already."""
    fee, active = FEE.replace("}", ", charge: in_advance}"), "active_from: 2020-01-01"
    begins = datetime(2026, 11, 1, tzinfo=UTC)
    assert [one.month for one in due(fee, active, [OCTOBER], begins)] == [OCTOBER, OCTOBER + 1]
    assert [one.month for one in due(fee, active, [OCTOBER], begins - timedelta(seconds=1))] == [OCTOBER]


def test_only_what_asks_something_of_no_usage_is_due() -> None:
    """A price per unit asks nothing, one with a minimum does; an account that does not say when it is active never."""
    now = datetime(2026, 12, 1, tzinfo=UTC)
    unit = '{id: p, meter: m, model: per_unit, unit_price: "1"}'
    assert due(unit, "active_from: 2020-01-01", [OCTOBER], now) == []
    assert len(due(unit.replace("}", ', minimum: "5"}'), "active_from: 2020-01-01", [OCTOBER], now)) == 1
    assert due(FEE, "timezone: UTC", [OCTOBER], now) == []


@given(
    st.sampled_from(["day", "second"]),
    st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Pacific/Chatham", "Asia/Kolkata"]),
    st.integers(0, 30 * 86_400 * 10**6), st.integers(0, 30 * 86_400 * 10**6),
)  # fmt: skip
def test_parts_of_a_month_make_the_whole(prorate: str, zone: str, first: int, second: int) -> None:
    """What ends where the next begins: by the second the parts sum to the month; a day on which both lie counts for both."""
    start, _ = Month(2026, 10).bounds_us(zone)
    at = start + max(first, second, 1)
    until = (EPOCH + timedelta(microseconds=at)).isoformat()
    fee, now = FEE.replace("}", f", prorate: {prorate}}}"), datetime(2026, 12, 1, tzinfo=UTC)
    before = due(fee, f'timezone: {zone}, active_from: 2020-01-01, active_until: "{until}"', [OCTOBER], now)
    after = due(fee, f'timezone: {zone}, active_from: "{until}"', [OCTOBER], now)
    row = after[0].row
    total = sum(one.parts for one in (*before, *after))
    local = (EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(zone))
    shared = prorate == "day" and (local.hour, local.minute, local.second, local.microsecond) != (0, 0, 0, 0)
    assert total == whole(row.price, OCTOBER, after[0].start_us, after[0].end_us) + shared


@given(oracle.decimals(12, 9), st.integers(0, 31))
def test_a_share_is_rounded_once(amount: Decimal, days: int) -> None:
    """Amount times days of the month, half away from zero at 9 decimals."""
    text = format(amount, "f")
    price = Price("p", "", "flat", "USD", amount=text, prorate=Prorate.DAY, charge=Charge.IN_ADVANCE)
    none, of = np.zeros(1, dtype=np.int64), np.array([31])
    (owed,) = totals(compile_price(price, 0), none, none, np.array([days]), of).tolist()
    assert owed == int(Fraction(amount) * days / 31 * 10**9 + Fraction(1, 2))


@given(oracle.prices(), oracle.DECIMALS, st.lists(st.integers(0, 10**20), min_size=1, max_size=6), st.booleans())
def test_a_settled_target_owes_the_minimum_at_least(
    price: Price, minimum: Decimal, quantities: list[int], settled: bool
) -> None:
    """Whatever was posted before, the sum after late usage is the larger of price and minimum; unsettled it is the price."""
    if price.maximum is not None and minimum > price.maximum:
        minimum = price.maximum
    plain = compile_price(price, 3)
    compiled = compile_price(
        Price(**{name: getattr(price, name) for name in price.__slots__} | {"minimum": minimum}), 3
    )
    state = np.array([SETTLED if settled else NOT_SETTLED])
    column = np.array(quantities, dtype=object)
    posted = np.zeros(1, dtype=np.int64)
    amounts, after = rate_running(compiled, np.zeros(len(column), dtype=np.int64), column, posted, settled=state)
    last = int(plain.amount_nano(column[-1:])[0])
    expected = max(last, int(Fraction(minimum) * 10**9 + Fraction(1, 2))) if settled else last
    assert sum(map(int, amounts)) == int(after[0]) == expected
    assert int(totals(compiled, column[-1:], np.array([1]), state)[0]) == expected
    assert int(totals(compiled, column[-1:], np.array([0]), state)[0]) == 0
