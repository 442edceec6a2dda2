"""Accounts, sums and invoices the billing tests share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lineitem.billing.invoice import Invoice, PricedSum, build_invoice, finalise
from lineitem.catalog.model import Account
from lineitem.core.period import Month

OCTOBER = Month(2026, 10)
SEPTEMBER = Month(2026, 9)
ISSUED_AT_US = 1_793_577_600_000_000  # 2026-11-02T00:00:00Z
ISSUER = {
    "name": "Northwind Compute GmbH",
    "address": "Torstraße 140\n10119 Berlin",
    "email": "billing@northwind.example",
    "payment": "IBAN DE02 1203 0000 0000 2020 51",
    "timezone": "Europe/Berlin",
}
ACCOUNT = Account("team-1", "Team One SAS", "standard", "Europe/Paris", tags=(("cost_center", "42"),))


def priced(price: str, amount_nano: int, **changes: Any) -> PricedSum:
    """A sum of October usage; ``changes`` replace any other field."""
    fields: dict[str, Any] = {
        "price": price,
        "meter": f"{price}_meter",
        "description": f"Usage of {price}",
        "unit": "token",
        "quantity": 1_500,
        "scale": 0,
        "amount_nano": amount_nano,
        "pricebook": "standard",
        "versions": (1,),
        "line_item_count": 3,
        "service_month": OCTOBER,
    }
    return PricedSum(**{**fields, **changes})


def review(sums: Iterable[PricedSum], currency: str = "USD", **changes: Any) -> Invoice:
    """An invoice in review for October; ``changes`` replace arguments of ``build_invoice``."""
    arguments: dict[str, Any] = {
        "account": ACCOUNT,
        "issuer": ISSUER,
        "period": OCTOBER,
        "bounds_us": OCTOBER.bounds_us("Europe/Paris"),
        "currency": currency,
        "cut": {0: 12, 1: 845, 10: 7},
        "issued_at_us": ISSUED_AT_US,
    }
    return build_invoice(sums, **{**arguments, **changes})


def final(sums: Iterable[PricedSum], currency: str = "USD", **changes: Any) -> Invoice:
    """The same, numbered."""
    return finalise(review(sums, currency, **changes), "INV-2026-000042")
