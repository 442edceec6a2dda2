"""Which events of a batch are new, which repeat, which conflict. Pure.

Same identity and same digest: a duplicate, counted and harmless. Same identity, other digest: a conflict, set aside and
never billed. Identity is kept for accepted events only, so an event that is set aside does not shadow a corrected one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineitem.core.reasons import Reason
from lineitem.ingest.events import EventColumns, Reject


@dataclass(slots=True)
class Fate:
    """What becomes of a batch's events: ``accepted`` (n,) bool, how many repeat, ``repeats`` of those another one of the batch,
    and what is set aside."""

    accepted: NDArray[np.bool_]
    duplicates: int
    repeats: int
    rejects: list[Reject]


def repeats_inside(events: EventColumns, valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) int64: for each valid event the row of the first valid one with its identity (itself, mostly); -1 elsewhere."""
    first = np.where(valid, np.arange(len(events), dtype=np.int64), -1)
    rows = np.flatnonzero(valid)
    high = events.key.view(">u8").reshape(-1, 2)[rows, 0].astype(np.uint64)
    order = np.argsort(high, kind="stable")
    same = high[order][1:] == high[order][:-1]
    if not same.any():
        return first
    suspects = rows[order][np.concatenate([[False], same]) | np.concatenate([same, [False]])]
    seen: dict[bytes, int] = {}
    for row in np.sort(suspects).tolist():
        first[row] = seen.setdefault(bytes(events.key[row]), row)
    return first


def settle(
    events: EventColumns,
    first: NDArray[np.int64],
    invalid: Sequence[Reject],
    known: Mapping[bytes, bytes],
) -> Fate:
    """Decide every event.

    ``first``: from ``repeats_inside``. ``invalid``: rejects of events that decoded (they carry key and digest).
    ``known``: identity key -> digest of events the ledger accepted before.
    """
    accepted = first == np.arange(len(events))
    duplicates, rejects = 0, []
    for row in np.flatnonzero((first >= 0) & ~accepted).tolist():
        before = known.get(bytes(events.key[row]), bytes(events.digest[first[row]]))
        if bytes(events.digest[row]) == before:
            duplicates += 1
        else:
            rejects.append(_conflict(events, row))
    repeats = duplicates
    if known:
        keys = events.key.tobytes()
        for row in np.flatnonzero(accepted).tolist():
            digest = known.get(keys[16 * row : 16 * row + 16])
            if digest is None:
                continue
            accepted[row] = False
            if digest == bytes(events.digest[row]):
                duplicates += 1
            else:
                rejects.append(_conflict(events, row))
    for reject in invalid:
        if reject.key is not None and known.get(reject.key) == reject.digest:
            duplicates += 1
        else:
            rejects.append(reject)
    return Fate(accepted, duplicates, repeats, rejects)


def _conflict(events: EventColumns, row: int) -> Reject:
    return Reject(
        int(events.ordinal[row]),
        Reason.CONFLICT,
        f"event {events.id[row]!r} of source {events.source[row]!r} was accepted before with other content",
        bytes(events.key[row]),
        bytes(events.digest[row]),
    )
