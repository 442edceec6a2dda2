"""Running usage of targets: locked in key order, read as columns, written back as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.kit.arrays import int4s, int8s, numerics, uuids
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

    @classmethod
    def of(cls, price_key: int, places: Sequence[tuple[int, int, int, int]]) -> Targets:
        """From account key, service month, start and end of each, which come in key order."""
        account_key, service_month, start_us, end_us = zip(*places, strict=True) if places else ((), (), (), ())
        return cls(
            price_key,
            np.array(account_key, dtype=np.int32),
            np.array(service_month, dtype=np.int32),
            np.array(start_us, dtype=np.int64),
            np.array(end_us, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.account_key)


def lock(connection: Connection, namespace_key: int, targets: Targets) -> TargetState:
    """Create what is missing, lock all in key order, and return their state."""
    found = _locked(connection, targets)
    if len(found) < len(targets):
        missing = np.setdiff1d(np.arange(len(targets)), found["n"] - 1)
        connection.execute(
            SQL.add_accumulators,
            {
                "price_key": targets.price_key,
                "namespace_key": namespace_key,
                "accounts": int4s(targets.account_key[missing]),
                "months": int4s(targets.service_month[missing]),
                "starts": int8s(targets.start_us[missing]),
                "ends": int8s(targets.end_us[missing]),
            },
        )
        found = _locked(connection, targets)
    found = found[np.argsort(found["n"])]
    numbers = {name: found[name].astype(np.int64) for name in ("quantity", "posted_quantity", "posted_nano")}
    if found["wide"].any():
        numbers = _wide_numbers(connection, targets)
    fold = FoldState(
        numbers["quantity"], found["events"] > 0, found["fold_time_us"].astype(np.int64), found["fold_key"].copy()
    )
    return TargetState(
        found["events"].astype(np.int64),
        found["last_event_us"].astype(np.int64),
        fold,
        numbers["posted_quantity"],
        numbers["posted_nano"],
        charge=np.zeros(len(found), dtype=np.int64),
        posted_charge=np.zeros(len(found), dtype=np.int64),
        settled=found["settled"].astype(np.int64),
    )


_STATE = np.dtype(
    [("n", ">i8"), ("wide", "?"), ("events", ">i8"), ("quantity", ">i8"), ("posted_quantity", ">i8"), ("posted_nano", ">i8"),
     ("last_event_us", ">i8"), ("fold_time_us", ">i8"), ("fold_key", "V16"), ("settled", ">i8")]
)  # fmt: skip


def target_keys(targets: Targets) -> dict[str, Any]:
    """What names ``targets`` in a query."""
    return {
        "accounts": int4s(targets.account_key),
        "starts": int8s(targets.start_us),
        "price_key": targets.price_key,
    }


def _locked(connection: Connection, targets: Targets) -> NDArray[np.void]:
    """The targets that exist, locked; numbers beyond int64 read 0 and are marked ``wide``."""
    row = connection.execute(SQL.lock_accumulators, target_keys(targets), binary=True).fetchone()
    return np.frombuffer(b"" if row is None else bytes(row[0]), dtype=_STATE)


def _wide_numbers(connection: Connection, targets: Targets) -> dict[str, IntArray]:
    rows = connection.execute(SQL.wide_accumulators, target_keys(targets), binary=True).fetchall()
    columns = zip(*sorted(rows), strict=True)
    next(columns)
    return dict(zip(("quantity", "posted_quantity", "posted_nano"), map(integers, columns), strict=True))


def integers(values: Any) -> IntArray:
    """PostgreSQL numerics as an exact integer column."""
    return compact(np.array([int(value) for value in values], dtype=object))


def save(connection: Connection, targets: Targets, state: TargetState, keep_latest: bool) -> None:
    """Write the state back. ``keep_latest``: the fold remembers time and identity of one reading."""
    values = target_keys(targets) | {
        "events": int8s(state.events),
        "quantities": numerics(state.fold.quantity),
        "posted_quantities": numerics(state.posted_quantity),
        "posted": numerics(state.posted_nano),
        "last": int8s(state.last_event_us),
    }
    connection.execute(SQL.update_accumulators, values)
    if keep_latest:
        readings = {"fold_times": int8s(state.fold.time_us), "fold_keys": uuids(state.fold.key)}
        connection.execute(SQL.update_readings, target_keys(targets) | readings)


def new_members(
    connection: Connection,
    targets: Targets,
    target: NDArray[np.int64],
    member: NDArray[np.void],
    first: NDArray[np.bool_],
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
        "accounts": int4s(targets.account_key[target]),
        "starts": int8s(targets.start_us[target]),
        "members": uuids(member),
    }
