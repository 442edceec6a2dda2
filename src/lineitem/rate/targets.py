"""What a target still owes: amount = T(now) - posted, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.model import Price
from lineitem.core.money import NANO, round_half_away
from lineitem.rate.exact import BoolArray, IntArray, add, at_least, cap, clamp_at_zero, compact, select, subtract
from lineitem.rate.folds import Groups
from lineitem.rate.price import CompiledPrice
from lineitem.rate.promoted import clamped

NOT_SETTLED = -1
"""``settled`` of a target whose period nobody has billed or closed yet."""
SETTLED = 0
"""The minimum has to be met, where there is usage."""
SETTLED_ACTIVE = 1
"""The account was active in the period: what is due without usage is due. Of a prorated price, how many parts of it."""


@dataclass(frozen=True, slots=True)
class Base:
    """The usage whose tiers, or whose pool of included units, k targets of one price go on with; columns (k,).

    In a pool ``quantity`` is what others have taken before, each at least zero, less what was carried over into the
    period; T(q) = F(q + min(quantity, included)), so that of the pool only what they left is free.

    With Q1 the quantity of those segments, T(q) = F(Q1 + q) - F(Q1); where they had no event, they left no due behind
    either, and T(q) = F(q) (DESIGN, Rating). F is rounded to nano-units before the difference, so that two segments with
    the same tiers come to exactly what one would.
    """

    quantity: IntArray
    filled: BoolArray
    """Whether there was an event at all."""

    def take(self, target: NDArray[np.int64]) -> Base:
        """The rows of ``target``, positions."""
        return Base(self.quantity[target], self.filled[target])

    def nano(self, price: CompiledPrice) -> IntArray:
        """What ``price`` would charge for it: F(Q1), (k,) nano-units."""
        return compact(np.where(self.filled, price.amount_nano(self.quantity).astype(object), 0))


def base_of(price: Price, before: Sequence[Sequence[tuple[int, int]]], carried: Sequence[int] = ()) -> Base:
    """The base of k targets of one price; ``before``: quantity and events of what each goes on with.

    ``carried``: (k,) units that a pool got from the month before.
    """
    if price.pool_name is None:
        quantity = [sum(one for one, _ in parts) for parts in before]
    else:
        quantity = [sum(max(one, 0) for one, _ in parts) for parts in before]
    filled = [price.pool_name is None and any(events > 0 for _, events in parts) for parts in before]
    moved = zip(quantity, carried or [0] * len(quantity), strict=True)
    return Base(
        compact(np.array([one - units for one, units in moved], dtype=object)), np.array(filled, dtype=np.bool_)
    )


def total_nano(price: CompiledPrice, quantity: IntArray, base: Base | None) -> IntArray:
    """T of each quantity (n,), in nano-units; ``base`` (n,) where the targets go on with the tiers of others."""
    if base is None:
        return price.amount_nano(quantity)
    if price.pool_units is not None:
        own = clamp_at_zero(quantity) if price.promoted is None else clamped(quantity)
        return price.amount_nano(add(own, cap(base.quantity, price.pool_units)))
    return subtract(price.amount_nano(add(quantity, base.quantity)), base.nano(price))


def rate_running(
    price: CompiledPrice,
    target: NDArray[np.int64],
    quantity_after: IntArray,
    posted_before: IntArray,
    base: Base | None = None,
    settled: NDArray[np.int64] | None = None,
) -> tuple[IntArray, IntArray]:
    """Amounts of the items of one batch, all under one price, and what each target has posted after them.

    ``target``: (n,) int, non-decreasing, 0..k-1. ``quantity_after``: (n,) the fold's quantity after each item.
    ``posted_before``: (k,) nano-units. ``base`` and ``settled``: (k,), see there; None where no
    target has any.

    Returns ``(amounts, posted_after)``, (n,) and (k,) nano-units: a target's first item owes ``T(Q_1) - posted_before``,
    each later one ``T(Q_i) - T(Q_(i-1))``, so a target's amounts always sum to ``T(final) - posted_before``. A target
    without items keeps what it had.

    T(0) (``fixed_due_nano``) is a due of the target, not of its first event: the caller posts it as an item of kind
    ``recurring`` with quantity 0 when the target is made, and it is part of ``posted_before`` here.
    """
    groups = Groups.of(target, len(posted_before))
    total = total_nano(price, quantity_after, None if base is None else base.take(target))
    if settled is not None and price.minimum_nano:
        total = select(settled[target] >= SETTLED, at_least(total, price.minimum_nano), total)
    previous = groups.shifted(total, posted_before)
    return subtract(total, previous), groups.last(total, posted_before)


def totals(
    price: CompiledPrice,
    quantity: IntArray,
    events: NDArray[np.int64],
    settled: NDArray[np.int64],
    whole: NDArray[np.int64] | None = None,
    base: Base | None = None,
) -> IntArray:
    """T of targets, (k,) nano-units: at their quantity (or sum of charges), with ``events`` accepted events each.

    A target without events owes nothing, unless its account was active; where it is settled, at least the minimum. Of a
    prorated price ``settled`` parts of ``whole`` (k,) are due: a share s of what a month of quantity / s would cost.
    ``base``: (k,), see there.
    """
    if price.price.prorate is not None and whole is not None:
        columns = (quantity.tolist(), settled.tolist(), whole.tolist())
        shares = [
            _prorated(price, used, Fraction(max(parts, 0), of)) * NANO for used, parts, of in zip(*columns, strict=True)
        ]
        rounded = [round_half_away(share.numerator, share.denominator) for share in shares]
        return compact(np.array(rounded, dtype=object))
    total = total_nano(price, quantity, base)
    total = select(settled >= SETTLED, at_least(total, price.minimum_nano), total)
    return select((events > 0) | (settled >= SETTLED_ACTIVE), total, np.zeros(len(total), dtype=np.int64))


def _prorated(price: CompiledPrice, quantity: int, share: Fraction) -> Fraction:
    return share * price.running(Fraction(quantity, 10**price.quantity_scale) / share) if share else Fraction(0)


def fixed_due_nano(price: CompiledPrice) -> int:
    """T(0) in nano-units: what is due without any usage (the first tier's flat price)."""
    return int(price.amount_nano(np.zeros(1, dtype=np.int64))[0])
