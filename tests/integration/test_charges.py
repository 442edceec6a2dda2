"""Per-event prices in the ledger: free first events by time, whatever comes late, and how a fee is explained."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lineitem.app import App
from lineitem.core.period import Month
from lineitem.ledger.explain import explain
from tests.integration.drive import World

NOW = datetime(2026, 12, 1, tzinfo=UTC)
# Case pct-1 of the published vectors, without the units.
FEE = {
    "id": "fee", "meter": "paid", "model": "percentage", "rate": "0.013", "per_event": "2", "free_events": 3,
}  # fmt: skip


def catalog(*prices: dict[str, Any]) -> dict[str, Any]:
    """One meter over payments, the prices given."""
    return {
        "currency": "USD",
        "meters": [{"id": "paid", "event_type": "payment", "aggregation": "sum", "value": "data.amount", "scale": 2}],
        "pricebooks": [{"id": "b", "version": 1, "effective_from": "2020-01-01T00:00:00Z", "prices": list(prices)}],
        "accounts": {"defaults": {"pricebook": "b"}},
    }


def payment(day: int, amount: str, **more: str) -> bytes:
    """One payment in October."""
    data = "".join(f',"{name}":"{value}"' for name, value in more.items())
    return (
        f'{{"specversion":"1.0","id":"p-{day}","source":"/pay","type":"payment","subject":"shop",'
        f'"time":"2026-10-{day:02}T12:00:00Z","data":{{"amount":{amount}{data}}}}}\n'
    ).encode()


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def amounts(space: Any) -> dict[str, int]:
    """Event id -> amount in nano-units of its line item."""
    rows = space.rows(
        "select event_id, amount_nano from ledger.line_item x join catalog.namespace n on n.namespace_key = x.namespace_key"
        " and n.namespace = %(namespace)s"
    )
    return {str(event): int(nano) for event, nano in rows}


def test_a_late_event_pushes_another_out_of_the_allowance(world: World) -> None:
    """Three are free, by event time: 50, 100, 250; then 400 costs 2 + 5.2. A fourth, earlier one makes the 250 pay 5.25."""
    space = world.space(catalog(FEE), NOW)
    space.send(b"".join(payment(day, value) for day, value in ((2, "50"), (3, "100"), (4, "250"), (5, "400"))), "one")
    assert amounts(space) == {"p-2": 0, "p-3": 0, "p-4": 0, "p-5": 7_200_000_000}
    space.send(payment(1, "10"), "late")
    assert amounts(space)["p-1"] == 5_250_000_000  # itself free; what the one it pushed out owes now
    assert sum(amounts(space).values()) == 12_450_000_000
    assert world.findings(deep=True) == []


def test_a_retraction_lets_the_next_one_in(world: World) -> None:
    """Without the first payment the fourth is free: the difference is posted, and nothing else."""
    space = world.space(catalog(FEE), NOW)
    space.send(b"".join(payment(day, value) for day, value in ((2, "50"), (3, "100"), (4, "250"), (5, "400"))), "one")
    space.retract("/pay", "p-2")
    totals = space.totals()
    assert [(str(key[1]), nano) for key, (_, nano) in totals.items()] == [("fee", 0)]
    space.send(payment(6, "1000"), "more")
    assert sum(nano for _, nano in space.totals().values()) == 15_000_000_000
    assert world.findings(deep=True) == []


def test_windows_hold_their_charges(world: World) -> None:
    """Fees of a day wait with the day, and are posted as one line item when it has ended."""
    space = world.space(catalog(FEE | {"itemize": "day", "free_events": 1}), datetime(2026, 10, 2, 18, tzinfo=UTC))
    space.send(payment(1, "100") + payment(2, "200"), "one")
    assert space.waiting() == 1
    space.flush(datetime(2026, 10, 3, 1, tzinfo=UTC))
    assert space.waiting() == 0
    assert [nano for _, nano in space.totals().values()] == [4_600_000_000]
    assert world.findings(deep=True) == []


def test_what_an_event_does_not_say_sets_it_aside(world: World) -> None:
    """A matrix without a cell for it has no price, a dynamic price in another currency is refused; neighbours are billed."""
    cells = [{"when": {"region": "eu"}, "unit_price": "0.5"}]
    matrix = {"id": "cells", "meter": "paid", "model": "matrix", "dimensions": ["data.region"], "cells": cells}
    carried = {
        "id": "carried", "meter": "paid", "model": "dynamic", "amount": "data.fee", "currency_from": "data.currency",
    }  # fmt: skip
    space = world.space(catalog(matrix, carried), NOW)
    good = {"region": "eu", "fee": "0.001", "currency": "USD"}
    sent = space.send(
        payment(1, "10", **good)
        + payment(2, "10", **good | {"region": "us"})
        + payment(3, "10", **good | {"currency": "EUR"}),
        "one",
    )
    assert (sent.counts.itemized, sent.counts.dead_lettered) == (1, 2)
    reasons = space.rows(
        "select reason, detail from ingest.dead_letter x join catalog.namespace n on n.namespace_key = x.namespace_key"
        " and n.namespace = %(namespace)s order by x.position"
    )
    assert [detail for _, detail in reasons] == [
        "price cells: no cell of the price matches region='us'",
        "price carried: data.currency is 'EUR', but the price is in USD",
    ]
    assert {key[1]: nano for key, (_, nano) in space.totals().items()} == {"cells": 5_000_000_000, "carried": 1_000_000}


def test_a_fee_is_explained_and_invoiced(world: World) -> None:
    """The working starts from the events' charges and comes to the target's amount; the invoice has it to the cent."""
    space = world.space(catalog(FEE | {"discount_rate": "0.1", "maximum": "6"}), NOW)
    space.send(b"".join(payment(day, value) for day, value in ((2, "50"), (3, "100"), (4, "250"), (5, "400"))), "one")
    (row,) = space.rows(
        "select x.id from ledger.line_item x join catalog.namespace n on n.namespace_key = x.namespace_key"
        " and n.namespace = %(namespace)s where x.event_id = 'p-5'"
    )
    app = world.app
    document = explain(app.control, app.segments, space.name, str(row[0]))
    target = document["target"]
    assert [(step["label"], step["amount"]) for step in target["working"]] == [
        ("charges of the events", "7.2"),
        ("discount 10 %", "-0.72"),
        ("maximum 6", "-0.48"),
    ]
    assert (target["quantity"], target["amount"]) == ("800", "6")
    assert target["this_line_item"]["amount"] == "6"
    made = space.act(lambda app: app.bill(space.name, Month.parse("2026-10"), None))
    assert [invoice["total"] for invoice in made.invoices] == ["6.00"]
