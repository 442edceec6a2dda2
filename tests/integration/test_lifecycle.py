"""A price's way from draft to retirement, through a real ledger: what is refused, what is recorded, what it moves."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import Refused
from lineitem.core.period import Month
from lineitem.kit.db import Connection
from lineitem.ledger.explain import explain
from lineitem.ledger.read import line_items
from tests.integration.drive import Space, World

_INSERT_RANGE = """insert into catalog.effective_range (namespace_key, pricebook, version, during)
  values (%s, %s, %s, tstzrange(%s::timestamptz, %s::timestamptz))"""


def book(version: int, start: str, unit_price: str = "1", until: str | None = None, id_: str = "std") -> dict[str, Any]:
    ends = {} if until is None else {"effective_until": until}
    price = {"id": "call", "meter": "calls", "model": "per_unit", "unit_price": unit_price}
    return {"id": id_, "version": version, "effective_from": start, **ends, "prices": [price]}


def catalog(*books: dict[str, Any], **more: Any) -> Any:
    meters = [{"id": "calls", "event_type": "api", "aggregation": "count"}]
    document = {
        "currency": "USD", "meters": meters, "pricebooks": list(books),
        "accounts": {"defaults": {"pricebook": "std"}}, **more,
    }  # fmt: skip
    return parse_catalog(json.dumps(document), "catalog.yaml")


def ranges(connection: Connection) -> dict[tuple[str, int], str]:
    rows = connection.execute("select pricebook, version, during::text from catalog.effective_range").fetchall()
    return {(name, version): during.replace(" 00:00:00+00", "").replace('"', "") for name, version, during in rows}


# --- ranges


def test_publishing_moves_the_end_of_the_version_before(ledger: App) -> None:
    """An open end is stored as the start of the next version, when that one is known."""
    ledger.publish("default", catalog(book(1, "2026-01-01T00:00:00Z")))
    assert ranges(ledger.control) == {("std", 1): "[2026-01-01,)"}
    ledger.publish("default", catalog(book(2, "2026-12-01T00:00:00Z")))
    assert ranges(ledger.control) == {("std", 1): "[2026-01-01,2026-12-01)", ("std", 2): "[2026-12-01,)"}


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (book(1, "2026-01-01T00:00:00Z"), book(2, "2026-01-01T00:00:00Z"), "takes effect when published version 1 does"),
        (
            book(1, "2026-01-01T00:00:00Z", until="2026-06-01T00:00:00Z"), book(2, "2026-05-01T00:00:00Z"),
            "in effect until 2026-06-01T00:00:00Z",
        ),
    ],
)  # fmt: skip
def test_an_overlap_with_what_is_published_is_refused(
    ledger: App, first: dict[str, Any], second: dict[str, Any], reason: str
) -> None:
    """One effective time twice, and a start inside a range with an explicit end."""
    ledger.publish("default", catalog(first))
    with pytest.raises(Refused, match=reason):
        ledger.publish("default", catalog(second))
    assert len(ranges(ledger.control)) == 1


def test_the_database_keeps_versions_apart(ledger: App) -> None:
    """Under the engine's rules: of two connections that write overlapping ranges at once, the later one fails."""
    ledger.publish("default", catalog(book(1, "2026-01-01T00:00:00Z", until="2026-02-01T00:00:00Z")))
    ledger.publish("default", catalog(book(2, "2026-05-01T00:00:00Z", until="2026-06-01T00:00:00Z")))
    first, second = ledger.connection(), ledger.connection()
    (key,) = first.execute("select namespace_key from catalog.namespace where namespace = 'default'").fetchone() or (0,)
    add = """insert into catalog.pricebook_version values
      (%s, 'std', %s, '2026-03-01', null, '', '', 9)"""  # the same start twice: the ranges are what counts
    with ThreadPoolExecutor(1) as pool, first.transaction():
        first.execute(add, [key, 3])
        first.execute(_INSERT_RANGE, [key, "std", 3, "2026-03-01", "2026-04-01"])

        def overlap() -> None:
            with second.transaction():
                second.execute(add, [key, 4])
                second.execute(_INSERT_RANGE, [key, "std", 4, "2026-03-31", "2026-05-01"])

        waiting = pool.submit(overlap)
        pid = second.info.backend_pid
        while first.execute("select cardinality(pg_blocking_pids(%s)) > 0", [pid]).fetchone() != (True,):
            assert not waiting.done(), waiting.exception()
    with pytest.raises(psycopg.errors.ExclusionViolation, match="one_version_at_a_time"):
        waiting.result()
    with second.transaction():
        second.execute(add, [key, 5])
        second.execute(_INSERT_RANGE, [key, "std", 5, "2026-04-01", "2026-05-01"])  # beside each other is well
    assert sorted(version for _, version in ranges(ledger.control)) == [1, 2, 3, 5]


def test_two_publishes_at_once(ledger: App) -> None:
    """One of two catalogs with the same start is refused, whichever comes second."""
    ledger.publish("default", catalog(book(1, "2026-01-01T00:00:00Z")))
    from lineitem.ledger.publishing import publish

    connections = [ledger.connection(), ledger.connection()]
    wanted = [catalog(book(version, "2026-12-01T00:00:00Z", str(version))) for version in (2, 3)]

    def attempt(number: int) -> str:
        try:
            publish(connections[number], "default", wanted[number], ledger.clock.now_us())
        except Refused as error:
            return error.what
        return ""

    with ThreadPoolExecutor(2) as pool:
        published, refused = sorted(pool.map(attempt, range(2)))
    assert published == ""
    assert "takes effect when published version" in refused
    assert len(ranges(ledger.control)) == 2


# --- overrides


def _usage(account: str, *times: str) -> bytes:
    lines = [
        json.dumps(
            {
                "specversion": "1.0",
                "id": f"{account}-{time}",
                "source": "/s",
                "type": "api",
                "subject": account,
                "time": time,
            }
        )
        for time in times
    ]
    return "\n".join(lines).encode()


def with_override(*versions: dict[str, Any], books: tuple[dict[str, Any], ...] = ()) -> Any:
    account = {"id": "acme", "overrides": [{k: v for k, v in one.items() if k != "id"} for one in versions]}
    accounts = {"defaults": {"pricebook": "std"}, "list": [account, {"id": "other"}]}
    return catalog(book(1, "2026-01-01T00:00:00Z"), *books, accounts=accounts)


def test_an_override_bills_its_account_alone_and_is_named(ledger: App) -> None:
    """From its start: by event time, in the line items, their explanation and the invoice; the raw events agree."""
    space = Space(World(ledger), "default", ledger.clock)  # type: ignore[arg-type]
    ledger.publish("default", with_override(book(1, "2026-10-10T00:00:00Z", "0.25", until="2026-10-20T00:00:00Z")))
    days = ("2026-10-09T23:59:59Z", "2026-10-10T00:00:00Z", "2026-10-19T00:00:00Z", "2026-10-20T00:00:00Z")
    space.send(_usage("acme", *days) + b"\n" + _usage("other", *days), "s")
    items = list(line_items(ledger.control, "default"))
    own = {
        (one["event_time"], one["pricebook"], one["version"], one["amount"])
        for one in items
        if one["account"] == "acme"
    }
    assert own == {
        (days[0], "std", 1, "1"), (days[1], "@account/acme", 1, "0.25"), (days[2], "@account/acme", 1, "0.25"),
        (days[3], "std", 1, "1"),
    }  # fmt: skip
    assert {(one["pricebook"], one["amount"]) for one in items if one["account"] == "other"} == {("std", "1")}
    one = next(item for item in items if item["pricebook"] == "@account/acme")
    told = explain(ledger.control, ledger.segments, "default", one["id"])
    assert told["price"]["pricebook"] == "@account/acme"
    assert told["price"]["rule"]["unit_price"] == "0.25"
    (invoice, _) = ledger.bill("default", Month.parse("2026-10"), None).invoices
    assert {(line["pricebook"], line["amount"]) for line in invoice["lines"]} == {
        ("std", "2.00"),
        ("@account/acme", "0.50"),
    }
    assert space.world.findings(deep=True) == []


def test_an_override_does_not_reach_back(ledger: App) -> None:
    """It starts after the account's last rated event, whatever pricebook priced that; other accounts' usage is no matter."""
    space = Space(World(ledger), "default", ledger.clock)  # type: ignore[arg-type]
    ledger.publish("default", with_override())
    space.send(_usage("acme", "2026-10-10T00:00:00Z") + b"\n" + _usage("other", "2026-10-20T00:00:00Z"), "s")
    with pytest.raises(Refused, match=r"@account/acme version 1 takes effect .* already rated"):
        ledger.publish("default", with_override(book(1, "2026-10-10T00:00:00Z", "0.25")))
    ledger.publish("default", with_override(book(1, "2026-10-11T00:00:00Z", "0.25")))
    space.send(_usage("acme", "2026-10-25T00:00:00Z"), "t")
    with pytest.raises(
        Refused, match="std version 2 takes effect"
    ):  # acme has it, though its own price billed the event
        ledger.publish("default", with_override(books=(book(2, "2026-10-22T00:00:00Z"),)))
    assert space.world.findings(deep=True) == []
