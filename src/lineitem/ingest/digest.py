"""Identity keys and content digests of events, a slice at a time, and the numbers that make digests canonical.

A content digest covers what is billed: ``[type, subject, time_us, data]`` as canonical JSON (RFC 8259 text, object
keys sorted by code point, no spaces), SHA-256, first 16 bytes. Numbers are canonical because ``exact_number`` gives
every value exactly one Python form: ``1``, ``1.0`` and ``1e0`` are the int 1. A string never equals a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineitem.core.ids import length_prefixed
from lineitem.ingest.events import KEY_DTYPE

INTEGER_DIGITS_MAX = 40
"""Integers of more decimal digits are kept as a normalised Decimal, so that ``1e400`` stays small in memory."""

_INTEGER_BOUND = 10**INTEGER_DIGITS_MAX
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_CANONICAL = msgspec.json.Encoder(order="sorted", decimal_format="number")


class NumberTooLarge(ArithmeticError):
    """A JSON number whose exponent is beyond what a Decimal can hold."""


def exact_number(text: str) -> int | Decimal:
    """A JSON number's text as its one canonical value: an int of at most 40 digits, else a Decimal without end zeros.

    Raises NumberTooLarge when the exponent has about 19 digits or more.
    """
    try:
        value = Decimal(text)
    except ArithmeticError:
        raise NumberTooLarge(f"the exponent of {text[:60]} is too large") from None
    return canonical_decimal(value)


def canonical_decimal(value: Decimal) -> int | Decimal:
    """A finite Decimal in its canonical form (see ``exact_number``)."""
    if not value:
        return 0
    if value.adjusted() < INTEGER_DIGITS_MAX and value == value.to_integral_value():
        return int(value)
    return value.normalize(_EXACT)


def canonical_integer(value: int) -> int | Decimal:
    """An int in its canonical form (see ``exact_number``)."""
    return value if -_INTEGER_BOUND < value < _INTEGER_BOUND else Decimal(value).normalize(_EXACT)


def canonical_tree(value: Any) -> Any:
    """Parsed JSON with every number in its canonical form; for the rare records that hold a long integer, and for data that
    was no JSON."""
    if type(value) is int:
        return canonical_integer(value)
    if isinstance(value, Decimal):
        return canonical_decimal(value)
    if isinstance(value, dict):
        return {name: canonical_tree(item) for name, item in value.items()}
    if isinstance(value, list):
        return [canonical_tree(item) for item in value]
    return value


def number_hook() -> Callable[[str], int | Decimal]:
    """``exact_number`` with a memory, for one slice of records: usage repeats its fractions."""
    return lru_cache(maxsize=8192)(exact_number)


def content_digests(
    types: Sequence[str], subjects: Sequence[str], time_us: NDArray[np.int64], data: Sequence[dict[str, Any]]
) -> NDArray[np.void]:
    """The content digests, (n,) V16, of n events whose ``data`` holds canonical numbers only."""
    lines = _CANONICAL.encode_lines(list(zip(types, subjects, time_us.tolist(), data, strict=True))).split(b"\n")
    del lines[-1]
    return _halves([sha256(line).digest() for line in lines])


def identity_keys(namespace: str, sources: Sequence[str], ids: Sequence[str]) -> NDArray[np.void]:
    """``core.ids.identity_key`` of n events as an (n,) V16 array."""
    encoded = list(map(str.encode, ids))
    sizes = {size: size.to_bytes(4, "big") for size in set(map(len, encoded))}
    prefixes = {source: length_prefixed(namespace.encode(), source.encode()) for source in set(sources)}
    if len(prefixes) == len(sizes) == 1:  # the usual file: one source, ids of one form
        head = next(iter(prefixes.values())) + next(iter(sizes.values()))
        return _halves([sha256(head + text).digest() for text in encoded])
    return _halves(
        [
            sha256(prefixes[source] + sizes[len(text)] + text).digest()
            for source, text in zip(sources, encoded, strict=True)
        ]
    )


def record_ids(stream: str, positions: Sequence[int], records: Sequence[bytes]) -> list[str]:
    """The ids of records that have none: 32 hex digits over stream, place and bytes of each (DESIGN, Sources).

    Identical lines at two places are two events. Stream, place (as decimal text) and record are length-prefixed.
    """
    head = length_prefixed(stream.encode())
    places = [str(position).encode() for position in positions]
    return [
        sha256(b"%b%b%b%b%b" % (head, len(p).to_bytes(4, "big"), p, len(r).to_bytes(4, "big"), r)).hexdigest()[:32]
        for p, r in zip(places, records, strict=True)
    ]


def _halves(digests: list[bytes]) -> NDArray[np.void]:
    """The first 16 of every 32 bytes, as (n,) V16."""
    whole = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    return np.ascontiguousarray(whole[:, :16]).view(KEY_DTYPE).reshape(-1)
