"""Rounding of prepaid credit on an invoice: with the lines it pays, so that what is paid in full leaves nothing."""

from __future__ import annotations

from collections.abc import Sequence

from lineitem.billing.rounding import RoundingMode, round_to_minor

CREDIT = "credit"
"""Kind of the lines that stand for what was drawn of a grant."""


def credits_minor(
    owed_nano: int, owed_minor: int, credits_nano: Sequence[int], minor_digits: int, mode: RoundingMode
) -> list[int]:
    """Minor units of each credit line, in order. ``owed_nano``: exact sum of the other lines; ``owed_minor``: as rounded.

    Three lines of 0.004 are 0.00 each and the credit that pays them is 0.012: rounded by itself it would leave -0.01. So
    credit is rounded together with what is left: where exactly nothing (less than half a unit) is left, nothing is left on
    the invoice, and a credit never turns what is owed into its opposite.
    """
    minors: list[int] = []
    drawn_nano, left_before = 0, owed_minor
    for one in credits_nano:
        drawn_nano += one
        left_nano = owed_nano + drawn_nano
        left = owed_minor + round_to_minor(drawn_nano, minor_digits, mode).minor
        if round_to_minor(left_nano, minor_digits, mode).minor == 0 or (left < 0) != (left_nano < 0):
            left = 0
        minors.append(left - left_before)
        left_before = left
    return minors
