"""What running usage keeps under a per-event price: sums of charges, and the events that used up an allowance.

The targets are locked already (``accumulators.lock``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.kit.arrays import int4s, int8s, numerics, uuids
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.accumulators import Targets, integers, target_keys
from lineitem.rate.allowance import Allowance, Members, admit
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.exact import add
from lineitem.rate.folds import KEY_DTYPE, Groups
from lineitem.rate.itemize import TargetState

SQL = load_queries("lineitem.ledger", "charges.sql")


def load(connection: Connection, targets: Targets, state: TargetState) -> TargetState:
    """``state`` with the sums of charges."""
    rows = connection.execute(SQL.charges, target_keys(targets), binary=True).fetchall()
    return replace(state, charge=integers(row[1] for row in rows), posted_charge=integers(row[2] for row in rows))


def save(connection: Connection, targets: Targets, state: TargetState) -> None:
    """Write the sums of charges back."""
    values = {"charges": numerics(state.charge), "posted_charges": numerics(state.posted_charge)}
    connection.execute(SQL.update_charges, target_keys(targets) | values)


def members(connection: Connection, targets: Targets) -> Members:
    """Who is in the allowances of ``targets``."""
    rows = connection.execute(SQL.allowance_members, target_keys(targets), binary=True).fetchall()
    return Members(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.int64),
        np.frombuffer(b"".join(row[2].bytes for row in rows), dtype=KEY_DTYPE),
        integers(row[3] for row in rows),
    )


def replace_members(
    connection: Connection, namespace_key: int, targets: Targets, before: Members, after: Members
) -> None:
    """Store who came in and forget who was pushed out."""
    places_before, places_after = _places(before), _places(after)
    known, now = set(places_before), set(places_after)
    gone = before.take(np.array([place not in now for place in places_before], dtype=np.bool_))
    # An event that another process accepted meanwhile may stand here twice: the table refuses it, and the batch is tried
    # again with its repeats marked.
    fresh = after.take(np.array([place not in known for place in places_after], dtype=np.bool_))
    if len(gone.target):
        connection.execute(SQL.drop_allowance_members, _values(targets, gone))
    if len(fresh.target):
        more = {"namespace_key": namespace_key, "times": int8s(fresh.time_us), "values": numerics(fresh.value)}
        connection.execute(SQL.add_allowance_members, _values(targets, fresh) | more)


def _places(some: Members) -> list[tuple[int, bytes]]:
    """Target and key of each, in order."""
    return list(zip(some.target.tolist(), map(bytes, some.key), strict=True))


def _values(targets: Targets, some: Members) -> dict[str, Any]:
    return {
        "price_key": targets.price_key,
        "accounts": int4s(targets.account_key[some.target]),
        "starts": int8s(targets.start_us[some.target]),
        "members": uuids(some.key),
    }


def charged(
    allowance: Allowance, usage: PriceUsage, target: NDArray[np.int64], targets: int, before: Members
) -> tuple[PriceUsage, Members]:
    """``usage`` with the charges that the allowance leaves, and who is in it afterwards.

    What members from before have to pay because new events took their place is charged with the first new event of their
    target: a line item's amount is what the target owes now, less what was posted.
    """
    admitted = admit(allowance, targets, before, Members(target, usage.time_us, usage.key, usage.value))
    groups = Groups.of(target, targets)
    rise = np.zeros(len(target), dtype=admitted.adjustment.dtype)
    rise[groups.starts] = admitted.adjustment[groups.present]
    return replace(usage, charge=add(admitted.charges, rise)), admitted.members
