"""Which account, price, period and tags an event gets; and when it gets none and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType

import numpy as np
import pytest

from lineitem.catalog.canary import CanaryAct, Change, Step
from lineitem.catalog.model import Aggregation, Catalog, Meter, Missing, Price, Pricebook, TagRule
from lineitem.catalog.snapshot import AccountRow, PriceRow, Snapshot
from lineitem.core.period import Month
from lineitem.core.reasons import Reason
from lineitem.ingest.events import EventColumns
from lineitem.ingest.times import parse_rfc3339
from lineitem.rate.enrich import Accounts, Enriched, enrich
from lineitem.rate.match import match

METER = Meter("m", "a.used", Aggregation.COUNT, dimensions=("data.model",))
CHANGE = "2026-10-15T00:00:00Z"


def _us(text: str) -> int:
    return int(parse_rfc3339([text])[0][0])


def _price(id_: str, unit_price: int) -> Price:
    return Price(id_, "m", "per_unit", "USD", unit_price=Decimal(unit_price))


BOOKS = (
    Pricebook("b", 1, _us("2026-01-01T00:00:00Z"), None, (_price("same", 1), _price("changes", 1))),
    Pricebook("b", 2, _us(CHANGE), _us("2026-12-01T00:00:00Z"), (_price("same", 1), _price("changes", 2))),
)
OWN = (
    Pricebook("@account/acme", 1, _us("2026-10-10T00:00:00Z"), _us("2026-10-20T00:00:00Z"), (_price("same", 9),)),
    Pricebook("@account/acme", 2, _us("2026-10-25T00:00:00Z"), None, (_price("changes", 8), _price("same", 7))),
    Pricebook("@account/alone", 1, _us("2026-10-10T00:00:00Z"), None, (_price("alone", 5),)),
)
ROWS = (
    *(
        PriceRow(price_key, version_key, "b", version, BOOKS[version - 1].prices[at], METER, "")
        for price_key, version_key, version, at in ((1, 1, 1, 0), (2, 2, 1, 1), (1, 3, 2, 0), (3, 4, 2, 1))
    ),
    PriceRow(4, 5, OWN[0].id, 1, OWN[0].prices[0], METER, ""),
    PriceRow(5, 6, OWN[1].id, 2, OWN[1].prices[0], METER, ""),
    PriceRow(6, 7, OWN[1].id, 2, OWN[1].prices[1], METER, ""),
    PriceRow(7, 8, OWN[2].id, 1, OWN[2].prices[0], METER, ""),
)
SNAPSHOT = Snapshot("default", 1, 1, Catalog("USD", (METER,), BOOKS), (*BOOKS, *OWN), ROWS)
KNOWN = {
    "paris": AccountRow(1, "paris", "Paris", "b", "Europe/Paris", '{"cost_center":"42","model":"of the account"}'),
    "tokyo": AccountRow(2, "tokyo", "Tokyo", "b", "Asia/Tokyo", "{}"),
    "acme": AccountRow(4, "acme", "Acme", "b", "UTC", "{}"),
    "alone": AccountRow(5, "alone", "Alone", None, "UTC", "{}"),
    "bookless": AccountRow(3, "bookless", "Bookless", None, "UTC", "{}"),
}


def enriched(
    *seen: tuple[str, str, str],
    snapshot: Snapshot = SNAPSHOT,
    rules: tuple[TagRule, ...] = (),
    env: Mapping[int, str] = MappingProxyType({}),
) -> Enriched:
    """Events as (account, time, model) through match and enrich."""
    count = len(seen)
    names = list(dict.fromkeys(account for account, _, _ in seen))
    keys = np.array([number.to_bytes(16, "big") for number in range(count)], dtype="V16")
    events = EventColumns(
        np.arange(count, dtype=np.int32), [str(n) for n in range(count)], ["s"] * count, ["a.used"] * count,
        [account for account, _, _ in seen], parse_rfc3339([time for _, time, _ in seen])[0],
        [{"model": model, "env": env.get(n)} for n, (_, _, model) in enumerate(seen)], [None] * count, keys, keys,
    )  # fmt: skip
    accounts = Accounts(
        np.array([names.index(account) for account, _, _ in seen], np.int32), [KNOWN.get(n) for n in names]
    )
    matches, rejects = match(events, [METER])
    assert rejects == []
    catalog = replace(snapshot.catalog, tags=rules)
    return enrich(events, matches, accounts, replace(snapshot, catalog=catalog))


@pytest.mark.parametrize(
    ("account", "time", "month"),
    [
        ("paris", "2026-09-30T21:59:59.999999Z", "2026-09"),
        ("paris", "2026-09-30T22:00:00Z", "2026-10"),
        ("paris", "2026-10-31T22:59:59Z", "2026-10"),  # summer time is over: the month ends an hour later in UTC
        ("paris", "2026-10-31T23:00:00Z", "2026-11"),
        ("tokyo", "2026-09-30T15:00:00Z", "2026-10"),
        ("tokyo", "2026-09-30T14:59:59Z", "2026-09"),
    ],
)
def test_service_months_are_the_accounts(account: str, time: str, month: str) -> None:
    """The month, and the instants it lies between, are those of the account's zone."""
    for usage in enriched((account, time, "x")).usage:
        label = Month.from_index(int(usage.service_month[0]))
        assert str(label) == month
        assert (int(usage.period_start_us[0]), int(usage.period_end_us[0])) == label.bounds_us(KNOWN[account].timezone)
        assert usage.period_start_us[0] <= usage.time_us[0] < usage.period_end_us[0]


def test_the_version_in_force_at_the_events_time() -> None:
    """A version starts at its instant; a price that did not change goes on in the same target, under the new version."""
    found = enriched(("paris", "2026-10-14T23:59:59.999999Z", "x"), ("paris", CHANGE, "x"))
    by_key = {usage.row.price_key: (usage.event.tolist(), usage.version_key.tolist()) for usage in found.usage}
    assert by_key == {1: ([0, 1], [1, 3]), 2: ([0], [2]), 3: ([1], [4])}
    assert [usage.row.price_key for usage in found.usage] == [1, 2, 3], (
        "in one order for all, so that lanes cannot deadlock"
    )


def _priced(found: Enriched) -> dict[int, set[tuple[str, int, str]]]:
    """Event -> the prices it is billed by."""
    versions = {row.price_version_key: (row.pricebook, row.version, row.price.id) for row in ROWS}
    priced: dict[int, set[tuple[str, int, str]]] = {}
    for usage in found.usage:
        for event, version in zip(usage.event.tolist(), usage.version_key.tolist(), strict=True):
            priced.setdefault(event, set()).add(versions[version])
    return priced


def test_an_override_replaces_the_price_of_its_id_while_it_is_in_force() -> None:
    """For its account alone, at the event's time; the other prices of the pricebook, and other accounts, go on."""
    days = ("09", "10", "14", "16", "20", "25")
    seen = [(account, f"2026-10-{day}T00:00:00Z", "x") for day in days for account in ("acme", "paris")]
    priced = _priced(enriched(*seen))
    own = "@account/acme"
    assert [priced[2 * n] for n in range(len(days))] == [
        {("b", 1, "same"), ("b", 1, "changes")},
        {(own, 1, "same"), ("b", 1, "changes")},
        {(own, 1, "same"), ("b", 1, "changes")},
        {(own, 1, "same"), ("b", 2, "changes")},
        {("b", 2, "same"), ("b", 2, "changes")},
        {(own, 2, "same"), (own, 2, "changes")},
    ]
    assert {book for n in range(len(days)) for book, _, _ in priced[2 * n + 1]} == {"b"}


def test_an_account_may_have_nothing_but_prices_of_its_own() -> None:
    """Without a pricebook an account is billed by its overrides, from the time they start."""
    found = enriched(("alone", "2026-10-10T00:00:00Z", "x"), ("alone", "2026-10-09T23:59:59Z", "x"))
    assert _priced(found) == {0: {("@account/alone", 1, "alone")}}
    assert [reject.reason for reject in found.rejects] == [Reason.NO_PRICE]


def test_a_price_bills_an_account_unless_it_is_overridden() -> None:
    """The same question one event at a time, as an explanation asks it."""
    overridden, free = _us("2026-10-12T00:00:00Z"), _us("2026-10-22T00:00:00Z")
    assert SNAPSHOT.bills("b", 1, "same", "paris", overridden)
    assert not SNAPSHOT.bills("b", 1, "same", "acme", overridden)
    assert SNAPSHOT.bills("b", 1, "changes", "acme", overridden)
    assert SNAPSHOT.bills("@account/acme", 1, "same", "acme", overridden)
    assert SNAPSHOT.bills("b", 2, "same", "acme", free)
    assert not SNAPSHOT.bills("@account/acme", 1, "same", "acme", free)


def test_tags_are_the_accounts_and_the_events() -> None:
    """Dimensions win over the account's tags of the same name; equal sets are one."""
    found = enriched(("paris", CHANGE, "x"), ("tokyo", CHANGE, "x"), ("paris", CHANGE, "x"))
    assert found.tag_sets == ['{"cost_center":"42","model":"x"}', '{"model":"x"}']
    assert found.usage[0].tag_set.tolist() == [0, 1, 0]


def test_without_account_or_price_nothing_is_billed() -> None:
    """An unknown account, an account without pricebook, times before the first and after the last version."""
    found = enriched(
        ("nobody", CHANGE, "x"), ("bookless", CHANGE, "x"), ("paris", "2025-12-31T23:59:59Z", "x"),
        ("paris", "2026-12-01T00:00:00Z", "x"), ("paris", CHANGE, "x"),
    )  # fmt: skip
    reasons = {reject.ordinal: reject.reason for reject in found.rejects}
    assert reasons == {0: Reason.UNKNOWN_ACCOUNT, 1: Reason.NO_PRICE, 2: Reason.NO_PRICE, 3: Reason.NO_PRICE}
    assert all(reject.key is not None and reject.digest is not None for reject in found.rejects)
    assert {event for usage in found.usage for event in usage.event.tolist()} == {4}
    assert found.billable.all(), "a meter matches all of them: none may pass as not billable"


def test_no_events() -> None:
    """An empty batch is no special case."""
    found = enriched()
    assert (found.usage, found.tag_sets, found.rejects) == ([], [], [])


def test_what_the_tag_registry_refuses_is_billed_by_nothing() -> None:
    """An event without a tag it must have is one reject, whatever prices there are; its neighbours go on."""
    rule = TagRule("env", missing=Missing.DEAD_LETTER, read_from=(("", "data.env"),))
    found = enriched(
        ("paris", CHANGE, "x"), ("nobody", CHANGE, "x"), ("bookless", CHANGE, "x"), rules=(rule,), env={0: "prod"}
    )
    assert {reject.ordinal: reject.reason for reject in found.rejects} == {
        1: Reason.UNKNOWN_ACCOUNT, 2: Reason.MISSING_TAG,
    }  # fmt: skip
    assert found.tag_sets == ['{"cost_center":"42","env":"prod","model":"x"}']
    assert {event for usage in found.usage for event in usage.event.tolist()} == {0}


def test_a_canary_takes_the_place_of_the_pricebook_for_whole_service_months() -> None:
    """From its first month on, in the account's zone, and until a stop counts for the account; overrides go on."""
    tried = Pricebook("@canary/x", 1, 0, None, (_price("same", 4), _price("changes", 3)))
    rows = (*ROWS, *(PriceRow(8 + at, 9 + at, tried.id, 1, tried.prices[at], METER, "") for at in (0, 1)))
    november = Month(2026, 11).index
    start = Change("x", CanaryAct.START, "b", 3, november - 1, "some", accounts=("tokyo", "acme"))
    stop = replace(start, act=CanaryAct.STOP, accounts=())
    steps = (Step(2, start), Step(3, stop, {"tokyo": november}))
    times = ("2026-09-30T14:59:59Z", "2026-09-30T15:00:00Z", "2026-10-31T14:59:59Z", "2026-10-31T15:00:00Z")
    seen = [(account, time, "m") for account in ("tokyo", "paris") for time in times]
    seen += [("acme", "2026-10-26T00:00:00Z", "m")]

    def prices(canaries: tuple[Step, ...]) -> list[list[int]]:
        snapshot = replace(SNAPSHOT, pricebooks=(*SNAPSHOT.pricebooks, tried), rows=rows, canaries=canaries)
        found: list[list[int]] = [[] for _ in seen]
        for usage in enriched(*seen, snapshot=snapshot).usage:
            for event in usage.event.tolist():
                found[event].append(usage.row.price_key)
        return [sorted(keys) for keys in found]

    stable = [[1, 2], [1, 2], [1, 3], [1, 3]]
    assert prices(()) == [*stable, *stable, [5, 6]]
    assert prices(steps) == [[1, 2], [8, 9], [8, 9], [1, 3], *stable, [5, 6]]
