"""What people see of an explanation: every number whole, nothing read as markup, a sum that fails is shouted."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from lineitem.cli.explained import _digits, show


def _printed(found: dict[str, Any], width: int = 120) -> str:
    out = io.StringIO()
    show(found, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def _line_item(**changes: Any) -> dict[str, Any]:
    event = {
        "id": "chat-1", "source": "/chat", "time": "2025-10-03T09:00:00Z", "value": "1200000", "trace_id": "4bf9",
        "retracted": None, "stream": "files", "position": 42, "batch": "1-7", "record": 3, "raw": '{"id":"[bold]chat-1"}',
    }  # fmt: skip
    return {
        "line_item": {
            "id": "01a2", "account": "acme [x]", "kind": "usage", "quantity": "1200000", "unit": "token", "amount": "3",
            "currency": "USD", "event_time": "2025-10-03T09:00:00Z", "service_period": "2025-10",
            "posting_period": "2025-11", "tags": {"team": "search"},
        },
        "price": {
            "id": "prompt", "pricebook": "standard", "version": 2, "model": "per_unit", "currency": "USD",
            "itemize": "each",
            "meter": {"id": "tokens", "aggregation": "sum", "value": "data.tokens", "event_type": "llm.completion"},
        },
        "target": {
            "account": "acme [x]", "service_period": "2025-10", "events": 2, "amount": "5.000000001",
            "working": [
                {"label": "quantity", "quantity": "2000000"},
                {"label": "units", "quantity": "2000000", "unit_price": "0.0000025", "flat_price": "0", "amount": "5"},
            ],
            "this_line_item": {
                "quantity_before": "800000", "quantity_after": "2000000", "posted_before": "2", "total_after": "5",
                "amount": "3",
            },
        },
        "batch": {"batch": "1-7", "recorded_at": "2025-11-02T00:00:00Z", "engine_version": "0.1.0", "catalog_revision": 4},
        "events": {"total": 1, "shown": 1, "items": [event]},
    } | changes  # fmt: skip


def _invoice(adds_up: bool = True) -> dict[str, Any]:
    line = {
        "line": 1, "description": "Prompt tokens", "quantity": "2000000", "unit": "token", "amount_exact": "5.004",
        "amount": "5.00", "residual": "0.004", "kind": "usage",
    }  # fmt: skip
    return {
        "invoice": {
            "number": "INV-2025-000001", "account": "acme", "account_name": "Acme [Corp]", "period": "2025-10",
            "timezone": "Europe/Paris", "total": "5.00", "currency": "USD",
        },
        "claim": {"posting_period": "2025-10", "up_to": {"0": 2, "1": 7, "3": 0}, "predecessor": None, "recorded_in": "0-3"},
        "lines": [{"line": line, "items": {"count": 2, "ids": ["a", "b"]}, "adds_up": adds_up}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "shown"),
    [("0", "0"), ("1234567.50", "1,234,567.50"), ("-1234.000000001", "-1,234.000000001"), ("9" * 22, "9" + ",999" * 7)],
)
def test_thousands_are_set_apart_and_every_digit_kept(number: str, shown: str) -> None:
    """Text in, text out: no number is ever made of it but its whole part."""
    assert _digits(number) == shown


def test_a_line_item_leads_to_its_event() -> None:
    """Amount, both months, rule, the one equation, batch, and the raw record with its place and trace."""
    text = " ".join(_printed(_line_item()).replace("│", " ").split())
    assert "3 USD" in text
    assert "used in 2025-10, in the books of 2025-11" in text
    assert "pricebook standard version 2: per_unit" in text
    assert "from 800,000 to 2,000,000: 5 owed - 2 posted before = 3 USD" in text
    assert "batch 1-7, recorded 2025-11-02T00:00:00Z" in text
    assert "counts 1,200,000, id chat-1 of /chat, trace 4bf9, files at 42 (batch 1-7, record 3)" in text


def test_nothing_from_outside_is_markup() -> None:
    """Square brackets of accounts and raw records are printed, not obeyed."""
    text = _printed(_line_item())
    assert "acme [x]" in text
    assert '{"id":"[bold]chat-1"}' in text
    assert "Acme [Corp]" in _printed(_invoice())


def test_where_two_lanes_took_part_no_order_is_invented() -> None:
    """Without `this_line_item` nothing is said of what it moved."""
    found = _line_item()
    found["target"]["this_line_item"] = None
    assert "it moved" not in _printed(found)


def test_a_retracted_event_is_marked() -> None:
    """The line item was made with it; the reason it does not count stands beside it."""
    found = _line_item()
    found["events"]["items"][0]["retracted"] = "was a test"
    assert "RETRACTED: was a test" in _printed(found)


def test_an_invoice_shows_its_lines_and_what_it_covers() -> None:
    """Exact and rounded beside each other, the cut without empty lanes, and the way down."""
    text = " ".join(_printed(_invoice()).split())
    assert "1 Prompt tokens 2,000,000 token 5.004 5.00 2 yes" in text
    assert "up to batches 0-2, 1-7." in text
    assert "lineitem explain INV-2025-000001#1" in text


def test_a_line_that_does_not_add_up_is_shouted() -> None:
    """In the table of an invoice and on the line itself."""
    found = _invoice(adds_up=False)
    assert " NO" in _printed(found)
    found["lines"][0]["explained"] = [_line_item()]
    assert "THEY DO NOT ADD UP" in _printed(found)


def test_it_fits_a_narrow_window() -> None:
    """A raw record is cut, not wrapped; nothing is wider than the window."""
    found = _line_item()
    found["events"]["items"][0]["raw"] = "x" * 5000
    text = _printed(found, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert sum("xxx" in line for line in text.splitlines()) == 1


_CANARY = {"name": "standard-3", "chosen": "10 % of accounts", "pricebook": "standard"}
_OTHER = {"amount": "5.000000001", "other": "4", "delta": "1.000000001", "delta_percent": "25.00"}


@pytest.mark.parametrize(
    ("canary", "told"),
    [
        (
            {"arm": "canary", "other": _OTHER},
            "the other version would have charged 4 USD for 2025-10, this one charges 5.000000001 (1.000000001, 25.00 %)",
        ),
        ({"arm": "canary", "other": None}, "`lineitem canary check` works out what the other version would have"),
        ({"arm": "stable", "other": None}, "acme [x] is not in it, arm stable"),
    ],
)
def test_a_canary_is_named_with_its_arm(canary: dict[str, Any], told: str) -> None:
    """And with what the other version would have charged, once that is known."""
    printed = " ".join(_printed(_line_item(canary=_CANARY | canary), width=400).split())
    assert "canary standard-3 (10 % of accounts) of pricebook standard" in printed
    assert told in printed
