"""Prepaid credit in a ledger: granted once, drawn when a month is billed, corrected both ways, void, expired, explained."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from lineitem.app import App
from lineitem.billing.explain import explain as explain_any
from lineitem.billing.run import invoices
from lineitem.catalog.rate_file import Rate
from lineitem.core.errors import InputError, Refused
from lineitem.core.period import Month
from lineitem.kit.db import READ, connect
from lineitem.ledger.credits import draw_credit
from lineitem.ledger.explain import explain
from lineitem.ledger.grant_terms import Asked
from lineitem.ledger.grants import kept
from lineitem.ledger.read import keys_of, line_items, usage
from tests.integration.drive import Space, World, microseconds
from tests.integration.tampering import load_rate
from tests.integration.test_dues import DECEMBER, FEE, LEAST, NOVEMBER, catalog, use

PLAIN = {"id": "p", "meter": "m", "model": "per_unit", "unit_price": "1"}
TIERED = {
    "id": "t", "meter": "m", "model": "graduated",
    "tiers": [{"up_to": "10", "unit_price": "1"}, {"up_to": None, "unit_price": "0.5"}],
}  # fmt: skip


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def grant(space: Space, amount: str, id_: str = "g", **more: Any) -> dict[str, Any]:
    """Grant to paris, from October on unless ``more`` says otherwise; as `grant list` shows it."""
    asked = Asked("paris", amount, more.pop("currency", "USD"), id_, **({"effective": "2026-10-01"} | more))
    made, _ = space.act(lambda app: app.grant_add(space.name, asked, "ana"))
    shown: dict[str, Any] = made.shown(space.clock.now_us())
    return shown


def credits_of(space: Space) -> list[tuple[str, str, str, str]]:
    """Credit line items: grant, service month, posting month, amount."""
    found = [one for one in line_items(space.world.app.control, space.name) if one["kind"] == "credit"]
    found.sort(key=lambda one: one["id"])
    return [(one["price"], one["service_period"], one["posting_period"], one["amount"]) for one in found]


def listed(space: Space) -> dict[str, dict[str, Any]]:
    """Grants as `grant list` shows them."""
    control = space.world.app.control
    key, _ = keys_of(control, space.name, None)
    return {one.terms.id: one.shown(space.clock.now_us()) for one in kept(control, key)}


def totals(space: Space, month: str) -> list[str]:
    """Totals of the invoices of a month."""
    return [one["total"] for one in invoices(space.world.app.control, space.name, Month.parse(month))]


def test_a_grant_pays_until_it_is_used_up(world: World) -> None:
    """30 in October and 25 in November against 40: 30, then 10; billing again draws nothing."""
    space = world.space(catalog(PLAIN), DECEMBER)
    use(space, "e-1", "30")
    use(space, "e-2", "25", "2026-11-05T10:00:00Z")
    grant(space, "40")
    for month in ("2026-10", "2026-11", "2026-10", "2026-11"):
        space.bill(month)
    assert credits_of(space) == [("g", "2026-10", "2026-10", "-30"), ("g", "2026-11", "2026-11", "-10")]
    assert (totals(space, "2026-10"), totals(space, "2026-11")) == (["0.00"], ["15.00"])
    assert [listed(space)["g"][name] for name in ("granted", "drawn", "left", "state")] == ["40", "40", "0", "used"]
    found = usage(world.app.control, space.name, "paris", Month(2026, 11))
    assert found["credits"] == [{"grant": "g", "drawn": "10", "currency": "USD"}]
    assert found["prices"][0]["amount"] == "25"
    assert world.findings(deep=True) == []


def test_late_usage_and_retractions_move_draws_both_ways(world: World) -> None:
    """Late October usage takes what November had; retracted, it gives it back. A closed month's correction posts later."""
    space = world.space(catalog(PLAIN), DECEMBER)
    use(space, "e-1", "30")
    use(space, "e-2", "25", "2026-11-05T10:00:00Z")
    grant(space, "40")
    space.close("2026-10")
    space.bill("2026-11")
    use(space, "late", "7")
    space.bill("2026-11")
    assert credits_of(space) == [
        ("g", "2026-10", "2026-10", "-30"), ("g", "2026-11", "2026-11", "-10"),
        ("g", "2026-10", "2026-11", "-7"), ("g", "2026-11", "2026-11", "7"),
    ]  # fmt: skip
    assert totals(space, "2026-11") == ["15.00", "7.00"]
    space.retract("/s", "late")
    space.retract("/s", "e-1")
    space.bill("2026-11")
    assert credits_of(space)[4:] == [("g", "2026-10", "2026-11", "37"), ("g", "2026-11", "2026-11", "-22")]
    assert listed(space)["g"]["drawn"] == "25"
    assert world.findings(deep=True) == []


def test_it_pays_for_minimums_and_fees_after_they_are_settled(world: World) -> None:
    """30 of usage, a minimum of 50 and a fee of 49: 99 are owed, and all of it is paid."""
    space = world.space(catalog(LEAST, FEE, active_from="2026-10-01"), NOVEMBER)
    use(space, "e-1", "30")
    grant(space, "1000")
    space.bill("2026-10")
    assert credits_of(space) == [("g", "2026-10", "2026-10", "-99")]
    assert totals(space, "2026-10") == ["0.00"]
    assert world.findings(deep=True) == []


def test_what_is_due_in_advance_is_paid_on_the_same_invoice(world: World) -> None:
    """October's invoice has October's and November's fee, and both are paid there."""
    fee = FEE | {"charge": "in_advance"}
    space = world.space(catalog(PLAIN, fee, active_from="2026-10-01"), NOVEMBER)
    use(space, "e-1", "5", "2026-11-01T10:00:00Z")
    grant(space, "100")
    space.bill("2026-10")
    assert credits_of(space) == [("g", "2026-10", "2026-10", "-49"), ("g", "2026-11", "2026-10", "-49")]
    assert totals(space, "2026-10") == ["0.00"]
    space.clock.advance(microseconds(DECEMBER) - space.clock.now_us())
    space.bill("2026-11")
    assert credits_of(space)[2:] == [("g", "2026-11", "2026-11", "-2")]
    assert world.findings(deep=True) == []


def test_a_bound_inside_the_month_cuts_it_there(world: World) -> None:
    """10 units before the 15th in Paris cost 10, 10 after it 5: each grant pays for its own part, also for late usage."""
    space = world.space(catalog(TIERED), NOVEMBER)
    use(space, "after", "10", "2026-10-14T22:00:00Z")
    use(space, "before", "10", "2026-10-14T21:59:59.999999Z")
    grant(space, "100", "old", expires="2026-10-15")
    grant(space, "100", "new", effective="2026-10-15")
    space.bill("2026-10")
    assert credits_of(space) == [("old", "2026-10", "2026-10", "-10"), ("new", "2026-10", "2026-10", "-5")]
    use(space, "late", "4", "2026-10-02T10:00:00Z")
    space.bill("2026-10")
    assert credits_of(space)[2:] == [("old", "2026-10", "2026-10", "-2")]
    space.retract("/s", "before")
    use(space, "instead", "10", "2026-10-20T10:00:00Z")  # as much as before in all, but later
    space.bill("2026-10")
    assert credits_of(space)[3:] == [("old", "2026-10", "2026-10", "8"), ("new", "2026-10", "2026-10", "-8")]
    assert [listed(space)[name]["state"] for name in ("old", "new")] == ["expired", "active"]
    assert [listed(space)["old"][name] for name in ("drawn", "left", "lost")] == ["4", "0", "96"]
    assert world.findings(deep=True) == []
    world.app.control.execute(  # the posting role may: verify has to see it
        """update ledger.credit_month set document = replace(document, '"4000000000","13', '"5000000000","12')"""
    )
    assert any("credit was drawn against" in one["what"] for one in world.findings())


def test_priority_decides_not_the_order_of_granting(world: World) -> None:
    """A grant added after a month was billed, that comes first, takes the other's place in it."""
    space = world.space(catalog(PLAIN), NOVEMBER)
    use(space, "e-1", "30")
    grant(space, "20", "second")
    space.bill("2026-10")
    grant(space, "20", "first", priority=1)
    space.bill("2026-10")
    assert credits_of(space) == [
        ("second", "2026-10", "2026-10", "-20"), ("first", "2026-10", "2026-10", "-20"),
        ("second", "2026-10", "2026-10", "10"),
    ]  # fmt: skip
    assert totals(space, "2026-10") == ["10.00"]  # the second run's sum, -10, is carried
    assert world.findings(deep=True) == []


def test_void_takes_back_what_is_left(world: World) -> None:
    """Drawn 30 of 100, then void: later usage draws nothing, a retraction gives back, later usage draws that again."""
    space = world.space(catalog(PLAIN), DECEMBER)
    use(space, "e-1", "30")
    grant(space, "100")
    space.bill("2026-10")
    made, done = space.act(lambda app: app.grant_void(space.name, "g", "a mistake", "ben"))
    assert done
    assert [made.shown(0)[name] for name in ("drawn", "left", "lost", "state")] == ["30", "0", "70", "void"]
    assert not space.act(lambda app: app.grant_void(space.name, "g", "a mistake", "ben"))[1]
    with pytest.raises(Refused, match="void already: a mistake"):
        space.act(lambda app: app.grant_void(space.name, "g", "another", "ben"))
    with pytest.raises(InputError, match="no grant 'x'"):
        space.act(lambda app: app.grant_void(space.name, "x", "another", "ben"))
    use(space, "e-2", "25", "2026-11-05T10:00:00Z")
    space.bill("2026-11")
    assert totals(space, "2026-11") == ["25.00"]
    space.retract("/s", "e-1")
    space.bill("2026-11")
    assert listed(space)["g"]["drawn"] == "25"
    assert world.findings(deep=True) == []


def test_the_same_grant_again_does_nothing_and_another_is_refused(world: World) -> None:
    """With and without a start, which is that of the account's month; free numbers pass over taken ids."""
    space = world.space(catalog(PLAIN), NOVEMBER)
    use(space, "e-1", "1")
    asked = Asked("paris", "5.50", "USD", "grant-1", reason="Welcome")
    made, new = space.act(lambda app: app.grant_add(space.name, asked, "ana"))
    assert new
    assert made.shown(0)["effective"] == "2026-10-31T23:00:00Z"
    space.clock.advance(microseconds(DECEMBER) - space.clock.now_us())
    assert not space.act(lambda app: app.grant_add(space.name, asked, "ben"))[1]
    with pytest.raises(Refused, match=r"amount is 5\.5, not 6"):
        space.act(lambda app: app.grant_add(space.name, Asked("paris", "6", "USD", "grant-1", reason="Welcome"), "ana"))
    made, _ = space.act(lambda app: app.grant_add(space.name, Asked("paris", "6", "USD"), "ana"))
    assert made.terms.id == "grant-2"
    assert world.findings(deep=True) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"account": "Paris"}, "no account 'Paris'"),
        ({"amount": "0"}, "not an amount"),
        ({"amount": "-5"}, "not an amount"),
        ({"amount": "1_000"}, "not an amount"),
        ({"amount": "1e3"}, "not an amount"),
        ({"amount": "0.0000000001"}, "not an amount"),
        ({"amount": "1" * 19}, "not an amount"),
        ({"currency": "usd"}, "not an ISO 4217"),
        ({"currency": "XAU"}, "no minor unit"),
        ({"id": "@grant"}, "not an id"),
        ({"effective": "yesterday"}, "--effective 'yesterday'"),
        ({"effective": "2026-02-30"}, "--effective '2026-02-30'"),
        ({"expires": "1999-01-01"}, "between 2000 and 2999"),
        ({"expires": "2026-10-01"}, "would expire"),
        ({"prices": "pp"}, "no price 'pp'"),
        ({"prices": "p", "currency": "EUR"}, "is in USD"),
        ({"reason": "x" * 1025}, "too long"),
        ({"reason": "\x1b[2J"}, "control characters"),
    ],
)
def test_what_makes_no_sense_is_refused(world: World, wrong: dict[str, str], message: str) -> None:
    """Each with what to write instead; nothing is recorded."""
    space = world.space(catalog(PLAIN), NOVEMBER)
    asked: dict[str, Any] = {"account": "paris", "amount": "5", "currency": "USD", "effective": "2026-10-01"} | wrong
    with pytest.raises(InputError, match=message) as caught:
        space.act(lambda app: app.grant_add(space.name, Asked(**asked), "ana"))
    assert caught.value.do
    assert listed(space) == {}


def test_what_is_explained(world: World) -> None:
    """A line item and the invoice's line lead to the grant and to what it was drawn against."""
    space = world.space(catalog(PLAIN, TIERED), NOVEMBER)
    use(space, "e-1", "30")
    grant(space, "7", "special", prices="t", priority=1, reason="For t")
    grant(space, "40")
    space.bill("2026-10")
    control, segments = world.app.control, world.app.segments
    (id_, _) = [one["id"] for one in line_items(control, space.name) if one["kind"] == "credit"]
    found = explain(control, segments, space.name, id_)
    assert (found["grant"]["id"], found["grant"]["reason"], found["grant"]["priority"]) == ("special", "For t", 1)
    assert found["credit"]["prices"] == [
        {"price": "t", "owed": "20", "covered": "20", "drawn": "7", "drawn_of_others": "10"}
    ]
    assert (found["credit"]["drawn_before"], found["credit"]["drawn"], found["credit"]["amount"]) == ("0", "7", "-7")
    (sent,) = invoices(control, space.name, Month(2026, 10))
    assert [(line["description"], line["amount"]) for line in sent["lines"] if line["kind"] == "credit"] == [
        ("Prepaid credit g", "-40.00"), ("For t", "-7.00"),
    ]  # fmt: skip
    line = next(line["line"] for line in sent["lines"] if line["price"] == "special")
    told = explain_any(control, segments, space.name, f"{sent['number']}#{line}")
    assert told["lines"][0]["adds_up"]
    assert told["lines"][0]["explained"][0]["grant"]["id"] == "special"


def test_an_invoice_in_another_currency_converts_credit_with_the_rest(world: World) -> None:
    """Paid in full in USD, nothing is left in EUR."""
    prices = [{"id": f"p{n}", "meter": "m", "model": "per_unit", "unit_price": "0.004"} for n in range(3)]
    converted = catalog(*prices, invoice_currency="EUR") | {
        "conversion": {"source": "ecb", "date": "period_end", "max_age_days": 5}
    }
    space = world.space(converted, NOVEMBER)
    load_rate(space, Rate("ecb", "EUR", "USD", date(2026, 10, 30), Decimal("1.0832")), correct=False)
    use(space, "e-1", "1")
    grant(space, "5")
    space.bill("2026-10")
    assert totals(space, "2026-10") == ["0.00"]
    assert world.findings(deep=True) == []


def test_two_who_bill_at_once_draw_once(world: World) -> None:
    """They wait for each other at lane 0; what is drawn is drawn once. So with grants of one id."""
    space = world.space(catalog(PLAIN), NOVEMBER)
    use(space, "e-1", "30")
    connections = [world.app.connection() for _ in range(3)]
    now_us = space.clock.now_us()

    def bill(connection: Any) -> int:
        return draw_credit(connection, world.app.segments, space.name, Month(2026, 10), now_us)

    grant(space, "40")
    with ThreadPoolExecutor(len(connections)) as pool:
        assert sorted(pool.map(bill, connections)) == [0, 0, 1]
    assert credits_of(space) == [("g", "2026-10", "2026-10", "-30")]
    assert world.findings(deep=True) == []


def test_readers_see_grants_of_their_namespace_only(world: World) -> None:
    """Every table of credit is under row-level security, and nobody changes a grant."""
    space = world.space(catalog(PLAIN), datetime(2026, 11, 2, tzinfo=UTC))
    use(space, "e-1", "30")
    grant(space, "40")
    space.bill("2026-10")
    space.act(lambda app: app.grant_void(space.name, "g", "why", "ana"))
    control = world.app.control
    key, _ = keys_of(control, space.name, None)
    with connect(world.app.dsn, role=READ) as reader:
        for table in ("credit_grant", "credit_void", "credit_month", "credit_draw"):
            query = f"select count(*) from ledger.{table}"
            reader.execute("select set_config('lineitem.namespace_key', %s, false)", [str(key)])
            assert reader.execute(query).fetchone() == (1,), table
            reader.execute("select set_config('lineitem.namespace_key', %s, false)", [str(key + 1)])
            assert reader.execute(query).fetchone() == (0,), table
