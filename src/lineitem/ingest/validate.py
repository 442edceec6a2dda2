"""The rules every event must meet, whatever format it came in: each check works on a column and names the bad rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineitem.core.limits import EVENT_YEAR_MIN, FIELD_CHARS_MAX, FUTURE_SECONDS_MAX
from lineitem.core.period import Month, us_to_text
from lineitem.core.reasons import Reason

TIME_MIN_US = Month(EVENT_YEAR_MIN, 1).bounds_us("UTC")[0]
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Problem(NamedTuple):
    """Why one record is set aside."""

    reason: Reason
    detail: str


Problems = dict[int, Problem]
"""Row of a slice -> what is wrong with it; the first thing found stays."""


def shown(value: object) -> str:
    """A value as a message may quote it: short, and on one line."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def check_text(name: str, values: Sequence[str | None], problems: Problems, *, plain: bool = False) -> None:
    """Attribute ``name`` must be there and not empty, hold no control character and at most 1024 characters.

    ``plain`` says that the raw records are too short and too simple to break the last two. Control characters are
    those CloudEvents 1.0 section "Type System" forbids in a String (C0, DEL, C1).
    """
    texts = values if all(values) else _without_missing(name, values, problems)
    if plain or ("".join(texts).isprintable() and max(map(len, texts), default=0) <= FIELD_CHARS_MAX):  # type: ignore[arg-type]
        return
    for row, text in enumerate(values):
        if text and len(text) > FIELD_CHARS_MAX:
            problems.setdefault(row, Problem(Reason.BAD_FIELD, f"{name} has more than {FIELD_CHARS_MAX} characters"))
        elif text and _CONTROL.search(text):
            problems.setdefault(row, Problem(Reason.BAD_FIELD, f"{name} {shown(text)} holds a control character"))


def _without_missing(name: str, values: Sequence[str | None], problems: Problems) -> list[str | None]:
    """The texts that are there; the others become problems."""
    for row, text in enumerate(values):
        if not text:
            problems.setdefault(row, Problem(Reason.MISSING_FIELD, f"{name} is missing, null or empty"))
    return [text for text in values if text]


def check_time_range(time_us: NDArray[np.int64], now_us: int, problems: Problems) -> None:
    """Events lie between the year 2000 and one day from now; rows that already have a problem are left alone."""
    latest_us = now_us + FUTURE_SECONDS_MAX * 1_000_000
    for row in np.flatnonzero((time_us < TIME_MIN_US) | (time_us > latest_us)).tolist():
        early = time_us[row] < TIME_MIN_US
        limit = f"before the year {EVENT_YEAR_MIN}" if early else f"after {us_to_text(latest_us)}, a day from now"
        problems.setdefault(row, Problem(Reason.TIME_OUT_OF_RANGE, f"the event's time lies {limit}"))


def bad_time(value: object, expected: str = "an RFC 3339 instant with an offset") -> Problem:
    """The problem of a time that cannot be read."""
    hint = "; leap seconds cannot be stored" if re.search(r":\d\d:60", str(value)[:40]) else ""
    return Problem(Reason.BAD_TIME, f"time {shown(value)} is not {expected}{hint}")


def valid_traceparents(values: Sequence[object]) -> list[str | None]:
    """W3C trace parents; anything else is ignored, as Trace Context section 2.3 asks, and never costs the event."""
    if not any(values):
        return [None] * len(values)
    match = _TRACEPARENT.fullmatch
    return [value if isinstance(value, str) and match(value) else None for value in values]
