"""Tags through a real ledger: policies by event time, windows split by tag, what is folded again, and the reports."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from lineitem.app import App
from lineitem.core.errors import InputError, Refused
from lineitem.core.period import Month
from lineitem.kit.db import READ, connect
from lineitem.ledger import tags as report
from lineitem.ledger.explain import explain
from lineitem.ledger.read import line_items
from tests.integration.drive import Space, World

NOW = datetime(2026, 11, 2, tzinfo=UTC)
OCTOBER, NOVEMBER = Month(2026, 10), Month(2026, 11)
BY_EVENT, BY_HOUR = "each", "hour"


def catalog(
    tags: list[dict[str, Any]], *, itemize: str = BY_EVENT, team: str | None = None, centers: tuple[Any, ...] = ()
) -> dict[str, Any]:
    price = {"id": "call", "meter": "calls", "model": "graduated", "itemize": itemize, "tiers": [
        {"up_to": "2", "unit_price": "1"}, {"up_to": None, "unit_price": "0.333333333"}]}  # fmt: skip
    account = {"id": "acme", "tags": {} if team is None else {"team": team}}
    return {
        "currency": "USD",
        "meters": [{"id": "calls", "event_type": "api", "aggregation": "count", "dimensions": ["data.model"]}],
        "pricebooks": [{"id": "std", "version": 1, "effective_from": "2026-01-01T00:00:00Z", "prices": [price]}],
        "accounts": {"defaults": {"pricebook": "std"}, "list": [account]},
        "tags": tags,
        "cost_centers": list(centers),
    }


def usage(*events: tuple[str, str, str | None], account: str = "acme") -> bytes:
    """Events as (id, time, team)."""
    lines = [
        {
            "specversion": "1.0", "id": id_, "source": "/s", "type": "api", "subject": account, "time": time,
            "data": {"model": "m"} | ({} if team is None else {"team": team}),
        }
        for id_, time, team in events
    ]  # fmt: skip
    return "\n".join(map(json.dumps, lines)).encode()


def team_of(app: App, space: Space) -> dict[str, str | None]:
    """Event -> its team."""
    return {one["event_id"]: one["tags"].get("team") for one in line_items(app.control, space.name)}


TEAM: dict[str, Any] = {"key": "team", "from": "data.team", "normalize": ["trim", "lower"]}


def test_a_late_event_is_held_against_the_entry_of_its_time(ledger: App) -> None:
    """What was a value in October still is one for an event of October that comes in November, and only for that."""
    world = World(ledger)
    first = TEAM | {"values": ["ads", "search"], "unknown": "dead_letter"}
    space = world.space(catalog([first]), NOW)
    assert space.send(usage(("1", "2026-10-05T00:00:00Z", " Search")), "a").counts.itemized == 1
    ended = first | {"effective_until": "2026-11-01T00:00:00Z"}
    then = TEAM | {
        "values": ["ads", "discovery"], "unknown": "untagged", "missing": "untagged", "effective_from": "2026-11-01T00:00:00Z",
    }  # fmt: skip
    space.publish(catalog([ended, then]))
    late = [
        ("2", "2026-10-31T23:59:59Z", "search"), ("3", "2026-10-31T23:59:59Z", "discovery"),
        ("4", "2026-11-01T00:00:00Z", "search"),
        ("5", "2026-11-01T00:00:00Z", "Discovery"), ("6", "2026-10-31T23:59:59Z", None), ("7", "2026-11-01T00:00:00Z", None),
    ]  # fmt: skip
    summary = space.send(usage(*late), "b").counts
    assert (summary.itemized, summary.dead_lettered) == (5, 1)
    assert team_of(ledger, space) == {
        "1": "search", "2": "search", "4": "untagged", "5": "discovery", "6": None, "7": "untagged",
    }  # fmt: skip
    assert world.findings(deep=True) == []


def test_what_is_set_aside_comes_in_once_it_is_registered(ledger: App) -> None:
    """A dead letter keeps no identity: published with the value, the same event is billed, once."""
    world = World(ledger)
    strict = TEAM | {"values": ["ads"], "unknown": "dead_letter", "missing": "dead_letter"}
    space = world.space(catalog([strict]), NOW)
    file = usage(
        ("1", "2026-10-05T00:00:00Z", "serch"),
        ("2", "2026-10-05T00:00:00Z", None),
        ("3", "2026-10-05T00:00:00Z", "ads"),
    )
    assert space.send(file, "a").counts.dead_lettered == 2
    space.publish(catalog([strict | {"values": ["ads", "serch"]}]))
    again = space.send(file, "a").counts
    assert (again.itemized, again.duplicate, again.dead_lettered) == (1, 1, 1)
    assert team_of(ledger, space) == {"1": "serch", "3": "ads"}
    assert world.findings(deep=True) == []


def test_windows_are_split_by_a_tag_and_explained_by_it(ledger: App) -> None:
    """A line item of a window leads to its own team's events, and says where each tag came from."""
    world = World(ledger)
    space = world.space(catalog([TEAM | {"missing": "account"}], itemize=BY_HOUR, team="Home"), NOW)
    times = [
        ("1", "2026-10-05T10:00:00Z", "ads"),
        ("2", "2026-10-05T10:10:00Z", " ADS "),
        ("3", "2026-10-05T10:20:00Z", None),
    ]
    space.send(usage(*times), "a")
    found = {one["tags"]["team"]: one for one in line_items(ledger.control, space.name)}
    assert {team: one["quantity"] for team, one in found.items()} == {"ads": "2", "home": "1"}
    told = {team: explain(ledger.control, ledger.segments, space.name, one["id"]) for team, one in found.items()}
    assert {team: [event["id"] for event in one["events"]["items"]] for team, one in told.items()} == {
        "ads": ["1", "2"], "home": ["3"],
    }  # fmt: skip
    assert told["ads"]["tag_origins"] == {"model": "event", "team": "event"}
    assert told["home"]["tag_origins"] == {"model": "event", "team": "account"}


@pytest.mark.parametrize("itemize", [BY_EVENT, BY_HOUR])
def test_the_accounts_tags_of_the_time_it_was_rated(ledger: App, itemize: str) -> None:
    """An account loses the tag that was required, while a window waits: what was accepted stays so when folded again."""
    world = World(ledger)
    needed = {"key": "team", "missing": "dead_letter"}
    space = world.space(catalog([needed], itemize=itemize, team="home"), datetime(2026, 10, 5, 10, 30, tzinfo=UTC))
    space.send(usage(("1", "2026-10-05T10:00:00Z", None)), "a")
    space.publish(catalog([needed], itemize=itemize))
    assert space.send(usage(("2", "2026-10-05T10:01:00Z", None)), "b").counts.dead_lettered == 1
    space.publish(catalog([needed], itemize=itemize, team="other"))
    assert space.send(usage(("3", "2026-10-05T10:02:00Z", None)), "c").counts.dead_lettered == 0
    assert world.findings(deep=True) == []
    space.flush(NOW)
    assert world.findings(deep=True) == []
    found = list(line_items(ledger.control, space.name))
    assert sorted(one["tags"]["team"] for one in found) == ["home", "other"]
    for one in found:
        told = explain(ledger.control, ledger.segments, space.name, one["id"])
        (event,) = told["events"]["items"]
        assert event["id"] == {"home": "1", "other": "3"}[one["tags"]["team"]]
    assert space.retract("/s", "1") == 1
    assert world.findings(deep=True) == []


CENTERS = (
    {"when": {"team": "ads"}, "cost_center": "1", "effective_until": "2026-10-15T00:00:00Z"},
    {"when": {"team": "ads"}, "cost_center": "2", "effective_from": "2026-10-15T00:00:00Z"},
    {"when": {"team": "ads", "model": "x"}, "cost_center": "3"},
)


@pytest.fixture
def reported(ledger: App) -> tuple[App, Space]:
    """October and November with three teams, one untagged, over tiers that make amounts of nine decimals."""
    space = World(ledger).space(catalog([TEAM | {"missing": "untagged"}], centers=CENTERS), NOW)
    october = [
        ("1", "2026-10-14T00:00:00Z", "ads"),
        ("2", "2026-10-15T00:00:00Z", "Ads"),
        ("3", "2026-10-16T00:00:00Z", "old"),
    ]
    events = [
        *october,
        ("4", "2026-10-17T00:00:00Z", None),
        ("5", "2026-11-01T00:00:00Z", "ads"),
        ("6", "2026-11-01T01:00:00Z", "new"),
    ]
    space.send(usage(*events), "a")
    return ledger, space


def test_cost_centres_tie_out_with_the_ledger(reported: tuple[App, Space]) -> None:
    """By event time, with what no rule is for as a line of its own; a mapping published later answers for the past."""
    app, space = reported
    found = report.cost_centers(app.control, space.name, OCTOBER)
    assert {row["cost_center"]: row["amount"] for row in found["cost_centers"]} == {
        "1": "1", "2": "1", "unallocated": "0.666666666",
    }  # fmt: skip
    posted = list(line_items(app.control, space.name, month=OCTOBER))
    assert sum(Fraction(row["amount"]) for row in found["cost_centers"]) == sum(
        Fraction(one["amount"]) for one in posted
    )
    assert found["totals"] == [{"currency": "USD", "amount": "2.666666666", "line_items": len(posted)}]
    space.publish(catalog([TEAM | {"missing": "untagged"}], centers=({"when": {}, "cost_center": "all"},)))
    rows = report.cost_centers(app.control, space.name, OCTOBER)["cost_centers"]
    assert [(row["cost_center"], row["amount"]) for row in rows] == [("all", "2.666666666"), ("unallocated", "0")]
    assert report.cost_centers(app.control, space.name, Month(2020, 1)) == {
        "period": "2020-01", "cost_centers": [], "totals": [],
    }  # fmt: skip


def test_coverage_by_key(reported: tuple[App, Space]) -> None:
    """A registered key and one that is not; of one period and of all."""
    app, space = reported
    model, team = report.coverage(app.control, space.name, month=OCTOBER)["keys"]
    assert (model["key"], model["registered"], model["coverage"]) == ("model", False, "100")
    assert {name: team[name] for name in ("amount", "tagged", "untagged", "coverage", "line_items_untagged")} == {
        "amount": "2.666666666", "tagged": "2.333333333", "untagged": "0.333333333", "coverage": "87.5",
        "line_items_untagged": 1,
    }  # fmt: skip
    assert [(value["value"], value["amount"]) for value in team["values"]] == [("ads", "2"), ("old", "0.333333333")]
    (only,) = report.coverage(app.control, space.name, key="team", top=1)["keys"]
    assert (only["line_items"], only["distinct_values"], len(only["values"])) == (6, 3, 1)
    with pytest.raises(InputError, match="no line item has a tag 'tame'"):
        report.coverage(app.control, space.name, key="tame")


def test_drift_between_months(reported: tuple[App, Space]) -> None:
    """New and vanished values, shares then and now, the largest change first."""
    app, space = reported
    (found,) = report.drift(app.control, space.name, NOVEMBER, OCTOBER, key="team")["keys"]
    assert (found["new"], found["vanished"]) == (["new"], ["old"])
    assert [(row["value"], row["share_then"], row["share_now"], row["change"]) for row in found["values"]] == [
        ("new", "0", "50", "50"), ("ads", "75", "50", "-25"), ("old", "12.5", "0", "-12.5"), ("untagged", "12.5", "0", "-12.5"),
    ]  # fmt: skip


def test_a_reader_sees_its_namespace_only(reported: tuple[App, Space]) -> None:
    """The reports' query runs in the reading role, under row-level security."""
    app, space = reported
    where = {
        "namespace_key": space.rows("select namespace_key from catalog.namespace where namespace = %(namespace)s")[0][0]
    }
    where |= {"posting_month": None, "changes": []}
    with connect(app.dsn, role=READ) as reader:
        assert reader.execute(report.SQL.tag_sums, where).fetchall() == []
        reader.execute("select set_config('lineitem.namespace_key', %s, false)", [str(where["namespace_key"])])
        seen = reader.execute(report.SQL.tag_sums, where).fetchall()
    assert seen == app.control.execute(report.SQL.tag_sums, where).fetchall() != []
    with pytest.raises(InputError, match="no namespace 'else'"):
        report.coverage(app.control, "else")


def test_without_a_catalog_there_is_nothing_to_report(ledger: App) -> None:
    """A namespace that exists and has none is told what to do."""
    ledger.control.execute("insert into catalog.namespace (namespace) values ('bare')")
    with pytest.raises(Refused, match="has no catalog"):
        report.coverage(ledger.control, "bare")
