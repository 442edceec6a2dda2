"""Named backfills: which passes belong to one, whether it still takes events, and what was accepted until it was reverted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineitem.core.errors import Refused
from lineitem.core.ids import length_prefixed, text_digest
from lineitem.ingest.intake import PLACE, stored_settings
from lineitem.kit.arrays import uuids
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ingest", "backfills.sql")
COPY_OUT_REVERTED = SQL.copy_out_reverted
"""Binary COPY of every reverted event, as ``intake.COPY_OUT_IDENTITIES``."""
SETTING = "backfill"
"""Key of a pass's settings that names its backfill."""


class Backfill(NamedTuple):
    """A backfill; ``reverted_batch``: of lane 0, the first of its revert, None while events may come in."""

    namespace_key: int
    name: str
    reverted_batch: int | None


def name_of(settings: Mapping[str, Any]) -> str | None:
    """The backfill that a pass with these settings belongs to."""
    found = settings.get(SETTING)
    return found if isinstance(found, str) else None


def content_of(name: str, content: str) -> str:
    """What stands for a file's digest in a backfill: its passes are its own, whoever else read the file."""
    return text_digest(SETTING, name, content).hex()


def begin(connection: Connection, namespace_key: int, name: str) -> None:
    """Make a backfill known. Raises Refused where the name is spent."""
    connection.execute(SQL.add_backfill, {"namespace_key": namespace_key, "name": name})
    share(connection, namespace_key, name)


def share(connection: Connection, namespace_key: int, name: str) -> None:
    """Hold a backfill open until the transaction ends. Raises Refused where it was reverted."""
    row = connection.execute(SQL.share_backfill, {"namespace_key": namespace_key, "name": name}).fetchone()
    if row is None or row[0] is not None:
        raise Refused(
            f"backfill {name!r} was reverted, its name is spent",
            do="Bring the events in under another name; those that were reverted may come again.",
        )


def lock(connection: Connection, namespace_key: int, name: str) -> Backfill | None:
    """Wait for batches of a backfill and keep others out until the transaction ends; None where there is no such one."""
    row = connection.execute(SQL.lock_backfill, {"namespace_key": namespace_key, "name": name}).fetchone()
    return None if row is None else Backfill(namespace_key, name, row[0])


def close(connection: Connection, namespace_key: int, name: str, batch: int) -> None:
    """Take no more events: ``batch`` of lane 0 begins to revert it."""
    connection.execute(SQL.close_backfill, {"namespace_key": namespace_key, "name": name, "batch": batch})


def backfills(connection: Connection) -> list[Backfill]:
    """All of them, by namespace and name."""
    return [Backfill(*row) for row in connection.execute(SQL.backfills).fetchall()]


def passes(connection: Connection, namespace_key: int | None = None) -> dict[int, tuple[int, str]]:
    """Partition key -> namespace key and backfill, of every pass that belongs to one."""
    rows = connection.execute(SQL.passes, {"namespace_key": namespace_key}).fetchall()
    named = ((key, of, name_of(stored_settings(settings))) for key, of, settings in rows)
    return {key: (of, name) for key, of, name in named if name is not None}


def revert(connection: Connection, keys: NDArray[np.void], batch: int) -> NDArray[np.void]:
    """Free the identities ``keys`` (n,) V16 in ``batch`` of lane 0. Returns those that were, dtype ``PLACE``, in order.

    Events that somebody retracted are not among them: they stay known.
    """
    values = {"keys": uuids(keys), "reverted_batch": batch}
    row = connection.execute(SQL.revert_events, values, binary=True).fetchone()
    gone = np.frombuffer(b"" if row is None else bytes(row[0]), dtype=PLACE)
    connection.execute(SQL.free_identities, {"keys": uuids(gone["key"])})
    return gone


def reverted_places(connection: Connection, keys: NDArray[np.void]) -> NDArray[np.void]:
    """Where events with ``keys`` (n,) V16 stood until they were reverted, dtype ``PLACE``; one key may have several."""
    row = connection.execute(SQL.reverted_places, {"keys": uuids(keys)}, binary=True).fetchone()
    return np.frombuffer(b"" if row is None else bytes(row[0]), dtype=PLACE)


def reverted_ordinals(connection: Connection, lane: int, batch: int) -> NDArray[np.int64]:
    """The records of a batch whose events were reverted."""
    row = connection.execute(SQL.reverted_ordinals, {"lane": lane, "batch": batch}, binary=True).fetchone()
    return np.frombuffer(b"" if row is None else bytes(row[0]), dtype=">i4").astype(np.int64)


def reverted_in(connection: Connection, lane: int, batch: int, ordinal: int) -> int | None:
    """The batch of lane 0 that reverted the event at a place."""
    where = {"lane": lane, "batch": batch, "ordinal": ordinal}
    row = connection.execute(SQL.reverted_in, where).fetchone()
    return None if row is None else int(row[0])


def reverted_by_batch(connection: Connection) -> dict[int, NDArray[np.void]]:
    """Batch of lane 0 -> what it reverted, dtype ``PLACE``, in order."""
    rows = connection.execute(SQL.reverted_by_batch, binary=True).fetchall()
    return {batch: np.frombuffer(bytes(packed), dtype=PLACE) for batch, packed in rows}


def retracted_at(connection: Connection, places: Sequence[tuple[int, int]]) -> int:
    """How many events accepted in batches (lane, number) were retracted one by one."""
    where = {"lanes": [lane for lane, _ in places], "batches": [batch for _, batch in places]}
    row = connection.execute(SQL.retracted_at, where).fetchone()
    return 0 if row is None else int(row[0])


def digest(gone: NDArray[np.void]) -> str:
    """SHA-256 over reverted events in order (identity, content digest, lane, batch, ordinal), hex."""
    return sha256(length_prefixed(SETTING.encode(), gone.tobytes())).hexdigest()
