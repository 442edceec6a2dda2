"""What a meter reads from an event: its value as a scaled integer, the member it counts, its dimensions as text.

A value that cannot be read is a ``Flaw`` with a reason code, never an exception and never a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, Overflow
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lineitem.catalog.document import decimal_text
from lineitem.core.ids import text_digest
from lineitem.core.limits import QUANTITY_DIGITS_MAX
from lineitem.core.reasons import Reason
from lineitem.ingest.events import KEY_DTYPE
from lineitem.rate.columns import Column, int64_of, is_number
from lineitem.rate.exact import INT64_MAX, IntArray, magnitude

DIMENSION_CHARS_MAX = 256
"""Characters of one dimension's value."""

_NUMERIC_TEXT = re.compile(r"[+-]?([0-9]+(?:\.[0-9]+)?)(?:[eE]([+-]?)[0-9]+)?", re.ASCII)
_PLAIN = "^[+-]?[0-9]{1,19}(\\.[0-9]{1,18})?$"
CHUNK = 1024
"""Values read at once; one flaw costs its chunk the fast way, not the batch."""
EXACT = Context(prec=2 * QUANTITY_DIGITS_MAX, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[InvalidOperation, Inexact, Overflow])
"""What would be rounded raises instead."""
_LEDGER = Context(prec=QUANTITY_DIGITS_MAX, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[InvalidOperation, Inexact, Overflow])
"""The same for what the ledger can hold: quantizing to more digits is an invalid operation."""


class Flaw(NamedTuple):
    """Why a value cannot be read."""

    reason: Reason
    text: str


Flaws = dict[int, Flaw]
"""Flaws by position in the column."""


def read_quantities(column: Column, scale: int) -> tuple[IntArray, Flaws]:
    """(n,) values times ``10**scale``, int64 if all fit, else Python ints; 0 where there is a flaw."""
    if column.ints is not None and magnitude(column.ints) <= INT64_MAX // 10**scale:
        return column.ints * 10**scale, {}
    plain = _scaled_plain(column, scale)
    if plain is not None:
        return plain, {}
    flaws: Flaws = {}
    scaled: list[int] = []
    for start in range(0, len(column), CHUNK):
        chunk = column.values[start : start + CHUNK]
        scaled += scaled_chunk(chunk, scale) or _scaled_one_by_one(chunk, scale, start, flaws)
    ints = int64_of(scaled)
    return np.array(scaled, dtype=object) if ints is None else ints, flaws


def _scaled_plain(column: Column, scale: int) -> NDArray[np.int64] | None:
    """Values that all are plain decimals of few digits and fit int64, read in one go; None for any other column.

    Arrow's parser reads a text of 39 digits as another number without an error (pyarrow 26: "9" * 39 comes out
    negative), so only texts that cannot come near its bound get there.
    """
    if column.kinds != {str} and not column.kinds <= {int, Decimal}:
        return None
    try:
        texts = pa.array(column.values if column.kinds == {str} else list(map(str, column.values)), pa.string())
        if not pc.all(pc.match_substring_regex(texts, _PLAIN)).as_py():
            return None
        words = np.frombuffer(texts.cast(pa.decimal128(QUANTITY_DIGITS_MAX, scale)).buffers()[1], dtype="<i8")
    except ValueError:  # too precise (ArrowInvalid), or an integer or a surrogate that has no text
        return None
    low, high = words[0 : 2 * len(column) : 2], words[1 : 2 * len(column) : 2]
    return low.astype(np.int64) if bool((high == low >> 63).all()) else None


def scaled_chunk(values: list[Any], scale: int) -> list[int] | None:
    """Values times ``10**scale`` if all are numbers or all numeric texts, without a flaw; None for a closer look."""
    kinds = set(map(type, values))
    if kinds == {str}:
        if not all(map(_NUMERIC_TEXT.fullmatch, values)):
            return None
    elif not kinds <= {int, Decimal}:
        return None
    unit = Decimal((0, (1,), -scale))
    try:
        # Nothing per value but what C does: NaN, infinity, too many digits and too many decimals all raise.
        units = map(_LEDGER.quantize, map(Decimal, values) if kinds == {str} else values, repeat(unit))
        return list(map(int, map(EXACT.scaleb, units, repeat(scale))))
    except (ArithmeticError, ValueError):
        return None


def _scaled_one_by_one(values: list[Any], scale: int, start: int, flaws: Flaws) -> list[int]:
    results = [scaled_value(value, scale) for value in values]
    flaws.update({start + i: result for i, result in enumerate(results) if isinstance(result, Flaw)})
    return [0 if isinstance(result, Flaw) else result for result in results]


def scaled_value(value: object, scale: int) -> int | Flaw:
    """One value times ``10**scale``, exactly. A text counts if it is a decimal number from end to end."""
    if value is None:
        return Flaw(Reason.MISSING_VALUE, "is missing or null")
    if isinstance(value, str):
        return _scaled_text(value, scale)
    if not is_number(value):
        return _not_a_number(value)
    return _scaled_decimal(value, scale) if isinstance(value, Decimal) else _scaled_int(value, scale)


def _scaled_int(value: int, scale: int) -> int | Flaw:
    if abs(value) >= 10 ** (QUANTITY_DIGITS_MAX - scale):
        return _out_of_range(value)
    return value * int(10**scale)


def _scaled_text(text: str, scale: int) -> int | Flaw:
    match = _NUMERIC_TEXT.fullmatch(text)
    if match is None:
        return _not_a_number(text)
    try:
        return _scaled_decimal(Decimal(text), scale)
    except InvalidOperation:  # an exponent of more than 18 digits
        if not match[1].strip("0."):
            return 0
        return _too_precise(text, scale) if match[2] == "-" else _out_of_range(text)


def _scaled_decimal(value: Decimal, scale: int) -> int | Flaw:
    # Looks at the magnitude first: 1E+999999999 must never become an integer.
    if not value:
        return 0
    if value.adjusted() >= QUANTITY_DIGITS_MAX - scale:
        return _out_of_range(value)
    try:
        return int(value.quantize(Decimal((0, (1,), -scale)), context=EXACT).scaleb(scale, context=EXACT))
    except Inexact:
        return _too_precise(value, scale)


def _not_a_number(value: object) -> Flaw:
    return Flaw(Reason.BAD_VALUE, f"is {shown(value)}, not a finite decimal number")


def _out_of_range(value: object) -> Flaw:
    text = f"is {shown(value)}, which has more than {QUANTITY_DIGITS_MAX} digits at the scale it is kept at"
    return Flaw(Reason.VALUE_OUT_OF_RANGE, text)


def _too_precise(value: object, scale: int) -> Flaw:
    return Flaw(Reason.TOO_PRECISE, f"is {shown(value)}, but {scale} decimals are kept")


def shown(value: object) -> str:
    """A value as it may stand in a message: short, whatever was sent."""
    if isinstance(value, int) and abs(value) >= 10**QUANTITY_DIGITS_MAX:
        return "an integer of many digits"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- members of `unique`


def read_members(column: Column) -> tuple[NDArray[np.void], Flaws]:
    """(n,) V16 digests of the values: equal for 1 and 1.0, different for 1 and "1"; zeros where there is a flaw."""
    flaws: Flaws = {}
    digests: list[bytes] = []
    known: dict[str, bytes | Flaw] = {}
    for position, value in enumerate(column.values):
        if value.__class__ is str:
            found = known.get(value)
            if found is None:
                found = known[value] = _member(value)
        else:
            found = _member(value)
        if isinstance(found, Flaw):
            flaws[position] = found
            found = bytes(KEY_DTYPE.itemsize)
        digests.append(found)
    return np.frombuffer(b"".join(digests), dtype=KEY_DTYPE), flaws


def _member(value: object) -> bytes | Flaw:
    if value is None:
        return Flaw(Reason.MISSING_VALUE, "is missing or null")
    if isinstance(value, bool):
        return text_digest("boolean", "true" if value else "false")[:16]
    if isinstance(value, str):
        if not _is_unicode(value):
            return Flaw(Reason.BAD_VALUE, "holds half a surrogate pair")
        return text_digest("text", value)[:16]
    if is_number(value):
        return text_digest("number", _number_key(Decimal(value)))[:16]
    return Flaw(Reason.BAD_VALUE, f"is {shown(value)}, not a text, a number or true or false")


def _number_key(value: Decimal) -> str:
    """Digits without trailing zeros and an exponent: one text per number, short for 1E+999999999 too."""
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits))
    stripped = text.rstrip("0")
    if not stripped:
        return "0"
    return f"{'-' if sign else ''}{stripped.lstrip('0')}E{int(exponent) + len(text) - len(stripped)}"


# --- dimensions


@dataclass(frozen=True, slots=True)
class Dimension:
    """``texts[index[i]]`` is the text of value i; the texts are distinct. ``index``: (n,) int32."""

    texts: list[str]
    index: NDArray[np.int32]


def read_dimension(column: Column) -> tuple[Dimension, Flaws]:
    """Values as text: "" for a missing one, ``true``, ``1.5``; "" where there is a flaw."""
    flaws: Flaws = {}
    codes: dict[str, int] = {}
    if column.kinds <= {str, int, type(None)}:  # these can be told apart by ==, so each is converted once
        texts = {value: _dimension_text(value) for value in dict.fromkeys(column.values)}
        if any(isinstance(text, Flaw) for text in texts.values()):
            flaws = {i: flaw for i, value in enumerate(column.values) if isinstance(flaw := texts[value], Flaw)}
        of_value = {
            value: codes.setdefault("" if isinstance(text, Flaw) else text, len(codes)) for value, text in texts.items()
        }
        index = np.fromiter(map(of_value.__getitem__, column.values), dtype=np.int32, count=len(column))
        return Dimension(list(codes), index), flaws
    index = np.zeros(len(column), dtype=np.int32)
    for position, value in enumerate(column.values):
        text = _dimension_text(value)
        if isinstance(text, Flaw):
            flaws[position] = text
            text = ""
        index[position] = codes.setdefault(text, len(codes))
    return Dimension(list(codes), index), flaws


def _dimension_text(value: object) -> str | Flaw:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else _number_text(value)
    if text is None:
        return Flaw(Reason.BAD_VALUE, f"is {shown(value)}, not a text, a number or true or false")
    if len(text) > DIMENSION_CHARS_MAX:
        return Flaw(Reason.BAD_VALUE, f"is longer than {DIMENSION_CHARS_MAX} characters")
    if "\x00" in text or not _is_unicode(text):
        return Flaw(Reason.BAD_VALUE, "holds a NUL or half a surrogate pair")
    return text


def _number_text(value: Any) -> str | None:
    """Plain decimal text; None for what is no number; something overlong for a number whose text would be."""
    if not is_number(value):
        return None
    number = Decimal(value)
    _, digits, exponent = number.as_tuple()
    if abs(int(exponent)) + len(digits) > 4 * DIMENSION_CHARS_MAX:
        return "0" * (DIMENSION_CHARS_MAX + 1)
    return decimal_text(number)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
