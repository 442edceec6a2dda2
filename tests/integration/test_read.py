"""Reading the ledger: what is listed is what was posted, running usage is its sum, a reader sees one namespace only."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fractions import Fraction
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Literal

from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import InputError
from lineitem.core.period import Month
from lineitem.ingest import letters
from lineitem.ingest.events import BatchLimits
from lineitem.kit.db import READ, Connection, connect
from lineitem.ledger.read import find_line_item, line_items, usage

OCTOBER = Month(2026, 10)
CATALOG = """
currency: USD
meters:
  - {id: tokens, event_type: llm, aggregation: sum, value: data.tokens, unit: token, scale: 3, dimensions: [data.model]}
  - {id: calls, event_type: call, aggregation: count, unit: call}
pricebooks:
  - id: standard
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
      - {id: prompt, meter: tokens, model: per_unit, unit_price: "0.0000025", itemize: each}
      - {id: web, meter: calls, model: graduated, itemize: hour,
         tiers: [{up_to: "3", unit_price: "0.001", flat_price: "0.5"}, {up_to: null, unit_price: "0.0333333335"}]}
accounts:
  defaults: {pricebook: standard, timezone: UTC, billing: monthly}
  list: [{id: team-1, name: Team One, timezone: Europe/Paris, tags: {cost_center: "42"}}]
"""
SECOND_VERSION = CATALOG.replace(
    "accounts:",
    """  - id: standard
    version: 2
    effective_from: 2026-10-20T00:00:00Z
    prices:
      - {id: prompt, meter: tokens, model: per_unit, unit_price: "0.000003", itemize: each}
      - {id: web, meter: calls, model: graduated, itemize: hour,
         tiers: [{up_to: "3", unit_price: "0.001", flat_price: "0.5"}, {up_to: null, unit_price: "0.0333333335"}]}
accounts:""",
)
_numbers = count()


def event(account: str, tokens: str | int, at: str = "2026-10-05T12:00:00Z", **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"specversion": "1.0", "id": f"e{next(_numbers)}", "source": "/test", "type": "llm"}
    return made | {"subject": account, "time": at, "data": {"model": "m-1", "tokens": tokens}} | changes


def ingest(
    ledger: App, events: Iterable[dict[str, Any] | str], namespace: str = "default", records: int = 1000
) -> None:
    """Send events (or raw lines) as a file of their own."""
    path = ledger.config.data_dir / f"events-{next(_numbers)}.ndjson"
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in events))
    with ledger.source(path, "cloudevents", None, path.name) as source:
        ledger.ingest(ledger.pipeline(namespace), source, BatchLimits(records), lambda done, summary: None)


@pytest.fixture
def published(ledger: App) -> App:
    """A ledger with the catalog above."""
    ledger.publish("default", parse_catalog(CATALOG, "catalog"))
    return ledger


def test_a_line_item_says_everything(published: App) -> None:
    """All fields of the contract, numbers as plain text, tags of account and event."""
    ingest(published, [event("team-1", "1500.25", id="call-7", data={"model": "m-9", "tokens": "1500.25"})])
    (item,) = line_items(published.control, "default")
    known = {name: value for name, value in item.items() if name not in ("id", "batch")}
    assert known == {
        "account": "team-1",
        "price": "prompt",
        "meter": "tokens",
        "kind": "usage",
        "quantity": "1500.25",
        "unit": "token",
        "amount": "0.003750625",
        "currency": "USD",
        "event_time": "2026-10-05T12:00:00Z",
        "service_period": "2026-10",
        "posting_period": "2026-10",
        "pricebook": "standard",
        "version": 1,
        "event_id": "call-7",
        "tags": {"cost_center": "42", "model": "m-9"},
    }
    assert item["batch"] in {f"{lane}-1" for lane in range(1, 5)}
    assert find_line_item(published.control, "default", item["id"]).document == item


def test_a_number_beyond_64_bits_is_shown_whole(published: App) -> None:
    """Rows with wide numbers read like all others; half a nano-unit is rounded away from zero."""
    ingest(published, [event("a", "12345678901234567890123456789.125")])
    (item,) = line_items(published.control, "default")
    assert item["quantity"] == "12345678901234567890123456789.125"
    assert item["amount"] == "30864197253086419725308.641972813"


def test_line_items_are_chosen_and_ordered(published: App) -> None:
    """By account and posting month; by posting month, lane, batch and place; the same every time."""
    events = [event(f"acct-{n % 3}", n, at=f"2026-{9 + n % 2:02d}-05T12:00:{n % 60:02d}Z") for n in range(50)]
    ingest(published, events, records=7)
    everything = list(line_items(published.control, "default"))
    assert len(everything) == 50
    assert list(line_items(published.control, "default")) == everything
    places = [(one["posting_period"], *map(int, one["batch"].split("-"))) for one in everything]
    assert places == sorted(places)
    chosen = list(line_items(published.control, "default", account="acct-1", month=OCTOBER))
    assert chosen == [one for one in everything if (one["account"], one["posting_period"]) == ("acct-1", "2026-10")]
    assert chosen
    assert sum(Fraction(one["quantity"]) for one in everything) == sum(range(50))


def test_the_reader_may_stop_early(published: App) -> None:
    """Closing the iterator ends its transaction; the connection goes on."""
    ingest(published, [event("a", n) for n in range(20)])
    items = line_items(published.control, "default")
    assert next(items)["account"] == "a"
    items.close()  # type: ignore[attr-defined]
    assert len(list(line_items(published.control, "default"))) == 20


def test_usage_is_the_sum_of_line_items_and_what_waits(published: App) -> None:
    """Quantity counts everything accepted, the amount what is posted; the difference waits for its window."""
    at = "2026-11-02T00:30:00Z"  # inside the hour that runs by the ledger's clock
    calls = [event("a", 0, type="call", data={}, at="2026-11-01T05:00:01Z") for _ in range(5)]
    ingest(published, [*calls, event("a", 0, type="call", data={}, at=at), event("a", "2.5", at=at)])
    found = usage(published.control, "default", "a", Month(2026, 11))
    assert (found["account"], found["period"]) == ("a", "2026-11")
    prompt, web = found["prices"]
    assert prompt == {
        "price": "prompt", "meter": "tokens", "quantity": "2.5", "unit": "token", "amount": "0.00000625", "currency": "USD",
        "pricebook": "standard", "versions": [1], "events": 1,
    }  # fmt: skip
    assert (web["quantity"], web["pending_quantity"], web["events"]) == ("6", "1", 6)
    mine = [one for one in line_items(published.control, "default", account="a") if one["price"] == "web"]
    assert sum(Fraction(one["amount"]) for one in mine) == Fraction(web["amount"]) == Fraction("0.569666667")
    assert {one["kind"] for one in mine} == {"usage", "recurring"}
    assert usage(published.control, "default", "a", OCTOBER)["prices"] == []


def test_a_changed_price_is_listed_beside_the_old_one(published: App) -> None:
    """Each content of a price stands for itself with its versions; one that did not change goes on as one."""
    ingest(published, [event("a", 1000), event("a", 0, type="call", data={})])
    published.publish("default", parse_catalog(SECOND_VERSION, "catalog"))
    ingest(published, [event("a", 1000, at="2026-10-21T00:00:00Z")])
    ingest(published, [event("a", 0, type="call", data={}, at="2026-10-21T00:00:00Z")])
    prices = usage(published.control, "default", "a", OCTOBER)["prices"]
    assert [(one["price"], one["versions"], one["quantity"], one["amount"]) for one in prices] == [
        ("prompt", [1], "1000", "0.0025"),
        ("prompt", [2], "1000", "0.003"),
        ("web", [1, 2], "2", "0.502"),
    ]


@pytest.mark.parametrize("account", ["nobody", "", "TEAM-1", "a' or '1'='1"])
def test_an_unknown_account_is_named(published: App, account: str) -> None:
    """A typing error is not an account without usage."""
    with pytest.raises(InputError, match="there is no account"):
        usage(published.control, "default", account, OCTOBER)
    with pytest.raises(InputError, match="there is no account"):
        line_items(published.control, "default", account=account)


def test_a_known_account_without_usage_has_none(published: App) -> None:
    """The catalog lists it, nothing happened yet."""
    assert usage(published.control, "default", "team-1", OCTOBER)["prices"] == []
    assert list(line_items(published.control, "default", account="team-1")) == []


@pytest.mark.parametrize("line_item", ["", "x", "INV-2026-000001", "01a20845-b974-7004-8000-000001000317"])
def test_an_unknown_line_item_is_named(published: App, line_item: str) -> None:
    """No id, or one that nothing has."""
    with pytest.raises(InputError):
        find_line_item(published.control, "default", line_item)


def test_an_unknown_namespace_is_named(published: App) -> None:
    """Nothing is created by asking."""
    with pytest.raises(InputError, match="there is no namespace 'other'"):
        line_items(published.control, "other")
    with pytest.raises(InputError, match="there is no namespace 'other'"):
        letters.dead_letters(published.control, "other", 10)
    assert published.control.execute("select count(*) from catalog.namespace").fetchone() == (1,)


@pytest.fixture
def two_tenants(published: App) -> App:
    """The same account in two namespaces."""
    published.publish("tenant-b", parse_catalog(CATALOG, "catalog"))
    ingest(published, [event("shared", 10), event("shared", 20)])
    ingest(published, [event("shared", 777)], namespace="tenant-b")
    return published


def reader(ledger: App, namespace: str | None) -> Connection:
    """A connection as reports and people get it: the reading role, and the namespace it may see."""
    connection = connect(ledger.dsn, role=READ)
    if namespace is not None:
        row = connection.execute(
            "select namespace_key from catalog.namespace where namespace = %s", (namespace,)
        ).fetchone()
        assert row is not None
        connection.execute(SQL("set lineitem.namespace_key = {}").format(Literal(str(row[0]))))
    return connection


def test_a_reader_sees_its_namespace_and_nothing_else(two_tenants: App) -> None:
    """Row-level security holds whatever namespace the query asks for."""
    with reader(two_tenants, "default") as mine:
        assert [one["quantity"] for one in line_items(mine, "default")] == ["10", "20"]
        assert usage(mine, "default", "shared", OCTOBER)["prices"][0]["quantity"] == "30"
        assert list(line_items(mine, "tenant-b")) == []
        with pytest.raises(InputError, match="there is no account"):
            usage(mine, "tenant-b", "shared", OCTOBER)
        (other,) = line_items(two_tenants.control, "tenant-b")
        with pytest.raises(InputError, match="there is no line item"):
            find_line_item(mine, "tenant-b", other["id"])
    with reader(two_tenants, None) as nobody:
        assert list(line_items(nobody, "default")) == []


@pytest.mark.parametrize(
    "statement",
    [
        "delete from ledger.line_item",
        "update ledger.accumulator set posted_nano = 0",
        "insert into ledger.period (namespace_key, month, state) values (1, 1, 'closed')",
        "insert into catalog.namespace (namespace) values ('mine')",
        "select ledger.ensure_month(24000)",
        "select * from ledger.line_item_2026_10",
    ],
)
def test_a_reader_cannot_write(two_tenants: App, statement: str) -> None:
    """Nor reach around the policies through a partition."""
    with reader(two_tenants, "default") as mine, pytest.raises(psycopg.errors.InsufficientPrivilege):
        mine.execute(statement.encode())


def test_a_login_that_reads_cannot_become_the_one_that_posts(two_tenants: App) -> None:
    """A member of the reading role is a member of that role alone."""
    with connect(two_tenants.dsn) as connection:
        connection.execute("create role lineitem_test_reader in role lineitem_read")
        try:
            connection.execute("set session authorization lineitem_test_reader")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("set role lineitem_post")
        finally:
            connection.execute("reset session authorization")
            connection.execute("drop role lineitem_test_reader")


def test_dead_letters_are_listed_counted_and_shown(published: App) -> None:
    """The same bad thing twice is one letter, seen twice; what it means and what to do stand beside it."""
    good = event("a", 5, id="same")
    broken = '{"specversion": "1.0", "half'
    ingest(published, [good, broken, event("a", "many"), event("a", 6, id="same"), "\x01 é"])
    ingest(published, [event("a", 6, id="same")])
    listed = letters.dead_letters(published.control, "default", 10)
    assert [one["reason"] for one in listed] != []
    assert [one["key"] for one in listed] == sorted((one["key"] for one in listed), reverse=True)
    assert letters.reasons(published.control, "default") == {
        "bad_json": {"dead_letters": 2, "records": 2},
        "conflict": {"dead_letters": 1, "records": 2},
        "bad_value": {"dead_letters": 1, "records": 1},
    }
    by_reason = {one["reason"]: one for one in listed}
    conflict = letters.dead_letter(published.control, "default", by_reason["conflict"]["key"])
    assert conflict["seen"] == 2
    assert conflict["first_place"] != conflict["last_place"]
    assert conflict["accepted_as"] is not None
    assert conflict["accepted_as"].endswith("record 0")
    assert json.loads(conflict["raw"])["data"]["tokens"] == 6
    value = letters.dead_letter(published.control, "default", by_reason["bad_value"]["key"])
    assert "not a finite decimal" in value["meaning"]
    assert (value["accepted_as"], value["raw_is_cut"]) == (None, False)
    assert broken in {one["raw"] for one in listed}
    assert len(letters.dead_letters(published.control, "default", 2)) == 2
    with pytest.raises(InputError, match="there is no dead letter 999"):
        letters.dead_letter(published.control, "default", 999)


def test_dead_letters_belong_to_their_namespace(two_tenants: App) -> None:
    """A key of another namespace is no key."""
    ingest(two_tenants, ["broken"], namespace="tenant-b")
    (letter,) = letters.dead_letters(two_tenants.control, "tenant-b", 10)
    assert letters.dead_letters(two_tenants.control, "default", 10) == []
    assert letters.reasons(two_tenants.control, "default") == {}
    with pytest.raises(InputError):
        letters.dead_letter(two_tenants.control, "default", letter["key"])
