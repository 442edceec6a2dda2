"""Catalogs for tests of canaries: one meter, one price, as many versions as wanted."""

from __future__ import annotations

import json
from typing import Any


def version(number: int, start: str | None = None, unit_price: str | None = None, id_: str = "std") -> dict[str, Any]:
    """A pricebook version whose unit price is its number, unless another one is given."""
    price = {"id": "call", "meter": "calls", "model": "per_unit", "unit_price": unit_price or str(number)}
    begins = start or ("2026-01-01T00:00:00Z" if number == 1 else "2026-10-01T00:00:00Z")
    return {"id": id_, "version": number, "effective_from": begins, "prices": [price]}


def catalog(*books: dict[str, Any], **more: Any) -> str:
    """A catalog file with these pricebooks."""
    meters = [{"id": "calls", "event_type": "api", "aggregation": "count"}]
    accounts = {"defaults": {"pricebook": "std"}}
    return json.dumps({"currency": "USD", "meters": meters, "pricebooks": list(books), "accounts": accounts, **more})
