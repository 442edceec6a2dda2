"""Rounding money for people, and splitting it, without ever losing or making a minor unit."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from lineitem.core.errors import InputError
from lineitem.core.limits import AMOUNT_SCALE
from lineitem.core.money import round_half_away


class RoundingMode(StrEnum):
    """How an amount exactly half way between two minor units is rounded."""

    HALF_UP = "half_up"
    """Away from zero: 0.005 -> 0.01, -0.005 -> -0.01. What invoices mean by "half up"; the default."""
    HALF_EVEN = "half_even"
    """To the even neighbour: 0.005 -> 0.00, 0.015 -> 0.02."""


class Rounded(NamedTuple):
    """``minor`` minor units, and what rounding took away: exact = minor * 10**(9 - digits) + residual_nano."""

    minor: int
    residual_nano: int


def round_half_even(numerator: int, denominator: int) -> int:
    """Round ``numerator / denominator`` to an integer, halves to the even neighbour; ``denominator`` is positive."""
    quotient, remainder = divmod(numerator, denominator)
    doubled = 2 * remainder
    return quotient + (doubled > denominator or (doubled == denominator and quotient % 2 == 1))


_MODES = {RoundingMode.HALF_UP: round_half_away, RoundingMode.HALF_EVEN: round_half_even}


def round_to_minor(
    amount_nano: int | Fraction, minor_digits: int, mode: RoundingMode = RoundingMode.HALF_UP
) -> Rounded:
    """Round an exact amount to ``minor_digits`` decimals, once; the residual is kept, at most half a minor unit.

    A converted amount may have any number of decimals. Its minor units come from all of them, its residual is to 9:
    0.0049999999996 is 0.00 with a residual of 0.005.
    """
    unit_nano = 10 ** (AMOUNT_SCALE - minor_digits)
    if isinstance(amount_nano, int):
        minor = _MODES[mode](amount_nano, unit_nano)
        return Rounded(minor, amount_nano - minor * unit_nano)
    minor = _MODES[mode](amount_nano.numerator, amount_nano.denominator * unit_nano)
    return Rounded(minor, round_half_away(amount_nano.numerator, amount_nano.denominator) - minor * unit_nano)


def split_largest_remainder(total: int, weights: Sequence[int | Decimal | Fraction]) -> list[int]:
    """Split ``total`` (any whole unit) in proportion to ``weights``; the parts always sum to ``total`` exactly.

    Every part gets its share cut toward zero; the units left over go one each to the largest remainders, a tie to the
    earlier part (Hamilton's method; DESIGN, Invoices). A negative total is split as its mirror image, so reversing a
    split reverses every part. A part of weight zero gets nothing. Raises InputError for a negative weight, and for
    weights that are all zero unless the total is zero too.
    """
    shares = _whole_weights(weights)
    whole = sum(shares)
    if whole == 0:
        if total == 0:
            return [0] * len(shares)
        raise InputError(f"cannot split {total} over weights that are all zero", do="Give one positive weight or more.")
    parts, remainders = [], []
    for share in shares:
        part, remainder = divmod(abs(total) * share, whole)
        parts.append(part)
        remainders.append(remainder)
    left_over = abs(total) - sum(parts)
    for index in sorted(range(len(parts)), key=lambda i: -remainders[i])[:left_over]:
        parts[index] += 1
    return parts if total >= 0 else [-part for part in parts]


def _whole_weights(weights: Sequence[int | Decimal | Fraction]) -> list[int]:
    """The weights in the same proportions as whole numbers, so that the split never divides inexactly."""
    fractions = [Fraction(weight) for weight in weights]
    for weight, fraction in zip(weights, fractions, strict=True):
        if fraction < 0:
            raise InputError(f"weight {weight} is negative", do="Split by shares of zero or more.")
    common = lcm(*[fraction.denominator for fraction in fractions])
    return [fraction.numerator * (common // fraction.denominator) for fraction in fractions]
