"""Which line items an invoice or a report stands for: a predicate over the ledger, never a mark on its rows.

A *cut* is a vector ``{lane: batch}``. A lane's head moves in the transaction that writes its batch, so every row up to
a cut read from the heads is committed, and none can appear below it later: the same claim gives the same sums for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lineitem.core.errors import IntegrityError
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.rows import Kind

SQL = load_queries("lineitem.ledger", "claims.sql")
_KINDS = frozenset(Kind)

Cut = Mapping[int, int]
"""Lane to the last batch that counts; a lane that is not in it counts from its first batch."""
NOTHING: Cut = {}


@dataclass(frozen=True, slots=True)
class Claim:
    """Line items of one account, month and currency in batches above ``above``, up to and including ``up_to``."""

    account_key: int
    currency: str
    above: Cut
    up_to: Cut


@dataclass(frozen=True, slots=True)
class ClaimedSum:
    """Line items of one price version, service month and kind: how many, and their exact sums.

    ``quantity`` is at the price's scale, ``amount_nano`` in nano-units; both are as wide as they need to be.
    """

    price_version_key: int
    service_month: int
    kind: Kind
    line_items: int
    quantity: int
    amount_nano: int


def heads(connection: Connection) -> dict[int, int]:
    """The newest committed batch of every lane: the cut at this moment."""
    return dict(connection.execute(SQL.heads).fetchall())


def unclaimed(
    connection: Connection,
    namespace_key: int,
    month: int,
    cut: Cut,
    claimed: Mapping[tuple[int, str], Cut],
    accounts: Sequence[int] | None = None,
) -> dict[int, list[ClaimedSum]]:
    """Sums by account key of what was posted to ``month`` up to ``cut``, without what ``claimed`` has already.

    ``claimed`` maps (account key, currency) to the cut of its last claim; ``accounts`` narrows to some account keys.
    """
    before = [(account, currency, *place) for (account, currency), old in claimed.items() for place in old.items()]
    values = {
        "namespace_key": namespace_key,
        "month": month,
        "accounts": None if accounts is None else list(accounts),
        **_columns(("lanes", "cut"), cut.items()),
        **_columns(("claim_accounts", "claim_currencies", "claim_lanes", "claim_batches"), before),
    }
    found: dict[int, list[ClaimedSum]] = {}
    for account_key, *row in connection.execute(SQL.unclaimed_sums, values):
        found.setdefault(account_key, []).append(_sum(row))
    return found


def claimed(connection: Connection, namespace_key: int, month: int, claims: Sequence[Claim]) -> list[list[ClaimedSum]]:
    """What each of ``claims`` on a month takes, in their order, in one scan."""
    ranges = [
        (number, claim.account_key, claim.currency, lane, claim.above.get(lane, 0), batch)
        for number, claim in enumerate(claims)
        for lane, batch in claim.up_to.items()
    ]
    columns = _columns(("numbers", "accounts", "currencies", "lanes", "above", "up_to"), ranges)
    found: list[list[ClaimedSum]] = [[] for _ in claims]
    values = columns | {"namespace_key": namespace_key, "month": month}
    for number, *row in connection.execute(SQL.claimed_sums, values):
        found[number].append(_sum(row))
    return found


def facts(connection: Connection, kind: str) -> list[tuple[str, int, int, str]]:
    """``(namespace, lane, batch, body)`` of every fact of one kind, in the order they were recorded."""
    return connection.execute(SQL.facts_of_kind, {"kind": kind}).fetchall()


def _columns(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    listed = list(rows)
    return {name: [row[at] for row in listed] for at, name in enumerate(names)}


def _sum(row: Sequence[Any]) -> ClaimedSum:
    price, month, kind, count, quantity, amount = row
    if kind not in _KINDS:
        raise IntegrityError(
            f"a line item is of kind {kind}, which this engine does not know", do="Run `lineitem verify`."
        )
    return ClaimedSum(price, month, Kind(kind), count, int(quantity), int(amount))
