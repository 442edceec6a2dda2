"""Published cases that only an expression can meter, from events to money: match, fold, price, round once.

The serverless figures are those of the provider's own pricing page (its first example, and the rules of 1 ms and of
100 ms steps); increments of calls are the telecom trade's; CPM is a price per thousand impressions.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pytest

from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Catalog
from lineitem.core.money import NANO
from lineitem.ingest.events import EventColumns
from lineitem.rate.folds import FoldItems, FoldState, fold
from lineitem.rate.match import match
from lineitem.rate.price import compile_price
from tests.rate.test_filter import events_of

BATCH = 100_000
"""Events of one batch; a month is the same batch so many times."""

CATALOG = """\
currency: USD
meters:
  - {{id: used, event_type: t, aggregation: {aggregation}, {meter}}}
pricebooks:
  - id: standard
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
      - {{id: due, meter: used, model: per_unit, {price}}}
"""


def catalog(meter: str, price: str, aggregation: str = "sum") -> Catalog:
    return parse_catalog(CATALOG.format(meter=meter, price=price, aggregation=aggregation), "c.yaml")


def events(data: list[dict[str, Any]]) -> EventColumns:
    return events_of(data)


def quantity_and_cents(catalog: Catalog, batch: EventColumns, batches: int) -> tuple[Decimal, Decimal]:
    """A month of ``batches`` equal batches for one account: its quantity, and its amount rounded once."""
    (meter,) = catalog.meters
    (found,), rejects = match(batch, catalog.meters)
    assert rejects == []
    state = FoldState.empty(1)
    target = np.zeros(len(found.rows), dtype=np.int64)
    for _ in range(batches):
        _, state = fold(meter.aggregation, FoldItems(target, found.value), state)
    scale = meter.quantity_scale
    amount = compile_price(catalog.pricebooks[0].prices[0], scale).amount_nano(state.quantity)
    cents = (Decimal(int(amount[0])) / NANO).quantize(Decimal("0.01"), ROUND_HALF_UP)
    return Decimal(int(state.quantity[0])).scaleb(-scale), cents


def test_three_million_invocations_with_a_free_tier() -> None:
    """512 MB for 1000 ms, 3,000,000 times: 1,500,000 GB-s, 400,000 of them free: 18.34. Two million requests: 0.40."""
    batch = events([{"duration_ms": 1000, "memory_mb": 512}] * BATCH)
    compute = catalog(
        "value: 'ceil(data.duration_ms) * data.memory_mb / 1024000'", 'unit_price: "0.00001667", included: 400000'
    )
    assert quantity_and_cents(compute, batch, 30) == (Decimal(1_500_000), Decimal("18.34"))
    requests = catalog("unit: request", 'unit_price: "0.20", transform: {divide_by: 1000000}, included: 1', "count")
    assert quantity_and_cents(requests, batch, 30) == (Decimal(3_000_000), Decimal("0.40"))


@pytest.mark.parametrize(
    ("duration", "gb_seconds", "amount"),
    [("ceil(data.duration_ms)", 50_500, "0.84"), ("ceil(data.duration_ms, 100)", 100_000, "1.67")],
)
def test_a_duration_is_rounded_up_per_invocation(duration: str, gb_seconds: int, amount: str) -> None:
    """100.2 ms, 1,000,000 times, is 101 ms each in steps of 1 ms and 200 ms each in steps of 100 ms."""
    batch = events([{"duration_ms": Decimal("100.2"), "memory_mb": 512}] * BATCH)
    compute = catalog(f"value: '{duration} * data.memory_mb / 1024000'", 'unit_price: "0.0000166667"')
    assert quantity_and_cents(compute, batch, 10) == (Decimal(gb_seconds), Decimal(amount))


@pytest.mark.parametrize(
    ("value", "billed"),
    [
        ("data.seconds <= 30 ? 30 : 30 + ceil(data.seconds - 30, 6)", [30, 36, 66]),
        ("30 + ceil(max(data.seconds - 30, 0), 6)", [30, 36, 66]),
        ("ceil(data.seconds, 60)", [60, 60, 120]),
        ("ceil(data.seconds)", [10, 31, 61]),
    ],
)
def test_increments_of_a_call(value: str, billed: list[int]) -> None:
    """10, 31 and 61 seconds at 30/6, 60/60 and 1/1; a call that nobody answered is not billable."""
    calls = catalog(f"scale: 0, value: '{value}', filter: 'data.seconds > 0'", 'unit_price: "0.01"')
    (found,), rejects = match(events([{"seconds": n} for n in (10, 31, 61, 0)]), calls.meters)
    assert (found.rows.tolist(), found.value.tolist(), rejects) == ([0, 1, 2], billed, [])


def test_a_thousand_viewable_impressions() -> None:
    """9.43 per thousand impressions that are valid and were in view: a million of them cost 9430.00, the rest nothing."""
    viewable = catalog(
        "filter: 'data.valid == true && data.viewable == true'",
        'unit_price: "9.43", transform: {divide_by: 1000}',
        "count",
    )
    good, hidden, fraud = ({"valid": v, "viewable": w} for v, w in ((True, True), (True, False), (False, True)))
    assert quantity_and_cents(viewable, events([good, hidden, good, fraud, {}] * 20_000), 25) == (
        Decimal(1_000_000),
        Decimal("9430.00"),
    )
