"""Included units that prices share and that months leave to the next: who gets them, whatever comes when."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lineitem.app import App
from lineitem.billing.run import invoices
from lineitem.core.errors import CatalogError, Refused
from lineitem.core.period import Month
from lineitem.ledger.explain import explain
from tests.integration.drive import Space, World
from tests.integration.oracle import Oracle
from tests.integration.test_commitments import start_canary
from tests.strategies import prices

OCTOBER, DECEMBER = datetime(2026, 10, 2, tzinfo=UTC), datetime(2026, 12, 15, tzinfo=UTC)
PROMPT: dict[str, Any] = {"id": "prompt", "meter": "p", "model": "per_unit", "unit_price": "0.5"}
REPLY: dict[str, Any] = {"id": "reply", "meter": "r", "model": "per_unit", "unit_price": "2"}
SHARED = {"included": "1000", "pool": "tokens"}
FREE = REPLY | {"unit_price": "0"}
CARRIED = {"included": "1000", "rollover_max": "250"}
law = settings(suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def catalog(*versions: list[dict[str, Any]], **account: Any) -> dict[str, Any]:
    """Two meters, one pricebook that changes on the 16th of September, and the account "paris"."""
    meters = [
        {"id": id_, "event_type": "used", "aggregation": "sum", "value": f"data.{id_}", "unit": "token", "scale": 0}
        for id_ in "pr"
    ]
    books = [
        {"id": "b", "version": number, "effective_from": f"{day}T00:00:00+00:00", "prices": found}
        for number, (day, found) in enumerate(zip(("2020-01-01", "2026-09-16"), versions, strict=False), 1)
    ]
    listed = {"id": "paris", "timezone": "Europe/Paris"} | account
    return {
        "currency": "USD", "meters": meters, "pricebooks": books,
        "accounts": {"defaults": {"pricebook": "b"}, "list": [listed]},
    }  # fmt: skip


def event(id_: str, p: int, r: int, day: str, account: str = "walk-in") -> bytes:
    """Tokens of a day of 2026."""
    return (
        f'{{"specversion":"1.0","id":"{id_}","source":"/s","type":"used","subject":"{account}",'
        f'"time":"2026-{day}T12:00:00Z","data":{{"p":{p},"r":{r}}}}}\n'
    ).encode()


def owed(space: Space, month: str, account: str = "walk-in") -> dict[str, int]:
    """What each price of an account comes to in a month, in whole units of money."""
    return {name: int(total[1]) // 10**9 for (of, name, when), total in sorted(space.totals().items())
            if (of, when) == (account, month)}  # fmt: skip


def test_the_second_price_gets_what_the_first_leaves(world: World) -> None:
    """700 prompts leave 300 for replies; 400 more prompts, late, take them all and 100 beyond; a retraction gives them back."""
    space = world.space(catalog([PROMPT | SHARED, REPLY | SHARED]), OCTOBER)
    space.send(event("1", 700, 500, "09-10"), "one")
    assert owed(space, "2026-09") == {"prompt": 0, "reply": 400}
    space.send(event("2", 400, 0, "09-03"), "two")
    assert owed(space, "2026-09") == {"prompt": 50, "reply": 1000}
    space.retract("/s", "2")
    assert owed(space, "2026-09") == {"prompt": 0, "reply": 400}
    space.bill("2026-09")
    (invoice,) = invoices(world.app.control, space.name, Month(2026, 9), None)
    assert invoice["total"] == "400.00"
    assert world.findings(deep=True) == []


def test_a_minimum_holds_whatever_the_pool_leaves(world: World) -> None:
    """The reply's minimum is due once the month is settled, and late prompts raise the reply above it."""
    space = world.space(catalog([PROMPT | SHARED, REPLY | SHARED | {"minimum": "100"}]), OCTOBER)
    space.send(event("1", 700, 310, "09-10"), "one")
    space.bill("2026-09")
    assert owed(space, "2026-09") == {"prompt": 0, "reply": 100}
    space.send(event("2", 100, 0, "09-10"), "two")
    assert owed(space, "2026-09") == {"prompt": 0, "reply": 220}
    assert world.findings(deep=True) == []


def test_what_is_left_goes_to_the_next_month(world: World) -> None:
    """300 are left of September, 250 are carried; late usage of September takes 100 of them away again."""
    space = world.space(catalog([PROMPT | CARRIED, FREE]), DECEMBER)
    space.send(event("1", 700, 0, "09-10") + event("2", 1300, 0, "10-10"), "one")
    assert owed(space, "2026-10") == {"prompt": 150}
    space.bill("2026-09")
    assert owed(space, "2026-10") == {"prompt": 25}
    space.send(event("3", 150, 0, "09-10"), "two")
    space.bill("2026-09")
    assert owed(space, "2026-10") == {"prompt": 75}
    space.send(event("4", 300, 0, "11-10"), "three")
    space.close("2026-09")
    space.bill("2026-10")
    space.bill("2026-11")
    assert owed(space, "2026-11") == {"prompt": 0}
    kinds = space.rows(
        """select x.kind, x.amount_nano from ledger.line_item x join catalog.namespace n using (namespace_key)
        where n.namespace = %(namespace)s and x.kind = 3 order by x.id"""
    )
    assert [(kind, amount // 10**9) for kind, amount in kinds] == [(3, -125), (3, 50)]
    assert world.findings(deep=True) == []


def test_a_version_that_no_longer_carries_over_still_has_what_was(world: World) -> None:
    """September leaves 300; from the 16th of October the pool carries nothing on, and October has 1,250 all the same.

    Whatever was billed first: 100 before the change and 1,300 after it are 150 too many, at 3.
    """
    carrying = SHARED | {"rollover_max": "250"}
    document = catalog([PROMPT | carrying, FREE], [PROMPT | SHARED | {"unit_price": "3"}, FREE])
    document["pricebooks"][1]["effective_from"] = "2026-10-16T00:00:00+00:00"
    events = [event("1", 700, 0, "09-10"), event("2", 100, 0, "10-05"), event("3", 1300, 0, "10-20")]
    first, last = world.space(document, DECEMBER), world.space(document, DECEMBER)
    first.send(events[0], "one")
    first.bill("2026-09")
    first.send(events[1] + events[2], "two")
    last.send(b"".join(events), "one")
    last.bill("2026-09")
    assert owed(first, "2026-10") == owed(last, "2026-10") == {"prompt": 0 + 450}
    assert world.findings(deep=True) == []


def test_a_canary_would_lose_what_is_carried_over(world: World) -> None:
    """So there is none on a pricebook that carries units over."""
    space = world.space(catalog([PROMPT | CARRIED]), DECEMBER)
    changed = catalog([PROMPT | CARRIED | {"unit_price": "0.6"}])
    changed["pricebooks"][0] |= {"version": 2, "effective_from": "2027-01-01T00:00:00+00:00"}
    with pytest.raises(Refused, match=r"carries included units over \(prompt\)"):
        start_canary(space, changed)


def test_an_active_account_carries_over_without_usage(world: World) -> None:
    """Active since September and idle in it: October has 1,250. Who is not active gets nothing for a month without usage."""
    space = world.space(catalog([PROMPT | CARRIED, FREE], active_from="2026-09-01"), DECEMBER)
    both = event("1", 1300, 0, "10-10", "paris") + event("2", 1300, 0, "10-10")
    space.send(both, "one")
    space.bill("2026-09")
    assert owed(space, "2026-10", "paris") == {"prompt": 25}
    assert owed(space, "2026-10") == {"prompt": 150}
    assert world.findings(deep=True) == []


def test_explain_shows_the_pool(world: World) -> None:
    """What was carried over, what others took, and what is left, and the working that follows from it."""
    both = SHARED | {"rollover_max": "250"}
    space = world.space(catalog([PROMPT | both, REPLY | both]), DECEMBER)
    space.send(event("1", 700, 150, "09-10") + event("2", 800, 600, "10-10"), "one")
    space.bill("2026-09")
    ((id_,),) = space.rows("""select x.id::text from ledger.line_item x join catalog.namespace n using (namespace_key)
        where n.namespace = %(namespace)s and x.quantity = 600""")  # fmt: skip
    target = explain(world.app.control, world.app.segments, space.name, id_)["target"]
    assert target["pool"] == {
        "name": "tokens", "included": "1000", "carried_over": "150", "taken_before": "800", "left": "350",
    }  # fmt: skip
    assert [(step["label"], step["quantity"]) for step in target["working"]] == [
        ("quantity", "600"),
        ("with 800 taken before of tokens", "1400"),
        ("less 150 carried over from the month before", "1250"),
        ("less 1000 included", "250"),
        ("units", "250"),
    ]
    assert target["amount"] == "500"


def test_a_change_that_breaks_a_pool_is_refused(world: World) -> None:
    """Against what is published too: another unit under one pool, and tiers that would go on with a pooled price."""
    space = world.space(catalog([PROMPT | SHARED, REPLY | SHARED]), OCTOBER)
    later = catalog([PROMPT | SHARED, REPLY | SHARED], [PROMPT | {"on_change": "continue"}, REPLY])
    with pytest.raises(CatalogError, match="shares or carries over its included units; write restart"):
        space.publish(later)
    alone = later | {"pricebooks": later["pricebooks"][1:]}
    with pytest.raises(Refused, match="shares or carries over its included units; write restart"):
        space.publish(alone)


@st.composite
def sharing(draw: st.DrawFn) -> dict[str, Any]:
    """Two prices in one or two versions, most of which share their included units, carry them over, or both."""
    pool = draw(st.sampled_from([SHARED, SHARED | {"rollover_max": "120"}, {"included": "40", "rollover_max": "25"}]))
    pool = pool | {"included": draw(st.sampled_from(["5", "40", "250"]))}
    transform = draw(st.sampled_from([{}, {}, {"transform": {"divide_by": "4"}}]))
    versions = []
    for _ in range(draw(st.integers(1, 2))):
        drawn = [draw(prices(id_, id_[0])) for id_ in ("prompt", "reply")]
        kept = [{key: held for key, held in one.items() if key not in ("transform", "included")} for one in drawn]
        ends = {"rollover_max"} if "pool" in pool and draw(st.integers(0, 2)) == 0 else set()
        shared = {key: held for key, held in pool.items() if key not in ends}  # one version may not carry over
        versions.append([one | (shared | transform if draw(st.integers(0, 4)) else {}) for one in kept])
    return catalog(*versions, **draw(st.sampled_from([{}, {"active_from": "2026-09-10"}])))


def test_whatever_arrives_when(world: World) -> None:
    """Two processes at once, months billed and closed in between, retractions: always what the oracle says."""
    days = st.sampled_from(["08-31", "09-10", "09-15", "09-16", "09-30", "10-10", "10-20", "11-05"])
    tokens = st.sampled_from([-30, 0, 1, 4, 30, 30, 90, 250])
    months = st.sampled_from(["2026-08", "2026-09", "2026-10", "2026-11"])

    @settings(law, max_examples=25)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        document = data.draw(sharing())
        space = world.space(document, DECEMBER)
        oracle = Oracle(space.name, document, DECEMBER)
        drawn = st.tuples(tokens, tokens, days, st.sampled_from(["paris", "walk-in"]))
        for number in range(3):
            events = [
                event(f"{number}-{n}", *one) for n, one in enumerate(data.draw(st.lists(drawn, min_size=2, max_size=6)))
            ]
            halves = [b"".join(events[: len(events) // 2]), b"".join(events)]
            with ThreadPoolExecutor(2) as pool:
                sent = [pool.submit(space.send, file, "s", 2, pipeline=n) for n, file in enumerate(halves)]
                assert sum(one.result().counts.received for one in sent) == len(events) + len(events) // 2
            for file in halves:
                oracle.send(file, "s")
            assert space.totals() == oracle.totals()
            act, month = data.draw(st.sampled_from(["bill", "close", "retract"])), data.draw(months)
            if act == "bill" or month in oracle.closed:
                space.bill(month)
                oracle.settle(month)
            elif act == "close":
                space.close(month)
                oracle.close(month)
            else:
                space.retract("/s", f"{number}-0")
                oracle.retract(("/s", f"{number}-0"))
            space.flush(DECEMBER)
            assert space.totals() == oracle.totals()
        at_once = Oracle(space.name, document, DECEMBER, accepted=oracle.accepted)
        for month in ("2026-08", "2026-09", "2026-10", "2026-11"):
            space.bill(month)
            at_once.settle(month)
        assert space.totals() == at_once.totals()

    holds()
    assert world.findings(deep=True) == []
    moved = world.app.control.execute("select count(*) from ledger.line_item where kind = 3").fetchone()
    assert moved is not None
    assert moved[0] > 10, "the examples are too tame"
    carried = world.app.control.execute("select count(*) from ledger.carried_units where units > 0").fetchone()
    assert carried is not None
    assert carried[0] > 10, "the examples are too tame"
