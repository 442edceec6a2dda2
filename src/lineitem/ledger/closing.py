"""Close and reopen posting periods. Closed months take no more rows; late usage posts to the next open one."""

from __future__ import annotations

from itertools import count

from lineitem.catalog import published
from lineitem.catalog.snapshot import Snapshot
from lineitem.core.errors import Refused
from lineitem.core.period import Month
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import periods
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.post import Fact, canonical, ensure_months, lock_lane, write_batch

SQL = load_queries("lineitem.ledger", "ledger.sql")
_LAST_ZONE = "Etc/GMT+12"
"""Where a day ends last."""


def close_period(connection: Connection, snapshot: Snapshot, month: Month, now_us: int) -> None:
    """Close a month: flip it to ``closing``, which waits for batches that still post to it, then seal it.

    The caller has flushed. Raises Refused when it is closed already, or has not ended in every time zone: an account's
    month ends up to twelve hours after UTC's.
    """
    if month.bounds_us(_LAST_ZONE)[1] > now_us:
        raise Refused(f"period {month} has not ended everywhere", do="Close it 12 hours after its last day in UTC.")
    with explained():
        # Whoever finds the month closed inside a transaction can post to the next one, which has its partition by then.
        closed = {*periods.closed_months(connection, snapshot.namespace_key), month.index}
        ensure_months(connection, [next(later for later in count(month.index) if later not in closed)])
        retried(lambda: _flip(connection, snapshot, month, "open", "closing", now_us))
        retried(lambda: _flip(connection, snapshot, month, "closing", "closed", now_us))


def _flip(connection: Connection, snapshot: Snapshot, month: Month, old: str, new: str, now_us: int) -> None:
    with connection.transaction():
        head = lock_lane(connection, 0)
        found = periods.state(connection, snapshot.namespace_key, month.index)
        if found == new:
            return  # an earlier close stopped half way
        if found != old:
            raise Refused(f"period {month} is {found}", do="Late usage posts to the next open period as a correction.")
        periods.set_state(connection, snapshot.namespace_key, month.index, new)
        fact = {"namespace": snapshot.namespace, "month": month.index, "period": str(month), "state": new}
        sums = period_sums(connection, snapshot.namespace_key, month)
        write_batch(
            connection, head, snapshot.namespace, snapshot.namespace_key, BatchKind.PERIOD,
            facts=[Fact("period", canonical(fact | {"sums": sums}))],
            catalog_revision=snapshot.revision, recorded_us=now_us,
        )  # fmt: skip


def period_sums(connection: Connection, namespace_key: int, month: Month) -> dict[str, dict[str, str]]:
    """What was posted to a month: currency -> line items and amount in nano-units, as text."""
    rows = connection.execute(SQL.period_sums, {"namespace_key": namespace_key, "month": month.index}).fetchall()
    return {currency: {"line_items": str(items), "amount_nano": str(amount)} for currency, items, amount in rows}


def show_period(connection: Connection, namespace: str, month: Month) -> dict[str, object]:
    """A month's state and sums."""
    key = published.namespace_key(connection, namespace)
    return {
        "period": str(month),
        "state": periods.state(connection, key, month.index),
        "sums": period_sums(connection, key, month),
    }
