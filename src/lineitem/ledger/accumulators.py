"""Running usage of targets: locked in key order, read as columns, written back as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.rate.exact import IntArray, compact
from lineitem.rate.folds import FoldState
from lineitem.rate.itemize import TargetState

SQL = load_queries("lineitem.ledger", "ledger.sql")


@dataclass(slots=True)
class Targets:
    """Targets of one price, in key order; every column has shape (k,)."""

    price_key: int
    account_key: NDArray[np.int32]
    service_month: NDArray[np.int32]
    start_us: NDArray[np.int64]
    end_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.account_key)


def lock(connection: Connection, namespace_key: int, targets: Targets) -> TargetState:
    """Create what is missing, lock all in key order, and return their state."""
    rows = _locked(connection, targets)
    if len(rows) < len(targets):
        found = {row[0] for row in rows}
        missing = [i for i in range(len(targets)) if i + 1 not in found]
        connection.execute(
            SQL.add_accumulators,
            {
                "price_key": targets.price_key,
                "namespace_key": namespace_key,
                "accounts": targets.account_key[missing].tolist(),
                "months": targets.service_month[missing].tolist(),
                "starts": targets.start_us[missing].tolist(),
                "ends": targets.end_us[missing].tolist(),
            },
        )
        rows = _locked(connection, targets)
    rows.sort()
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    fold = FoldState(
        integers(columns[2]),
        np.array(columns[1], dtype=np.int64) > 0,
        np.array([time or 0 for time in columns[6]], dtype=np.int64),
        np.array([bytes(16) if key is None else key.bytes for key in columns[7]], dtype="V16"),
    )
    return TargetState(
        np.array(columns[1], dtype=np.int64),
        np.array(columns[5], dtype=np.int64),
        fold,
        integers(columns[3]),
        integers(columns[4]),
    )


def _locked(connection: Connection, targets: Targets) -> list[tuple[Any, ...]]:
    values = {
        "accounts": targets.account_key.tolist(),
        "starts": targets.start_us.tolist(),
        "price_key": targets.price_key,
    }
    return connection.execute(SQL.lock_accumulators, values, binary=True).fetchall()


def integers(values: Any) -> IntArray:
    """PostgreSQL numerics as an exact integer column."""
    return compact(np.array([int(value) for value in values], dtype=object))


def save(connection: Connection, targets: Targets, state: TargetState, keep_latest: bool) -> None:
    """Write the state back. ``keep_latest``: the fold remembers time and identity of one reading."""
    count = len(targets)
    times = state.fold.time_us.tolist() if keep_latest else [None] * count
    keys = [bytes(key).hex() for key in state.fold.key] if keep_latest else [None] * count
    connection.execute(
        SQL.update_accumulators,
        {
            "price_key": targets.price_key,
            "accounts": targets.account_key.tolist(),
            "starts": targets.start_us.tolist(),
            "events": state.events.tolist(),
            "quantities": _texts(state.fold.quantity),
            "posted_quantities": _texts(state.posted_quantity),
            "posted": _texts(state.posted_nano),
            "last": state.last_event_us.tolist(),
            "fold_times": times,
            "fold_keys": keys,
        },
    )


def _texts(values: IntArray) -> list[str]:
    return [str(value) for value in values.tolist()]


def new_members(
    connection: Connection, targets: Targets, target: NDArray[np.int64], member: NDArray[np.void], first: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(n,) bool: rows whose (target, member) neither stands earlier in the batch (``first``) nor in the ledger."""
    rows = np.flatnonzero(first)
    values = _member_values(targets, target[rows], member[rows])
    known = [row[0] - 1 for row in connection.execute(SQL.known_members, values).fetchall()]
    fresh = first.copy()
    fresh[rows[known]] = False
    return fresh


def add_members(
    connection: Connection,
    namespace_key: int,
    targets: Targets,
    target: NDArray[np.int64],
    member: NDArray[np.void],
) -> None:
    """Remember new members; ``target`` and ``member`` have shape (m,)."""
    if len(target):
        values = _member_values(targets, target, member)
        connection.execute(SQL.add_members, values | {"namespace_key": namespace_key})


def _member_values(targets: Targets, target: NDArray[np.int64], member: NDArray[np.void]) -> dict[str, Any]:
    return {
        "price_key": targets.price_key,
        "accounts": targets.account_key[target].tolist(),
        "starts": targets.start_us[target].tolist(),
        "members": [bytes(one).hex() for one in member],
    }
