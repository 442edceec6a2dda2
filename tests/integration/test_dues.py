"""What is due beyond usage: minimums, base fees, accounts without an event, shares of a month, months in advance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lineitem.app import App
from lineitem.billing.run import invoices
from lineitem.core.errors import Refused
from lineitem.core.money import nano_to_text
from lineitem.core.period import Month
from lineitem.ledger.explain import explain
from lineitem.ledger.rows import Kind
from tests.integration.drive import Space, World, microseconds

NOVEMBER = datetime(2026, 11, 2, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 2, tzinfo=UTC)


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def catalog(*prices: dict[str, Any], **account: Any) -> dict[str, Any]:
    """One meter, some prices, and the account "paris"."""
    meter = {"id": "m", "event_type": "a.used", "aggregation": "sum", "value": "data.v"}
    book = {"id": "b", "version": 1, "effective_from": "2020-01-01T00:00:00+00:00", "prices": list(prices)}
    listed = {"id": "paris", "timezone": "Europe/Paris"} | account
    return {
        "currency": "USD", "meters": [meter], "pricebooks": [book],
        "accounts": {"defaults": {"pricebook": "b"}, "list": [listed]},
    }  # fmt: skip


def use(space: Space, id_: str, value: str, time: str = "2026-10-05T10:00:00Z", account: str = "paris") -> None:
    """One event."""
    text = (
        f'{{"specversion":"1.0","id":"{id_}","source":"/s","type":"a.used","subject":"{account}","time":"{time}",'
        f'"data":{{"v":{value}}}}}\n'
    )
    space.send(text.encode(), f"stream-{id_}")


def posted(space: Space) -> list[tuple[str, str, str, str, str]]:
    """Every line item as it was written: price, kind, service month, posting month, amount."""
    rows = space.rows(
        """select p.price, x.kind, x.service_month, x.posting_month, x.amount_nano from ledger.line_item x
        join catalog.namespace n on n.namespace_key = x.namespace_key and n.namespace = %(namespace)s
        join catalog.price_version v using (price_version_key) join catalog.price p using (price_key)
        join ledger.batch b on (b.lane, b.batch) = (x.lane, x.batch) order by b.recorded_us, x.lane desc, x.id"""
    )
    return [
        (price, Kind(kind).word, str(Month.from_index(service)), str(Month.from_index(posting)), nano_to_text(nano))
        for price, kind, service, posting, nano in rows
    ]


LEAST = {"id": "p", "meter": "m", "model": "per_unit", "unit_price": "1", "minimum": "50"}


def test_what_usage_leaves_open_is_posted_once(world: World) -> None:
    """The story of docs/explanation/dues.md, row by row."""
    space = world.space(catalog(LEAST), NOVEMBER)

    def owed() -> str:
        return nano_to_text(int(space.totals()[("paris", "p", "2026-10")][1]))

    use(space, "e-1", "30")
    assert owed() == "30"
    space.bill("2026-10")
    space.bill("2026-10")
    assert owed() == "50"
    use(space, "e-2", "15")
    assert owed() == "50"
    use(space, "e-3", "20")
    assert owed() == "65"
    use(space, "e-4", "5")
    space.retract("/s", "e-4")
    use(space, "e-5", "0")
    space.retract("/s", "e-1")
    assert owed() == "50"
    space.bill("2026-10")
    october = ("2026-10", "2026-10")
    assert sorted((kind, amount) for _, kind, *month, amount in posted(space) if tuple(month) == october) == sorted(
        [
            *(("usage", amount) for amount in ("30", "0", "15", "5", "0")),
            ("true_up", "20"),
            ("retraction", "-5"),
            ("retraction", "-15"),
        ]
    )
    assert [one["total"] for one in invoices(world.app.control, space.name, Month(2026, 10), None)] == ["50.00", "0.00"]
    assert world.findings(deep=True) == []


def test_a_month_is_settled_when_it_has_ended_for_the_account(world: World) -> None:
    """Billing in the last hour of the month settles Tokyo's accounts, not those of Paris."""
    space = world.space(catalog(LEAST, timezone="Asia/Tokyo"), datetime(2026, 10, 31, 15, tzinfo=UTC))
    use(space, "e-1", "30")
    use(space, "e-2", "30", account="utc")
    space.bill("2026-10")
    assert [one[1] for one in posted(space)] == ["usage", "usage", "true_up"]
    space.clock.advance(microseconds(NOVEMBER) - space.clock.now_us())
    space.bill("2026-10")
    assert [one[1] for one in posted(space)] == ["usage", "usage", "true_up", "true_up"]
    assert world.findings(deep=True) == []


def test_usage_of_a_closed_month_is_settled_with_the_next(world: World) -> None:
    """A new account's first event of a closed month brings the minimum with the invoice it posts to."""
    space = world.space(catalog(LEAST), DECEMBER)
    space.close("2026-10")
    use(space, "e-1", "30")
    space.bill("2026-11")
    assert posted(space) == [
        ("p", "correction", "2026-10", "2026-11", "30"), ("p", "true_up", "2026-10", "2026-11", "20"),
    ]  # fmt: skip
    assert world.findings(deep=True) == []


FEE = {"id": "fee", "model": "flat", "amount": "49"}
TIER = {"id": "tier", "meter": "m", "model": "volume", "tiers": [{"up_to": None, "unit_price": "1", "flat_price": "7"}]}


def test_an_active_account_owes_without_an_event(world: World) -> None:
    """Flat prices and minimums of the months it is active in, once; an account that does not say so owes nothing."""
    space = world.space(catalog(LEAST, FEE, TIER, active_from="2026-10-15"), DECEMBER)
    use(space, "e-1", "3", account="walk-in")
    for month in ("2026-09", "2026-10", "2026-10", "2026-11"):
        space.bill(month)
    mine = [("fee", "49"), ("p", "50"), ("tier", "7")]
    for month in ("2026-10", "2026-11"):
        totals = {key[1]: total for key, total in space.totals().items() if key[0] == "paris" and key[2] == month}
        assert [(price, nano_to_text(nano)) for price, (_, nano) in sorted(totals.items())] == mine
    assert {kind for price, kind, *_ in posted(space) if price == "fee"} == {"recurring"}
    assert not any(key[2] == "2026-09" for key in space.totals())
    use(space, "e-2", "3")
    assert nano_to_text(space.totals()[("paris", "tier", "2026-10")][1]) == "10"
    assert nano_to_text(space.totals()[("paris", "p", "2026-10")][1]) == "50"
    space.retract("/s", "e-2")
    assert nano_to_text(space.totals()[("paris", "tier", "2026-10")][1]) == "7"
    assert world.findings(deep=True) == []


@pytest.mark.parametrize(
    ("prorate", "amount"),
    [("none", "49"), ("day", "23.709677419"), ("second", "22.888590604")],
)
def test_a_part_of_a_month_costs_its_share(world: World, prorate: str, amount: str) -> None:
    """15 of 31 days; by the second with the hour by which October is longer in Paris: 14.5 days and 31 of 745 hours."""
    active = {"active_from": "2026-10-10T10:00:00Z", "active_until": "2026-10-24T22:00:00Z"}
    space = world.space(catalog(FEE | {"prorate": prorate}, **active), DECEMBER)
    for month in ("2026-10", "2026-11"):
        space.bill(month)
    assert posted(space) == [("fee", "recurring", "2026-10", "2026-10", amount)]
    assert world.findings(deep=True) == []


def test_a_month_in_advance_is_on_the_invoice_before(world: World) -> None:
    """October's invoice has October, the first month, and November; November's has December."""
    space = world.space(catalog(FEE | {"charge": "in_advance", "prorate": "day"}, active_from="2026-10-01"), NOVEMBER)
    space.bill("2026-10")
    assert posted(space) == [
        ("fee", "recurring", "2026-10", "2026-10", "49"), ("fee", "recurring", "2026-11", "2026-10", "49"),
    ]  # fmt: skip
    (shown,) = invoices(world.app.control, space.name, Month(2026, 10), None)
    assert [(line["service_period"], line["kind"], line["amount"]) for line in shown["lines"]] == [
        ("2026-10", "recurring", "49.00"), ("2026-11", "recurring", "49.00"),
    ]  # fmt: skip
    (ids,) = zip(*space.rows("""select x.id::text from ledger.line_item x join catalog.namespace n using (namespace_key)
        where n.namespace = %(namespace)s order by x.id"""), strict=True)  # fmt: skip
    told = explain(world.app.control, world.app.segments, space.name, ids[1])
    assert "charged in advance" in told["events"]["note"]
    assert told["target"]["amount"] == "49"
    changed = catalog(
        FEE | {"charge": "in_advance", "prorate": "day"}, active_from="2026-10-01", active_until="2026-11-11"
    )
    space.publish(changed)
    space.bill("2026-10")
    assert posted(space)[2:] == [("fee", "recurring", "2026-11", "2026-10", "-32.666666667")]
    space.publish(changed | {"accounts": {"defaults": {"pricebook": "b"}}})
    space.bill("2026-10")
    assert not any(total[1] for total in space.totals().values())
    space.clock.advance(microseconds(DECEMBER) - space.clock.now_us())
    space.bill("2026-11")
    assert world.findings(deep=True) == []
    told = explain(world.app.control, world.app.segments, space.name, ids[1])
    assert told["target"]["working"][-1]["label"] == "active for 0 of 30 days"


def test_no_price_changes_under_what_is_due(world: World) -> None:
    """A version that would start before dues that are posted is refused, as under usage."""
    space = world.space(catalog(FEE, active_from="2026-10-15"), NOVEMBER)
    space.bill("2026-10")
    new = catalog(FEE, active_from="2026-10-15")
    later = new["pricebooks"][0] | {
        "version": 2, "effective_from": "2026-10-10T00:00:00+00:00", "prices": [FEE | {"amount": "59"}],
    }  # fmt: skip
    new["pricebooks"].append(later)
    with pytest.raises(Refused, match="already rated"):
        space.publish(new)
    later["effective_from"] = "2026-11-01T00:00:00+00:00"
    space.publish(new)
    assert world.findings() == []
