"""Events beyond the horizon."""

from __future__ import annotations

from io import BytesIO

from lineitem.core.reasons import Reason
from lineitem.ingest import formats
from lineitem.ingest.events import BatchLimits, DecodeContext
from lineitem.ingest.horizon import too_old

DAY_US = 86_400_000_000
NOW_US = 1_793_577_600_000_000  # 2026-11-02


def test_only_what_lies_before_the_horizon_is_too_old() -> None:
    """The instant itself is inside; each reject names its record, its identity and the date."""
    times = ("2026-10-02T23:59:59.999999Z", "2026-10-03T00:00:00Z", "2026-11-02T00:00:00Z")
    lines = "".join(
        f'{{"specversion":"1.0","id":"{n}","source":"/s","type":"t","subject":"a","time":"{time}"}}\n'
        for n, time in enumerate(times)
    )
    cloudevents = formats.get("cloudevents")
    (raw,) = cloudevents.read(BytesIO(lines.encode()), 0, BatchLimits(), {})
    events, _ = cloudevents.decode(raw, DecodeContext("n", "s", NOW_US))
    (found,) = too_old(events, 30, NOW_US)
    assert (found.ordinal, found.reason) == (0, Reason.TOO_OLD)
    assert (found.key, found.digest) == (bytes(events.key[0]), bytes(events.digest[0]))
    assert found.detail == "the event lies before 2026-10-03T00:00:00Z, more than 30 days ago"
    assert too_old(events, None, NOW_US + 10_000 * DAY_US) == []
