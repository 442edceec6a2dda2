"""Posting periods: open, closing, closed; and where usage of a closed month lands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ledger", "ledger.sql")


def posting_months(service_month: NDArray[np.int32], closed: Sequence[int]) -> NDArray[np.int32]:
    """The month each row posts to, shape (n,): its service month, or the earliest open month after it."""
    posting = service_month.copy()
    shut = set(closed)
    for month in sorted(shut & set(np.unique(service_month).tolist())):
        target = month
        while target in shut:
            target += 1
        posting[service_month == month] = target
    return posting


def closed_months(connection: Connection, namespace_key: int) -> list[int]:
    """Months that are closing or closed, ascending."""
    return [row[0] for row in connection.execute(SQL.closed_months, {"namespace_key": namespace_key}).fetchall()]


def share(connection: Connection, namespace_key: int, months: Sequence[int]) -> None:
    """Hold ``months`` open until the transaction ends: closing one waits. Taken in ascending order."""
    for month in sorted(months):
        connection.execute(SQL.share_period, {"namespace_key": namespace_key, "month": month})


def state(connection: Connection, namespace_key: int, month: int) -> str:
    """``open``, ``closing`` or ``closed``."""
    row = connection.execute(SQL.period_state, {"namespace_key": namespace_key, "month": month}).fetchone()
    return "open" if row is None else str(row[0])


def set_state(connection: Connection, namespace_key: int, month: int, new: str) -> None:
    """Flip a month's state; waits for batches that still post to it. The caller checks the transition."""
    connection.execute(SQL.lock_period, {"namespace_key": namespace_key, "month": month})
    connection.execute(SQL.set_period_state, {"namespace_key": namespace_key, "month": month, "state": new})
