"""The law of prepaid credit: whatever comes in which order, and whenever months are billed, each grant ends up drawn alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from lineitem.app import App
from lineitem.core.money import nano_to_text
from lineitem.core.period import Month
from lineitem.ledger.grant_terms import Asked
from tests.integration.credit_oracle import FOREVER, Grant, currencies, draws, in_currency
from tests.integration.drive import Space, World
from tests.integration.oracle import Oracle
from tests.integration.test_laws import BATCHES, MIDWAY, MONTH, MONTHS, NOW, law
from tests.strategies import CHANGE, EDGES, TIMES, Record, catalogs, cut, file_of, repeated, usage

_STARTS = [datetime(2026, month, day, tzinfo=UTC) for month, day in ((8, 1), (10, 1), (10, 12), (11, 1))]


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def drawn(space: Space) -> dict[tuple[str, str], int]:
    """(grant, service month) -> nano-units, by line items."""
    rows = space.rows(
        """select p.price, x.service_month, -sum(coalesce(x.amount_wide, x.amount_nano)) from ledger.line_item x
        join catalog.namespace n on n.namespace_key = x.namespace_key and n.namespace = %(namespace)s
        join catalog.price_version v using (price_version_key) join catalog.price p using (price_key)
        where x.kind = 7 group by 1, 2"""
    )
    return {(grant, str(Month.from_index(month))): int(nano) for grant, month, nano in rows if nano}


def owed(space: Space) -> dict[tuple[str, str, str], tuple[Fraction, int]]:
    """Totals of the ledger without what grants pay."""
    return {key: total for key, total in space.totals().items() if not key[1].startswith("grant-")}


@st.composite
def grants(draw: st.DrawFn, number: int, catalog: dict[str, Any], owing: dict[tuple[str, str, str], int]) -> Grant:
    """Any grant to an account of the catalog; mostly one that can pay for something. ``owing``: account, price, currency."""
    targets = sorted(owing)
    account, price, currency = draw(st.sampled_from(targets)) if targets else ("paris", "meter-0-price-0", "USD")
    zone = next((one["timezone"] for one in catalog["accounts"]["list"] if one["id"] == account), "America/New_York")
    since = draw(st.sampled_from([*_STARTS, *EDGES]))
    if draw(st.booleans()):  # the start of a day of the account
        since = since.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    until = draw(st.sampled_from([FOREVER, FOREVER, CHANGE, *EDGES, datetime(2026, 12, 10, tzinfo=UTC)]))
    others = [name for who, name, code in targets if (who, code) == (account, currency)]
    prices = draw(st.sampled_from([[], [price], others])) if targets else []
    least = owing.get((account, price, currency), 0)
    nano = draw(st.sampled_from([least // 3, least, 2 * least, 10**9, 1, 10**25]))
    end = until if until > since else FOREVER
    return Grant(
        f"grant-{number}", account, currency, min(max(nano, 1), 10**26), draw(st.sampled_from([1, 10, 10])), since, end,
        tuple(sorted(set(prices))),
    )  # fmt: skip


def owing_in_the_end(catalog: dict[str, Any], events: list[Record]) -> dict[tuple[str, str, str], int]:
    """Account, price and currency -> the most that is owed in a month if all events come in order."""
    oracle = Oracle("scratch", catalog, NOW)
    oracle.send(file_of(events), "scratch")
    for month in MONTHS:
        oracle.settle(month)
    found: dict[tuple[str, str, str], int] = {}
    for currency in currencies(oracle):
        seen = in_currency(oracle, currency, lambda _: True, lambda _: True)
        for (account, price, _), (_, nano) in seen.items():
            key = (account, price, currency)
            found[key] = max(nano, found.get(key, 0))
    return found


def add(space: Space, grant: Grant) -> bool:
    """Grant it; whether that was new."""
    asked = Asked(
        grant.account, nano_to_text(grant.nano), grant.currency, grant.id, grant.priority,
        grant.since.isoformat(), None if grant.until == FOREVER else grant.until.isoformat(), ",".join(grant.prices),
    )  # fmt: skip
    new: bool = space.act(lambda app: app.grant_add(space.name, asked, "ana"))[1]
    return new


def void(space: Space, grant: Grant) -> Grant:
    """Take back what is left; what there is of it now."""
    made = space.act(lambda app: app.grant_void(space.name, grant.id, "a test says so", "ana"))[0]
    return replace(grant, nano=made.void[0])


def test_any_order_and_any_billing_draws_the_same(world: World) -> None:
    """Late usage, retractions, grants added late, months billed, closed or skipped in between: final draws are the oracle's."""
    seen: Counter[str] = Counter()
    times = st.builds(lambda minutes: MIDWAY + timedelta(minutes=minutes), st.integers(-40_000, 1439)) | TIMES

    @settings(law, max_examples=30)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage(16, times))
        space = world.space(catalog, NOW)
        oracle = Oracle(space.name, catalog, NOW)
        owing = {key: nano for key, nano in owing_in_the_end(catalog, events).items() if key[0] != "walk-in"}
        waiting = [data.draw(grants(number, catalog, owing)) for number in range(data.draw(st.integers(1, 5)))]
        granted: dict[str, Grant] = {}
        for number, part in enumerate(data.draw(cut(data.draw(repeated(events)), 5))):
            space.send(file_of(part), f"stream-{number}", data.draw(BATCHES))
            oracle.send(file_of(part), f"stream-{number}")
            for grant in [waiting.pop() for _ in range(min(len(waiting), data.draw(st.integers(0, 2))))]:
                assert add(space, grant)
                granted[grant.id] = grant
            act, month = (
                data.draw(st.sampled_from(["bill", "bill", "close", "retract", "void", "void"])),
                data.draw(MONTH),
            )
            note(f"{act} {month}")
            if act == "bill":
                space.bill(month)
                oracle.settle(month)
            elif act == "close" and month not in oracle.closed:
                space.close(month)
                oracle.close(month)
            elif act == "retract":
                alive = [one for one, event in sorted(oracle.accepted.items()) if not event.retracted]
                for identity in [one for one in alive if one[1].startswith("e-")][:1]:
                    space.retract(*identity)
                    oracle.retract(identity)
            elif act == "void" and granted:
                chosen = data.draw(st.sampled_from(sorted(granted)))
                granted[chosen] = void(space, granted[chosen])
            seen[act] += 1
        for grant in waiting:
            assert add(space, grant)
            granted[grant.id] = grant
        for month in MONTHS:
            space.bill(month)
            oracle.settle(month)
        for month in MONTHS:  # what a closed month owes posts to the next, which may have been billed before
            space.bill(month)
        assert owed(space) == oracle.totals()
        expected = draws(oracle, granted.values(), MONTHS)
        assert drawn(space) == expected
        before = space.line_items()
        for month in MONTHS:
            space.bill(month)
        assert space.line_items() == before
        for grant in granted.values():
            paid = sum(nano for (name, _), nano in expected.items() if name == grant.id)
            assert paid <= grant.nano
            seen["drawn"] += paid > 0
            seen["used up"] += 0 < paid == grant.nano
        seen["examples"] += 1
        assert seen["examples"] % 8 or world.findings() == []

    holds()
    assert world.findings(deep=True) == []
    assert min(seen["drawn"], seen["used up"]) > 5, "the examples are too tame"
    assert min(seen["void"], seen["retract"], seen["close"]) > 0, "the examples are too tame"
