"""Exact decimals as scaled integers: quantities at their meter's scale, amounts in nano-units.

Nothing here, or anywhere a quantity or an amount passes, is a binary float.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from lineitem.core.errors import InputError
from lineitem.core.limits import AMOUNT_SCALE

NANO = 10**AMOUNT_SCALE


def round_half_away(numerator: int, denominator: int) -> int:
    """Round ``numerator / denominator`` to an integer, halves away from zero (DESIGN, Rating).

    ``denominator`` must be positive. ``(x + h) // d`` alone would round -0.5 up to 0.
    """
    quotient, remainder = divmod(abs(numerator), denominator)
    if 2 * remainder >= denominator:
        quotient += 1
    return quotient if numerator >= 0 else -quotient


def scaled_to_text(value: int, scale: int) -> str:
    """``value / 10**scale`` as plain decimal text without trailing zeros: ``(1500, 3) -> "1.5"``."""
    sign = "-" if value < 0 else ""
    digits = str(abs(value)).rjust(scale + 1, "0")
    if scale == 0:
        return sign + digits
    whole, fraction = digits[:-scale], digits[-scale:].rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


def text_to_scaled(text: str, scale: int) -> int:
    """Decimal text as an integer of ``scale`` decimals. Raises InputError if it does not fit exactly."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise InputError(f"{text!r} is not a decimal number") from None
    if not value.is_finite():
        raise InputError(f"{text!r} is not a finite number")
    scaled: Fraction = Fraction(value) * 10**scale
    if scaled.denominator != 1:
        raise InputError(f"{text!r} has more than {scale} decimals")
    return scaled.numerator


def nano_to_text(amount_nano: int) -> str:
    """An amount in nano-units as decimal text: ``2500 -> "0.0000025"``."""
    return scaled_to_text(amount_nano, AMOUNT_SCALE)


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount in one currency. ``amount_nano`` counts 10^-9 of the currency's major unit."""

    amount_nano: int
    currency: str

    def __add__(self, other: Money) -> Money:
        if self.currency != other.currency:
            raise InputError(f"cannot add {other.currency} to {self.currency}", do="Convert by a dated rate first.")
        return Money(self.amount_nano + other.amount_nano, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount_nano, self.currency)

    def to_minor(self, minor_digits: int) -> tuple[int, int]:
        """Round half away from zero to the currency's minor unit.

        Returns ``(minor_units, residual_nano)``; ``minor_units * 10**(9 - minor_digits) + residual_nano`` is the
        exact amount, so what rounding moved is stored, not lost.
        """
        unit = 10 ** (AMOUNT_SCALE - minor_digits)
        minor = round_half_away(self.amount_nano, unit)
        return minor, self.amount_nano - minor * unit

    def __str__(self) -> str:
        return f"{nano_to_text(self.amount_nano)} {self.currency}"
