"""Exact integer arithmetic on columns: int64 where a bound check proves that it fits, Python ints where it does not.

Every value is an integer at a scale somebody else knows. A column (``IntArray``) is int64, or dtype object holding
Python ints of any size; the functions that compute return int64 exactly if all results fit. Nothing wraps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.model import Rounding
from lineitem.core.limits import QUANTITY_DIGITS_MAX

IntArray = NDArray[Any]
"""dtype int64, or object with Python ints. (Spelled Any: NumPy's types cannot follow arithmetic on the union.)"""
BoolArray = NDArray[np.bool_]

INT64_MAX = 2**63 - 1
_LEDGER_END = 10**QUANTITY_DIGITS_MAX


def fits_int64(values: IntArray) -> BoolArray:
    """(n,) bool: which values an int64 can hold."""
    if values.dtype != object:
        return np.ones(len(values), dtype=bool)
    return np.array([-INT64_MAX - 1 <= value <= INT64_MAX for value in values.tolist()], dtype=bool)


def compact(values: IntArray) -> IntArray:
    """The same values as int64 if all fit, else as they are."""
    return values.astype(np.int64) if values.dtype == object and fits_int64(values).all() else values


def exceeds_ledger(values: IntArray) -> BoolArray:
    """(n,) bool: values of more than 38 digits (``QUANTITY_DIGITS_MAX``), which the ledger cannot hold.

    Rating never refuses or wraps such a value: it comes back as a Python int, and the caller, who knows the event,
    sets that aside as ``value_out_of_range``. An int64 column never exceeds.
    """
    if values.dtype != object:
        return np.zeros(len(values), dtype=bool)
    return np.array([abs(value) >= _LEDGER_END for value in values.tolist()], dtype=bool)


def magnitude(values: IntArray) -> int:
    """The largest absolute value as a Python int; 0 of an empty column."""
    return max(abs(int(values.max())), abs(int(values.min()))) if len(values) else 0


def absolute_total(values: IntArray) -> int:
    """An upper bound of the sum of absolute values, as a Python int; at most the number of values too large."""
    if values.dtype == object:
        return sum(map(abs, values.tolist()))
    absolute = values ^ (values >> 63)  # |v|, or |v| - 1 below zero: unlike abs(), right for -2**63 too
    high, low = int((absolute >> 32).sum()), int((absolute & 0xFFFFFFFF).sum())
    return (high << 32) + low + len(values)


def total(values: IntArray) -> int:
    """The exact sum as a Python int. In halves of 32 bits: a plain int64 sum of many rows could wrap."""
    if values.dtype == object:
        return int(sum(values.tolist()))
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


def add(left: IntArray, right: IntArray) -> IntArray:
    """``left + right`` element by element, exact."""
    if left.dtype != object and right.dtype != object and magnitude(left) + magnitude(right) <= INT64_MAX:
        return left + right
    return compact(left.astype(object) + right.astype(object))


def subtract(left: IntArray, right: IntArray) -> IntArray:
    """``left - right`` element by element, exact."""
    if left.dtype != object and right.dtype != object and magnitude(left) + magnitude(right) <= INT64_MAX:
        return left - right
    return compact(left.astype(object) - right.astype(object))


def times(values: IntArray, factor: int) -> IntArray:
    """``values * factor``, exact; ``factor`` may lie beyond int64."""
    if factor == 1:
        return values
    if values.dtype != object and max(magnitude(values), 1) * abs(factor) <= INT64_MAX:
        return values * factor
    return compact(values.astype(object) * factor)


def multiply(left: IntArray, right: IntArray) -> IntArray:
    """``left * right`` element by element, exact."""
    if left.dtype != object and right.dtype != object and magnitude(left) * magnitude(right) <= INT64_MAX:
        return left * right
    return compact(left.astype(object) * right.astype(object))


def plus(values: IntArray, addend: int) -> IntArray:
    """``values + addend``, exact."""
    if values.dtype != object and magnitude(values) + abs(addend) <= INT64_MAX:
        return values + addend
    return compact(values.astype(object) + addend)


def at_least(values: IntArray, limit: int) -> IntArray:
    """``max(value, limit)``; ``limit`` may lie beyond int64."""
    if values.dtype != object and abs(limit) > INT64_MAX:
        values = values.astype(object)
    return compact(np.maximum(values, limit))


def floor_divide(values: IntArray, divisor: int) -> IntArray:
    """``values // divisor`` towards minus infinity, exact; ``divisor`` is above zero and may lie beyond int64."""
    if divisor == 1:
        return values
    if values.dtype != object and divisor <= INT64_MAX:
        return values // divisor
    return compact(values.astype(object) // divisor)


def select(mask: BoolArray, left: IntArray, right: IntArray) -> IntArray:
    """``left`` where ``mask``, else ``right``."""
    if left.dtype != object and right.dtype != object:
        return np.where(mask, left, right)
    return compact(np.where(mask, left.astype(object), right.astype(object)))


def clamp_at_zero(values: IntArray) -> IntArray:
    """Negative values become 0."""
    return np.maximum(values, 0)


def cap(values: IntArray, limit: int) -> IntArray:
    """``min(value, limit)``; ``limit`` may lie beyond int64."""
    if values.dtype != object and limit > INT64_MAX:
        return values
    return compact(np.minimum(values, limit))


@dataclass(frozen=True, slots=True)
class Line:
    """``intercept + slope * n`` for ``n`` above the previous line's ``up_to`` and up to (and including) its own."""

    up_to: int | None
    slope: Fraction
    intercept: Fraction


class PiecewiseRatio:
    """A piecewise linear function of ``n >= 0`` with rational coefficients, rounded to an integer: exact for every n.

    On piece j the value is ``(a[j] * n + c[j]) / b``, never negative. The int64 kernel splits ``n = b*h + l`` and so
    needs ``a*h`` and ``a*l`` to fit, not ``a*n``; ``narrow_max`` is the largest n for which every intermediate result
    provably does (-1: none). Larger n are computed with Python ints, element by element.
    """

    def __init__(self, lines: Sequence[Line], rounding: Rounding) -> None:
        """``lines`` ascend and the last has no ``up_to``; ``rounding`` is UP, DOWN or HALF_UP (half away from zero)."""
        denominator = lcm(*(part.denominator for line in lines for part in (line.slope, line.intercept)))
        self._denominator = denominator
        self._bounds = [line.up_to for line in lines if line.up_to is not None]
        self._slopes = [int(line.slope * denominator) for line in lines]
        self._offsets = [int(line.intercept * denominator) for line in lines]
        self._addend = {Rounding.UP: denominator - 1, Rounding.DOWN: 0, Rounding.HALF_UP: denominator // 2}[rounding]
        self.narrow_max = self._prove_narrow()
        if self.narrow_max >= 0:
            self._compile_narrow()

    def of(self, n: int) -> int:
        """The value at one ``n >= 0``."""
        piece = bisect_left(self._bounds, n)
        return (self._slopes[piece] * n + self._offsets[piece] + self._addend) // self._denominator

    def apply(self, values: IntArray) -> IntArray:
        """(n,) values, all >= 0, to (n,) results."""
        if values.dtype != object and magnitude(values) <= self.narrow_max:
            return self._apply_narrow(values)
        wide = values > self.narrow_max
        results = np.empty(len(values), dtype=object)
        results[wide] = objects([self.of(n) for n in values[wide].tolist()])
        if not wide.all():
            results[~wide] = self._apply_narrow(values[~wide].astype(np.int64))
        return compact(results)

    def _prove_narrow(self) -> int:
        """The largest n up to which no intermediate result of ``_apply_narrow`` leaves int64."""
        b, proven = self._denominator, -1
        for slope, offset, up_to in zip(self._slopes, self._offsets, [*self._bounds, None], strict=True):
            size = abs(slope)
            remainder_max = size * (b - 1) + (b - 1) + self._addend
            whole = abs(offset) // b + 1
            room = INT64_MAX - whole - size - 2
            if remainder_max > INT64_MAX or room < 0:
                return proven
            reach = min((room // size + 1) * b - 1, INT64_MAX) if size else INT64_MAX
            if up_to is None or reach < up_to:
                return max(proven, reach)
            proven = up_to
        return proven

    def _compile_narrow(self) -> None:
        """Columns for the pieces that the int64 kernel can reach."""
        bounds = [bound for bound in self._bounds if bound < self.narrow_max]
        reached = len(bounds) + 1
        self._narrow_bounds = np.array(bounds, dtype=np.int64)
        self._narrow_slopes = np.array(self._slopes[:reached], dtype=np.int64)
        self._narrow_wholes = np.array([c // self._denominator for c in self._offsets[:reached]], dtype=np.int64)
        self._narrow_rests = np.array(
            [c % self._denominator + self._addend for c in self._offsets[:reached]], dtype=np.int64
        )

    def _apply_narrow(self, n: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(self._narrow_bounds):
            piece = np.searchsorted(self._narrow_bounds, n, side="left")
            slope, whole, rest = (
                column[piece] for column in (self._narrow_slopes, self._narrow_wholes, self._narrow_rests)
            )
        else:
            slope, whole, rest = self._narrow_slopes[0], self._narrow_wholes[0], self._narrow_rests[0]
        if self._denominator == 1:
            return slope * n + whole
        high = n // self._denominator
        low = n - high * self._denominator
        result: NDArray[np.int64] = slope * high + whole + (slope * low + rest) // self._denominator
        return result


def objects(values: Sequence[Any]) -> NDArray[np.object_]:
    """Python ints as an object column, whatever their size."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
