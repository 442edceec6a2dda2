"""Peak hours on the clock of a zone: for an instant, whether it is one of them, and until when that surely holds.

An instant is judged by what the clock on the wall shows then. So an hour that a clock change skips is nobody's, and one that it
repeats counts twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from whenever import Instant

Int64Array = NDArray[np.int64]

_SECOND_US = 1_000_000
_MINUTE_US = 60 * _SECOND_US
_DAY_SECONDS = 86_400
_WEEK_US = 7 * _DAY_SECONDS * _SECOND_US
_EPOCH_IN_WEEK_US = 3 * _DAY_SECONDS * _SECOND_US
"""1970-01-01 is a Thursday; weeks begin on Monday."""
_FIRST_SECOND = -62_135_510_400
_LAST_SECOND = 253_402_214_400
"""0001-01-02 and 9999-12-31: no zone has an offset of more than a day, so a local time of these exists."""


class Week:
    """Instants in and out of weekly hours. Immutable, shared freely between threads."""

    def __init__(self, zone: str, minutes: Sequence[tuple[int, int]]) -> None:
        """``minutes``: the hours as ``[start, end)`` in minutes of the week from Monday 00:00, sorted, disjoint."""
        self._zone = zone
        edges = sorted({0, *(minute for pair in minutes for minute in pair)} - {_WEEK_US // _MINUTE_US})
        inside = [any(start <= edge < end for start, end in minutes) for edge in edges]
        changes = [at for at in range(len(edges)) if at == 0 or inside[at] != inside[at - 1]]
        self._edges_us = np.array([edges[at] for at in changes], dtype=np.int64) * _MINUTE_US
        self._inside = np.array([inside[at] for at in changes], dtype=np.bool_)
        self._ends_us = np.append(self._edges_us[1:], _WEEK_US)

    def at(self, time_us: Int64Array) -> tuple[NDArray[np.bool_], Int64Array]:
        """(n,) instants, microseconds since the epoch, to ``(inside, until_us)``, each (n,).

        ``until_us`` is the first instant after each at which that may change: an edge of the hours, the end of the week
        or of the year, a change of the clock.
        """
        starts_us, ends_us, offsets_us = self._segments(time_us)
        segment = np.searchsorted(starts_us, time_us, side="right") - 1
        in_week_us = (time_us + offsets_us[segment] + _EPOCH_IN_WEEK_US) % _WEEK_US
        part = np.searchsorted(self._edges_us, in_week_us, side="right") - 1
        until_us = np.minimum(time_us + (self._ends_us[part] - in_week_us), ends_us[segment])
        return self._inside[part], until_us

    def _segments(self, time_us: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
        years = np.unique(time_us.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64))
        segments = [one for year in years.tolist() for one in _year_segments(self._zone, year)]
        table = np.array(segments, dtype=np.int64).reshape(-1, 3)
        return table[:, 0], table[:, 1], table[:, 2]


@lru_cache(maxsize=4096)
def _year_segments(zone: str, year: int) -> tuple[tuple[int, int, int], ...]:
    """The stretches of one offset in a year (UTC; years since 1970): ``(start, end, offset)``, microseconds.

    The offset is read once a day, and where two days differ the change is searched for: no zone changes its clock twice
    in a day.
    """
    first, end = (int(np.datetime64(one, "Y").astype("datetime64[s]").astype(np.int64)) for one in (year, year + 1))
    segments, start, offset = [], first, _offset_seconds(zone, first)
    for day in range(first, end, _DAY_SECONDS):
        known = offset
        offset = _offset_seconds(zone, day + _DAY_SECONDS)
        if offset != known:
            before, after = day, day + _DAY_SECONDS
            while after - before > 1:
                middle = (before + after) // 2
                before, after = (middle, after) if _offset_seconds(zone, middle) == known else (before, middle)
            if after < end:
                segments.append((start, after, known))
                start = after
            else:
                offset = known
    segments.append((start, end, offset))
    return tuple((a * _SECOND_US, b * _SECOND_US, c * _SECOND_US) for a, b, c in segments)


def _offset_seconds(zone: str, second: int) -> int:
    """How far the zone's clock is ahead of UTC at an instant."""
    within = min(max(second, _FIRST_SECOND), _LAST_SECOND)
    local = Instant.from_timestamp(within).to_tz(zone).to_plain()
    return (local.assume_utc().timestamp()) - within
