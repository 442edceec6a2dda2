"""Named backfills: the horizon keeps old events out, a backfill brings them in, reverting it leaves nothing behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fractions import Fraction
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineitem.app import App
from lineitem.core.errors import InputError, Refused
from lineitem.flow import Summary
from lineitem.ingest.throttle import What
from lineitem.ledger.explain import explain
from lineitem.ledger.revert import Reverted, Why, revert, try_revert
from tests.integration.drive import Space, World, nothing
from tests.integration.oracle import Oracle, tally_of
from tests.integration.tampering import catalog as everything
from tests.integration.tampering import event
from tests.integration.test_laws import BATCHES, MONTH, NOW, both, law
from tests.strategies import catalogs, file_of, repeated, usage

MAYBE = st.booleans()
PRICED: dict[str, Any] = {
    "currency": "USD",
    "horizon_days": 60,
    "meters": [{"id": "total", "event_type": "a.used", "aggregation": "sum", "value": "data.v"}],
    "pricebooks": [
        {
            "id": "book",
            "version": 1,
            "effective_from": "2020-01-01T00:00:00Z",
            "prices": [
                {
                    "id": "tiered",
                    "meter": "total",
                    "model": "graduated",
                    "tiers": [{"up_to": "10", "unit_price": "1"}, {"up_to": None, "unit_price": "0.5"}],
                }
            ],
        }
    ],
    "accounts": {"defaults": {"pricebook": "book"}},
}


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def revert_all(space: Space, name: str, *, events_max: int = 200_000) -> Reverted:
    """Revert a backfill as the App does, without signing."""
    app, why = space.world.app, Why(name, "ana", "a test says so")
    return revert(app.control, app.segments, space.name, why, space.clock.now_us(), nothing, events_max=events_max)


def test_switches_do_not_hold_a_backfill(world: World) -> None:
    """What is to be reverted as one comes in as one: a paused account's backfill is billed and taken back whole."""
    space = world.space(PRICED, datetime(2026, 12, 20, tzinfo=UTC))
    space.throttle(What.ACCOUNT, "a")
    lines = event("b-1", "a", "2026-09-01T00:00:00Z", "4") + event("b-2", "b", "2026-12-01T00:00:00Z", "4")
    counts = space.send(lines, "s", backfill="autumn").counts
    assert (counts.itemized, counts.dead_lettered) == (2, 0)
    assert space.send(event("n-1", "a", "2026-12-01T00:00:00Z", "4"), "s").counts.dead_lettered == 1
    assert revert_all(space, "autumn").events == 2
    assert world.findings(deep=True) == []


def test_what_is_older_than_the_horizon_needs_a_backfill(world: World) -> None:
    """An old event is set aside, whatever else is wrong with it; one that is known is a duplicate however old it is."""
    space = world.space(PRICED, datetime(2026, 10, 20, tzinfo=UTC))
    early = event("e-1", "a", "2026-09-01T00:00:00Z", "4")
    assert space.send(early, "s").counts.itemized == 1
    space.clock.advance(60 * 86_400_000_000)
    old = event("e-2", "a", "2026-09-01T00:00:00Z", "8")
    counts = space.send(early + old + event("e-3", "a", "2026-09-02T00:00:00Z", "null"), "s").counts
    assert (counts.duplicate, counts.dead_lettered) == (1, 2)
    assert len(space.letters("too_old")) == 2
    back = space.send(early + old, "s", backfill="autumn").counts
    assert (back.itemized, back.duplicate) == (1, 1)
    done = space.replay(space.letters("too_old"))
    assert (done.summary.counts.duplicate, done.summary.counts.dead_lettered) == (1, 1)
    assert space.totals() == {("a", "tiered", "2026-09"): (Fraction(12), 11_000_000_000)}
    assert world.findings(deep=True) == []


def test_a_reverted_backfill_leaves_room_for_a_better_one(world: World) -> None:
    """Reverting posts the difference, twice does nothing, spends the name and frees the identities."""
    space = world.space(PRICED, NOW)
    space.send(event("n-1", "a", "2026-11-01T00:00:00Z", "6"), "s")
    wrong = event("o-1", "a", "2026-11-02T00:00:00Z", "60") + event("o-2", "b", "2026-09-02T00:00:00Z", "3")
    space.send(wrong, "old", backfill="wrong")
    before, items = space.totals(), space.line_items()
    app = world.app
    tried = try_revert(app.connection(), app.segments, space.name, "wrong", space.clock.now_us(), nothing)
    assert [(one.account, one.quantity, one.amount_nano) for one in tried.changes] == [
        ("a", -60 * 10**9, -32 * 10**9),
        ("b", -3 * 10**9, -3 * 10**9),
    ]
    assert (space.totals(), space.line_items()) == (before, items)
    done = revert_all(space, "wrong")
    assert (done.events, done.line_items, done.changes) == (2, 2, tried.changes)
    assert space.totals() == {("a", "tiered", "2026-11"): (Fraction(6), 6_000_000_000)}
    assert revert_all(space, "wrong").events == 0
    with pytest.raises(Refused, match="its name is spent"):
        space.send(event("o-9", "b", "2026-09-02T00:00:00Z", "3"), "old", backfill="wrong")
    with pytest.raises(InputError, match="no backfill 'other'"):
        revert_all(space, "other")
    with pytest.raises(Refused, match="needs a reason"):
        revert(app.control, app.segments, space.name, Why("wrong", "ana", " "), 0, nothing)
    right = wrong.replace(b'"v":60', b'"v":61')
    assert space.send(right, "old", backfill="right").counts.itemized == 2
    assert space.totals()[("a", "tiered", "2026-11")] == (Fraction(67), 38_500_000_000)
    assert world.findings(deep=True) == []
    assert [item["retracted"] for item in _events_of(space, "o-1")] == [
        "backfill wrong was reverted: a test says so",
        None,
    ]


def _events_of(space: Space, event_id: str) -> list[dict[str, Any]]:
    """The raw event behind each line item of an event, in order of the line items."""
    app = space.world.app
    rows = space.rows(
        "select l.id from ledger.line_item l join catalog.namespace n using (namespace_key)"
        " where n.namespace = %(namespace)s and l.event_id = %(event_id)s order by l.id",
        event_id=event_id,
    )
    found = [explain(app.control, app.segments, space.name, str(id_)) for (id_,) in rows]
    return [one["events"]["items"][0] for one in found]


def test_a_revert_that_stopped_half_way_goes_on(world: World) -> None:
    """A part for each account; what is out stays out, and the next run takes out the rest, a level and a window with it."""
    space = world.space(everything(2), datetime(2026, 11, 2, 12, 30, tzinfo=UTC))
    lines = [event(f"e-{n}", "ab"[n % 2], f"2026-10-1{n}T10:00:00Z", str(n)) for n in range(6)]
    lines += [
        event("seats", "a", "2026-10-05T00:00:00Z", "4", "l.set"),
        event("none", "c", "2026-10-05T00:00:00Z", "4", "x"),
    ]
    lines += [event("now", "b", "2026-11-02T12:05:00Z", "4"), event("gone", "a", "2026-10-20T00:00:00Z", "9")]
    space.send(event("stays", "a", "2026-10-02T00:00:00Z", "2"), "s")
    space.bill("2026-10")
    before, waiting = space.totals(), space.waiting()
    space.send(b"".join(lines), "s", 3, backfill="b")
    space.bill("2026-10")
    space.retract("/s", "gone")
    parts: list[int] = []

    def stop(done: int, _: int) -> None:
        parts.append(done)
        if len(parts) == 1:
            raise InterruptedError

    app, why = world.app, Why("b", "ana", "a test says so")
    with pytest.raises(InterruptedError):
        revert(app.control, app.segments, space.name, why, space.clock.now_us(), stop, events_max=1)
    assert world.findings(deep=True) == []
    assert revert_all(space, "b", events_max=1).events == 9 - parts[0]
    space.bill("2026-10")
    assert space.totals() == before
    assert space.waiting() == waiting
    assert world.findings(deep=True) == []


def test_backfilled_and_reverted_is_as_if_it_had_never_been(world: World) -> None:
    """Whatever comes before, between and after, closed months and retractions included: totals are those without it.

    What was turned away meanwhile as its duplicate is missing until everything is read again.
    """

    @settings(law, max_examples=6)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage(30))
        lines = data.draw(repeated(events))
        parts = [lines[at::4] for at in range(4)]
        space, oracle = both(world, catalog)
        without = Oracle(space.name, catalog, NOW)
        _send(space, oracle, parts[0], "first", data)
        without.send(file_of(parts[0]), "first")
        back = file_of(parts[1])
        known = set(oracle.accepted)
        assert tally_of(space.send(back, "back", data.draw(BATCHES), backfill="b").document()) == oracle.send(
            back, "back"
        )
        brought = set(oracle.accepted) - known
        _send(space, oracle, parts[2], "between", data)
        without.send(file_of(parts[2]), "between")
        closed = data.draw(st.none() | MONTH)
        if closed is not None:
            space.close(closed)
            oracle.close(closed)
            without.close(closed)
        if data.draw(MAYBE) and known:
            identity = data.draw(st.sampled_from(sorted(known)))
            space.retract(*identity)
            oracle.retract(identity)
            without.retract(identity)
        revert_all(space, "b", events_max=data.draw(st.sampled_from([1, 5, 1000])))
        for identity in brought:
            del oracle.accepted[identity]
        _send(space, oracle, parts[3], "last", data)
        without.send(file_of(parts[3]), "last")
        assert space.totals() == oracle.totals()
        assert space.keys() == oracle.keys()
        space.reread()
        if (
            closed is not None
        ):  # what a commitment leaves open was settled with the backfill in it, and is when it is billed
            space.bill(closed)
            without.settle(closed)
        assert space.totals() == without.totals()
        assert space.keys() == without.keys()
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []


def _send(space: Space, oracle: Oracle, lines: list[Any], stream: str, data: st.DataObject) -> None:
    sent = tally_of(space.send(file_of(lines), stream, data.draw(BATCHES)).document())
    assert oracle.send(file_of(lines), stream) == sent


def test_nothing_slips_into_a_backfill_that_is_reverted(world: World) -> None:
    """A file is read into it while it is reverted: batches before it are taken out, those behind it are refused."""
    space = world.space(PRICED, NOW)
    lines = b"".join(event(f"e-{n}", "ab"[n % 2], "2026-11-02T00:00:00Z", "1") for n in range(40))
    begun, closed = Event(), Event()

    def look(position: int, summary: Summary) -> None:
        begun.set()
        assert summary.batches < 10 or closed.wait(60)

    def read() -> int:
        return space.send(lines, "s", 1, look, pipeline=1, backfill="b").counts.itemized

    space.pipeline(1)  # its connections are made before there are two threads
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert begun.wait(60)
        app, why = world.app, Why("b", "ana", "a test says so")
        now_us = space.clock.now_us()
        done = revert(app.control, app.segments, space.name, why, now_us, lambda *_: closed.set(), events_max=3)
        with pytest.raises(Refused, match="its name is spent"):
            reading.result()
    assert 0 < done.events <= 10
    assert revert_all(space, "b").events == 0
    assert (space.totals(), space.keys()) == ({}, set())
    assert world.findings(deep=True) == []
