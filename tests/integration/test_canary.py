"""Canaries through a real ledger: who is billed by which prices, what is stored beside, and what stops one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lineitem.adapters.flags.flagd import FlagFile
from lineitem.app import App
from lineitem.catalog.canary import Bounds
from lineitem.catalog.draft import Act, Retirement
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import InputError, Refused
from lineitem.core.period import Month
from lineitem.ledger.canary import Choice, Done
from lineitem.ledger.explain import explain
from lineitem.ledger.read import line_items, usage
from tests.catalog.canary_catalogs import catalog, version
from tests.integration.drive import Space, World

NOW = datetime(2026, 12, 20, tzinfo=UTC)
FIRST = catalog(version(1))
SECOND = catalog(version(1), version(2))
HALF = Choice(percent=Decimal(50))


@pytest.fixture
def space(ledger: App) -> Space:
    """A ledger with the first version in force and no usage."""
    return World(ledger).space(json.loads(FIRST), NOW)


def send(space: Space, stream: str, accounts: Sequence[str], time: str = "2026-10-05T00:00:00Z") -> None:
    """One call of each account."""
    lines = [
        {
            "specversion": "1.0",
            "id": f"{stream}-{account}",
            "source": "/s",
            "type": "api",
            "subject": account,
            "time": time,
        }
        for account in accounts
    ]
    space.send("".join(json.dumps(line) + "\n" for line in lines).encode(), stream)


def start(
    space: Space, choice: Choice, bounds: Bounds | None = None, file: str = SECOND, name: str | None = None
) -> Any:
    found = parse_catalog(file, "c")
    done: Done = space.act(
        lambda app: app.canary_start(space.name, found, choice, bounds or Bounds(), name, None, "ana")
    )
    return done


def books(space: Space, month: str) -> dict[str, str]:
    """Account -> the pricebook that billed its month."""
    rows = line_items(space.world.app.control, space.name, month=Month.parse(month))
    found: dict[str, set[str]] = {}
    for row in rows:
        if row["service_period"] == month:
            found.setdefault(row["account"], set()).add(row["pricebook"])
    assert all(len(one) == 1 for one in found.values()), found  # never two in one service period
    return {account: next(iter(one)) for account, one in found.items()}


def members(space: Space, month: str) -> set[str]:
    return {account for account, book in books(space, month).items() if book == "@canary/std-2"}


def status(space: Space) -> dict[str, Any]:
    (found,) = space.act(lambda app: app.canary_status(space.name, None))
    return dict(found)


def well(space: Space) -> None:
    """Nothing is found, not even by folding everything again from the raw events."""
    assert space.world.findings(deep=True) == []


EVERY = [f"a{number}" for number in range(60)]


def test_a_canary_bills_its_members_by_the_new_prices(space: Space) -> None:
    """About half of 60 accounts, each price in its own pricebook; deep verification decides the same again."""
    start(space, HALF)
    send(space, "one", EVERY)
    inside = members(space, "2026-10")
    assert 18 <= len(inside) <= 42
    amounts = {row["account"]: row["amount"] for row in line_items(space.world.app.control, space.name)}
    assert {account for account, amount in amounts.items() if amount == "2"} == inside
    assert status(space)["accounts"]["canary"] == len(inside)
    well(space)


def test_a_rated_month_keeps_its_prices(space: Space) -> None:
    """Accounts with usage join with their next service period, also by events that come late; others at once."""
    send(space, "before", EVERY[:30])
    start(space, Choice(percent=Decimal(100)))
    send(space, "more", EVERY)
    assert members(space, "2026-10") == set(EVERY[30:])
    send(space, "november", EVERY, "2026-11-05T00:00:00Z")
    assert members(space, "2026-11") == set(EVERY)
    send(space, "late", EVERY, "2026-10-09T00:00:00Z")
    assert members(space, "2026-10") == set(EVERY[30:])
    well(space)


def test_a_ramp_keeps_members_and_a_stop_lets_them_go(space: Space) -> None:
    """Those in stay in; after a stop everybody is back, from the next service period."""
    start(space, Choice(percent=Decimal(20)))
    send(space, "one", EVERY)
    few = members(space, "2026-10")
    space.act(lambda app: app.canary_ramp(space.name, "std-2", Choice(percent=Decimal(60)), "ana"))
    send(space, "two", EVERY)
    assert members(space, "2026-10") == few
    send(space, "three", EVERY, "2026-11-05T00:00:00Z")
    more = members(space, "2026-11")
    assert few < more < set(EVERY)
    space.act(lambda app: app.canary_stop(space.name, "std-2", "enough", "ana"))
    send(space, "four", EVERY, "2026-11-06T00:00:00Z")
    assert members(space, "2026-11") == more
    send(space, "five", EVERY, "2026-12-05T00:00:00Z")
    assert members(space, "2026-12") == set()
    told = status(space)
    assert (told["state"], told["reason"]) == ("stopped", "enough")
    assert [step["act"] for step in told["steps"]] == ["start", "ramp", "stop"]
    well(space)


def _ramp(name: str, percent: int, app: App) -> None:
    app.canary_ramp(name, "std-2", Choice(percent=Decimal(percent)), None)


def test_tiers_are_not_mixed(space: Space) -> None:
    """The quantity of a member's month lies in one target, whatever was ingested before and after a ramp."""
    start(space, Choice(percent=Decimal(20)))
    for number in range(3):
        send(space, f"n{number}", EVERY)
        space.act(partial(_ramp, space.name, 30 + number))
    for account in EVERY:
        (price,) = usage(space.world.app.control, space.name, account, Month.parse("2026-10"))["prices"]
        assert price["quantity"] == "3"
    well(space)


def test_the_other_amounts_are_stored_and_explained(space: Space) -> None:
    """A check stores what members would have paid; explain names the canary, the arm and that amount."""
    send(space, "before", ["a", "b"], "2026-09-05T00:00:00Z")
    start(space, Choice(accounts=("a",)))
    send(space, "one", ["a", "b"])
    (found,) = space.act(lambda app: app.canary_check(space.name))
    assert [row.document() for row in found.rows] == [
        {
            "account": "a", "period": "2026-10", "price": "call", "currency": "USD", "amount": "2", "other": "1",
            "delta": "1", "delta_percent": "100",
        }
    ]  # fmt: skip
    told = {}
    app = space.world.app
    for row in list(line_items(app.control, space.name, month=Month.parse("2026-10"))):
        told[row["account"]] = explain(app.control, app.segments, space.name, row["id"])["canary"]
    assert told["a"]["arm"] == "canary"
    assert (told["a"]["name"], told["a"]["other"]["other"], told["a"]["other"]["amount"]) == ("std-2", "1", "2")
    assert (told["b"]["arm"], told["b"]["other"]) == ("stable", None)
    well(space)


def test_a_check_without_news_is_not_made_again(space: Space) -> None:
    """Neither are its rows stored twice; a retraction is news."""
    start(space, Choice(percent=Decimal(100)))
    send(space, "one", ["a", "b"])
    check = [space.act(lambda app: app.canary_check(space.name))[0] for _ in range(2)]
    assert [one.fresh for one in check] == [True, False]
    assert list(check[0].rows) == list(check[1].rows)
    assert space.rows("select count(*) from ledger.canary_beside") == [(2,)]
    space.retract("/s", "one-b")
    (after,) = space.act(lambda app: app.canary_check(space.name))
    assert (after.fresh, [row.live_nano for row in after.rows]) == (True, [2_000_000_000])
    well(space)


@pytest.mark.parametrize(
    ("bounds", "stops"),
    [
        (Bounds(total_percent=Decimal(100)), False),  # 100 % more is not beyond 100 %
        (Bounds(total_percent=Decimal("99.9")), True),
        (Bounds(account_percent=Decimal(5)), True),
        (Bounds(), False),
    ],
)
def test_a_canary_stops_itself_beyond_its_bounds(space: Space, bounds: Bounds, stops: bool) -> None:
    """In total or for one account; the evidence is in the chain, and members go back with their next month."""
    start(space, Choice(percent=Decimal(100)), bounds)
    send(space, "one", ["a", "b"])
    (found,) = space.act(lambda app: app.canary_check(space.name))
    assert (found.stopped, bool(found.breaches)) == (stops, stops)
    send(space, "two", ["a", "c"], "2026-11-05T00:00:00Z")
    assert members(space, "2026-11") == (set() if stops else {"a", "c"})
    assert status(space)["state"] == ("stopped" if stops else "running")
    (again,) = space.act(lambda app: app.canary_check(space.name))  # said again until another canary follows
    assert (again.stopped, again.fresh) == (stops, not stops)
    well(space)


def test_a_finished_canary_is_the_next_version_for_all(space: Space) -> None:
    """From the month after the last usage on; what was billed stays."""
    start(space, HALF)
    send(space, "one", EVERY)
    inside = members(space, "2026-10")
    done: Done = space.act(lambda app: app.canary_finish(space.name, "std-2", None, "ana"))
    assert str(Month.from_index(done.change.from_month)) == "2026-11"
    send(space, "two", EVERY, "2026-11-05T00:00:00Z")
    send(space, "late", EVERY, "2026-10-05T00:00:00Z")
    assert members(space, "2026-10") == inside
    assert set(books(space, "2026-11").values()) == {"std"}
    november = line_items(space.world.app.control, space.name, month=Month.parse("2026-11"))
    assert {(row["version"], row["amount"]) for row in november} == {(2, "2")}
    assert status(space)["state"] == "finished"
    well(space)


def test_another_canary_may_follow(space: Space) -> None:
    """On the same pricebook, under another name, after the first has ended: nobody's rated month moves."""
    start(space, Choice(percent=Decimal(100)))
    send(space, "one", EVERY[:5])
    space.act(lambda app: app.canary_stop(space.name, "std-2", "no", "ana"))
    start(space, Choice(percent=Decimal(100)), file=catalog(version(1), version(2, unit_price="5")), name="again")
    send(space, "two", EVERY[:10])
    assert members(space, "2026-10") == set(EVERY[:5])
    assert sum(book == "@canary/again" for book in books(space, "2026-10").values()) == 5
    well(space)


def test_cohorts_are_tags(space: Space) -> None:
    """The accounts a catalog lists with the tag; one that nobody has is refused."""
    listed = [{"id": "a", "tags": {"cohort": "early"}}, {"id": "b", "tags": {"region": "eu"}}, {"id": "c"}]
    accounts = {"defaults": {"pricebook": "std"}, "list": listed}
    space.publish(json.loads(catalog(version(1), accounts=accounts)))
    file = catalog(version(1), version(2), accounts=accounts)
    with pytest.raises(InputError, match="there is no cohort 'late'"):
        start(space, Choice(cohort="late"), file=file)
    assert start(space, Choice(cohort="early"), file=file).change.accounts == ("a",)
    done: Done = space.act(lambda app: app.canary_ramp(space.name, "std-2", Choice(cohort="region=eu"), None))
    assert done.change.accounts == ("b",)
    send(space, "one", ["a", "b", "c"])
    assert members(space, "2026-10") == {"b"}
    well(space)


def test_a_flag_is_asked_once(space: Space, tmp_path: Path) -> None:
    """Whom it chose is stored with the step: what becomes of the file later does not matter."""
    send(space, "before", ["a", "b", "c"], "2026-09-05T00:00:00Z")
    file = tmp_path / "flags.json"
    targeting = {"if": [{"in": [{"var": "targetingKey"}, ["a", "b"]]}, "on", "off"]}
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "targeting": targeting}
    file.write_text(json.dumps({"flags": {"new": flag}}))
    done = start(space, Choice(flag="new", evaluate=FlagFile(file, "new")))
    assert (done.change.chosen, done.change.accounts) == ("the flag new", ("a", "b"))
    file.unlink()
    send(space, "one", ["a", "b", "c"])
    assert members(space, "2026-10") == {"a", "b"}
    well(space)


def test_what_is_refused(space: Space) -> None:
    """An account that is not there, two canaries, a canary's pricebook in the hands of retire and rollback."""
    with pytest.raises(InputError, match="no account of pricebook std is called 'nobody'"):
        start(space, Choice(accounts=("nobody",)))
    start(space, HALF)
    with pytest.raises(Refused, match="canary std-2 is running on pricebook std"):
        start(space, HALF, name="other")
    with pytest.raises(Refused, match="holds the prices of a canary"):
        space.act(lambda app: app.retire(space.name, Retirement("@canary/std-2", 1, 2**50), "ana"))
    with pytest.raises(Refused, match="holds the prices of a canary"):
        space.act(lambda app: app.rollback(space.name, "@canary/std-2", 1, 2**50, "ana"))
    with pytest.raises(Refused, match="no month starts at"):
        space.act(lambda app: app.canary_finish(space.name, "std-2", 2**50, "ana"))


def test_approval_is_asked_for(space: Space) -> None:
    """Where the catalog in force asks for it: a start and a ramp are drafts until somebody agrees; a stop is not."""
    publishing = {"approval": {"required": True}}
    space.publish(json.loads(catalog(version(1), publishing=publishing)))
    done = start(space, HALF, file=catalog(version(1), version(2), publishing=publishing))
    assert done.draft is not None
    send(space, "one", EVERY)
    assert members(space, "2026-10") == set()
    with pytest.raises(Refused, match="is not approved"):
        space.act(lambda app: app.step(space.name, 1, Act.PUBLISH, "ana"))
    space.act(lambda app: app.step(space.name, 1, Act.APPROVE, "ben"))
    space.act(lambda app: app.step(space.name, 1, Act.PUBLISH, "ana"))
    send(space, "two", EVERY, "2026-11-05T00:00:00Z")
    assert members(space, "2026-11")
    finished: Done = space.act(lambda app: app.canary_finish(space.name, "std-2", None, "ana"))
    assert finished.draft is not None
    space.act(lambda app: app.step(space.name, 2, Act.APPROVE, "ben"))
    space.act(lambda app: app.step(space.name, 2, Act.PUBLISH, "ana"))
    again: Done = space.act(lambda app: app.canary_finish(space.name, "std-2", None, "ana"))
    assert (again.draft, str(Month.from_index(again.change.from_month))) == (None, "2026-12")
    well(space)
