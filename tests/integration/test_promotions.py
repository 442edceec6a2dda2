"""A promotion on tiers, through the ledger: late, retracted, waiting, settled: docs/explanation/promotions.md."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from lineitem.app import App
from lineitem.core.money import NANO
from lineitem.ledger.explain import explain
from tests.integration.drive import Space, World
from tests.integration.oracle import Oracle

NOW = datetime(2026, 12, 5, tzinfo=UTC)
TIERS: list[dict[str, Any]] = [{"up_to": "1000", "unit_price": "0.10"}, {"up_to": None, "unit_price": "0.05"}]
PROMOTION = {"discount_rate": "0.2", "from": "2026-11-10T12:00:00+01:00", "until": "2026-11-20T00:00:00+01:00"}
BEFORE, INSIDE, AFTER, LATE = (
    ("1", 800, "05T00:00:00"), ("2", 400, "10T11:00:00"), ("3", 500, "19T23:00:00"), ("4", 200, "10T10:59:59"),
)  # fmt: skip
"""The page's usage: id, requests, time of November in UTC."""
Used = tuple[str, int, str]


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def both(world: World, change: dict[str, Any], now: datetime = NOW, *others: dict[str, Any]) -> tuple[Space, Oracle]:
    """A namespace with one price, and with further prices of the meter ``m``."""
    price = {"id": "p", "meter": "m", "model": "graduated", "tiers": TIERS, "promotion": PROMOTION} | change
    document = {
        "currency": "USD",
        "meters": [{"id": "m", "event_type": "used", "aggregation": "sum", "value": "data.n", "scale": 0}],
        "pricebooks": [
            {"id": "b", "version": 1, "effective_from": "2020-01-01T00:00:00+00:00", "prices": [price, *others]}
        ],
        "accounts": {"defaults": {"pricebook": "b", "timezone": "Europe/Paris"}},
    }
    space = world.space(document, now)
    return space, Oracle(space.name, document, now)


def line(event: Used) -> bytes:
    id_, amount, time = event
    head = f'"specversion":"1.0","id":"{id_}","source":"/s","type":"used","subject":"x"'
    return f'{{{head},"time":"2026-11-{time}Z","data":{{"n":{amount}}}}}\n'.encode()


def send(space: Space, oracle: Oracle, *events: Used) -> None:
    """Each event a file of its own."""
    for event in events:
        space.clock.advance(1000)
        space.send(line(event), "stream")
        oracle.send(line(event), "stream")


def november(space: Space) -> Fraction:
    return sum(
        (Fraction(int(nano), NANO) for (_, _, month), (_, nano) in space.totals().items() if month == "2026-11"),
        Fraction(0),
    )


def test_the_example_of_the_page(world: World) -> None:
    """129 in whatever order it comes, 141 with what comes late, and back when that is retracted."""
    for order in ((BEFORE, INSIDE, AFTER), (AFTER, INSIDE, BEFORE), (INSIDE, AFTER, BEFORE)):
        space, oracle = both(world, {})
        send(space, oracle, *order)
        assert november(space) == 129
        send(space, oracle, LATE)  # 200 more at 0.10, and the window's 400 all at 0.05
        assert november(space) == 141
        assert space.totals() == oracle.totals()
    space.retract("/s", "4")
    assert november(space) == 129
    assert world.findings(deep=True) == []


MODELS: list[tuple[dict[str, Any], str]] = [
    ({"model": "volume"}, "81"),
    (
        {"model": "stairstep", "tiers": [{"up_to": "1000", "flat_price": "9"}, {"up_to": None, "flat_price": "17"}]},
        "16.2",
    ),
    ({"included": "1000", "transform": {"divide_by": "1", "round": "up"}}, "66"),
    ({"maximum": "120.5", "discount_rate": "0.05"}, "120.5"),
    ({"maximum": "130", "discount_rate": "0.05"}, "122.55"),
    ({"minimum": "200"}, "200"),
]


def test_models_and_keys(world: World) -> None:
    """In a month that is settled, and after late usage of it."""
    for change, total in MODELS:
        space, oracle = both(world, change)
        send(space, oracle, BEFORE, INSIDE, AFTER)
        space.bill("2026-11")
        oracle.settle("2026-11")
        assert november(space) == Fraction(total)
        send(space, oracle, LATE)
        assert space.totals() == oracle.totals()
    assert world.findings(deep=True) == []


def test_a_day_on_the_edge_waits_as_one_line_item(world: World) -> None:
    """The window of the line item has units of both sides in it; flushing bills each as what it is."""
    space, oracle = both(world, {"itemize": "day"}, datetime(2026, 11, 10, 13, tzinfo=UTC))
    send(space, oracle, LATE, INSIDE, BEFORE)
    assert (space.waiting(), int(november(space))) == (2, 80)  # the day of the other two has not ended
    space.flush(NOW)
    assert (space.waiting(), int(november(space))) == (0, 100 + 20 - 4)
    assert space.line_items() == 2
    assert space.totals() == oracle.totals()
    assert world.findings(deep=True) == []


def test_a_pool_is_used_up_before_the_window(world: World) -> None:
    """What others take of the included units comes first, and moves what the window takes off."""
    other = {"id": "a", "meter": "m", "model": "per_unit", "unit_price": "1", "included": "1000", "pool": "shared"}
    space, oracle = both(world, {"included": "1000", "pool": "shared"}, NOW, other)
    send(space, oracle, AFTER, INSIDE)
    assert space.totals()[("x", "p", "2026-11")][1] == (80 - Fraction("0.2") * 30) * NANO  # 900 of 1000 are taken
    send(space, oracle, BEFORE)
    assert space.totals() == oracle.totals()
    space.retract("/s", "1")
    assert space.totals()[("x", "p", "2026-11")][1] == 74 * NANO
    assert world.findings(deep=True) == []


def test_explain_names_it(world: World) -> None:
    """As a step of the working, and at the events that lie in its window."""
    space, oracle = both(world, {})
    send(space, oracle, BEFORE, INSIDE, AFTER)
    app, query = world.app, "select l.id from ledger.line_item l join catalog.namespace n using (namespace_key)"
    ids = [str(row[0]) for row in space.rows(f"{query} where n.namespace = %(namespace)s order by l.event_time")]
    found = [explain(app.control, app.segments, space.name, one) for one in ids]
    label = "promotion 20 % off 30, for 400 units in its window, behind 800"
    assert {str(one["target"]["working"][-1]) for one in found} == {str({"label": label, "amount": "-6"})}
    assert [one["events"]["items"][0].get("promotion") for one in found] == [None, "20 % off", None]
