"""Calls from a switch's CSV file to the invoice: rated once, split at peak hours, set aside where no prefix matches."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lineitem.app import App
from lineitem.billing.run import bill, invoice
from lineitem.catalog.load import parse_catalog
from lineitem.cli.explained import show
from lineitem.core.period import Month
from lineitem.ingest.events import BatchLimits
from lineitem.ingest.letters import dead_letters
from lineitem.ledger.explain import explain
from lineitem.ledger.read import line_items
from tests.integration.conftest import NOW_US

OCTOBER = Month(2026, 10)
CATALOG = """
currency: EUR
issuer: {name: Northwind Telecom}
meters:
  - {id: calls, event_type: call, aggregation: sum, value: data.seconds, unit: second, scale: 0, filter: 'data.seconds > 0'}
pricebooks:
  - id: standard
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
      - id: voice
        description: Calls
        meter: calls
        model: telecom
        destination: data.to
        per: 60
        increments: {first: 30, next: 6}
        connect_fee: "0.05"
        zone: Europe/Paris
        peak: {hours: [["08:00", "18:00"]], days: [mon, tue, wed, thu, fri]}
        round: {decimals: 4, mode: up}
        rates:
          - {prefix: "33", name: France, rate: "0.10", off_peak_rate: "0.04"}
          - {prefix: "336", name: "France, mobile", rate: "0.20", off_peak_rate: "0.15"}
accounts:
  defaults: {pricebook: standard, timezone: Europe/Paris}
"""
MAP = """
type: {const: call}
subject: caller
time: {column: answered, format: iso, timezone: Europe/Paris}
id: call_id
source: {const: /switch}
data:
  to: dialled
  seconds: {column: seconds, type: integer}
"""
CDRS = """\
call_id,caller,dialled,answered,seconds
c1,acme,+33123456789,2026-10-05 10:00:00,31
c2,acme,0033123456789,2026-10-05 17:30:00,3600
c3,acme,33612345678,2026-10-10 10:00:00,61
c4,acme,+33123456789,2026-10-25 10:00:00,0
c5,acme,+4420123456,2026-10-06 10:00:00,60
c6,globex,+33123456789,2026-10-30 17:59:59,1
"""
AMOUNTS = {
    "c1": "0.11",  # 36 s at 0.10, 0.05
    "c2": "4.25",  # 30 minutes at 0.10, 30 at 0.04
    "c3": "0.215",  # 66 s at 0.15, on a Saturday
    "c6": "0.071",  # one second at 0.10 and 29 at 0.04, whose fractions sum to 0.021
}


@pytest.fixture
def rated(ledger: App, tmp_path: Path) -> App:
    """The calls above in a ledger, sent twice."""
    ledger.publish("default", parse_catalog(CATALOG, "catalog"))
    (tmp_path / "calls.csv").write_text(CDRS)
    (tmp_path / "map.yaml").write_text(MAP)
    for itemized, not_billable, name in ((4, 1, "first"), (0, 0, "again")):
        with ledger.source(tmp_path / "calls.csv", "csv", tmp_path / "map.yaml", name) as source:
            summary = ledger.ingest(ledger.pipeline("default"), source, BatchLimits(3), lambda done, summary: None)
        counts = summary.document()
        assert (counts["itemized"], counts["not_billable"]) == (itemized, not_billable)
    return ledger


def test_calls_become_an_invoice(rated: App) -> None:
    """Every answered call with a row is one line item; the invoice rounds once; both ways of verifying agree."""
    items = list(line_items(rated.control, "default", month=OCTOBER))
    assert {item["event_id"]: item["amount"] for item in items} == AMOUNTS
    assert {item["quantity"] for item in items if item["event_id"] == "c2"} == {"3600"}
    made = bill(rated.control, "default", OCTOBER, now_us=NOW_US)
    assert {one["account"]: one["total"] for one in made.invoices} == {"acme": "4.58", "globex": "0.07"}
    numbers = {one["account"]: one["number"] for one in made.invoices}
    [line] = invoice(rated.control, "default", numbers["acme"]).lines
    assert (line.description, line.quantity, line.amount_nano, line.amount_minor) == (
        "Calls",
        "3692",
        4_575_000_000,
        458,
    )
    rated.checkpoint()
    assert rated.verify(deep=True, progress=lambda *_: None).document()["findings"] == []


def test_a_number_without_a_row_is_set_aside(rated: App) -> None:
    """It is a dead letter that names the number and the price, never a zero."""
    [letter] = dead_letters(rated.control, "default", 10)
    assert letter["reason"] == "no_price"
    assert letter["detail"] == "price voice: data.to is '+4420123456', and no prefix of the rates matches"


def test_a_call_is_explained_by_its_legs(rated: App) -> None:
    """One line item, and every leg of the call with its rate; the month is the sum of the charges."""
    items = {item["event_id"]: item["id"] for item in line_items(rated.control, "default", month=OCTOBER)}
    found = explain(rated.control, rated.segments, "default", items["c2"])
    [event] = found["events"]["items"]
    assert event["working"] == {
        "label": "France (33): 1800 at 0.1 per 60 peak, 1800 at 0.04 per 60 off-peak",
        "quantity": "3600", "flat_price": "0.05", "amount": "4.25",
    }  # fmt: skip
    [step] = found["target"]["working"]
    assert step == {"label": "charges of the events", "quantity": "3692", "amount": "4.575"}
    output = StringIO()
    show(found, Console(file=output, width=160))
    assert "charged 4.25: France (33): 1800 at 0.1 per 60 peak" in output.getvalue()
