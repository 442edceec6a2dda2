"""Explain anything with a name: an invoice, a line of it, or a line item, down to the raw events."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from lineitem.billing import run
from lineitem.billing.history import Claimed, History, parse_cut
from lineitem.billing.invoice import invoice_to_json
from lineitem.core.errors import InputError
from lineitem.core.period import Month
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.claims import NOTHING, Claim, Cut
from lineitem.ledger.explain import explain as explain_line_item
from lineitem.ledger.read import LineKey, claimed_items

SQL = load_queries("lineitem.billing", "explain.sql")
IDS_SHOWN_MAX = 20
"""Ids of line items listed for an invoice line; the count is of all."""
ITEMS_EXPLAINED = 3
"""Line items of one invoice line that are explained in full."""
EVENTS_OF_EACH_MAX = 5
"""Raw events listed for each of those."""


def explain(connection: Connection, segments: BlobStore, namespace: str, reference: str) -> dict[str, Any]:
    """Explain ``reference``: a line item's id, an invoice's number, or a line of one (``INV-2026-000001#2``).

    A line item: see ``ledger.explain.explain``. An invoice: ``invoice`` as sent, ``claim`` (which part of the ledger it
    covers), ``lines``: each with the line items behind it, counted and summed again, and ``adds_up`` whether they come
    to what the line says. One line: the same for it alone, with its first line items explained in full as ``explained``.

    Raises InputError for a reference that names nothing, IntegrityError for an altered invoice or a damaged ledger.
    """
    if _is_uuid(reference):
        return explain_line_item(connection, segments, namespace, reference)
    number, mark, line = reference.rpartition("#")
    if not mark:
        return explain_invoice(connection, namespace, reference)
    document = explain_invoice(connection, namespace, number, _line_number(line, reference))
    document["lines"][0]["explained"] = [
        explain_line_item(connection, segments, namespace, one, events_max=EVENTS_OF_EACH_MAX)
        for one in document["lines"][0]["items"]["ids"][:ITEMS_EXPLAINED]
    ]
    return document


@explained()
def explain_invoice(connection: Connection, namespace: str, number: str, line: int | None = None) -> dict[str, Any]:
    """An invoice, or one ``line`` of it, with the line items behind. Raises InputError for an unknown number or line."""
    sent = invoice_to_json(run.invoice(connection, namespace, number))
    lines = sent["lines"] if line is None else [one for one in sent["lines"] if one["line"] == line]
    if not lines and line is not None:
        raise InputError(f"invoice {number} has no line {line}", do=f"It has {len(sent['lines'])} lines.")
    row = connection.execute(SQL.claim, {"namespace": namespace, "number": number}).fetchone()
    assert row is not None
    namespace_key, account_key, month, currency, converted, cut, lane, batch = row
    history = History()
    for one in connection.execute(SQL.claims_before, {"namespace": namespace, "number": number}).fetchall():
        history.add(Claimed(one[0], one[1], parse_cut(one[2]), one[3]))
    # A converted invoice takes every currency, each above the invoice that took it last.
    taken = sorted({currency} | {line["original"]["currency"] for line in sent["lines"]}) if converted else [currency]
    claims = {one: _claim(history, account_key, one, parse_cut(cut)) for one in taken}
    predecessor, claim = history.last(currency), claims[currency]
    return {
        "invoice": sent,
        "claim": {
            "account": sent["account"],
            "posting_period": str(Month.from_index(month)),
            "currency": currency,
            "above": {str(at): value for at, value in claim.above.items()},
            "up_to": {str(at): value for at, value in claim.up_to.items()},
            "predecessor": None if predecessor is None else predecessor.number,
            "recorded_in": f"{lane}-{batch}",
        },
        "lines": [_line(connection, namespace_key, month, claims[_currency(one, currency)], one) for one in lines],
    }


def _claim(history: History, account_key: int, currency: str, up_to: Cut) -> Claim:
    before = history.last(currency)
    return Claim(account_key, currency, NOTHING if before is None else before.cut, up_to)


def _currency(line: dict[str, Any], currency: str) -> str:
    """What the line items of a line are in: not the invoice's currency where that is converted."""
    found: str = line["original"]["currency"] if "original" in line else currency
    return found


def _line(connection: Connection, namespace_key: int, month: int, claim: Claim, line: dict[str, Any]) -> dict[str, Any]:
    service = Month.parse(line["service_period"]).index
    key = LineKey(service, line["pricebook"], line["price"], line["meter"], line["unit"])
    found = claimed_items(connection, namespace_key, month, claim, key, IDS_SHOWN_MAX)
    exact = line.get("original", line)["amount_exact"]
    says = (line["line_items"], Decimal(line["quantity"]), Decimal(exact))
    return {
        "line": line,
        "items": {
            "count": found.count,
            "quantity": found.quantity,
            "amount": found.amount,
            "currency": claim.currency,
            "shown": len(found.ids),
            "ids": found.ids,
        },
        "adds_up": says == (found.count, Decimal(found.quantity), Decimal(found.amount)),
    }


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _line_number(text: str, reference: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise InputError(f"{reference!r} names no line of an invoice", do="Write NUMBER#LINE, e.g. INV-2026-000001#2.")
    return int(text)
