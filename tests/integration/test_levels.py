"""Levels: seats and stored gigabytes that carry over from month to month, settled whatever came when."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from lineitem.app import App
from lineitem.catalog.canary import Bounds
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import Refused
from lineitem.core.money import nano_to_text, scaled_to_text
from lineitem.core.period import Month
from lineitem.ledger.canary import Choice
from lineitem.ledger.explain import explain
from lineitem.ledger.read import usage
from lineitem.ledger.rows import Kind
from lineitem.ledger.shadow import Candidate, Wanted
from tests.integration.drive import Space, World, microseconds
from tests.integration.level_oracle import level_totals, readings_of
from tests.integration.oracle import Oracle, parts_key

MAY = datetime(2026, 5, 2, tzinfo=UTC)
SEATS = {"id": "seat", "meter": "seats", "model": "per_seat", "unit_price": "10"}
STORED = {
    "id": "stored", "meter": "gb", "model": "per_unit", "unit_price": "0.01", "transform": {"divide_by": "3600"},
}  # fmt: skip


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def catalog(*prices: dict[str, Any], **account: Any) -> dict[str, Any]:
    """Two meters of levels, some prices, and the account "acme"."""
    meters = [
        {"id": "seats", "event_type": "seats.changed", "aggregation": "time_weighted", "value": "data.seats",
         "unit": "seat", "scale": 0},
        {"id": "gb", "event_type": "stored", "aggregation": "time_weighted", "value": "data.gb", "unit": "GB"},
    ]  # fmt: skip
    book = {"id": "b", "version": 1, "effective_from": "2020-01-01T00:00:00+00:00", "prices": list(prices)}
    listed = {"id": "acme", "timezone": "UTC"} | account
    return {
        "currency": "USD", "meters": meters, "pricebooks": [book],
        "accounts": {"defaults": {"pricebook": "b"}, "list": [listed]},
    }  # fmt: skip


def read(space: Space, id_: str, time: str, seats: str, account: str = "acme", type_: str = "seats.changed") -> Any:
    """One reading."""
    name = "gb" if type_ == "stored" else "seats"
    text = (
        f'{{"specversion":"1.0","id":"{id_}","source":"/s","type":"{type_}","subject":"{account}","time":"{time}",'
        f'"data":{{"{name}":{seats}}}}}\n'
    )
    return space.send(text.encode(), f"stream-{id_}").counts


def at(space: Space, time: datetime) -> None:
    """Move the clock."""
    space.clock.advance(microseconds(time) - space.clock.now_us())


def posted(space: Space) -> list[tuple[str, str, str, str, str, str]]:
    """Every line item as it was written: price, kind, service month, posting month, quantity, amount."""
    rows = space.rows(
        """select p.price, x.kind, x.service_month, x.posting_month, coalesce(x.quantity_wide, x.quantity), p.scale, p.unit,
             coalesce(x.amount_wide, x.amount_nano)
           from ledger.line_item x join catalog.namespace n on n.namespace_key = x.namespace_key
           join catalog.price_version v using (price_version_key) join catalog.price p using (price_key)
           where n.namespace = %(namespace)s order by x.lane, x.batch, x.seq"""
    )
    return [
        (price, Kind(kind).word, str(Month.from_index(service)), str(Month.from_index(posting)),
         f"{scaled_to_text(int(quantity), scale)} {unit}", nano_to_text(int(amount)))
        for price, kind, service, posting, quantity, scale, unit, amount in rows
    ]  # fmt: skip


def test_a_level_is_owed_month_after_month_without_an_event(world: World) -> None:
    """Ten seats from February on: March and April owe them too; until the month is settled the event waits."""
    space = world.space(catalog(SEATS), datetime(2026, 3, 2, tzinfo=UTC))
    counts = read(space, "e-1", "2026-02-10T00:00:00Z", "10")
    assert (counts.pending, counts.itemized) == (1, 0)
    (shown,) = usage(world.app.control, space.name, "acme", Month(2026, 2))["prices"]
    assert (shown["quantity"], shown["amount"], shown["pending_readings"]) == ("0", "0", 1)
    assert world.findings(deep=True) == []
    space.bill("2026-02")
    (shown,) = usage(world.app.control, space.name, "acme", Month(2026, 2))["prices"]
    assert (shown["quantity"], shown["unit"], shown["amount"]) == ("10", "seat", "100")
    assert "pending_readings" not in shown
    at(space, MAY)
    space.bill("2026-03")
    space.bill("2026-04")
    assert posted(space) == [
        ("seat", "recurring", f"2026-{month:02}", f"2026-{month:02}", "10 seat", "100") for month in (2, 3, 4)
    ]
    before = space.line_items()
    for month in (2, 3, 4):
        space.bill(f"2026-{month:02}")
    assert space.line_items() == before
    assert world.findings(deep=True) == []


@pytest.mark.parametrize(
    ("prorate", "quantity", "amount"),
    [("none", "20 seat", "200"), ("day", "450 seat-day", "150"), ("second", "38880000 seat-second", "150")],
)
def test_seats_that_double_in_mid_month(world: World, prorate: str, quantity: str, amount: str) -> None:
    """Ten seats become twenty on 16 April: the greatest level, fifteen days of each, half a month of each."""
    space = world.space(catalog(SEATS | {"prorate": prorate}), MAY)
    read(space, "e-1", "2026-04-01T00:00:00Z", "10")
    read(space, "e-2", "2026-04-16T00:00:00Z", "20")
    space.bill("2026-04")
    assert posted(space) == [("seat", "recurring", "2026-04", "2026-04", quantity, amount)]
    assert world.findings(deep=True) == []


def test_ten_dollars_become_twenty_in_a_month_billed_in_advance(world: World) -> None:
    """The published case: one seat at 10 in advance, at 20 from the 16th; unused old -5, remaining new 10, 25 in all."""
    old = SEATS | {"prorate": "second", "charge": "in_advance"}
    first = catalog(old)
    space = world.space(first, datetime(2026, 4, 2, tzinfo=UTC))
    read(space, "e-1", "2026-03-31T00:00:00Z", "1")
    space.bill("2026-03")
    changed = first | {"pricebooks": [
        *first["pricebooks"],
        {"id": "b", "version": 2, "effective_from": "2026-04-16T00:00:00+00:00", "prices": [old | {"unit_price": "20"}]},
    ]}  # fmt: skip
    space.publish(changed)
    space.bill("2026-03")
    assert [(row[1], row[2], row[5]) for row in posted(space)] == [
        ("recurring", "2026-03", "0.322580645"), ("recurring", "2026-04", "10"),
        ("true_up", "2026-04", "-5"), ("recurring", "2026-04", "10"),
    ]  # fmt: skip
    at(space, MAY)
    space.bill("2026-04")
    assert [(row[1], row[2], row[5]) for row in posted(space)[4:]] == [("recurring", "2026-05", "20")]
    assert world.findings(deep=True) == []


def test_late_readings_and_retractions_change_every_month_they_reach(world: World) -> None:
    """A late reading of February moves March and April; closed months post to the open one. Retracting undoes it."""
    space = world.space(catalog(SEATS), MAY)
    read(space, "e-1", "2026-02-01T00:00:00Z", "10")
    space.close("2026-02")
    space.close("2026-03")
    space.bill("2026-04")
    assert [row[2:4] for row in posted(space)] == [(f"2026-{m:02}", f"2026-{m:02}") for m in (2, 3, 4)]
    assert read(space, "e-2", "2026-02-15T00:00:00Z", "15").pending == 1
    assert world.findings(deep=True) == []
    space.bill("2026-04")
    assert posted(space)[3:] == [
        ("seat", "true_up", f"2026-{month:02}", "2026-04", "5 seat", "50") for month in (2, 3, 4)
    ]
    space.retract("/s", "e-2")
    assert posted(space)[6:] == [
        ("seat", "retraction", f"2026-{month:02}", "2026-04", "-5 seat", "-50") for month in (2, 3, 4)
    ]
    read(space, "e-3", "2026-04-20T00:00:00Z", "99")
    space.retract("/s", "e-3")
    space.retract("/s", "e-1")
    assert not any(total[1] for total in space.totals().values())
    before = space.line_items()
    space.bill("2026-04")
    assert space.line_items() == before
    assert world.findings(deep=True) == []


def test_gigabyte_hours_under_an_ordinary_price(world: World) -> None:
    """A level over time is in unit-seconds: 1.5 GB for ten days are 360 GB-hours; the account's end ends it."""
    space = world.space(catalog(STORED, active_from="2026-04-01", active_until="2026-04-11"), MAY)
    read(space, "e-1", "2026-04-01T00:00:00Z", '"1.5"', type_="stored")
    space.bill("2026-04")
    assert posted(space) == [("stored", "recurring", "2026-04", "2026-04", "1296000 GB-second", "3.6")]
    space.publish(catalog(STORED, active_from="2026-04-01", active_until="2026-04-21"))
    space.bill("2026-04")
    assert posted(space)[1:] == [("stored", "true_up", "2026-04", "2026-04", "1296000 GB-second", "3.6")]
    assert world.findings(deep=True) == []


def test_seats_added_to_a_month_billed_in_advance(world: World) -> None:
    """May is billed with April; what is added in May is settled next time, posted to April while that is open."""
    space = world.space(catalog(SEATS | {"charge": "in_advance", "prorate": "day"}), MAY)
    read(space, "e-1", "2026-04-16T12:00:00Z", "3")
    space.bill("2026-04")
    assert [row[1:] for row in posted(space)] == [
        ("recurring", "2026-04", "2026-04", "45 seat-day", "15"), ("recurring", "2026-05", "2026-04", "93 seat-day", "30"),
    ]  # fmt: skip
    at(space, datetime(2026, 5, 20, tzinfo=UTC))
    read(space, "e-2", "2026-05-17T10:00:00Z", "5")
    space.close("2026-04")
    assert [row[1:] for row in posted(space)[2:]] == [("true_up", "2026-05", "2026-04", "30 seat-day", "9.677419355")]
    assert world.findings(deep=True) == []


def test_the_part_of_a_month_that_a_version_prices(world: World) -> None:
    """A rise in mid-month, and an account's own price in the middle: each version prices its part of the level."""
    second = SEATS | {"prorate": "second"}
    first = catalog(second)
    first["accounts"]["list"][0]["overrides"] = [
        {"version": 1, "effective_from": "2026-04-16T00:00:00+00:00", "effective_until": "2026-04-22T00:00:00+00:00",
         "prices": [second | {"unit_price": "5"}]},
    ]  # fmt: skip
    risen = {
        "id": "b",
        "version": 2,
        "effective_from": "2026-04-16T00:00:00+00:00",
        "prices": [second | {"unit_price": "20"}],
    }
    first["pricebooks"].append(risen)
    space = world.space(first, MAY)
    for account in ("acme", "other"):
        read(space, f"e-{account}", "2026-03-31T12:00:00Z", "2", account)
    space.bill("2026-04")
    amounts = {(account, price): Fraction(nano, 10**9) for (account, price, _), (_, nano) in space.totals().items()}
    assert amounts == {
        ("acme", "seat"): 2 * (10 * Fraction(15, 30) + 5 * Fraction(6, 30) + 20 * Fraction(9, 30)),
        ("other", "seat"): 2 * (10 * Fraction(15, 30) + 20 * Fraction(15, 30)),
    }
    assert world.findings(deep=True) == []


def test_a_whole_month_is_owed_once_where_the_first_seat_is_held(world: World) -> None:
    """Without prorating a rise in mid-month counts from the next month on, and who comes after it pays the new price."""
    first = catalog(SEATS)
    first["pricebooks"].append(
        {
            "id": "b",
            "version": 2,
            "effective_from": "2026-04-16T00:00:00+00:00",
            "prices": [SEATS | {"unit_price": "20"}],
        }
    )
    space = world.space(first, MAY)
    read(space, "e-1", "2026-04-10T00:00:00Z", "3")
    read(space, "e-2", "2026-04-20T00:00:00Z", "4")
    read(space, "e-3", "2026-04-20T00:00:00Z", "1", "late")
    space.bill("2026-04")
    amounts = {account: nano // 10**9 for (account, *_), (_, nano) in space.totals().items()}
    assert amounts == {"acme": 40, "late": 20}
    assert world.findings(deep=True) == []


def test_an_event_waits_until_all_its_levels_are_settled(world: World) -> None:
    """One event sets two levels, one billed in advance, and counts by the hour too: it waits once, for the last of them."""
    prices = [SEATS | {"charge": "in_advance"}, SEATS | {"id": "desk", "meter": "desks"},
              {"id": "change", "meter": "changes", "model": "per_unit", "unit_price": "1", "itemize": "hour"}]  # fmt: skip
    both = catalog(*prices)
    both["meters"] += [
        both["meters"][0] | {"id": "desks"},
        {"id": "changes", "event_type": "seats.changed", "aggregation": "count"},
    ]
    space = world.space(both, datetime(2026, 5, 2, 10, 30, tzinfo=UTC))
    counts = read(space, "e-1", "2026-05-02T10:10:00Z", "3")
    assert (counts.received, counts.pending) == (1, 1)
    assert world.findings() == []
    space.bill("2026-04")  # May in advance
    waiting = """select coalesce(sum(pending), 0) from ledger.batch x join catalog.namespace n using (namespace_key)
        where n.namespace = %(namespace)s"""  # fmt: skip
    assert space.rows(waiting) == [(1,)]
    at(space, datetime(2026, 6, 2, tzinfo=UTC))
    space.bill("2026-05")
    assert space.rows(waiting) == [(0,)]
    assert world.findings(deep=True) == []


def test_no_price_changes_under_a_settled_level(world: World) -> None:
    """A version that would start in a month that is settled is refused, as under usage; from the next month on it may."""
    first = catalog(SEATS)
    space = world.space(first, MAY)
    read(space, "e-1", "2026-03-10T00:00:00Z", "3")
    space.bill("2026-03")
    space.bill("2026-04")
    later = {
        "id": "b",
        "version": 2,
        "effective_from": "2026-04-20T00:00:00+00:00",
        "prices": [SEATS | {"unit_price": "9"}],
    }
    with pytest.raises(Refused, match="already rated"):
        space.publish(first | {"pricebooks": [*first["pricebooks"], later]})
    later["effective_from"] = "2026-05-01T00:00:00+00:00"
    space.publish(first | {"pricebooks": [*first["pricebooks"], later]})
    assert world.findings() == []


def test_a_level_the_ledger_cannot_hold_costs_no_neighbour(world: World) -> None:
    """Neither as a quantity nor as an amount, should it stay for a month; negative ones are held, and bill as zero."""
    dear = SEATS | {"unit_price": "1000000000000"}
    space = world.space(catalog(dear), MAY)
    assert read(space, "e-1", "2026-04-01T00:00:00Z", "1e26").dead_lettered == 1
    assert read(space, "e-2", "2026-04-01T00:00:00Z", "1e20").dead_lettered == 1
    assert read(space, "e-3", "2026-04-01T00:00:00Z", '"x"').dead_lettered == 1
    assert read(space, "e-4", "2026-04-01T00:00:00Z", "-7").pending == 1
    assert read(space, "e-5", "2026-04-02T00:00:00Z", "2").pending == 1
    space.bill("2026-04")
    assert [row[5] for row in posted(space)] == ["2000000000000"]
    assert world.findings(deep=True) == []


def test_nothing_is_written_where_nothing_has_changed(world: World) -> None:
    """Years of closed months behind a level: settling another one writes one batch, settling it again none."""
    space = world.space(catalog(SEATS), datetime(2026, 2, 2, tzinfo=UTC))
    read(space, "e-1", "2024-01-10T00:00:00Z", "3")
    for month in [f"{year}-{month:02}" for year in (2024, 2025) for month in range(1, 13)]:
        space.close(month)
    count = """select count(*) from ledger.batch x join catalog.namespace n using (namespace_key)
        where n.namespace = %(namespace)s and kind = 7"""  # fmt: skip
    [(before,)] = space.rows(count)
    assert before == 24
    space.bill("2026-01")
    space.bill("2026-01")
    assert space.rows(count) == [(25,)]
    assert len(posted(space)) == 25
    read(space, "e-2", "2025-11-10T00:00:00Z", "5")
    space.bill("2026-01")
    assert [row[2] for row in posted(space)[25:]] == ["2025-11", "2025-12", "2026-01"]
    assert world.findings(deep=True) == []


def test_explaining_a_level(world: World) -> None:
    """Down to the readings: the one carried over and those of the month, the level they make, and how that is priced."""
    space = world.space(catalog(SEATS | {"prorate": "day", "included": "5"}), MAY)
    read(space, "e-1", "2026-02-01T00:00:00Z", "10")
    read(space, "e-2", "2026-04-16T09:00:00Z", "20")
    space.bill("2026-04")
    ((id_,),) = space.rows("""select x.id::text from ledger.line_item x join catalog.namespace n using (namespace_key)
        where n.namespace = %(namespace)s""")  # fmt: skip
    told = explain(world.app.control, world.app.segments, space.name, id_)
    target = told["target"]
    assert [(one["from"], one["level"]) for one in target["parts"]] == [
        ("2026-04-01T00:00:00Z", "10"), ("2026-04-16T09:00:00Z", "20"),
    ]  # fmt: skip
    assert [(step["label"], step.get("quantity"), step.get("amount")) for step in target["working"]] == [
        ("greatest levels of its days", "450", None), ("by 30 days of the month", "15", None),
        ("less 5 included", "10", None), ("seats for the month", "10", "100"),
    ]  # fmt: skip
    assert target["this_line_item"]["total_after"] == target["amount"] == "100"
    assert [(one["id"], one["value"]) for one in told["events"]["items"]] == [("e-1", "10"), ("e-2", "20")]
    read(space, "e-3", "2026-04-20T00:00:00Z", "30")
    told = explain(world.app.control, world.app.segments, space.name, id_)
    assert told["target"]["readings_waiting"] == 1


def test_trying_prices_of_levels(world: World) -> None:
    """Shadow rating works out months that have ended; a canary that would change the price of a level is refused."""
    calls = {"id": "calls", "meter": "calls", "model": "per_unit", "unit_price": "1"}
    now = catalog(SEATS, calls)
    now["meters"].append({"id": "calls", "event_type": "call", "aggregation": "count"})
    space = world.space(now, MAY)
    read(space, "e-1", "2026-04-01T00:00:00Z", "3")
    read(space, "e-2", "2026-04-01T00:00:00Z", "0", type_="call")
    changed = [SEATS | {"unit_price": "99"}, calls | {"unit_price": "2"}]
    later = {"id": "b", "version": 2, "effective_from": "2026-05-01T00:00:00+00:00", "prices": changed}
    draft = parse_catalog(json.dumps(now | {"pricebooks": [*now["pricebooks"], later]}), "draft")
    wanted = Wanted(since=Month(2026, 4))
    found = space.act(lambda app: app.shadow(space.name, [Candidate("draft", draft)], wanted, lambda *_: None))
    assert found.document()["compared_in_part"] == []
    assert [(row.price, row.live_nano, row.draft_nano) for row in found.trials[0].rows] == [
        ("seat", 30 * 10**9, 297 * 10**9), ("calls", 10**9, 2 * 10**9),
    ]  # fmt: skip
    assert found.events == 2
    everybody = Choice(percent=Decimal(100))
    with pytest.raises(Refused, match=r"changes the price of a level \(seat\)"):
        space.act(lambda app: app.canary_start(space.name, draft, everybody, Bounds(), None, None, "ana"))
    later["prices"] = [SEATS, changed[1]]
    draft = parse_catalog(json.dumps(now | {"pricebooks": [*now["pricebooks"], later]}), "draft")
    space.act(lambda app: app.canary_start(space.name, draft, everybody, Bounds(), None, None, "ana"))
    at(space, datetime(2026, 6, 2, tzinfo=UTC))
    space.bill("2026-04")
    space.bill("2026-05")
    assert [row[5] for row in posted(space) if row[0] == "seat"] == ["30", "30"]
    space.act(lambda app: app.canary_check(space.name))
    assert world.findings(deep=True) == []


def test_settling_while_readings_come_in(world: World) -> None:
    """Whatever a settling did not see, the next one does: nothing is lost between two processes."""
    space = world.space(catalog(SEATS | {"prorate": "second"}), MAY)
    lines = [
        f'{{"specversion":"1.0","id":"e-{number}","source":"/s","type":"seats.changed","subject":"a-{number % 5}",'
        f'"time":"2026-04-{number % 27 + 1:02}T10:00:00Z","data":{{"seats":{number}}}}}\n'
        for number in range(120)
    ]
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(space.send, "".join(lines).encode(), "stream", 2)
        while not sent.done():
            space.bill("2026-04")
    space.bill("2026-04")
    assert sent.result().counts.pending == 120
    events = [
        {"account": f"a-{n % 5}", "meter": "seats", "value": Fraction(n), "key": parts_key(space.name, "/s", f"e-{n}")[:16],
         "time": datetime(2026, 4, n % 27 + 1, 10, tzinfo=UTC)}
        for n in range(120)
    ]  # fmt: skip
    oracle = Oracle(space.name, catalog(SEATS | {"prorate": "second"}), MAY)
    assert space.totals() == level_totals(oracle, readings_of(events), ["2026-04"])
    assert world.findings(deep=True) == []
