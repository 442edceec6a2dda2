"""RFC 3339 instants, parsed a column at a time and strictly; everything else a column's times may be written in.

The grammar is RFC 3339 section 5.6 with lower-case ``t`` and ``z`` allowed (its note) and leap seconds refused, for
microseconds since the epoch cannot hold them. Digits finer than a microsecond are cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TIME_CHARS_MAX = 64
"""Longest instant read; what is longer has absurdly many decimals."""

_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18])
_OFFSET_DIGITS = np.array([1, 2, 4, 5])
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] + [0] * 87)
_ZERO, _DASH, _COLON, _POINT, _PLUS, _T, _Z = (ord(c) for c in "0-:.+tz")
_LOWER = 0x20


def parse_rfc3339(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """n texts to ``(time_us, valid)``: (n,) int64 microseconds since the epoch UTC (0 where invalid), (n,) bool."""
    count = len(texts)
    time_us, valid = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    if not count:
        return time_us, valid
    lengths = np.fromiter(map(len, texts), np.int64, count)
    characters = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8)
    if lengths.min() == lengths.max():
        if 20 <= lengths[0] <= TIME_CHARS_MAX:
            time_us, valid = _parse_matrix(np.ascontiguousarray(characters.reshape(count, -1).T))
        return time_us, valid
    starts = np.cumsum(lengths) - lengths
    for length in np.unique(lengths).tolist():
        if 20 <= length <= TIME_CHARS_MAX:
            rows = np.flatnonzero(lengths == length)
            time_us[rows], valid[rows] = _parse_matrix(characters[starts[rows] + np.arange(length)[:, None]])
    return time_us, valid


def days_from_civil(year: NDArray[np.int32], month: NDArray[np.int32], day: NDArray[np.int32]) -> NDArray[np.int64]:
    """Days since 1970-01-01 of proleptic Gregorian dates, (n,) int64.

    The year counts from March, so that leap days end it and every month's start is linear in the month.
    """
    shifted = year - (month <= 2)
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    days: NDArray[np.int32] = era * 146_097 + day_of_era - 719_468
    return days.astype(np.int64)


def _parse_matrix(text: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(length, n) ASCII codes of equally long instants to ``(time_us, valid)``."""
    digits = text - np.uint8(_ZERO)
    valid = digits[_DIGITS].max(axis=0) <= 9
    valid &= (text[4] == _DASH) & (text[7] == _DASH) & (text[10] | _LOWER == _T)
    valid &= (text[13] == _COLON) & (text[16] == _COLON)
    year = _number(digits[0:4])
    month, day, hour, minute, second = (_number(digits[at : at + 2]) for at in (5, 8, 11, 14, 17))
    month_clipped = np.minimum(month, 99)
    leap_day = (month == 2) & (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    valid &= (day >= 1) & (day <= _MONTH_DAYS[month_clipped] + leap_day)
    valid &= (hour <= 23) & (minute <= 59) & (second <= 59)
    seconds = days_from_civil(year, month_clipped, day) * 86_400 + hour * 3600 + minute * 60 + second
    fraction_us, offset_seconds, tail_valid = _parse_tail(text[19:], digits[19:])
    valid &= tail_valid
    time_us = (seconds - offset_seconds) * 1_000_000 + fraction_us
    time_us[~valid] = 0
    return time_us, valid


def _number(digits: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(k, n) decimal digits, k at most 6, to (n,) numbers; garbage in, garbage (but no overflow) out."""
    number: NDArray[np.int32] = digits[0].astype(np.int32)
    for digit in digits[1:]:
        number = number * 10 + digit
    return number


def _parse_tail(
    text: NDArray[np.uint8], digits: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """What follows the seconds: ``(fraction_us, offset_seconds, valid)``, each (n,)."""
    length, count = text.shape
    utc = text[-1] | _LOWER == _Z
    offset = np.zeros(count, np.int64)
    if utc.all():
        fraction_us, valid = _parse_fraction(text[:-1], digits[:-1])
        return fraction_us, offset, valid
    fraction_us, valid = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    fraction_us[utc], valid[utc] = _parse_fraction(text[:-1, utc], digits[:-1, utc])
    if length < 6:
        return fraction_us, offset, valid
    local = ~utc
    fraction_us[local], fraction_valid = _parse_fraction(text[:-6, local], digits[:-6, local])
    sign, number = text[-6, local], digits[-6:, local]
    hours, minutes = _number(number[1:3]), _number(number[4:6])
    valid[local] = (
        fraction_valid
        & ((sign == _PLUS) | (sign == _DASH))
        & (text[-3, local] == _COLON)
        & (number[_OFFSET_DIGITS].max(axis=0) <= 9)
        & (hours <= 23)
        & (minutes <= 59)
    )
    offset[local] = np.where(sign == _DASH, -1, 1) * (hours * 3600 + minutes * 60)
    return fraction_us, offset, valid


def _parse_fraction(text: NDArray[np.uint8], digits: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """``.`` and at least one digit, or nothing at all: ``(fraction_us, valid)``."""
    length, count = text.shape
    if length < 2:
        return np.zeros(count, np.int64), np.full(count, length == 0)
    valid = (text[0] == _POINT) & (digits[1:].max(axis=0) <= 9)
    kept = digits[1:7]
    return _number(kept).astype(np.int64) * 10 ** (6 - len(kept)), valid
