"""Times as files write them, other than RFC 3339: ISO without an offset, Unix numbers, and patterns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from whenever import PlainDateTime, RepeatedTime, SkippedTime

from lineitem.core.reasons import Reason
from lineitem.ingest.times import parse_rfc3339
from lineitem.ingest.validate import Problem, Problems, bad_time

TIME_FORMATS = ("rfc3339", "iso", "unix", "unix_ms", "unix_us")
"""Formats with a name; every other format is a pattern (see ``compile_format``)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAR_US = 1 << 62
_UNIX_DIGITS = {"unix": 6, "unix_ms": 3, "unix_us": 0}
_NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?", re.ASCII)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ISO = re.compile(
    r"(?P<Y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)[T ](?P<H>\d\d):(?P<M>\d\d)(:(?P<S>\d\d)([.,](?P<f>\d{1,40}))?)?"
    r" ?(?P<z>[Zz]|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_DIRECTIVES = {
    "Y": r"(?P<Y>\d{4})",
    "y": r"(?P<y>\d\d)",
    "m": r"(?P<m>\d{1,2})",
    "b": r"(?P<b>[A-Za-z]{3})",
    "d": r"(?P<d>\d{1,2})",
    "H": r"(?P<H>\d{1,2})",
    "I": r"(?P<I>\d{1,2})",
    "p": r"(?P<p>[AaPp][Mm])",
    "M": r"(?P<M>\d{2})",
    "S": r"(?P<S>\d{2})",
    "f": r"(?P<f>\d{1,40})",
    "z": r"(?P<z>[Zz]|[+-]\d\d:?\d\d)",
    "%": "%",
}


@lru_cache(maxsize=64)
def compile_format(format_: str) -> re.Pattern[str]:
    """A pattern such as ``%d/%b/%Y:%H:%M:%S %z`` as a regular expression. Raises ValueError if it cannot be one."""
    parts = re.split(r"%(.)", format_)
    unknown = [name for name in parts[1::2] if name not in _DIRECTIVES]
    if len(parts) == 1 or unknown or parts[-1].endswith("%"):
        raise ValueError(f"{format_!r} is not a time format")
    try:
        pattern = "".join(_DIRECTIVES[p] if i % 2 else re.escape(p) for i, p in enumerate(parts))
        compiled = re.compile(pattern, re.ASCII)
    except re.error:
        raise ValueError(f"{format_!r} names a part of the time twice") from None
    groups = compiled.groupindex.keys()
    if not (groups & {"Y", "y"} and groups & {"m", "b"} and "d" in groups):
        raise ValueError(f"{format_!r} does not name year, month and day")
    return compiled


def parse_times(values: Sequence[Any], format_: str, zone: str | None, problems: Problems) -> NDArray[np.int64]:
    """A column of times (text, or numbers for Unix formats) as (n,) int64 microseconds since the epoch, UTC.

    What is missing or cannot be read is entered in ``problems`` and 0. A local time that ``zone`` skips or repeats
    is such a case: which instant it means is unknown.
    """
    texts = [value if isinstance(value, str) else "" if value is None else str(value) for value in values]
    time_us = np.zeros(len(texts), np.int64)
    rest: Sequence[int] = range(len(texts))
    if format_ == "rfc3339" or (format_ == "iso" and zone == "UTC"):
        instants = texts if format_ == "rfc3339" else [text.replace(" ", "T", 1) + "Z" for text in texts]
        time_us, valid = parse_rfc3339(instants)
        rest = np.flatnonzero(~valid).tolist()
    parse = _parser(format_, zone)
    known: dict[str, int | Problem] = {}
    for row in rest:
        text = texts[row]
        result = known.get(text)
        if result is None:
            result = known[text] = _attempt(parse, text, format_, zone)
        if isinstance(result, Problem):
            problems.setdefault(row, result)
        else:
            time_us[row] = result
    return time_us


def _attempt(parse: Callable[[str], int], text: str, format_: str, zone: str | None) -> int | Problem:
    if not text:
        return Problem(Reason.MISSING_FIELD, "time is missing, null or empty")
    try:
        return max(-_FAR_US, min(_FAR_US, parse(text)))
    except (RepeatedTime, SkippedTime) as error:
        happened = "happened twice" if isinstance(error, RepeatedTime) else "did not happen"
        return Problem(Reason.BAD_TIME, f"time {text!r} {happened} in {zone}; give times with their offset")
    except (ValueError, OverflowError):
        return bad_time(text) if format_ == "rfc3339" else bad_time(text, f"a {format_} time")


def _parser(format_: str, zone: str | None) -> Callable[[str], int]:
    """One text to microseconds; raises ValueError, OverflowError, RepeatedTime or SkippedTime."""
    if format_ == "rfc3339":
        return _refuse
    if format_ in _UNIX_DIGITS:
        return lambda text: _unix_us(text, _UNIX_DIGITS[format_])
    pattern = _ISO if format_ == "iso" else compile_format(format_)
    return lambda text: _pattern_us(text, pattern, zone)


def _refuse(text: str) -> int:
    raise ValueError(text)


def _unix_us(text: str, digits: int) -> int:
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(text)
    whole, _, fraction = text.strip().partition(".")
    return int(whole + fraction[:digits].ljust(digits, "0"))


def _pattern_us(text: str, pattern: re.Pattern[str], zone: str | None) -> int:
    match = pattern.fullmatch(text.strip())
    if not match:
        raise ValueError(text)
    part = match.groupdict(default="")
    hour = _hour(part)
    date = (_year(part), _month(part), int(part["d"]))
    clock = (hour, int(part.get("M") or 0), int(part.get("S") or 0))
    fraction_us = int(part.get("f", "")[:6].ljust(6, "0"))
    offset = part.get("z", "")
    if not offset and zone not in (None, "UTC"):
        local = PlainDateTime(*date, *clock)
        return local.assume_tz(str(zone), disambiguation="raise").timestamp() * 1_000_000 + fraction_us
    if not offset and zone is None:
        raise ValueError("no offset")
    seconds = (datetime(*date, *clock, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
    return (seconds - _offset_seconds(offset)) * 1_000_000 + fraction_us


def _year(part: dict[str, str]) -> int:
    """Two digits mean 1969 to 2068, as POSIX has it."""
    if part.get("Y"):
        return int(part["Y"])
    short = int(part["y"])
    return short + (2000 if short < 69 else 1900)


def _month(part: dict[str, str]) -> int:
    return int(part["m"]) if part.get("m") else _MONTHS.index(part["b"].lower()) + 1


def _hour(part: dict[str, str]) -> int:
    if not part.get("I"):
        return int(part.get("H") or 0)
    hour = int(part["I"])
    if not 1 <= hour <= 12:
        raise ValueError(hour)
    return hour % 12 + (12 if part.get("p", "").lower() == "pm" else 0)


def _offset_seconds(offset: str) -> int:
    if offset in ("", "Z", "z"):
        return 0
    hours, minutes = int(offset[1:3]), int(offset[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError(offset)
    return (-1 if offset[0] == "-" else 1) * (hours * 3600 + minutes * 60)
