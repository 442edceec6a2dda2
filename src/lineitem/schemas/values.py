"""JSON values with exact numbers: what every format decodes to, whatever its numbers were on the wire."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from lineitem.core.exact_json import exact_json
from lineitem.schemas.model import Unreadable

NODES_MAX = 100_000
"""Values in one message: an array of nothing takes no bytes, so its bytes do not bound it."""
DEPTH_MAX = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def json_value(payload: bytes) -> Any:
    """A JSON text in UTF-8; fractions become Decimals. Raises Unreadable, also for half of a surrogate pair: it is no text."""
    try:
        value = exact_json(payload.decode())
        if b"\\u" in payload:  # decoded UTF-8 holds no surrogate, an escape may
            _check_text(value)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the payload is not JSON: {error}") from None
    _check_depth(value, 0)
    return value


def _check_depth(value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise Unreadable(f"the payload nests deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            _check_depth(one, depth + 1)


def _check_text(value: Any) -> None:
    """Raise ValueError for a string or a key that UTF-8 cannot write."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict | list):
        for one in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_text(one)


def unless(good: bool, place: str, what: str) -> Iterator[str]:
    """The problem of a value at ``place`` that is not ``what`` it has to be; nothing where it is."""
    if not good:
        yield f"{place}: not {what}"


def from_double(value: float) -> Decimal:
    """The shortest decimal that reads back as the same double, as a JSON producer would have written it."""
    if not math.isfinite(value):
        raise Unreadable(f"{value} is not a number that can be billed")
    return Decimal(repr(value))


def from_single(value: float) -> Decimal:
    """The shortest decimal that reads back as the same single-precision number."""
    if not math.isfinite(value):
        raise Unreadable(f"{value} is not a number that can be billed")
    return Decimal(np.format_float_scientific(np.float32(value), unique=True, trim="-"))


def instant(units: int, per_second: int) -> str:
    """An instant counted from the epoch as RFC 3339 text, UTC."""
    seconds, rest = divmod(units, per_second)
    digits = len(str(per_second)) - 1
    try:
        whole = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise Unreadable(f"the instant {units} lies outside the years 1 to 9999") from None
    fraction = f".{rest:0{digits}d}" if rest else ""
    return f"{whole:%Y-%m-%dT%H:%M:%S}{fraction}Z".rjust(20 + len(fraction), "0")
