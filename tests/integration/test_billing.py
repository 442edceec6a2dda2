"""Invoices: every line item in exactly one of them, numbers without gaps, whatever happens while they are made."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import count
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.sql import SQL, Literal

from lineitem.app import App
from lineitem.billing.check import check_invoices
from lineitem.billing.document import render_pdf
from lineitem.billing.invoice import invoice_to_json
from lineitem.billing.run import BillingResult, bill, invoice, invoices
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import InputError, IntegrityError, Refused
from lineitem.core.period import Month
from lineitem.ingest.events import BatchLimits
from lineitem.kit.db import Connection, connect
from tests.integration.conftest import NOW_US

OCTOBER = Month(2026, 10)
CATALOG = """
currency: USD
issuer: {name: Northwind Compute GmbH, timezone: Europe/Berlin}
meters:
  - {id: tokens, event_type: llm, aggregation: sum, value: data.tokens, unit: token, scale: 3, dimensions: [data.model]}
  - {id: calls, event_type: call, aggregation: count, unit: call}
pricebooks:
  - id: standard
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
      - {id: prompt, description: Prompt tokens, meter: tokens, model: per_unit, unit_price: "0.0000025", itemize: each}
      - {id: web, meter: calls, model: graduated, itemize: each,
         tiers: [{up_to: "3", unit_price: "0.001"}, {up_to: null, unit_price: "0.0333333335"}]}
  - id: euro
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
      - {id: prompt, meter: tokens, model: per_unit, currency: EUR, unit_price: "0.0123456785", itemize: each}
      - {id: prompt-yen, meter: tokens, model: per_unit, currency: JPY, unit_price: "0.5", itemize: each}
accounts:
  defaults: {pricebook: standard, timezone: UTC, billing: monthly}
  list:
    - {id: paris, name: Paris SAS, pricebook: euro, timezone: Europe/Paris, tags: {cost_center: "42"}}
    - {id: la, name: LA Inc, timezone: America/Los_Angeles}
"""
Event = dict[str, Any]
_numbers = count()


def event(account: str, tokens: str | int, at: str = "2026-10-05T12:00:00Z", **changes: Any) -> Event:
    """One call of a model; ``tokens`` may be negative or have decimals."""
    made: Event = {"specversion": "1.0", "id": f"e{next(_numbers)}", "source": "/test", "type": "llm"}
    made |= {"subject": account, "time": at, "data": {"model": "m-1", "tokens": tokens}}
    return made | changes


def ingest(ledger: App, events: Iterable[Event], records: int = 100_000) -> None:
    """Send events as a file of their own, in batches of ``records``."""
    path = ledger.config.data_dir / f"events-{next(_numbers)}.ndjson"
    path.write_text("".join(json.dumps(one) + "\n" for one in events))
    pipeline = ledger.pipeline("default")
    with ledger.source(path, "cloudevents", None, path.name) as source:
        ledger.ingest(pipeline, source, BatchLimits(records), lambda done, summary: None)


def make(ledger: App, connection: Connection | None = None, **changes: Any) -> BillingResult:
    """Bill October; ``changes`` replace arguments of ``bill``."""
    arguments: dict[str, Any] = {"month": OCTOBER, "now_us": NOW_US} | changes
    return bill(connection or ledger.control, "default", arguments.pop("month"), **arguments)


@pytest.fixture
def published(ledger: App) -> App:
    """A ledger with the catalog above."""
    ledger.publish("default", parse_catalog(CATALOG, "catalog"))
    return ledger


def superuser(ledger: App) -> Connection:
    """A connection that may do anything."""
    return connect(ledger.dsn)


def totals(result: BillingResult) -> dict[tuple[str, str], str]:
    """Total by account and currency."""
    return {(one["account"], one["currency"]): one["total"] for one in result.invoices}


def numbers(made: Iterable[dict[str, Any]]) -> list[str]:
    return [one["number"] for one in made]


def series(last: int) -> list[str]:
    """The numbers a gapless series has."""
    return [f"INV-2026-{serial:06d}" for serial in range(1, last + 1)]


def test_lines_are_the_sums_of_the_raw_events(published: App) -> None:
    """Every line's quantity and exact amount follow from the raw events by fractions, its rounded one to half a cent."""
    events = [event(f"acct-{n % 3}", str(n) + ".125") for n in range(40)]
    events += [event(f"acct-{n % 3}", 0, type="call", data={}) for n in range(20)]
    ingest(published, events, records=7)
    made = make(published)
    assert numbers(made.invoices) == series(3)
    for account in ("acct-0", "acct-1", "acct-2"):
        mine = [one for one in events if one["subject"] == account]
        tokens = sum(Fraction(one["data"]["tokens"]) for one in mine if one["type"] == "llm")
        calls = sum(one["type"] == "call" for one in mine)
        web = 3 * Fraction("0.001") + (calls - 3) * Fraction("0.0333333335")
        (found,) = [one for one in made.invoices if one["account"] == account]
        lines = {line["price"]: line for line in found["lines"]}
        assert {name: Fraction(line["quantity"]) for name, line in lines.items()} == {"prompt": tokens, "web": calls}
        exact = {"prompt": tokens * Fraction("0.0000025"), "web": web}
        for name, amount in exact.items():
            assert abs(Fraction(lines[name]["amount_exact"]) - amount) <= Fraction(1, 2 * 10**9)
            assert abs(Fraction(lines[name]["amount"]) - amount) <= Fraction(1, 200) + Fraction(1, 2 * 10**9)
        assert Fraction(found["total"]) == sum(Fraction(line["amount"]) for line in found["lines"])
        assert lines["prompt"]["description"] == "Prompt tokens"
        assert lines["prompt"]["line_items"] == sum(one["type"] == "llm" for one in mine)
    assert check_invoices(published.control) == []


def test_billing_again_yields_nothing(published: App) -> None:
    """A second run makes no invoice, takes no number and writes no batch."""
    ingest(published, [event("a", 1_000_000), event("b", 2_000_000)])
    assert totals(make(published)) == {("a", "USD"): "2.50", ("b", "USD"): "5.00"}
    head = published.control.execute("select batch from ledger.lane where lane = 0").fetchone()
    assert make(published) == BillingResult([], [])
    assert published.control.execute("select batch from ledger.lane where lane = 0").fetchone() == head
    assert published.control.execute("select last_number from billing.series").fetchall() == [(2,)]
    assert published.verify(deep=False, progress=lambda what, done: None).document()["findings"] == []


def test_late_usage_gets_a_supplementary_invoice(published: App) -> None:
    """Usage after the invoice is billed alone, by the next number; the first invoice stays as it was sent."""
    ingest(published, [event("a", 1_000_000), event("b", 4_000_000)])
    first = make(published)
    ingest(published, [event("a", 3_000_000)])
    second = make(published)
    assert totals(second) == {("a", "USD"): "7.50"}
    assert numbers(second.invoices) == ["INV-2026-000003"]
    stored = invoices(published.control, "default", OCTOBER, "a")
    assert [one["total"] for one in stored] == ["2.50", "7.50"]
    assert stored[0] == {name: value for name, value in first.invoices[0].items() if name != "open_period"}
    rows = published.control.execute("select ordinal from billing.invoice order by serial").fetchall()
    assert [ordinal for (ordinal,) in rows] == [1, 1, 2]
    assert make(published).invoices == []
    assert check_invoices(published.control) == []


def test_a_negative_total_is_carried_until_it_nets(published: App) -> None:
    """A credit is no invoice: it is reported, stays unclaimed, and reduces the next one; zero is invoiced."""
    ingest(published, [event("a", 4_000_000), event("z", 5), event("z", -5)])
    assert totals(make(published)) == {("a", "USD"): "10.00", ("z", "USD"): "0.00"}
    ingest(published, [event("a", -2_000_000)])
    for _ in range(2):
        again = make(published)
        assert again.invoices == []
        assert again.carried == [{"account": "a", "period": "2026-10", "currency": "USD", "total": "-5.00"}]
    ingest(published, [event("a", 3_000_000)])
    netted = make(published)
    assert totals(netted) == {("a", "USD"): "2.50"}
    assert netted.invoices[0]["lines"][0]["line_items"] == 2
    assert netted.carried == []
    assert check_invoices(published.control) == []


def test_each_currency_has_its_own_invoice(published: App) -> None:
    """One account with prices in two currencies gets two invoices, each to its currency's decimals, in one series."""
    ingest(published, [event("paris", 1001), event("a", 1_000_000)])
    made = make(published)
    assert totals(made) == {("a", "USD"): "2.50", ("paris", "EUR"): "12.36", ("paris", "JPY"): "501"}
    assert numbers(made.invoices) == series(3)
    assert made.invoices[1]["account_name"] == "Paris SAS"
    assert made.invoices[1]["tags"] == {"cost_center": "42"}
    ingest(published, [event("paris", 1)])
    assert [one["ordinal"] for one in _rows(published, "paris")] == [1, 1]
    assert totals(make(published)) == {("paris", "EUR"): "0.01", ("paris", "JPY"): "1"}
    assert [one["ordinal"] for one in _rows(published, "paris")] == [1, 1, 2, 2]
    assert check_invoices(published.control) == []


def _rows(ledger: App, account: str) -> list[dict[str, Any]]:
    with ledger.control.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select i.* from billing.invoice i join catalog.account using (account_key) where account = %s order by ordinal",
            (account,),
        ).fetchall()


def test_months_are_those_of_the_account(published: App) -> None:
    """Seven in the morning UTC on the first of March is still February in Los Angeles, and March in UTC."""
    at = "2022-03-01T07:00:00Z"
    ingest(published, [event("la", 2_000_000, at), event("utc", 4_000_000, at)])
    february, march = Month(2022, 2), Month(2022, 3)
    made = make(published, month=february)
    assert totals(made) == {("la", "USD"): "5.00"}
    assert numbers(made.invoices) == ["INV-2022-000001"]
    assert made.invoices[0]["period_end"] == "2022-03-01T08:00:00Z"
    assert totals(make(published, month=march)) == {("utc", "USD"): "10.00"}
    assert check_invoices(published.control) == []


def test_a_month_that_has_not_ended_is_billed_and_marked(published: App) -> None:
    """The month ends at midnight in the account's zone: eight hours later in Los Angeles than in UTC."""
    ingest(published, [event("la", 2_000_000), event("utc", 4_000_000)])
    made = make(published, now_us=OCTOBER.bounds_us("UTC")[1])
    assert {one["account"]: one["open_period"] for one in made.invoices} == {"la": True, "utc": False}
    assert made.open_periods == [one["number"] for one in made.invoices if one["account"] == "la"]
    assert "open_period" not in invoices(published.control, "default")[0]


def test_a_closed_month_is_billed_and_late_usage_comes_as_a_correction(published: App) -> None:
    """Closing fixes a month's rows; October's late usage is invoiced with November, as a correction."""
    ingest(published, [event("a", 2_000_000)])
    published.close_period("default", OCTOBER)
    ingest(published, [event("a", 4_000_000)])
    assert totals(make(published)) == {("a", "USD"): "5.00"}
    made = make(published, month=OCTOBER.next())
    assert totals(made) == {("a", "USD"): "10.00"}
    (line,) = made.invoices[0]["lines"]
    assert (line["kind"], line["service_period"]) == ("correction", "2026-10")
    assert check_invoices(published.control) == []


def test_one_account_alone(published: App) -> None:
    """``account`` bills nobody else; one that was never heard of is an error, one without usage is not."""
    ingest(published, [event("a", 2_000_000), event("b", 4_000_000)])
    assert totals(make(published, account="b")) == {("b", "USD"): "10.00"}
    assert make(published, account="la").invoices == []
    with pytest.raises(InputError, match="no account 'nobody'"):
        make(published, account="nobody")
    assert totals(make(published)) == {("a", "USD"): "5.00"}


def test_amounts_beyond_64_bits(published: App) -> None:
    """Quantities and amounts that no machine integer holds are summed exactly."""
    huge = 10**22
    ingest(published, [event("a", huge), event("a", huge + 1), event("a", 1_000)])
    (line,) = make(published).invoices[0]["lines"]
    assert int(line["quantity"]) == 2 * huge + 1_001
    assert Fraction(line["amount_exact"]) == (2 * huge + 1_001) * Fraction("0.0000025")
    assert check_invoices(published.control) == []


def test_numbers_follow_the_issuer_and_the_year(published: App) -> None:
    """``issuer.series`` names the run of numbers; it is no part of the document's issuer."""
    changed = CATALOG.replace("issuer: {", "issuer: {series: NW, ")
    published.publish("default", parse_catalog(changed, "catalog"))
    ingest(published, [event("a", 2_000_000)])
    (made,) = make(published).invoices
    assert made["number"] == "NW-2026-000001"
    assert made["issuer"] == {"name": "Northwind Compute GmbH", "timezone": "Europe/Berlin"}


def test_an_invoice_is_read_as_it_was_sent(published: App) -> None:
    """By its number, equal to what billing printed and fit for a PDF, whatever the catalog says now."""
    ingest(published, [event("paris", 1001)])
    made = make(published).invoices[0]
    published.publish("default", parse_catalog(CATALOG.replace("Paris SAS", "Paris SARL"), "catalog"))
    found = invoice(published.control, "default", made["number"])
    assert invoice_to_json(found) | {"open_period": False} == made
    assert found.account_name == "Paris SAS"
    assert render_pdf(found).startswith(b"%PDF")
    with pytest.raises(InputError, match="lineitem invoice list"):
        invoice(published.control, "default", "INV-2026-000099")
    assert invoices(published.control, "elsewhere") == []


def test_namespaces_have_their_own_invoices_and_numbers(published: App) -> None:
    """Two namespaces count from one each, and neither bills the other's usage; without a catalog there is no billing."""
    published.publish("other", parse_catalog(CATALOG, "catalog"))
    ingest(published, [event("a", 2_000_000)])
    assert bill(published.control, "other", OCTOBER, now_us=NOW_US).invoices == []
    assert numbers(make(published).invoices) == series(1)
    with pytest.raises(Refused, match="no catalog"):
        bill(published.control, "third", OCTOBER, now_us=NOW_US)


def test_runs_at_once_claim_everything_once(published: App) -> None:
    """Three runs at the same moment, in chunks of three: every line item is claimed once, and no number is missing."""
    accounts = [f"acct-{n:02d}" for n in range(20)]
    ingest(published, [event(account, 1_000_000) for account in accounts for _ in range(3)], records=11)
    start = threading.Barrier(3)
    results: list[BillingResult] = []

    def run(connection: Connection) -> None:
        start.wait(timeout=30)
        results.append(make(published, connection, per_batch=3))

    threads = [threading.Thread(target=run, args=(published.connection(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    made = [one for result in results for one in result.invoices]
    assert len(results) == 3
    assert sorted(numbers(made)) == series(20)
    assert sorted(one["account"] for one in made) == accounts
    assert {one["total"] for one in made} == {"7.50"}
    assert check_invoices(published.control) == []


def test_usage_that_arrives_while_billing_waits_for_the_next_run(published: App) -> None:
    """Ingest and billing beside each other: the totals of all invoices together are the events, each once."""
    accounts = [f"acct-{n}" for n in range(8)]
    ingest(published, [event(account, 1_000_000) for account in accounts])
    later = [event(account, 1_000_000) for account in accounts for _ in range(25)]
    thread = threading.Thread(target=ingest, args=(published, later, 10))
    thread.start()
    while thread.is_alive():
        make(published, per_batch=3)
    thread.join()
    make(published)
    stored = invoices(published.control, "default")
    assert sum(Fraction(one["total"]) for one in stored) == 8 * 26 * Fraction("2.5")
    assert numbers(stored) == series(len(stored))
    assert check_invoices(published.control) == []


def test_a_failure_inside_a_chunk_leaves_whole_chunks(published: App) -> None:
    """What fails in the second chunk takes back that chunk and its numbers; the next run goes on from there."""
    ingest(published, [event(f"acct-{n:02d}", 1_000_000) for n in range(10)])
    fire = _trigger(published, "raise exception 'the disk is on fire'", serial=6)
    with fire, pytest.raises(psycopg.errors.RaiseException, match="on fire"):
        make(published, per_batch=4)
    assert numbers(invoices(published.control, "default")) == series(4)
    assert check_invoices(published.control) == []
    assert numbers(make(published, per_batch=4).invoices) == series(10)[4:]
    assert check_invoices(published.control) == []


BILL = """
import sys
from pathlib import Path
from lineitem.billing.run import bill
from lineitem.core.period import Month
from lineitem.kit import db
bill(db.connect(sys.argv[1], role=db.POST), "default", Month(2026, 10), now_us=int(sys.argv[2]), per_batch=4)
"""


def test_a_killed_run_goes_on(published: App) -> None:
    """kill -9 in the middle of the second chunk: four invoices are there, the next run makes the others."""
    ingest(published, [event(f"acct-{n:02d}", 1_000_000) for n in range(10)])
    with superuser(published) as keeper, _trigger(published, "perform pg_advisory_xact_lock(77)", serial=6):
        keeper.execute("select pg_advisory_lock(77)")
        with subprocess.Popen([sys.executable, "-c", BILL, published.dsn, str(NOW_US)]) as process:
            waits = "select from pg_locks where locktype = 'advisory' and objid = 77 and not granted"
            wait_for(lambda: keeper.execute(waits).fetchone() is not None)
            process.kill()
            assert process.wait(timeout=30) == -signal.SIGKILL
        keeper.execute("select pg_advisory_unlock(77)")
        assert numbers(invoices(published.control, "default")) == series(4)
        assert numbers(make(published).invoices) == series(10)[4:]
    assert check_invoices(published.control) == []


def wait_for(condition: Callable[[], bool], seconds: int = 60) -> None:
    """Until ``condition`` comes true; asks without a pause, a question to the database is pause enough."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"


@contextmanager
def _trigger(ledger: App, body: LiteralString, serial: int) -> Iterator[None]:
    """Something happens when the invoice ``serial`` of a series is written."""
    with superuser(ledger) as connection:
        connection.execute(
            SQL(
                "create function public.happen() returns trigger language plpgsql as"
                " $$ begin {}; return new; end $$; grant execute on function public.happen() to public;"
                " create trigger happen before insert on billing.invoice for each row"
                " when (new.serial = {}) execute function public.happen()"
            ).format(SQL(body), Literal(serial))
        )
        yield
        connection.execute("set lineitem.sealed_path = 'archive'")  # else dropping anything of the ledger is refused
        connection.execute("drop trigger happen on billing.invoice")


@pytest.fixture
def billed(published: App) -> App:
    """A ledger with three invoices: two accounts, one of them with a supplementary invoice."""
    ingest(published, [event("a", 1_000_000), event("a", 0, type="call", data={}), event("b", 4_000_000)])
    make(published)
    ingest(published, [event("a", 3_000_000)])
    make(published)
    assert check_invoices(published.control) == []
    return published


TAMPERINGS: dict[str, tuple[LiteralString, str]] = {
    "an amount in the document": (
        "update billing.invoice set document = replace(document, '2.50', '1.50') where serial = 1",
        "INV-2026-000001 of default: the stored document is not what was sent",
    ),
    "the document and its digest": (
        """update billing.invoice set document = replace(document, '2.50', '1.50'),
             digest = sha256(convert_to(replace(document, '2.50', '1.50'), 'UTF8')) where serial = 1""",
        "INV-2026-000001 of default: it is not the document that batch 0-2 recorded",
    ),
    "a document that is none": (
        "update billing.invoice set document = '[' where serial = 2",
        "INV-2026-000002 of default: the document is not JSON",
    ),
    "the number": (
        "update billing.invoice set number = 'INV-2026-000007', serial = 7 where serial = 2",
        "INV-2026-000002 of default, recorded in batch 0-2, is missing",
    ),
    "the account": (
        """update billing.invoice set account_key = (select account_key from catalog.account where account = 'la')
             where serial = 2""",
        "INV-2026-000002 of default: number, account, period, currency or cut beside the document",
    ),
    "the cut": (
        "update billing.invoice set cut = replace(cut, ':', ':9') where serial = 1",
        "INV-2026-000003 of default: it claims line items of the invoice before it",
    ),
    "the ordinal": (
        "update billing.invoice set ordinal = 3 where serial = 3",
        "INV-2026-000003 of default: it is invoice 3 of its account and month, not 2",
    ),
    "an invoice taken away": (
        "delete from billing.invoice where serial = 2",
        "invoice INV-2026-000002 of default is missing from its series",
    ),
    "the counter set back": (
        "update billing.series set last_number = 2",
        "INV-2026-000003 of default is beyond its series' counter, which says 2",
    ),
    "the counter set forward": (
        "update billing.series set last_number = 1000000000000",
        "invoices INV-2026-000004 to INV-2026-1000000000000 of default are missing from their series",
    ),
    "a line item's amount": (
        "update ledger.line_item set amount_nano = amount_nano + 1 where amount_nano = 10000000000",
        "INV-2026-000002 of default: line prompt of 2026-10 says 10 USD, its line items come to 10.000000001",
    ),
    "a line item's quantity": (
        "update ledger.line_item set quantity = quantity + 1 where amount_nano = 10000000000",
        "INV-2026-000002 of default: line prompt of 2026-10 states another quantity",
    ),
    "a line item taken away": (
        "delete from ledger.line_item where amount_nano = 10000000000",
        "INV-2026-000002 of default: line prompt of 2026-10 has no line items in the ledger",
    ),
    "the fact": (
        "update ledger.fact set body = 'x' where kind = 'invoice' and body like '%INV-2026-000003%'",
        "INV-2026-000003 of default: no batch of the ledger records it",
    ),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_tampering_is_found_and_named(billed: App, what: str) -> None:
    """Whatever a superuser changes with the guards switched off, the check names the invoice, and so does verify."""
    change, complaint = TAMPERINGS[what]
    with superuser(billed) as connection:
        for table in ("billing.invoice", "ledger.fact", "ledger.line_item"):
            connection.execute(SQL("alter table {} disable trigger user").format(SQL(table)))
        for (month,) in connection.execute(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'ledger.line_item'::regclass"
        ).fetchall():
            connection.execute(SQL("alter table {} disable trigger user").format(SQL(month)))
        assert connection.execute(change).rowcount == 1
    found = check_invoices(billed.control)
    assert any(complaint in one for one in found), found
    report = billed.verify(deep=False, progress=lambda what, done: None)
    assert any(complaint in one.what for one in report.findings)


def test_what_is_shown_is_what_was_sent_or_an_error(billed: App) -> None:
    """A changed document is never shown or listed."""
    with superuser(billed) as connection:
        connection.execute("alter table billing.invoice disable trigger user")
        connection.execute("update billing.invoice set document = replace(document, '2.50', '1.50') where serial = 1")
    with pytest.raises(IntegrityError, match="INV-2026-000001"):
        invoice(billed.control, "default", "INV-2026-000001")
    with pytest.raises(IntegrityError, match="INV-2026-000001"):
        invoices(billed.control, "default")


@pytest.mark.parametrize(
    "change",
    [
        "update billing.invoice set document = ''",
        "delete from billing.invoice",
        "truncate billing.invoice",
        "delete from billing.series",
        "update billing.series set series = 'X'",
    ],
)
def test_a_final_invoice_cannot_be_changed(billed: App, change: LiteralString) -> None:
    """Neither by the role that posts nor, by accident, by the owner of the server."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        billed.control.execute(change)
    if "series" not in change:
        with superuser(billed) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(change)
