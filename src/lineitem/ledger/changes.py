"""What batches changed, per account, price and service period: the sums of their line items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lineitem.core.money import nano_to_text, scaled_to_text
from lineitem.core.period import Month
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ledger", "backfills.sql")


class Change(NamedTuple):
    """By how much one account's usage and amount of a price moved; ``quantity`` at ``scale`` decimals."""

    account: str
    price: str
    month: int
    currency: str
    quantity: int
    scale: int
    unit: str
    amount_nano: int
    line_items: int

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "account": self.account,
            "price": self.price,
            "service_period": str(Month.from_index(self.month)),
            "currency": self.currency,
            "quantity": scaled_to_text(self.quantity, self.scale),
            "unit": self.unit,
            "amount": nano_to_text(self.amount_nano),
            "line_items": self.line_items,
        }


def changes(connection: Connection, namespace_key: int, places: Sequence[tuple[int, int]]) -> list[Change]:
    """What the batches at ``places`` (lane, number) changed, by account, price and service period."""
    where = {
        "namespace_key": namespace_key,
        "lanes": [lane for lane, _ in places],
        "batches": [batch for _, batch in places],
    }
    rows = connection.execute(SQL.changes, where).fetchall()
    return [
        Change(account, price, month, currency, int(quantity), scale, unit, int(nano), items)
        for account, price, month, currency, quantity, scale, unit, nano, items in rows
    ]
