"""Trying prices whose months owe more than usage: a draft's amounts are what a ledger that has it in force bills."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.core.period import Month
from lineitem.ledger.shadow import Candidate, Wanted
from lineitem.ledger.shadow_rows import Comparison
from tests.integration.drive import Space, World

NOW = datetime(2026, 7, 3, tzinfo=UTC)
MONTHS = ("2026-04", "2026-05", "2026-06")
RANGE = Wanted(Month(2026, 4), Month(2026, 6), as_dated=True)
PRICES: dict[str, dict[str, Any]] = {
    "seat": {"meter": "seats", "model": "per_seat", "unit_price": "10", "prorate": "day"},
    "stored": {"meter": "gb", "model": "per_unit", "unit_price": "0.01", "transform": {"divide_by": "3600"}},
    "calls": {
        "meter": "calls",
        "model": "per_unit",
        "unit_price": "1",
        "included": "20",
        "rollover_max": "5",
        "minimum": "3",
    },
    "base": {"model": "flat", "amount": "49", "prorate": "day"},
    "ahead": {"model": "flat", "amount": "7", "charge": "in_advance"},
    "floor": {"model": "commitment", "amount": "1000"},
    "desk": {"model": "commitment", "amount": "120", "prices": ["seat", "calls"]},
}
DRAFTED: dict[str, dict[str, Any]] = {
    "seat": {"unit_price": "12.5", "included": "2"},
    "stored": {"unit_price": "0.02", "discount_rate": "0.1"},
    "calls": {"included": "12", "rollover_max": "11"},
    "base": {"amount": "60"},
    "floor": {"amount": "700"},
    "desk": {"amount": "310"},
}
USAGE = [
    ("1", "seats.changed", "acme", "2026-02-10T00:00:00Z", 3), ("2", "seats.changed", "acme", "2026-05-20T00:00:00Z", 5),
    ("3", "stored", "globex", "2026-04-03T04:05:06.789Z", 100), ("4", "call", "acme", "2026-04-09T00:00:00Z", 6),
    ("5", "call", "acme", "2026-05-09T00:00:00Z", 21), ("6", "call", "globex", "2026-06-09T00:00:00Z", 40),
    ("7", "seats.changed", "globex", "2026-06-30T23:00:00Z", 1), ("8", "call", "acme", "2026-06-01T00:00:00Z", 14),
]  # fmt: skip


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def catalog(changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Every price that owes more than its usage; one account that is active, one that never says so."""
    levels = {"aggregation": "time_weighted", "value": "data.n", "scale": 0}
    return {
        "currency": "USD",
        "meters": [
            {"id": "seats", "event_type": "seats.changed"} | levels,
            {"id": "gb", "event_type": "stored"} | levels,
            {"id": "calls", "event_type": "call", "aggregation": "sum", "value": "data.n", "scale": 0},
        ],
        "pricebooks": [{
            "id": "b", "version": 1, "effective_from": "2020-01-01T00:00:00+00:00",
            "prices": [{"id": name} | price | changes.get(name, {}) for name, price in PRICES.items()],
        }],
        "accounts": {
            "defaults": {"pricebook": "b"},
            "list": [
                {"id": "acme", "timezone": "Europe/Paris", "active_from": "2026-04-11", "active_until": "2026-06-16"},
                {"id": "idle", "timezone": "Asia/Tokyo", "active_from": "2026-05-01"},
            ],
        },
    }  # fmt: skip


def used(world: World, document: dict[str, Any], now: datetime = NOW) -> Space:
    """A namespace with the usage."""
    space = world.space(document, now)
    lines = [
        json.dumps({"specversion": "1.0", "id": id_, "source": "/s", "type": type_, "subject": account, "time": time,
                    "data": {"n": n}}) for id_, type_, account, time, n in USAGE
    ]  # fmt: skip
    space.send("".join(f"{line}\n" for line in lines).encode(), "stream")
    return space


def tried(space: Space, draft: dict[str, Any], wanted: Wanted = RANGE) -> Comparison:
    """One draft, rated."""
    candidate = Candidate("draft", parse_catalog(json.dumps(draft), "draft"))
    found: Comparison = space.act(lambda app: app.shadow(space.name, [candidate], wanted, lambda *_: None))
    return found


def sides(found: Comparison) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """Live and draft by account and price, without zeros."""
    rows = found.trials[0].rows
    live = {(row.account, row.price): row.live_nano for row in rows if row.live_nano}
    return live, {(row.account, row.price): row.draft_nano for row in rows if row.draft_nano}


def billed(space: Space) -> dict[tuple[str, str], int]:
    """What the months come to once they are billed, one after the other."""
    for month in MONTHS:
        space.bill(month)
    sums: dict[tuple[str, str], int] = {}
    for (account, price, month), (_, nano) in space.totals().items():
        if month in MONTHS:
            sums[(account, price)] = sums.get((account, price), 0) + int(nano)
    return {key: nano for key, nano in sums.items() if nano}


def in_version(changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The catalog with the changes in a second version, as a draft has them."""
    document, other = catalog({}), catalog(changes)
    later = other["pricebooks"][0] | {"version": 2, "effective_from": "2026-07-01T00:00:00+00:00"}
    return document | {"pricebooks": [*document["pricebooks"], later]}


def test_a_draft_comes_to_what_a_ledger_with_it_bills(world: World) -> None:
    """Levels, dues, carried units and commitments, whether the months are billed already or not, and nothing is left out."""
    space, other = used(world, catalog({})), used(world, catalog(DRAFTED))
    wanted = Wanted(RANGE.since, RANGE.until)
    first = tried(space, in_version(DRAFTED), wanted)
    live, draft = sides(first)
    assert (live, draft) == (billed(space), billed(other))
    assert {price for _, price in live} == set(PRICES)
    assert (first.not_compared, first.in_part, first.events) == ({}, {}, 7)  # the seats of February came before
    assert {(row.account, row.price): row.events for row in first.trials[0].rows if row.events} == {
        ("acme", "calls"): 3, ("acme", "seat"): 1, ("globex", "calls"): 1, ("globex", "seat"): 1, ("globex", "stored"): 1,
    }  # fmt: skip
    again = tried(space, in_version(DRAFTED), wanted)
    assert sides(again) == (live, draft)
    assert world.findings(deep=True) == []


def test_months_without_usage_and_single_months(world: World) -> None:
    """May alone goes on with the seats of February and the units April has left; one account is asked for."""
    space = used(world, catalog({}))
    space.bill("2026-04")
    space.bill("2026-05")
    may = {
        (account, price): int(nano)
        for (account, price, month), (_, nano) in space.totals().items()
        if month == "2026-05"
    }
    found = tried(space, catalog({}), Wanted(Month(2026, 5), Month(2026, 5)))
    assert sides(found)[0] == {key: nano for key, nano in may.items() if nano}
    assert sides(found)[0] == sides(found)[1]
    mine = tried(space, catalog({}), Wanted(Month(2026, 5), Month(2026, 5), accounts=("acme",)))
    assert sides(mine)[0] == {key: nano for key, nano in may.items() if nano and key[0] == "acme"}
    march = tried(space, catalog({"seat": {"unit_price": "1"}}), Wanted(Month(2026, 3), Month(2026, 3), as_dated=True))
    assert {key for key, nano in sides(march)[0].items() if key[1] == "seat" and nano} == {("acme", "seat")}


def test_what_cannot_be_compared_says_why(world: World) -> None:
    """A meter whose readings were others, a commitment that counts its price, and months that have not ended."""
    space = used(world, catalog({}), datetime(2026, 6, 20, tzinfo=UTC))
    draft = copy.deepcopy(catalog(DRAFTED))
    draft["meters"][0]["value"] = "data.seats"
    found = tried(space, draft)
    document = found.document()
    assert document["not_compared"] == ["desk", "floor", "seat"]
    assert document["compared_in_part"] == ["base", "stored"]
    reasons = document["reasons_not_compared"]
    assert "changes or adds the meter seats" in reasons["seat"]
    assert reasons["desk"] == "it counts seat, which is not compared"
    assert "2026-06 has not" in reasons["stored"]
    assert not {row.price for row in found.trials[0].rows} & {"desk", "floor", "seat"}


def test_a_draft_may_bring_accounts_and_drop_prices(world: World) -> None:
    """An account that only the draft lists owes its base fee; readings without a price are counted as unpriced."""
    space = used(world, catalog({}))
    draft = catalog({})
    draft["accounts"]["list"].append({"id": "new", "active_from": "2026-06-01"})
    draft["pricebooks"][0]["version"] = 2
    draft["pricebooks"][0]["prices"] = [
        one for one in draft["pricebooks"][0]["prices"] if one["id"] in ("base", "calls")
    ]
    found = tried(space, draft, Wanted(RANGE.since, RANGE.until))
    live, drafted = sides(found)
    assert drafted[("new", "base")] == 49 * 10**9
    assert ("new", "base") not in live
    assert {key for key in drafted if key not in live} == {("new", "base"), ("new", "calls")}  # its minimum
    assert {price for _, price in drafted} == {"base", "calls"}
    rows = {(row.account, row.price): row.unpriced for row in found.trials[0].rows if row.unpriced}
    assert rows == {("acme", "seat"): 1, ("globex", "seat"): 1, ("globex", "stored"): 1}
