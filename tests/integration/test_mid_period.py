"""A price that changes inside a month: tiers restart or continue, in any order: docs/explanation/mid-period-changes.md."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lineitem.app import App
from lineitem.core.errors import Refused
from lineitem.core.money import NANO
from lineitem.ledger.explain import explain
from lineitem.ledger.rows import Kind
from tests.integration.drive import Space, World
from tests.integration.oracle import Oracle
from tests.strategies import prices

NOW = datetime(2026, 12, 1, tzinfo=UTC)
law = settings(suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])
OLD: list[dict[str, Any]] = [{"up_to": "1000", "unit_price": "0.10"}, {"up_to": None, "unit_price": "0.05"}]
NEW: list[dict[str, Any]] = [{"up_to": "1000", "unit_price": "0.12"}, {"up_to": None, "unit_price": "0.06"}]
BEFORE, AFTER, LATE = ("1", 800, "10-14"), ("2", 700, "10-20"), ("3", 300, "10-10")
"""The page's usage: id, requests, day of 2026."""


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def catalog_of(*changes: dict[str, Any], itemize: str = "each", old: list[dict[str, Any]] = OLD) -> dict[str, Any]:
    """One price from 2020 on, and versions of it from 16 October on, a day apart."""
    price = {"id": "p", "meter": "m", "model": "graduated", "itemize": itemize, "tiers": old}
    versions = [("2020-01-01", price), *((f"2026-10-{16 + n}", price | change) for n, change in enumerate(changes))]
    return {
        "currency": "USD",
        "meters": [{"id": "m", "event_type": "used", "aggregation": "sum", "value": "data.n", "unit": "request"}],
        "pricebooks": [
            {"id": "b", "version": number, "effective_from": f"{day}T00:00:00+00:00", "prices": [one]}
            for number, (day, one) in enumerate(versions, 1)
        ],
        "accounts": {"defaults": {"pricebook": "b"}},
    }


CONTINUE = {"tiers": NEW, "on_change": "continue"}
RESTART = {"tiers": NEW}


def line(event: tuple[str, int, str]) -> bytes:
    id_, amount, day = event
    return (
        f'{{"specversion":"1.0","id":"{id_}","source":"/s","type":"used","subject":"x","time":"2026-{day}T12:00:00Z",'
        f'"data":{{"n":{amount}}}}}\n'
    ).encode()


def spaces(world: World, catalog: dict[str, Any], now: datetime = NOW) -> tuple[Space, Oracle]:
    space = world.space(catalog, now)
    return space, Oracle(space.name, catalog, now)


def send(space: Space, oracle: Oracle, *events: tuple[str, int, str]) -> None:
    """Each event a file of its own, a millisecond after the one before: ids then say what came first."""
    for event in events:
        space.clock.advance(1000)
        space.send(line(event), "stream")
        oracle.send(line(event), "stream")


def rows(space: Space) -> list[tuple[int, int, Fraction, Fraction]]:
    """Version, kind, quantity and amount of every line item, as posted."""
    found = space.rows(
        """select v.version, x.kind, coalesce(x.quantity_wide, x.quantity), coalesce(x.amount_wide, x.amount_nano)
        from ledger.line_item x join catalog.namespace n on n.namespace_key = x.namespace_key and n.namespace = %(namespace)s
        join catalog.price_version v using (price_version_key) order by x.id"""
    )
    return [(version, kind, Fraction(int(q), 10**9), Fraction(int(nano), NANO)) for version, kind, q, nano in found]


def october(space: Space) -> Fraction:
    return sum((amount for *_, amount in rows(space)), Fraction(0))


@pytest.mark.parametrize(("change", "total", "late"), [(RESTART, 164, 189), (CONTINUE, 134, 147)])
def test_the_example_of_the_page(world: World, change: dict[str, Any], total: int, late: int) -> None:
    """October costs what the page says, before and after the late event, and in whatever order all of it comes."""
    space, oracle = spaces(world, catalog_of(change))
    send(space, oracle, BEFORE, AFTER)
    assert october(space) == total
    send(space, oracle, LATE)
    assert october(space) == late
    assert space.totals() == oracle.totals()
    others = [(AFTER, BEFORE, LATE), (LATE, AFTER, BEFORE), (AFTER, LATE, BEFORE)]
    for order in others:
        other, _ = spaces(world, catalog_of(change))
        send(other, oracle, *order)
        assert other.totals() == space.totals()
    at_once, _ = spaces(world, catalog_of(change))
    at_once.send(b"".join(map(line, others[0])), "stream")
    assert at_once.totals() == space.totals()
    assert world.findings(deep=True) == []


def test_a_late_event_brings_a_line_item_for_the_later_part(world: World) -> None:
    """It is a true-up without quantity or event, in the batch of the event; where nothing changed there is none."""
    space, oracle = spaces(world, catalog_of(CONTINUE))
    send(space, oracle, BEFORE, AFTER, LATE)
    late = [(1, Kind.USAGE, Fraction(300), Fraction(25)), (2, Kind.TRUE_UP, Fraction(0), Fraction(-12))]
    assert sorted(rows(space)[2:]) == late
    send(space, oracle, ("4", 1000, "10-21"))  # moves nothing that comes before it
    assert len(rows(space)) == 5
    restarted, oracle = spaces(world, catalog_of(RESTART))
    send(restarted, oracle, BEFORE, AFTER, LATE)
    assert {kind for _, kind, *_ in rows(restarted)} == {Kind.USAGE}
    assert world.findings(deep=True) == []


def test_a_retraction_moves_the_later_part_back(world: World) -> None:
    """Without the late event October is what it was; without any event before the change, the new rule stands alone."""
    space, oracle = spaces(world, catalog_of(CONTINUE))
    send(space, oracle, BEFORE, AFTER, LATE)
    space.clock.advance(1000)
    assert space.retract("/s", "3") == 2
    assert october(space) == 134
    assert sorted(rows(space)[4:])[1] == (2, Kind.TRUE_UP, Fraction(0), Fraction(12))
    assert space.retract("/s", "1") == 2
    assert october(space) == 84
    assert space.retract("/s", "2") == 1
    assert october(space) == 0
    send(space, oracle, ("5", 800, "10-12"))
    assert october(space) == 80
    assert world.findings(deep=True) == []


@pytest.mark.parametrize("closed", [False, True])
def test_a_closed_month_takes_neither(world: World, closed: bool) -> None:
    """The late event and what it moves land in the next open month."""
    space, oracle = spaces(world, catalog_of(CONTINUE))
    send(space, oracle, BEFORE, AFTER)
    if closed:
        space.close("2026-10")
    send(space, oracle, LATE)
    posting = "2026-11" if closed else "2026-10"
    late = {
        ("2026-10", posting, int(Kind.CORRECTION if closed else Kind.USAGE)),
        ("2026-10", posting, int(Kind.TRUE_UP)),
    }
    assert late <= space.kinds().keys()
    assert space.totals() == oracle.totals()
    assert world.findings(deep=True) == []


def test_windows_that_wait_count_for_what_comes_after(world: World) -> None:
    """Q1 is that of all accepted events: flushing moves no total but its own."""
    now = datetime(2026, 10, 20, 13, tzinfo=UTC)
    space, oracle = spaces(world, catalog_of(CONTINUE, itemize="day"), now)
    send(space, oracle, AFTER)  # its day has not ended
    assert (int(october(space)), space.waiting()) == (0, 1)
    send(space, oracle, BEFORE, LATE)
    assert october(space) == 105
    space.flush(NOW)
    assert (int(october(space)), space.waiting()) == (147, 0)
    assert space.totals() == oracle.totals()
    assert world.findings(deep=True) == []


def test_the_same_tiers_come_to_what_one_price_would(world: World) -> None:
    """Two parts with the same tiers telescope, to the last decimal; another description makes no second part at all."""
    tiers: list[dict[str, Any]] = [
        {"up_to": "900", "unit_price": "0.333333333333", "flat_price": "5"},
        {"up_to": None, "unit_price": "0.0000000007"},
    ]
    events = [BEFORE, AFTER, LATE, ("4", 7, "10-17")]
    plain, oracle = spaces(world, catalog_of({"description": "other words"}, old=tiers))
    send(plain, oracle, *events)
    for changes in (
        [{"on_change": "continue"}],
        [{"on_change": "continue"}, {"on_change": "continue", "discount_rate": "0"}],
    ):
        space, oracle = spaces(world, catalog_of(*changes, old=tiers))
        send(space, oracle, *events)
        assert october(space) == october(plain)
        assert sum(kind == Kind.RECURRING for _, kind, *_ in rows(space)) == 1
    assert [number for number, *_ in plain.rows(
        "select count(*) from ledger.accumulator x join catalog.namespace n using (namespace_key)"
        " where n.namespace = %(namespace)s"
    )] == [1]  # fmt: skip
    assert world.findings(deep=True) == []


def test_a_fixed_due_posts_once_in_a_month(world: World) -> None:
    """The later part owes it only while there is no usage before the change."""
    flat = [{"up_to": None, "unit_price": "1", "flat_price": "20"}]
    space, oracle = spaces(world, catalog_of({"on_change": "continue", "tiers": flat, "maximum": "5000"}, old=flat))
    send(space, oracle, ("1", 3, "10-20"))
    assert october(space) == 23
    send(space, oracle, ("2", 4, "10-10"))
    assert october(space) == 27
    assert space.totals() == oracle.totals()
    assert world.findings(deep=True) == []


def test_three_parts_go_on_back_to_the_one_that_restarts(world: World) -> None:
    """Every later part moves with every earlier one of its chain, not with those before a restart."""
    changes: list[dict[str, Any]] = [
        {"tiers": NEW},
        {"tiers": OLD, "on_change": "continue"},
        {"tiers": NEW, "on_change": "continue"},
    ]
    space, oracle = spaces(world, catalog_of(*changes))
    days = ["10-18", "10-17", "10-19", "10-16", "10-15", "10-16", "10-17"]
    for number, day in enumerate(days):
        send(space, oracle, (str(number), 400 + number, day))
        assert space.totals() == oracle.totals(), day
    for number in (3, 1, 4):
        space.retract("/s", str(number))
        oracle.retract(("/s", str(number)))
        assert space.totals() == oracle.totals(), number
    assert world.findings(deep=True) == []


def test_what_the_ledger_cannot_hold_of_a_later_part(world: World) -> None:
    """An event that would carry a later part beyond 38 digits is set aside with the earlier part's; the rest goes on."""
    dear = [
        {"up_to": "10", "unit_price": "0"},
        {"up_to": "20", "unit_price": "1" + "0" * 29},
        {"up_to": None, "unit_price": "0"},
    ]
    free = [{"up_to": None, "unit_price": "0"}]
    space, oracle = spaces(world, catalog_of({"on_change": "continue", "tiers": dear}, old=free))
    send(space, oracle, ("1", 30, "10-10"), ("2", 100, "10-20"))
    summary = space.send(line(("3", -25, "10-11")) + line(("4", 1, "11-05")), "stream")
    assert (summary.counts.dead_lettered, summary.counts.itemized) == (1, 1)
    assert october(space) == 0
    with pytest.raises(Refused, match="more than 38 digits"):
        space.retract("/s", "1")
    assert world.findings(deep=True) == []


def test_explain_shows_whose_tiers_it_goes_on_with(world: World, ledger: App) -> None:
    """The versions before, their quantity and what the new rule makes of it; the working is that of both together."""
    space, oracle = spaces(world, catalog_of(CONTINUE))
    send(space, oracle, BEFORE, AFTER, LATE)
    ids = [str(row[0]) for row in space.rows("select id from ledger.line_item order by id")]
    found = [explain(ledger.control, ledger.segments, space.name, one) for one in ids]
    documents = {document["line_item"]["kind"]: document for document in found[1:]}
    target = documents["true_up"]["target"]
    assert target["continues"] == {"versions": [1], "quantity_before": "1100", "amount_before": "126"}
    assert Decimal(target["amount"]) == 42
    assert "since the usage" in documents["true_up"]["events"]["note"]
    assert [step.get("amount") for step in target["working"]][-2:] == ["-126", "42"]
    assert "continues" not in found[0]["target"]


@st.composite
def changing(draw: st.DrawFn) -> dict[str, Any]:
    """One price of a sum or a count in up to four versions of October, most of which go on with its tiers."""
    catalog = catalog_of(*[{}] * draw(st.integers(1, 3)))
    how: list[dict[str, Any]] = [{"on_change": "continue"}, {"on_change": "continue"}, {}]
    for book in catalog["pricebooks"]:
        tiered = (
            prices("p", "m")
            .filter(lambda price: price["model"] != "per_unit" and price.get("maximum") != "0")
            .map(lambda price: {name: value for name, value in price.items() if name != "minimum"})
        )
        book["prices"] = [draw(tiered) | {"currency": "USD"} | draw(st.sampled_from(how))]
    if draw(st.booleans()):
        catalog["meters"] = [{"id": "m", "event_type": "used", "aggregation": "count"}]
    return catalog


def test_whatever_arrives_when(world: World) -> None:
    """Two processes at once, windows that wait, retractions of any part: always what the oracle says, and so says --deep."""
    days = st.sampled_from(["10-15", "10-16", "10-17", "10-18", "10-19"])
    amounts = st.sampled_from([-3, -1, 0, 1, 1, 2, 3, 7, 250, 5001])

    @settings(law, max_examples=20)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog = data.draw(changing())
        now = datetime(2026, 10, 19, 13, tzinfo=UTC)
        space, oracle = spaces(world, catalog, now)
        drawn = data.draw(st.lists(st.tuples(amounts, days), min_size=6, max_size=14))
        events = [(str(number), *one) for number, one in enumerate(drawn)]
        halves = [b"".join(map(line, part)) for part in (events[: len(events) // 2], events)]
        records_max = data.draw(st.sampled_from([1, 1, 2, 1000]))
        with ThreadPoolExecutor(2) as pool:
            done = [pool.submit(space.send, file, "stream", records_max, pipeline=n) for n, file in enumerate(halves)]
            assert sum(one.result().counts.received for one in done) == len(events) + len(events) // 2
        for file in halves:
            oracle.send(file, "stream")
        flushed = data.draw(st.booleans())
        if flushed:
            space.flush(NOW)
            assert space.totals() == oracle.totals()
        for id_, *_ in data.draw(st.lists(st.sampled_from(events), min_size=1, max_size=3, unique=True)):
            space.retract("/s", id_)
            oracle.retract(("/s", id_))
        assert world.findings(deep=not flushed) == []
        space.flush(NOW)
        assert space.totals() == oracle.totals()

    holds()
    assert world.findings(deep=True) == []
    moved = world.app.control.execute("select count(*) from ledger.line_item where kind = 3").fetchone()
    assert moved is not None
    assert moved[0] > 10, "the examples are too tame"
