"""docs/reference/invoice-json.md names every field, and its digest recipe works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lineitem.billing.invoice import invoice_to_json
from tests.billing.samples import final, priced

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "invoice-json.md").read_text()


def test_every_field_is_described():
    """A field that is written but not described, or described but not written, fails here."""
    document = invoice_to_json(final([priced("a", 10**9)]))
    first_cells = re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE)
    described = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert described == document.keys() | document["lines"][0].keys()


def test_the_digest_recipe():
    """The page's Python gives the digest of a document with text beyond ASCII."""
    (recipe,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(recipe, names)  # noqa: S102
    document = invoice_to_json(final([priced("a", 10**9, description='Größe "漢字" 😀\n')]))
    assert names["digest"](document) == document["digest"]
