"""Explain a line item of prepaid credit: the grant, what the account owed when it was drawn, who paid how much of it."""

from __future__ import annotations

import json
from typing import Any

from lineitem.core.errors import IntegrityError
from lineitem.core.money import nano_to_text
from lineitem.core.period import us_to_text
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import grants
from lineitem.ledger.credit_months import MonthCredit
from lineitem.ledger.credits import FACT
from lineitem.ledger.grants import Kept
from lineitem.ledger.read import FoundItem

SQL = load_queries("lineitem.ledger", "read.sql")
_NOTE = (
    "What a grant pays of the month, drawn when the month was billed or closed, or how much more or less since what is owed has"
    " changed: it stands for no event."
)


def explain_credit(connection: Connection, item: FoundItem, batch: dict[str, Any], now_us: int) -> dict[str, Any]:
    """What a credit line item rests on, as a JSON document.

    ``grant`` as `grant list` shows it, at the batch's time but for what is drawn · ``credit``: what the account owed in the
    service month by price (``owed``; ``covered`` is the part of it that lies in the grant's time), what this grant and what
    others pay of it, and how this line item moved that · ``events``: none. Raises IntegrityError where nothing recorded it.
    """
    name = item.document["price"]
    grant = grants.find(connection, item.namespace_key, name)
    month = _recorded(connection, item)
    if grant is None or month is None:
        raise IntegrityError(f"what was drawn of grant {name!r} is not recorded", do="Run `lineitem verify`.")
    drawn = month.drawn(name)
    return {
        "line_item": item.document,
        "tag_origins": {},
        "grant": grant.shown(now_us),
        "credit": {
            "service_period": item.document["service_period"],
            "whole": month.whole,
            "cuts": [us_to_text(cut) for cut in month.cuts],
            "prices": _prices(month, grant, item),
            "drawn_before": nano_to_text(drawn + item.amount_nano),
            "drawn": nano_to_text(drawn),
            "amount": item.document["amount"],
            "rule": "amount of the line item = drawn before - drawn now",
        },
        "batch": batch,
        "events": {"total": 0, "shown": 0, "note": _NOTE, "items": []},
    }


def _recorded(connection: Connection, item: FoundItem) -> MonthCredit | None:
    """The month as the line item's batch recorded it."""
    where = {"lane": item.lane, "batch": item.batch}
    for _, kind, body in connection.execute(SQL.leaf_facts, where).fetchall():
        fact = json.loads(body) if kind == FACT else {}
        for month in fact["months"] if fact.get("account") == item.document["account"] else ():
            if month["month"] == item.service_month:
                return MonthCredit.of(month)
    return None


def _prices(month: MonthCredit, grant: Kept, item: FoundItem) -> list[dict[str, Any]]:
    """By price the grant can pay: owed, the part in the grant's time, paid by it and by others."""
    terms, found = grant.terms.grant(), []
    parts = list(month.slices(item.service_month, item.timezone))
    for covered, owed in sorted(month.totals().items()):
        if not terms.pays_for(covered):
            continue
        inside = sum(part.owed[covered] for part in parts if terms.pays_in(part.start_us, part.end_us))
        mine = month.draws.get(terms.id, {}).get(covered[0], 0)
        others = sum(prices.get(covered[0], 0) for other, prices in month.draws.items() if other != terms.id)
        found.append(
            {
                "price": covered[0],
                "owed": nano_to_text(owed),
                "covered": nano_to_text(inside),
                "drawn": nano_to_text(mine),
                "drawn_of_others": nano_to_text(others),
            }
        )
    return found
