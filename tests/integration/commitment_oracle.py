"""What commitments come to, told independently: at settling, by account and month, from what all other prices come to."""

from __future__ import annotations

import json
from collections import defaultdict
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.oracle import Document, Oracle, Target

Committed = dict[tuple[str, str, str, str], tuple[Fraction, Fraction]]
"""Target -> the share of the commitment that is due, and how far it is filled."""


def settled(oracle: Oracle, months: set[str], active: dict[Target, Fraction]) -> Committed:
    """The commitments of ``months`` that have ended, those of ``active`` accounts and of others with usage."""
    spent: dict[tuple[str, str], dict[tuple[str, str], Fraction]] = defaultdict(dict)
    used: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for (account, name, month, content), usage in oracle.with_usage().items():
        currency = _currency(oracle, json.loads(content)[1])
        if usage:
            used[(account, month)].add((name, currency))
        _, nano = oracle.amount_of((account, name, month, content), usage)
        before = spent[(account, month)].get((name, currency), Fraction(0))
        spent[(account, month)][(name, currency)] = before + Fraction(nano, 10**9)
    owed = dict(active)
    listed = {one["id"] for one in oracle.catalog.get("accounts", {}).get("list", []) if "active_from" in one}
    for account, month in used:
        if account not in listed and month in months and oracle.bounds(month, account)[1] <= oracle.now:
            for target, price in oracle.meterless(account, month):
                if price["model"] == "commitment" and any(_counts(oracle, price, *one) for one in used[account, month]):
                    owed.setdefault(target, Fraction(1))
    found: Committed = {}
    for target, share in owed.items():
        price = json.loads(target[3])[1]
        due = Fraction(ceil(share * Fraction(price["amount"]) * 10**9), 10**9)
        counted = (nano for one, nano in spent.get((target[0], target[2]), {}).items() if _counts(oracle, price, *one))
        found[target] = share, min(due, sum(counted, Fraction(0)))
    return found


def missing(price: Document, share: Fraction, filled: Fraction) -> Fraction:
    """What the account still owes."""
    return max(Fraction(0), share * Fraction(price["amount"]) - filled)


def _currency(oracle: Oracle, price: Document) -> str:
    return str(price.get("currency", oracle.catalog["currency"]))


def _counts(oracle: Oracle, commitment: Document, name: str, currency: str) -> bool:
    return currency == _currency(oracle, commitment) and name in commitment.get("prices", [name])
