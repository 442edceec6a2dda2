"""What the document says about what is to be paid, and how its numbers line up."""

from __future__ import annotations

import pytest

from lineitem.billing.document_text import invoice_view
from lineitem.core.period import Month
from tests.billing.samples import ISSUER, final, priced, review


@pytest.mark.parametrize(
    ("amount_nano", "currency", "label", "amount"),
    [
        (4_399_990_000_000, "JPY", "Amount due", "¥4,400"),
        (1_234_500_000, "KWD", "Amount due", "KWD\u00a01.235"),
        (0, "USD", "Amount due", "$0.00"),
        (-1_234_567_890, "USD", "Credit in your favour", "$1.23"),
        (10**28, "USD", "Amount due", "$10,\u200b000,\u200b000,\u200b000,\u200b000,\u200b000,\u200b000.00"),
    ],
)
def test_headline(amount_nano, currency, label, amount):
    """What is to be paid, for every kind of total; wide numbers may break after a comma."""
    headline = invoice_view(final([priced("a", amount_nano)], currency))["headline"]
    assert (headline["label"], headline["amount"]) == (label, amount)


def test_payment_is_asked_for_only_when_something_is_due():
    """No bank details on a credit, on nothing to pay, or on a draft."""
    assert invoice_view(final([priced("a", 10**9)]))["payment"] == ISSUER["payment"]
    assert invoice_view(final([priced("a", -(10**9))]))["payment"] == ""
    assert invoice_view(final([]))["payment"] == ""
    assert invoice_view(review([priced("a", 10**9)]))["payment"] == ""


def test_decimal_points_stand_under_each_other():
    """Number and invisible padding are as wide as the column's longest fraction."""
    some = [
        priced("a", 0, quantity=1_203_417, scale=3),
        priced("b", 0, quantity=12),
        priced("c", 0, quantity=5, scale=1),
    ]
    rows = invoice_view(final(some))["sections"][0]["rows"]
    assert [row["quantity"] for row in rows] == [["1,203.417", ""], ["12", ".000"], ["0.5", "00"]]


def test_other_service_months_are_named():
    """A line says its service period where it is not the invoice's; its kind where it is not plain usage."""
    some = [
        priced("a", 10**9, kind="true_up"),
        priced("b", 10**9, service_month=Month(2026, 11)),
        priced("c", 10**9, service_month=Month(2026, 9), line_item_count=1),
    ]
    details = [row["detail"] for section in invoice_view(final(some))["sections"] for row in section["rows"]]
    assert details == [
        "a  ·  true up  ·  standard v1  ·  3\u00a0line\u00a0items",
        "b  ·  service period November 2026  ·  standard v1  ·  3\u00a0line\u00a0items",
        "c  ·  service period September 2026  ·  standard v1  ·  1\u00a0line\u00a0item",
    ]


def test_parties():
    """The issuer's known fields come first and in order, others labelled; of the account's tags only the known ones."""
    issuer = {**ISSUER, "vat_scheme": "OSS", "tax_id": "DE 123"}
    view = invoice_view(final([], issuer=issuer))
    assert view["from"]["details"] == [
        "Torstraße 140\n10119 Berlin",
        "Tax ID DE 123",
        "billing@northwind.example",
        "Vat scheme OSS",
    ]
    assert view["bill_to"] == {"name": "Team One SAS", "details": ["Account team-1", "Cost center 42"]}
