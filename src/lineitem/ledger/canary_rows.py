"""What members of a canary were charged beside what the other version would have charged: rows, sums, bounds, storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import Any, NamedTuple

from lineitem.catalog.canary import Bounds
from lineitem.core.money import nano_to_text
from lineitem.core.period import Month
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.post import canonical
from lineitem.ledger.shadow_rows import percent

SQL = load_queries("lineitem.ledger", "canary.sql")

Place = tuple[int, int]
"""(lane, batch)."""


class Beside(NamedTuple):
    """One price of one member's service month. Amounts in nano-units: charged, and by the other version."""

    account: str
    month: int
    price: str
    currency: str
    live_nano: int
    other_nano: int

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        names = {"account": self.account, "period": str(Month.from_index(self.month)), "price": self.price}
        return names | {"currency": self.currency} | sums(self.live_nano, self.other_nano)


def sums(live_nano: int, other_nano: int) -> dict[str, Any]:
    """What was charged, what would have been, the difference, and that in percent of the latter."""
    delta = live_nano - other_nano
    return {
        "amount": nano_to_text(live_nano),
        "other": nano_to_text(other_nano),
        "delta": nano_to_text(delta),
        "delta_percent": percent(delta, other_nano),
    }


def rows_digest(rows: Iterable[Beside]) -> str:
    """What a check's fact says of its rows: SHA-256, hex."""
    return sha256(canonical(sorted([*row[:4], str(row[4]), str(row[5])] for row in rows)).encode()).hexdigest()


def breaches(rows: Sequence[Beside], bounds: Bounds) -> list[str]:
    """Where members pay more or less than the bounds allow, a sentence each; the largest accounts first, five at most."""
    found = []
    total = _summed(rows, lambda row: ("", row.currency))
    each = _summed(rows, lambda row: (row.account, row.currency))
    for (_, currency), (live, other) in sorted(total.items()):
        if _beyond(live, other, bounds.total_percent):
            found.append(f"in total {_told(live, other, currency)}, bound {bounds.total_percent} %")
    accounts = [(key, pair) for key, pair in each.items() if _beyond(*pair, bounds.account_percent)]
    accounts.sort(key=lambda one: (-abs(one[1][0] - one[1][1]), one[0]))
    for (account, currency), (live, other) in accounts[:5]:
        found.append(f"account {account} {_told(live, other, currency)}, bound {bounds.account_percent} %")
    if len(accounts) > 5:
        found.append(f"and {len(accounts) - 5} accounts more")
    return found


def _summed(rows: Iterable[Beside], key: Callable[[Beside], tuple[str, str]]) -> dict[tuple[str, str], tuple[int, int]]:
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        live, other = found.get(key(row), (0, 0))
        found[key(row)] = (live + row.live_nano, other + row.other_nano)
    return found


def _beyond(live: int, other: int, bound: Decimal | None) -> bool:
    """Whether the difference passes the bound, in percent of the other amount; of nothing, any difference does."""
    return bound is not None and abs(live - other) * 100 > Fraction(bound) * abs(other)


def _told(live: int, other: int, currency: str) -> str:
    part = percent(live - other, other)
    share = "" if part is None else f" ({part} %)"
    return f"{nano_to_text(live)} instead of {nano_to_text(other)} {currency}{share}"


def totals(rows: Iterable[Beside]) -> list[dict[str, Any]]:
    """Sums per currency, as JSON has them."""
    found = _summed(rows, lambda row: ("", row.currency))
    return [{"currency": currency} | sums(*pair) for (_, currency), pair in sorted(found.items())]


# --- storage


def store(connection: Connection, key: int, place: Place, rows: Sequence[Beside]) -> None:
    """Store what a check found under the batch of its fact."""
    values = {
        "namespace_key": key, "lane": place[0], "batch": place[1],
        "accounts": [row.account for row in rows], "months": [row.month for row in rows],
        "prices": [row.price for row in rows], "currencies": [row.currency for row in rows],
        "live": [row.live_nano for row in rows], "other": [row.other_nano for row in rows],
    }  # fmt: skip
    connection.execute(SQL.add_beside, values)


def of_check(connection: Connection, place: Place) -> list[Beside]:
    """What one check found."""
    rows = connection.execute(SQL.beside_of_check, {"lane": place[0], "batch": place[1]}).fetchall()
    return [Beside(row[0], row[1], row[2], row[3], int(row[4]), int(row[5])) for row in rows]


def besides(connection: Connection) -> dict[Place, list[Beside]]:
    """Everything stored, by the batch it names; a row in another namespace than its account's has no account."""
    found: dict[Place, list[Beside]] = {}
    for lane, batch, _, account, month, price, currency, live, other in connection.execute(SQL.besides).fetchall():
        row = Beside(account or "", month, price, currency, int(live), int(other))
        found.setdefault((lane, batch), []).append(row)
    return found
