"""Free first events and units of a target: an allowance that events use up in the order of (event time, identity).

The order makes the result a function of the set of events, however they arrive. An event that comes late may push another
out, which then is charged; so a target remembers its *members*: the events that found the allowance open. They are always the
first ones in order, and an event behind them can never get in again, so nothing else needs to be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.model import Aggregation
from lineitem.rate.exact import INT64_MAX, BoolArray, IntArray, clamp_at_zero, compact, subtract, times, total
from lineitem.rate.folds import KEY_DTYPE, FoldItems, FoldState, Groups, fold

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What costs nothing in one service period. Whichever limit is given and reached first ends it."""

    events: int | None
    units: int | None
    """At the meter's scale times ``lift``."""
    lift: int
    """What a meter's values are multiplied by to be counted in the unit of ``units``."""
    charge: Callable[[IntArray], IntArray]
    """(n,) units that are not free, lifted, to (n,) charges of the events that have them."""


@dataclass(frozen=True, slots=True)
class Members:
    """Events of some targets, (m,) each, in any order."""

    target: Int64Array
    """0..k-1."""
    time_us: Int64Array
    key: NDArray[np.void]
    """V16 identity keys: they decide between events of one instant, compared as unsigned bytes."""
    value: IntArray
    """At the meter's scale."""

    @classmethod
    def none(cls) -> Members:
        """No events."""
        zeros = np.zeros(0, dtype=np.int64)
        return cls(zeros, zeros, np.zeros(0, dtype=KEY_DTYPE), zeros)

    def take(self, rows: NDArray[np.int64] | BoolArray) -> Members:
        """Those at ``rows``."""
        return Members(self.target[rows], self.time_us[rows], self.key[rows], compact(self.value[rows]))

    def joined(self, other: Members) -> Members:
        """These, then ``other``."""
        pairs = (
            (self.target, other.target),
            (self.time_us, other.time_us),
            (self.key, other.key),
            (self.value, other.value),
        )
        return Members(*(np.concatenate(pair) for pair in pairs))

    def order(self) -> NDArray[np.int64]:
        """The rows by target, event time and key."""
        halves = np.ascontiguousarray(self.key).view(">u8").reshape(-1, 2).astype(np.uint64)
        return np.lexsort((halves[:, 1], halves[:, 0], self.time_us, self.target))


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a batch of new events did to the allowances of its targets."""

    charges: IntArray
    """(n,) of the new events, in the order they were given."""
    adjustment: IntArray
    """(k,) by how much the charges of members from before have risen, because new events took their place."""
    members: Members
    """Who is in the allowance now, by target, event time and key."""


def uncovered(allowance: Allowance, target: Int64Array, value: IntArray) -> tuple[IntArray, BoolArray, BoolArray]:
    """What an allowance leaves to pay. ``target`` (n,) is non-decreasing; a target's events are in order.

    Returns ``(rest, member, free)``, (n,) each: the lifted units that are not free, whether the event found the
    allowance open, and whether all of it is free. Only units above zero use anything up.
    """
    groups = Groups.of(target, int(target[-1]) + 1 if len(target) else 0)
    lifted = times(value, allowance.lift)
    used = clamp_at_zero(lifted)
    number = np.arange(len(target)) - groups.spread(groups.starts)
    member = np.ones(len(target), dtype=bool) if allowance.events is None else number < allowance.events
    if allowance.units is None:
        return lifted, member, member
    after, _ = fold(Aggregation.SUM, FoldItems(target, used), FoldState.empty(groups.targets))
    left = _left(allowance.units, subtract(after, used))
    member = member & np.asarray(left > 0, dtype=bool)
    free_units = np.where(member, np.minimum(used, left), 0)
    return subtract(lifted, compact(free_units)), member, member & np.asarray(used <= left, dtype=bool)


def _left(units: int, used: IntArray) -> IntArray:
    if used.dtype != object and units > INT64_MAX:
        used = used.astype(object)
    return compact(units - used)


def charges_in_order(allowance: Allowance, target: Int64Array, value: IntArray) -> tuple[IntArray, BoolArray]:
    """Charges (n,) of all events of some targets, and which of them are members (``uncovered`` names the columns)."""
    rest, member, free = uncovered(allowance, target, value)
    return compact(np.where(free, 0, allowance.charge(rest))), member


def admit(allowance: Allowance, targets: int, before: Members, new: Members) -> Admitted:
    """Let new events, in any order, into the allowances of ``targets`` targets whose members so far are ``before``.

    However a set of events is cut into batches, charges and adjustments sum to the charges of the set in order, and the
    members are its members.
    """
    everyone = before.joined(new)
    order = everyone.order()
    charges, inside = charges_in_order(allowance, everyone.target[order], everyone.value[order])
    by_row = np.empty(len(order), dtype=charges.dtype)
    by_row[order] = charges
    old = len(before.target)
    order_before = before.order()
    charged, _ = charges_in_order(allowance, before.target[order_before], before.value[order_before])
    rise = subtract(compact(by_row[:old][order_before]), charged)
    sums = np.zeros(targets, dtype=object)
    owner = before.target[order_before]
    groups = Groups.of(owner, targets)
    for at, start, end in zip(groups.present, groups.starts, groups.ends, strict=True):
        sums[at] = total(rise[start:end])
    return Admitted(compact(by_row[old:]), compact(sums), everyone.take(order[inside]))
