"""A price's way from draft to retirement, through a real ledger: what is refused, what is recorded, what it moves."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import psycopg
import pytest

from lineitem.app import App
from lineitem.catalog.draft import Act, Retirement
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Pricebook
from lineitem.catalog.ranges import END_OF_TIME_US, effective_ranges
from lineitem.core.errors import Refused
from lineitem.core.period import Month, us_to_datetime
from lineitem.kit.db import Connection, connect
from lineitem.kit.embedded import EmbeddedServer
from lineitem.kit.migrate import migrate, shipped
from lineitem.ledger.explain import explain
from lineitem.ledger.read import line_items
from tests.integration.drive import Space, World, microseconds

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
            publish(connections[number], "default", wanted[number], ledger.clock.now_us(), "ana")
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
        ledger.publish("default", with_override(books=(book(2, "2026-10-22T00:00:00Z", "2"),)))
    assert space.world.findings(deep=True) == []


# --- drafts, approval, ends, rollbacks

FOUR_EYES = {"approval": {"required": True, "four_eyes": True}}
JAN = book(1, "2026-01-01T00:00:00Z")


def _drafts(ledger: App) -> list[tuple[int, str]]:
    drafts: Any = ledger.catalog_history("default")["drafts"]
    return [(one["draft"], one["state"]) for one in drafts]


def test_from_draft_to_published(ledger: App) -> None:
    """Each step is kept with who and when; the content is what was drafted."""
    wanted = catalog(JAN)
    made = ledger.draft("default", wanted, "ana", "first prices")
    assert ledger.catalog("default") is None
    ledger.step("default", made.number, Act.REVIEW, "ben", "looks right")
    ledger.step("default", made.number, Act.APPROVE, "cem")
    done, revision = ledger.step("default", made.number, Act.PUBLISH, "ana")
    assert (done.state, revision, ledger.catalog("default")) == ("published", 1, wanted)
    told: Any = ledger.catalog_history("default")
    assert [(step["act"], step["by"], step["note"]) for step in told["drafts"][0]["steps"]] == [
        ("draft", "ana", "first prices"), ("review", "ben", "looks right"), ("approve", "cem", ""), ("publish", "ana", ""),
    ]  # fmt: skip
    (version,) = told["versions"]
    assert (version["state"], version["in_force"], version["published_by"]) == ("published", True, "ana")
    with pytest.raises(Refused, match="draft 1 is published"):
        ledger.step("default", 1, Act.REVIEW, "ben")
    assert World(ledger).findings(deep=True) == []


def test_four_eyes(ledger: App) -> None:
    """Once a catalog asks for approval, the next one needs it, and not from its author; nor can it drop the rule itself."""
    ledger.publish("default", catalog(JAN, publishing=FOUR_EYES), "ana")
    loose = catalog(JAN, book(2, "2026-12-01T00:00:00Z"))
    with pytest.raises(Refused, match="needs an approved draft"):
        ledger.publish("default", loose, "ana")
    ledger.draft("default", loose, "ana", "")
    with pytest.raises(Refused, match="draft 1 is not approved"):
        ledger.step("default", 1, Act.PUBLISH, "ben")
    with pytest.raises(Refused, match="'ana', and its author cannot approve it"):
        ledger.step("default", 1, Act.APPROVE, "ana")
    ledger.step("default", 1, Act.APPROVE, "ben")
    ledger.step("default", 1, Act.PUBLISH, "ana")
    assert not ledger.publish("default", loose, "ana").changed
    ledger.publish("default", catalog(JAN), "ana")  # the rule is gone with the catalog that was approved without it
    assert World(ledger).findings() == []


def test_approval_without_four_eyes(ledger: App) -> None:
    """The author may approve, but has to."""
    ledger.publish("default", catalog(JAN, publishing={"approval": {"required": True}}), "ana")
    ledger.draft("default", catalog(JAN), "ana", "")
    ledger.step("default", 1, Act.APPROVE, "ana")
    assert ledger.step("default", 1, Act.PUBLISH, "ana")[1] == 2


def test_a_draft_that_was_overtaken(ledger: App) -> None:
    """What was looked at is what is published: a draft is void once another catalog is in force."""
    ledger.draft("default", catalog(JAN), "ana", "")
    ledger.publish("default", catalog(book(1, "2026-02-01T00:00:00Z")), "ben")
    for act in (Act.REVIEW, Act.APPROVE, Act.PUBLISH):
        with pytest.raises(Refused, match="made at revision 0, revision 1 is in force"):
            ledger.step("default", 1, act, "cem")
    assert _drafts(ledger) == [(1, "draft")]


def test_a_draft_is_checked_when_it_is_published(ledger: App) -> None:
    """Usage that came meanwhile counts."""
    space = Space(World(ledger), "default", ledger.clock)  # type: ignore[arg-type]
    ledger.publish("default", catalog(JAN), "ana")
    ledger.draft("default", catalog(book(2, "2026-10-01T00:00:00Z", "2")), "ana", "")
    space.send(_usage("acme", "2026-10-01T00:00:00Z"), "s")
    with pytest.raises(Refused, match="already rated"):
        ledger.step("default", 1, Act.PUBLISH, "ana")
    assert _drafts(ledger) == [(1, "draft")]
    assert space.world.findings(deep=True) == []


def test_what_cannot_be_published_is_no_draft(ledger: App) -> None:
    """Nobody is asked to approve what would be refused, or what is in force already."""
    ledger.publish("default", catalog(JAN, publishing=FOUR_EYES), "ana")
    with pytest.raises(Refused, match="already published with other content"):
        ledger.draft("default", catalog(book(1, "2026-01-01T00:00:00Z", "9")), "ana", "")
    with pytest.raises(Refused, match="has this content already"):
        ledger.draft("default", catalog(JAN, publishing=FOUR_EYES), "ana", "")
    with pytest.raises(Refused, match="std version 9 is not published"):
        ledger.retire("default", Retirement("std", 9, 0), "ana")
    assert _drafts(ledger) == []


def _us(text: str) -> int:
    return microseconds(datetime.fromisoformat(text))


def test_a_retired_version_prices_nothing_beyond_its_end(ledger: App) -> None:
    """From the end on there is no price; before it all stays, late events included."""
    space = Space(World(ledger), "default", ledger.clock)  # type: ignore[arg-type]
    ledger.publish("default", catalog(JAN), "ana")
    pipeline = space.pipeline()
    space.send(_usage("acme", "2026-10-01T00:00:00Z"), "s")
    pipeline.snapshot()
    with pytest.raises(Refused, match="usage up to 2026-10-01T00:00:00Z is already rated"):
        ledger.retire("default", Retirement("std", 1, _us("2026-10-01T00:00:00Z")), "ana")
    ledger.retire("default", Retirement("std", 1, _us("2026-10-02T00:00:00Z")), "ana")
    counts = space.send(_usage("acme", "2026-10-01T23:59:59Z", "2026-10-02T00:00:00Z"), "t").counts
    assert (counts.itemized, counts.dead_lettered) == (1, 1)
    told: Any = ledger.catalog_history("default")
    (version,) = told["versions"]
    assert (version["state"], version["effective_until"], version["retired_by"]) == (
        "retired", "2026-10-02T00:00:00Z", "ana",
    )  # fmt: skip
    with pytest.raises(Refused, match="ends at 2026-10-02T00:00:00Z already"):
        ledger.retire("default", Retirement("std", 1, _us("2026-11-02T00:00:00Z")), "ana")
    with pytest.raises(Refused, match="std version 9 is not published"):
        ledger.retire("default", Retirement("std", 9, _us("2026-11-02T00:00:00Z")), "ana")
    assert space.world.findings(deep=True) == []


def test_a_version_withdrawn_before_it_starts(ledger: App) -> None:
    """The one before goes on, and its replacement may start at the same instant."""
    ledger.publish("default", catalog(JAN, book(2, "2026-12-01T00:00:00Z", "9")), "ana")
    ledger.retire("default", Retirement("std", 2, _us("2026-12-01T00:00:00Z")), "ana")
    assert ranges(ledger.control) == {("std", 1): "[2026-01-01,)", ("std", 2): "empty"}
    ledger.publish("default", catalog(JAN, book(3, "2026-12-01T00:00:00Z", "2")), "ana")
    assert ranges(ledger.control)[("std", 3)] == "[2026-12-01,)"
    assert World(ledger).findings() == []


def test_a_price_of_a_new_meter_does_not_reach_back(ledger: App) -> None:
    """Events that were accepted before the meter was there would not count, and later ones would."""
    space = Space(World(ledger), "default", ledger.clock)  # type: ignore[arg-type]
    ledger.publish("default", catalog(JAN), "ana")
    space.send(_usage("acme", "2026-10-05T00:00:00Z"), "s")
    meters = [{"id": id_, "event_type": "api", "aggregation": "count"} for id_ in ("calls", "new")]
    second = book(2, "2026-10-01T00:00:00Z")
    second["prices"].append(second["prices"][0] | {"id": "new", "meter": "new"})
    refusal = r"the meter new, which it prices there, .* up to 2026-10-05T00:00:00Z"
    with pytest.raises(Refused, match=refusal):
        ledger.publish("default", catalog(JAN, second, meters=meters), "ana")
    ledger.publish("default", catalog(JAN, meters=meters), "ana")
    with pytest.raises(Refused, match=refusal):
        ledger.publish("default", catalog(JAN, second, meters=meters), "ana")
    ledger.publish("default", catalog(JAN, second | {"effective_from": "2026-10-06T00:00:00Z"}, meters=meters), "ana")
    assert space.world.findings(deep=True) == []


def test_a_rollback_is_a_new_version(ledger: App) -> None:
    """With the content of the old one, from an instant after what is rated."""
    space = Space(World(ledger), "default", ledger.clock)  # type: ignore[arg-type]
    ledger.publish("default", catalog(JAN, book(2, "2026-10-01T00:00:00Z", "9")), "ana")
    space.send(_usage("acme", "2026-10-05T00:00:00Z"), "s")
    with pytest.raises(Refused, match=r"std version 3 takes effect .* already rated"):
        ledger.rollback("default", "std", 1, _us("2026-10-05T00:00:00Z"), "ana")
    new, revision, draft = ledger.rollback("default", "std", 1, _us("2026-10-06T00:00:00Z"), "ana")
    assert (new.version, revision, draft) == (3, 2, None)
    space.send(_usage("acme", "2026-10-06T00:00:00Z"), "t")
    amounts = {(one["version"], one["amount"]) for one in line_items(ledger.control, "default")}
    assert amounts == {(2, "9"), (3, "1")}
    assert space.world.findings(deep=True) == []


def test_retiring_and_rolling_back_need_approval_too(ledger: App) -> None:
    """Where the catalog in force asks for it, both make a draft."""
    ledger.publish("default", catalog(JAN, book(2, "2026-12-01T00:00:00Z", "9"), publishing=FOUR_EYES), "ana")
    revision, draft = ledger.retire("default", Retirement("std", 2, _us("2026-12-01T00:00:00Z")), "ana")
    assert (revision, draft is not None and draft.what) == (1, "retirement")
    assert ranges(ledger.control)[("std", 2)] == "[2026-12-01,)"
    ledger.step("default", 1, Act.APPROVE, "ben")
    ledger.step("default", 1, Act.PUBLISH, "ana")
    assert ranges(ledger.control)[("std", 2)] == "empty"
    _, revision, draft = ledger.rollback("default", "std", 2, _us("2026-12-02T00:00:00Z"), "ana")
    assert (revision, draft is not None and draft.number) == (2, 2)
    ledger.step("default", 2, Act.APPROVE, "ben")
    ledger.step("default", 2, Act.PUBLISH, "ben")
    assert ranges(ledger.control) == {
        ("std", 1): "[2026-01-01,2026-12-02)", ("std", 2): "empty", ("std", 3): "[2026-12-02,)",
    }  # fmt: skip
    assert World(ledger).findings(deep=True) == []


# --- a ledger from before


def test_ranges_of_an_older_ledger(server: EmbeddedServer) -> None:
    """The migration stores what the versions of an existing ledger come to, as the engine does for a new one."""
    address = server.dsn.removesuffix("lineitem")
    with connect(address + "postgres") as connection:
        connection.execute("create database older")
    try:
        with connect(address + "older") as connection:
            migrate(connection, [one for one in shipped() if one.number < 7])
            connection.execute("insert into catalog.namespace (namespace) values ('a'), ('b')")
            books = [
                Pricebook("std", 1, _us("2026-01-01T00:00:00Z"), None, ()),
                Pricebook("std", 2, _us("2026-02-01T00:00:00Z"), _us("2026-02-15T00:00:00Z"), ()),
                Pricebook("std", 3, _us("2026-03-01T00:00:00Z"), None, ()),
                Pricebook("other", 1, _us("2026-01-01T00:00:00Z"), _us("2026-06-01T00:00:00Z"), ()),
            ]
            for key in (1, 2):
                for one in books:
                    until = None if one.effective_until_us is None else us_to_datetime(one.effective_until_us)
                    connection.execute(
                        "insert into catalog.pricebook_version values (%s, %s, %s, %s, %s, '', '', 1)",
                        [key, one.id, one.version, us_to_datetime(one.effective_from_us), until],
                    )
            migrate(connection)
            expected = {
                (key, *version): (us_to_datetime(start), None if end == END_OF_TIME_US else us_to_datetime(end))
                for version, (start, end) in effective_ranges(books, {}).items()
                for key in (1, 2)
            }
            rows = connection.execute(
                "select namespace_key, pricebook, version, lower(during), upper(during) from catalog.effective_range"
            ).fetchall()
            assert {tuple(row[:3]): tuple(row[3:]) for row in rows} == expected
    finally:
        with connect(address + "postgres") as connection:
            connection.execute("drop database older with (force)")
