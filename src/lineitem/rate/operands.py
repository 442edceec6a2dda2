"""What an expression reads from events: numbers as exact integers at a scale the column itself asks for.

A plain value is read at its meter's scale (``rate.readings``); an operand has no scale of its own, because only the
result of the expression must have one. So a column is read with as many decimals as its values have.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, Inexact, InvalidOperation
from typing import NamedTuple

import numpy as np

from lineitem.core.limits import QUANTITY_DIGITS_MAX
from lineitem.core.reasons import Reason
from lineitem.rate.columns import Column, int64_of
from lineitem.rate.exact import IntArray
from lineitem.rate.readings import CHUNK, EXACT, Flaw, Flaws, scaled_chunk, scaled_value, shown

_SCALES = (0, 3, 6, 9, 18)
"""Decimals that are tried on a whole chunk before its values are looked at one by one."""


class Operand(NamedTuple):
    """(n,) integers of ``scale`` decimals, int64 if all fit, else Python ints; 0 where there is a flaw."""

    values: IntArray
    scale: int
    flaws: Flaws


def read_operand(column: Column) -> Operand:
    """The numbers of a column: JSON numbers and numeric texts of at most 38 digits, decimals included.

    Anything else is a flaw, whatever stands in the other rows.
    """
    if column.ints is not None:
        return Operand(column.ints, 0, {})
    flaws: Flaws = {}
    chunks: list[tuple[list[int], int]] = []
    likely = 0
    for start in range(0, len(column), CHUNK):
        values = column.values[start : start + CHUNK]
        read = _whole_chunk(values, likely)
        if read is None:
            found = [_read_one(value) for value in values]
            flaws.update({start + at: one for at, one in enumerate(found) if isinstance(one, Flaw)})
            read = _at_one_scale((0, 0) if isinstance(one, Flaw) else one for one in found)
        else:
            likely = read[1]
        chunks.append(read)
    scale = max((scale for _, scale in chunks), default=0)
    scaled: list[int] = []
    for numbers, own in chunks:
        scaled += numbers if own == scale else [number * 10 ** (scale - own) for number in numbers]
    ints = int64_of(scaled)
    return Operand(np.array(scaled, dtype=object) if ints is None else ints, scale, flaws)


def _whole_chunk(values: list[object], likely: int) -> tuple[list[int], int] | None:
    """The chunk at the first scale that holds all of it, ``likely`` first; None for a closer look."""
    for scale in (likely, *(scale for scale in _SCALES if scale > likely)):
        scaled = scaled_chunk(values, scale)
        if scaled is not None:
            return scaled, scale
    return None


def _at_one_scale(read: Iterable[tuple[int, int]]) -> tuple[list[int], int]:
    pairs = list(read)
    scale = max(own for _, own in pairs)
    return [value * 10 ** (scale - own) for value, own in pairs], scale


def _read_one(value: object) -> tuple[int, int] | Flaw:
    """(integer, decimals) of one value, with no more decimals than it has."""
    whole = scaled_value(value, 0)
    if not isinstance(whole, Flaw):
        return whole, 0
    if whole.reason is Reason.VALUE_OUT_OF_RANGE:
        return _too_long(value)
    if whole.reason is not Reason.TOO_PRECISE:
        return whole
    try:
        number = EXACT.normalize(Decimal(value))  # type: ignore[arg-type]  # a number, or a numeric text
    except (Inexact, InvalidOperation):  # 76 digits, or an exponent of 18
        return _too_fine(value)
    decimals = -int(number.as_tuple().exponent)
    if decimals > QUANTITY_DIGITS_MAX:
        return _too_fine(value)
    if number.adjusted() + decimals >= QUANTITY_DIGITS_MAX:
        return _too_long(value)
    return int(number.scaleb(decimals, context=EXACT)), decimals


def _too_long(value: object) -> Flaw:
    return Flaw(Reason.VALUE_OUT_OF_RANGE, f"is {shown(value)}, which has more than {QUANTITY_DIGITS_MAX} digits")


def _too_fine(value: object) -> Flaw:
    return Flaw(Reason.TOO_PRECISE, f"is {shown(value)}, which has more than {QUANTITY_DIGITS_MAX} decimals")
