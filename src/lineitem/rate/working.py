"""How an exact amount and the steps that lead to it are shown to people."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lineitem.core.money import round_half_away, scaled_to_text

SIGNIFICANT_DIGITS = 38
"""Digits shown of an amount whose decimal expansion does not end (a ``divide_by`` of 3)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the working. ``amount`` is what the step adds: the amounts of all steps sum to the quote."""

    label: str
    quantity: Fraction | None = None
    unit_price: Fraction | None = None
    flat_price: Fraction | None = None
    amount: Fraction | None = None


def fraction_text(value: Fraction) -> str:
    """An exact value as plain decimal text: no exponent, no trailing zeros.

    One that never ends is cut to 38 significant digits, half away from zero.
    """
    scale, rest = 0, value.denominator
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest, power = rest // prime, power + 1
        scale = max(scale, power)
    if rest != 1:
        scale = _scale_of_digits(value, SIGNIFICANT_DIGITS)
    return scaled_to_text(round_half_away(value.numerator * 10**scale, value.denominator), scale)


def _scale_of_digits(value: Fraction, digits: int) -> int:
    """The decimals that show ``value`` with ``digits`` significant digits; whole units are never cut."""
    whole = abs(value.numerator) // value.denominator
    if whole:
        return max(0, digits - len(str(whole)))
    zeros = 0
    while abs(value) * 10 ** (zeros + 1) < 1:
        zeros += 1
    return digits + zeros
