"""What is kept of drawing credit: per account and service month what was owed, how it was shared out, and each grant's draw."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lineitem.core.period import month_start_us
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.post import canonical
from lineitem.rate.credits import Covered, Grant, Slice, cuts

SQL = load_queries("lineitem.ledger", "credits.sql")
Month = tuple[int, int]
"""Account key, service month."""


Read = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class MonthCredit:
    """One account's service month as credit was drawn for it; amounts in nano-units.

    ``whole`` False: only what is due in advance. ``cuts``: where inside the month a grant begins or ends to pay,
    microseconds since the epoch. ``owed``: price and currency -> what falls to each part between the cuts. ``read``: events,
    retractions and carried units that the parts were worked out from, where there are cuts. ``draws``: grant id -> price
    id -> drawn.
    """

    whole: bool
    cuts: tuple[int, ...]
    owed: dict[Covered, list[int]]
    read: Read = (0, 0, 0)
    draws: dict[str, dict[str, int]] = field(default_factory=dict)

    def totals(self) -> dict[Covered, int]:
        """What was owed in the month, by price."""
        return {covered: sum(parts) for covered, parts in self.owed.items()}

    def slices(self, month: int, zone: str) -> Iterable[Slice]:
        """The parts of the month, in order."""
        bounds = [month_start_us(month, zone), *self.cuts, month_start_us(month + 1, zone)]
        for at, start_us in enumerate(bounds[:-1]):
            yield Slice(month, start_us, bounds[at + 1], {covered: parts[at] for covered, parts in self.owed.items()})

    def drawn(self, grant: str) -> int:
        """What was drawn of a grant."""
        return sum(self.draws.get(grant, {}).values())

    def document(self) -> dict[str, Any]:
        """As facts and ``credit_month`` have it."""
        return {
            "whole": self.whole,
            "cuts": list(self.cuts),
            "read": list(self.read),
            "owed": [[*covered, [str(part) for part in parts]] for covered, parts in sorted(self.owed.items())],
            "draws": [
                [grant, price, str(nano)]
                for grant, prices in sorted(self.draws.items())
                for price, nano in sorted(prices.items())
            ],
        }

    def text(self) -> str:
        """The canonical JSON of ``document``."""
        return canonical(self.document())

    @classmethod
    def parse(cls, text: str) -> MonthCredit:
        """Inverse of ``text``. Raises ValueError, KeyError or TypeError for what is no such text."""
        return cls.of(json.loads(text))

    @classmethod
    def of(cls, found: dict[str, Any]) -> MonthCredit:
        """Inverse of ``document``."""
        draws: dict[str, dict[str, int]] = {}
        for grant, price, nano in found["draws"]:
            draws.setdefault(grant, {})[price] = int(nano)
        owed = {(price, currency): [int(part) for part in parts] for price, currency, parts in found["owed"]}
        events, retractions, carried = found["read"]
        return cls(bool(found["whole"]), tuple(found["cuts"]), owed, (events, retractions, carried), draws)


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant and the keys of the price that its line items name."""

    grant: Grant
    price_key: int
    version_key: int


def granted(connection: Connection, accounts: Sequence[int]) -> dict[int, list[Granted]]:
    """The grants of accounts, in the order they are drawn."""
    found: dict[int, list[Granted]] = {}
    for row in connection.execute(SQL.grants_of, {"accounts": list(accounts)}).fetchall():
        account, grant, currency, amount, priority, effective_us, expires_us, prices, price_key, version_key = row
        terms = Grant(grant, currency, int(amount), priority, effective_us, expires_us, frozenset(json.loads(prices)))
        found.setdefault(account, []).append(Granted(terms, price_key, version_key))
    return {account: sorted(some, key=lambda one: one.grant.order) for account, some in found.items()}


def months(connection: Connection, accounts: Sequence[int]) -> dict[Month, MonthCredit]:
    """What is kept of the months of accounts."""
    rows = connection.execute(SQL.credit_months, {"accounts": list(accounts)}).fetchall()
    return {(account, month): MonthCredit.parse(text) for account, month, text in rows}


def cuts_of(some: Iterable[Granted], month: int, zone: str) -> tuple[int, ...]:
    """Where inside a month grants begin or end to pay."""
    return tuple(cuts([one.grant for one in some], month_start_us(month, zone), month_start_us(month + 1, zone)))
