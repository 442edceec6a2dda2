"""The laws of levels: order, repetition, batches, lateness, retraction and when somebody settles change no total."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.core.period import Month
from lineitem.ledger.rows import Kind
from lineitem.ledger.shadow import Candidate, Wanted
from tests.integration.drive import Space, World, microseconds
from tests.integration.level_oracle import level_totals, readings_of
from tests.integration.oracle import Oracle, parts_key

law = settings(suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])
MONTHS = ["2026-02", "2026-03", "2026-04", "2026-05"]
LATEST = datetime(2026, 6, 3, tzinfo=UTC)
FIRST = datetime(2026, 2, 20, tzinfo=UTC)
EDGES = ["2026-03-16T12:30:00+00:00", "2026-04-01T00:00:00+00:00", "2026-04-16T00:00:00+00:00"]
ACCOUNTS = ["walk-in", "paris", "tokyo"]
_AMOUNTS = st.sampled_from(["10", "0.333333333", "7.5"])
_TIERS = st.sampled_from([
    [{"up_to": "5", "unit_price": "2", "flat_price": "1"}, {"up_to": None, "unit_price": "0.5"}],
    [{"up_to": "1000", "unit_price": "0.01"}, {"up_to": None, "unit_price": "0.002", "flat_price": "3"}],
])  # fmt: skip


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


@st.composite
def prices(draw: st.DrawFn, id_: str, meter: str) -> dict[str, Any]:
    """Any price of a level."""
    model = draw(st.sampled_from(["per_seat", "per_seat", "per_seat", "per_unit", "graduated", "volume"]))
    price: dict[str, Any] = {"id": id_, "meter": meter, "model": model}
    if model == "per_seat":
        price["unit_price"] = draw(_AMOUNTS)
        price |= {"prorate": draw(st.sampled_from(["none", "day", "second"]))}
        price |= draw(st.sampled_from([{}, {"charge": "in_advance"}]))
    else:
        price |= {"unit_price": draw(_AMOUNTS)} if model == "per_unit" else {"tiers": draw(_TIERS)}
        price["transform"] = {"divide_by": "3600", "round": draw(st.sampled_from(["none", "up"]))}
    optional = {
        "included": st.sampled_from(["1", "2.5"]), "discount_rate": st.just("0.333"), "maximum": st.just("45"),
        "minimum": st.sampled_from(["12", "40"]),
    }  # fmt: skip
    for name, values in optional.items():
        if draw(st.integers(0, 3)) == 0:
            price[name] = draw(values)
    return price


@st.composite
def catalogs(draw: st.DrawFn) -> dict[str, Any]:
    """One or two meters of levels over the same events, a price or two each that change in mid-month, and a count."""
    levels = ["level-0", "level-1"][: draw(st.integers(1, 2))]
    meters = [
        {"id": id_, "event_type": "a.used", "aggregation": "time_weighted", "value": "data.v",
         "scale": draw(st.sampled_from([0, 2, 9])), "unit": "seat"}
        for id_ in levels
    ]  # fmt: skip
    names = [(f"{meter}-p{number}", meter) for meter in levels for number in range(draw(st.integers(1, 2)))]
    first = [draw(prices(*name)) for name in names]
    counted = {"id": "calls", "meter": "count", "model": "per_unit", "unit_price": "0.25", "itemize": "hour"}
    books, current = [], first
    for number, start in enumerate(["2020-01-01T00:00:00+00:00", *draw(st.lists(st.sampled_from(EDGES), max_size=2,
                                                                               unique=True).map(sorted))], 1):  # fmt: skip
        books.append({"id": "b", "version": number, "effective_from": start, "prices": [*current, counted]})
        current = [one if draw(st.booleans()) else draw(prices(one["id"], one["meter"])) for one in current]
    listed: list[dict[str, Any]] = [
        {"id": "paris", "timezone": "Europe/Paris", "tags": {"team": "a"}}, {"id": "tokyo", "timezone": "Asia/Tokyo"},
    ]  # fmt: skip
    if draw(st.booleans()):
        listed[0] |= {"active_from": "2026-01-01", "active_until": draw(st.sampled_from(["2026-04-10", "2026-04-30"]))}
    if draw(st.booleans()):
        own = {"version": 1, "effective_from": draw(st.sampled_from(EDGES)), "prices": [draw(prices(*names[0]))]}
        listed[1]["overrides"] = [own]
    return {
        "currency": "USD",
        "meters": [*meters, {"id": "count", "event_type": "a.used", "aggregation": "count"}],
        "pricebooks": books,
        "accounts": {"defaults": {"pricebook": "b"}, "list": listed},
    }  # fmt: skip


TIMES = st.one_of(
    st.builds(lambda minutes: FIRST + timedelta(minutes=minutes), st.integers(0, 100 * 1440 - 1)),
    st.sampled_from([datetime.fromisoformat(edge) for edge in EDGES]),
    st.builds(lambda us: datetime(2026, 3, 31, 22, tzinfo=UTC) + timedelta(microseconds=us), st.integers(-2, 2)),
)


@st.composite
def readings(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Readings of some accounts; values as JSON writes them."""
    found = draw(st.lists(st.tuples(st.sampled_from(ACCOUNTS), TIMES, st.integers(-2, 12)), min_size=1, max_size=10))
    return [
        {"id": f"e-{number}", "account": account, "time": time, "value": value}
        for number, (account, time, value) in enumerate(found)
    ]


def line(event: dict[str, Any]) -> bytes:
    """A reading as it is sent."""
    return (
        f'{{"specversion":"1.0","id":"{event["id"]}","source":"/s","type":"a.used","subject":"{event["account"]}",'
        f'"time":"{event["time"].isoformat()}","data":{{"v":{event["value"]}}}}}\n'
    ).encode()


def expected(space: Space, catalog: dict[str, Any], events: list[dict[str, Any]]) -> Any:
    """The oracle's totals of every month, calls included."""
    oracle = Oracle(space.name, catalog, LATEST)
    every = [
        event | {"meter": meter["id"], "key": parts_key(space.name, "/s", event["id"])[:16], "value": Fraction(event["value"])}
        for meter in catalog["meters"] if meter["aggregation"] == "time_weighted" for event in events
    ]  # fmt: skip
    totals = level_totals(oracle, readings_of(every), MONTHS)
    only_calls = catalog | {"meters": catalog["meters"][-1:]}
    calls = Oracle(space.name, only_calls, LATEST)
    for event in events:
        calls.send(line(event), "any")
    return totals | calls.totals()


def in_all(space: Space) -> dict[tuple[str, str], int]:
    """What each price of each account comes to in the months."""
    sums: Counter[tuple[str, str]] = Counter()
    for (account, price, month), (_, nano) in space.totals().items():
        sums[(account, price)] += int(nano) if month in MONTHS else 0
    return {key: nano for key, nano in sums.items() if nano}


def tried(space: Space, catalog: dict[str, Any]) -> dict[tuple[str, str], int]:
    """The same by shadow rating, of a draft that is what is in force."""
    draft = Candidate("draft", parse_catalog(json.dumps(catalog), "draft"))
    wanted = Wanted(Month.parse(MONTHS[0]), Month.parse(MONTHS[-1]), as_dated=True)
    (trial,) = space.act(lambda app: app.shadow(space.name, [draft], wanted, lambda *_: None)).trials
    assert all(row.delta_nano == 0 for row in trial.rows)
    return {(row.account, row.price): row.draft_nano for row in trial.rows if row.draft_nano}


def test_levels_come_to_the_same_whatever_happens_when(world: World) -> None:
    """Any order, repetition, cut into files and batches, months settled or closed and readings retracted in between."""
    seen: Counter[int] = Counter()

    @settings(law, max_examples=24)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(readings())
        sent = data.draw(st.permutations([*events, *data.draw(st.lists(st.sampled_from(events), max_size=3))]))
        start = data.draw(st.sampled_from([datetime(2026, 4, 2, 12, tzinfo=UTC), LATEST]))
        space = world.space(catalog, datetime(2026, 6, 1, tzinfo=UTC))
        space.clock.advance(microseconds(start) - space.clock.now_us())
        late = [one for one in sent if one["time"] > start + timedelta(hours=20)]
        gone: set[str] = set()
        closed: set[str] = set()
        for number, event in enumerate([one for one in sent if one not in late]):
            space.send(line(event), f"stream-{number}", data.draw(st.sampled_from([1, 1000])))
            _act(data, space, events, gone, closed, start)
        space.clock.advance(microseconds(LATEST) - space.clock.now_us())
        space.send(b"".join(map(line, late)), "late", data.draw(st.sampled_from([1, 2, 1000])))
        _act(data, space, events, gone, closed, LATEST)
        for month in MONTHS:
            space.bill(month)
        alive = [one for one in events if one["id"] not in gone]
        assert space.totals() == expected(space, catalog, alive)
        if space.totals() and data.draw(st.integers(0, 3)) == 0:
            assert tried(space, catalog) == in_all(space)
        before = space.line_items()
        for month in MONTHS:
            space.bill(month)
        assert space.line_items() == before
        pending = sum(one.pending for one in space.batches())
        assert pending >= 0
        for (_, _, kind), number in space.kinds().items():
            seen[kind] += number
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []
    assert min(seen[Kind.TRUE_UP], seen[Kind.RECURRING], seen[Kind.RETRACTION]) > 4, "the examples are too tame"


def _act(
    data: st.DataObject, space: Space, events: list[dict[str, Any]], gone: set[str], closed: set[str], now: datetime
) -> None:
    """Bill, close or retract something, or nothing."""
    act = data.draw(st.sampled_from(["bill", "close", "retract", "verify", "none", "none"]))
    month = data.draw(st.sampled_from(MONTHS))
    note(f"{act} {month}")
    if act == "bill":
        space.bill(month)
    elif act == "close" and month not in closed and month < f"{now:%Y-%m}" and (now == LATEST or month < "2026-03"):
        space.close(month)
        closed.add(month)
    elif act == "retract":
        accepted = space.keys()
        for event in events:
            if event["id"] not in gone and parts_key(space.name, "/s", event["id"])[:16] in accepted:
                space.retract("/s", event["id"])
                gone.add(event["id"])
                break
