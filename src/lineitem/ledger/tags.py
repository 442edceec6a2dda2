"""Tags of the ledger's line items: how much carries which value, how that moved, and whose cost centre pays.

Sums of amounts as they were posted: every line item counts once, so they tie out with the ledger's total. Works in the
posting role and in the reading role.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lineitem.catalog import published
from lineitem.catalog.cost_centers import UNALLOCATED, CostCenters
from lineitem.catalog.model import Catalog
from lineitem.catalog.tag_rules import UNTAGGED
from lineitem.core.errors import InputError, Refused
from lineitem.core.money import nano_to_text, round_half_away, scaled_to_text
from lineitem.core.period import Month, us_to_datetime
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.read import keys_of, one_snapshot

SQL = load_queries("lineitem.ledger", "tags.sql")
TOP_VALUES = 10
"""Values of a key that are listed unless more are asked for."""
_SHARE_DECIMALS = 6


class Sum(NamedTuple):
    """What line items with one tag set come to, in one currency and one era of event time."""

    tags: dict[str, str]
    currency: str
    era: int
    line_items: int
    amount_nano: int


@dataclass(slots=True)
class Part:
    """Some line items: how many, and what they come to."""

    line_items: int = 0
    amount_nano: int = 0

    def add(self, line_items: int, amount_nano: int) -> None:
        """Count more of them."""
        self.line_items += line_items
        self.amount_nano += amount_nano


ByValue = dict[tuple[str, str], dict[str, Part]]
"""(key, currency) -> value -> what carries it; the value ``untagged`` is what carries none."""


# --- the ledger's side


@explained()
def coverage(
    connection: Connection, namespace: str, *, month: Month | None = None, key: str | None = None, top: int = TOP_VALUES
) -> dict[str, Any]:
    """How much of the line items posted to a month, or ever, has each tag; by key and currency, the ``top`` values.

    Raises InputError for a namespace or key that is not known, Refused where nothing has been published.
    """
    with one_snapshot(connection):
        namespace_key, catalog = _catalog(connection, namespace)
        sums = _sums(connection, namespace_key, month)
    registered = {rule.key for rule in catalog.tags}
    values = by_value(sums, _keys(registered, [sums], key))
    return {
        "period": None if month is None else str(month),
        "keys": [_covered(*pair, found, pair[0] in registered, top) for pair, found in sorted(values.items())],
    }


@explained()
def drift(
    connection: Connection,
    namespace: str,
    month: Month,
    against: Month,
    *,
    key: str | None = None,
    top: int = TOP_VALUES,
) -> dict[str, Any]:
    """How the values of each tag changed from ``against`` to ``month``, the ``top`` largest changes first.

    Raises as ``coverage`` does.
    """
    with one_snapshot(connection):
        namespace_key, catalog = _catalog(connection, namespace)
        now, then = (_sums(connection, namespace_key, one) for one in (month, against))
    keys = _keys({rule.key for rule in catalog.tags}, [now, then], key)
    values_now, values_then = by_value(now, keys), by_value(then, keys)
    pairs = sorted(values_now.keys() | values_then.keys())
    moved = [_moved(*pair, values_then.get(pair, {}), values_now.get(pair, {}), top) for pair in pairs]
    return {"period": str(month), "against": str(against), "keys": moved}


@explained()
def cost_centers(connection: Connection, namespace: str, month: Month) -> dict[str, Any]:
    """The line items posted to a month by the cost centre that the catalog in force names for their tags and event time.

    Raises InputError for a namespace that is not known, Refused where nothing has been published.
    """
    with one_snapshot(connection):
        namespace_key, catalog = _catalog(connection, namespace)
        centers = CostCenters(catalog.cost_centers)
        sums = _sums(connection, namespace_key, month, centers.changes)
    return {"period": str(month)} | by_cost_center(sums, centers)


def _catalog(connection: Connection, namespace: str) -> tuple[int, Catalog]:
    namespace_key, _ = keys_of(connection, namespace, None)
    catalog = published.current(connection, namespace_key)
    if catalog is None:
        raise Refused(f"namespace {namespace!r} has no catalog", do="Publish one: lineitem catalog publish FILE")
    return namespace_key, catalog


def _sums(connection: Connection, namespace_key: int, month: Month | None, changes: Sequence[int] = ()) -> list[Sum]:
    where = {
        "namespace_key": namespace_key,
        "posting_month": None if month is None else month.index,
        "changes": [us_to_datetime(change) for change in changes],
    }
    rows = connection.execute(SQL.tag_sums, where).fetchall()
    return [Sum(json.loads(tags), currency, era, count, int(nano)) for tags, currency, era, count, nano in rows]


def _keys(registered: set[str], sums: Iterable[Sequence[Sum]], wanted: str | None) -> list[str]:
    known = registered.union(*(one.tags for part in sums for one in part))
    if wanted is None:
        return sorted(known)
    if wanted not in known:
        raise InputError(
            f"no line item has a tag {wanted!r}, and the catalog's `tags` do not list it",
            do=f"Known are: {', '.join(sorted(known)) or 'none'}.",
        )
    return [wanted]


# --- sums to documents: pure


def by_value(sums: Iterable[Sum], keys: Sequence[str]) -> ByValue:
    """What each value of each key comes to; a tag that is missing, empty or says so counts as ``untagged``."""
    found: ByValue = {}
    for one in sums:
        for key in keys:
            value = one.tags.get(key) or UNTAGGED
            part = found.setdefault((key, one.currency), {}).setdefault(value, Part())
            part.add(one.line_items, one.amount_nano)
    return found


def share_text(part_nano: int, whole_nano: int) -> str | None:
    """Percent as decimal text, to six decimals, halves away from zero; None of nothing."""
    return scaled_to_text(_share(part_nano, whole_nano), _SHARE_DECIMALS) if whole_nano else None


def _share(part_nano: int, whole_nano: int) -> int:
    """The same as an integer of six decimals; 0 of nothing."""
    if not whole_nano:
        return 0
    return round_half_away((part_nano if whole_nano > 0 else -part_nano) * 100 * 10**_SHARE_DECIMALS, abs(whole_nano))


def _covered(key: str, currency: str, values: dict[str, Part], registered: bool, top: int) -> dict[str, Any]:
    untagged = values.get(UNTAGGED, Part())
    whole_nano = sum(part.amount_nano for part in values.values())
    line_items = sum(part.line_items for part in values.values())
    tagged = [(value, part) for value, part in values.items() if value != UNTAGGED]
    tagged.sort(key=lambda pair: (-pair[1].amount_nano, -pair[1].line_items, pair[0]))
    return {
        "key": key,
        "registered": registered,
        "currency": currency,
        "amount": nano_to_text(whole_nano),
        "tagged": nano_to_text(whole_nano - untagged.amount_nano),
        "untagged": nano_to_text(untagged.amount_nano),
        "coverage": share_text(whole_nano - untagged.amount_nano, whole_nano),
        "line_items": line_items,
        "line_items_untagged": untagged.line_items,
        "distinct_values": len(tagged),
        "values": [
            {
                "value": value,
                "amount": nano_to_text(part.amount_nano),
                "share": share_text(part.amount_nano, whole_nano),
                "line_items": part.line_items,
            }
            for value, part in tagged[:top]
        ],
    }


def _moved(key: str, currency: str, then: dict[str, Part], now: dict[str, Part], top: int) -> dict[str, Any]:
    whole_then, whole_now = (sum(part.amount_nano for part in values.values()) for values in (then, now))
    rows = []
    for value in then.keys() | now.keys():
        part_then, part_now = then.get(value, Part()), now.get(value, Part())
        share_then, share_now = _share(part_then.amount_nano, whole_then), _share(part_now.amount_nano, whole_now)
        row = {
            "value": value,
            "amount_then": nano_to_text(part_then.amount_nano),
            "amount_now": nano_to_text(part_now.amount_nano),
            "share_then": share_text(part_then.amount_nano, whole_then),
            "share_now": share_text(part_now.amount_nano, whole_now),
            "change": scaled_to_text(share_now - share_then, _SHARE_DECIMALS),
        }
        rows.append((-abs(share_now - share_then), value, row))
    rows.sort(key=lambda row: row[:2])
    return {
        "key": key,
        "currency": currency,
        "new": sorted(now.keys() - then.keys() - {UNTAGGED}),
        "vanished": sorted(then.keys() - now.keys() - {UNTAGGED}),
        "distinct_values": len(rows),
        "values": [row for _, _, row in rows[:top]],
    }


def by_cost_center(sums: Iterable[Sum], centers: CostCenters) -> dict[str, Any]:
    """Amounts by cost centre and currency, ``unallocated`` last of each currency and always there; and their totals."""
    found: dict[str, dict[str, Part]] = {}
    totals: dict[str, Part] = {}
    for one in sums:
        of_currency = found.setdefault(one.currency, {UNALLOCATED: Part()})
        center = centers.of_era(one.tags, one.era)
        of_currency.setdefault(center, Part()).add(one.line_items, one.amount_nano)
        totals.setdefault(one.currency, Part()).add(one.line_items, one.amount_nano)
    rows = [
        {
            "cost_center": center,
            "currency": currency,
            "amount": nano_to_text(part.amount_nano),
            "share": share_text(part.amount_nano, totals[currency].amount_nano),
            "line_items": part.line_items,
        }
        for currency, parts in sorted(found.items())
        for center, part in sorted(parts.items(), key=lambda item: (item[0] == UNALLOCATED, item[0]))
    ]
    return {
        "cost_centers": rows,
        "totals": [
            {"currency": currency, "amount": nano_to_text(part.amount_nano), "line_items": part.line_items}
            for currency, part in sorted(totals.items())
        ],
    }
