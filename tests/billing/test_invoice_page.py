"""docs/reference/invoice-json.md names every field, and its digest recipe works."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from lineitem.billing.conversion import RateTable
from lineitem.billing.credits import CREDIT
from lineitem.billing.invoice import invoice_to_json
from lineitem.catalog.model import Conversion, ConversionDate, OwnCurrency
from lineitem.catalog.rate_file import Rate
from tests.billing.samples import final, priced

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "invoice-json.md").read_text()


def test_every_field_is_described():
    """A field that is written but not described, or described but not written, fails here."""
    rule = Conversion("ecb", ConversionDate.PERIOD_END, 5)
    rate = Rate("ecb", "USD", "XCR", date(2026, 10, 30), Decimal(2))
    rates, own = RateTable(rule, date(2026, 10, 31), [rate]), OwnCurrency("XCR", 4)
    sums = [priced("a", 10**9, currency="USD"), priced("paid", -(10**9), currency="USD", kind=CREDIT)]
    document = invoice_to_json(final(sums, "XCR", rates=rates, own=own))
    line, conversion = document["lines"][0], document["conversion"]
    inside = [conversion, conversion["totals"][0], line, line["original"], line["original"]["rates"][0]]
    written = {*document, *(name for one in [*inside, document["own_currency"]] for name in one)}
    first_cells = re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE)
    described = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert described == written - {"symbol", "name", "base", "quote", "rate"}  # these stand in the second column


def test_the_digest_recipe():
    """The page's Python gives the digest of a document with text beyond ASCII."""
    (recipe,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(recipe, names)  # noqa: S102
    document = invoice_to_json(final([priced("a", 10**9, description='Größe "漢字" 😀\n')]))
    assert names["digest"](document) == document["digest"]
