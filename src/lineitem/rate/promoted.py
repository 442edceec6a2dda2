"""A promotion on a price over the month's quantity: what was used before, in and after its window, and T of the three.

Where tiers count units one after the other, those used in the window lie between those before and those after it, and
a share of what they add is taken off: T = F(Q) - d * (F(before + inside) - F(before)). Where the tier reached prices the
whole quantity (``Model.whole``) every unit costs the same, and the window has its share by quantity: T = F(Q) * (1 - d *
inside / Q). Negative quantities count as zero, and a promotion never adds to the bill nor takes more off than usage costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.model import Promotion, Rounding
from lineitem.rate.exact import (
    IntArray,
    Line,
    PiecewiseRatio,
    add,
    clamp_at_zero,
    compact,
    floor_divide,
    multiply,
    select,
    subtract,
    times,
)
from lineitem.rate.models.event import EventCharge, Inputs, in_window
from lineitem.rate.readings import Flaws

PLACE = 10**60
"""What one unit in the window counts, and ``PLACE**2`` one after it. A value has at most 38 digits, so no sum of values that
a ledger can hold reaches into the next place."""


class Sums(NamedTuple):
    """Quantities by where in time they lie; columns (n,), or Fractions in the meter's unit."""

    before: IntArray
    inside: IntArray
    after: IntArray


def place(promotion: Promotion, values: IntArray, time_us: NDArray[np.int64]) -> IntArray:
    """Values (n,) as integers whose sum still tells how much lies before, in and after the window.

    Such integers are what running usage, waiting windows and folds add up, as they add up charges. What lies before the
    window counts as it is, so a quantity that others used before can be added.
    """
    inside = in_window(promotion, time_us)
    after = ~inside & (promotion.from_us is None or time_us >= promotion.from_us)
    placed = values
    for here, factor in ((inside, PLACE), (after, PLACE**2)):
        if here.any():
            placed = select(here, times(values, factor), placed)
    return placed


def sums_of(placed: IntArray) -> Sums:
    """The three quantities in sums of placed values."""
    zeros = np.zeros(len(placed), dtype=np.int64)
    if placed.dtype != object:  # far below half a place: nothing in or after the window
        return Sums(placed, zeros, zeros)
    before, rest = _last_place(placed)
    inside, after = _last_place(rest)
    return Sums(compact(before), compact(inside), compact(after))


def _last_place(placed: IntArray) -> tuple[IntArray, IntArray]:
    half = PLACE // 2
    last = (placed + half) % PLACE - half
    return last, (placed - last) // PLACE


def clamped(placed: IntArray) -> IntArray:
    """Sums of placed values, nothing where all they stand for comes to less than zero."""
    everything = sum_of(placed)
    return select(everything < 0, np.zeros(len(placed), dtype=np.int64), placed)


def sum_of(placed: IntArray) -> IntArray:
    """The whole quantity in sums of placed values."""
    before, inside, after = sums_of(placed)
    return add(add(before, inside), after)


def counter(promotion: Promotion, quantity_scale: int) -> EventCharge:
    """How events of such a price are counted; it is never flawed, and reads nothing but value and time."""

    def charges(values: IntArray, time_us: NDArray[np.int64], _inputs: Inputs) -> tuple[IntArray, Flaws]:
        return place(promotion, values, time_us), {}

    return EventCharge((), quantity_scale, charges, reads_time=True)


@dataclass(frozen=True, slots=True)
class PromotedTotal:
    """T before the maximum, of sums of placed values. Made by ``promoted_total``."""

    roundings: tuple[PiecewiseRatio, ...]
    """The price's own roundings of a quantity (transform, packages), which come first."""
    lines: PiecewiseRatio
    """From what they leave to the amount, in ``1 / denominator`` nano-units: whole numbers."""
    denominator: int
    discount: Fraction
    whole: bool

    @classmethod
    def of(
        cls, promotion: Promotion, roundings: Sequence[PiecewiseRatio], lines: Sequence[Line], *, whole: bool
    ) -> PromotedTotal:
        """``lines`` lead to nano-units; ``whole``: the tier reached prices the whole quantity."""
        denominator = lcm(*(part.denominator for line in lines for part in (line.slope, line.intercept)))
        exact = [Line(line.up_to, line.slope * denominator, line.intercept * denominator) for line in lines]
        return cls(
            tuple(roundings),
            PiecewiseRatio(exact, Rounding.DOWN),
            denominator,
            Fraction(promotion.discount_rate),
            whole,
        )

    def nano(self, placed: IntArray) -> IntArray:
        """(n,) nano-units, rounded once, half away from zero."""
        before, inside, after = sums_of(placed)
        through = add(before, inside)
        everything = add(through, after)
        total = self._list(everything)
        share, of = self.discount.numerator, self.discount.denominator
        if self.whole:
            used = np.maximum(clamp_at_zero(everything), 1)
            counted = np.minimum(clamp_at_zero(inside), clamp_at_zero(everything))
            numerator = subtract(times(multiply(total, used), of), times(multiply(total, counted), share))
            return _rounded(numerator, times(used, of * self.denominator))
        added = clamp_at_zero(subtract(self._list(through), self._list(before)))
        none = self._list(np.zeros(1, dtype=np.int64))
        most = clamp_at_zero(subtract(total, none.repeat(len(total))))
        numerator = subtract(times(total, of), np.minimum(times(added, share), times(most, of)))
        return _rounded(numerator, np.array([of * self.denominator], dtype=object))

    def _list(self, quantity: IntArray) -> IntArray:
        """The amount without the promotion, in ``1 / denominator`` nano-units."""
        values = clamp_at_zero(quantity)
        for stage in self.roundings:
            values = stage.apply(values)
        return self.lines.apply(values)


def _rounded(numerator: IntArray, denominator: IntArray) -> IntArray:
    """Half away from zero; nothing here is negative."""
    doubled = add(times(numerator, 2), denominator if len(denominator) > 1 else denominator.repeat(len(numerator)))
    if len(denominator) == 1:
        return floor_divide(doubled, 2 * int(denominator[0]))
    return compact(doubled.astype(object) // (2 * denominator.astype(object)))
