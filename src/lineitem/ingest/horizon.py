"""The horizon: events older than it are set aside, for identities from before it need not be kept. Pure."""

from __future__ import annotations

import numpy as np

from lineitem.core.period import us_to_text
from lineitem.core.reasons import Reason
from lineitem.ingest.events import EventColumns, Reject

_DAY_US = 86_400 * 1_000_000


def too_old(events: EventColumns, horizon_days: int | None, now_us: int) -> list[Reject]:
    """Rejects of the events that lie more than ``horizon_days`` before ``now_us``, the clock of their batch.

    Whether one is a repeat of an accepted event is for the caller to look up: then it is a duplicate all the same.
    """
    if horizon_days is None:
        return []
    oldest_us = now_us - horizon_days * _DAY_US
    detail = f"the event lies before {us_to_text(oldest_us)}, more than {horizon_days} days ago"
    return [
        Reject(int(events.ordinal[row]), Reason.TOO_OLD, detail, bytes(events.key[row]), bytes(events.digest[row]))
        for row in np.flatnonzero(events.time_us < oldest_us).tolist()
    ]
