"""Meters as folds: how the events of a target become its quantity, after each event and in the end.

A fold's end state depends on the set of events alone, never on their order or on how batches cut them. State is kept as
columns, one row a target; all work is cumulative operations over groups of items, without a Python step per item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.model import Aggregation
from lineitem.rate.exact import INT64_MAX, BoolArray, IntArray, absolute_total, add, compact, magnitude

Int64Array = NDArray[np.int64]
KeyArray = NDArray[np.void]

KEY_DTYPE = np.dtype("V16")

Column = TypeVar("Column")


@dataclass(frozen=True, slots=True)
class FoldState:
    """What folds remember, (k,) each: row t belongs to target t."""

    quantity: IntArray
    """Scaled integers; 0 where not ``filled``."""
    filled: BoolArray
    """Whether the target has seen an event at all (a maximum of -5 is not a maximum of nothing)."""
    time_us: Int64Array
    """``latest`` only: event time of the quantity."""
    key: KeyArray
    """``latest`` only: V16 identity key of the quantity's event."""

    @classmethod
    def empty(cls, targets: int) -> FoldState:
        """The state before any event."""
        zeros = np.zeros(targets, dtype=np.int64)
        return cls(zeros, np.zeros(targets, dtype=bool), zeros.copy(), np.zeros(targets, dtype=KEY_DTYPE))


@dataclass(frozen=True, slots=True)
class FoldItems:
    """The items of one batch, grouped by target; (n,) each. A fold needs only the columns its name calls for."""

    target: Int64Array
    """Non-decreasing, 0..k-1; items of one target stand in the order they are billed."""
    value: IntArray | None = None
    """``sum, max, latest``: scaled integers, of either sign."""
    time_us: Int64Array | None = None
    """``latest``: event time."""
    key: KeyArray | None = None
    """``latest``: V16 identity key; decides between events of one instant, compared as unsigned bytes."""
    new_member: BoolArray | None = None
    """``unique``: whether the item's member is new to its target (see ``first_of``)."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Where the items of each target lie in a column that is grouped by target."""

    targets: int
    present: Int64Array
    """(g,) the targets that have items, ascending."""
    starts: Int64Array
    """(g,) the first item of each; its items end where the next group starts."""
    ends: Int64Array
    """(g,) one past the last item of each."""

    @classmethod
    def of(cls, target: Int64Array, targets: int) -> Groups:
        """Group ``target`` (n,). Raises ValueError if it decreases or leaves ``0..targets-1``."""
        starts = np.flatnonzero(np.concatenate([[len(target) > 0], target[1:] != target[:-1]]))
        present = target[starts]
        if len(present) and (present[0] < 0 or present[-1] >= targets or (present[1:] < present[:-1]).any()):
            raise ValueError("items must be grouped by target: non-decreasing, 0..k-1")
        return cls(targets, present, starts, np.concatenate([starts[1:], [len(target)]])[: len(starts)])

    def spread(self, per_group: IntArray) -> IntArray:
        """(g,) one value a group to (n,) one an item."""
        return np.repeat(per_group, self.ends - self.starts)

    def shifted(self, values: IntArray, before: IntArray) -> IntArray:
        """(n,) the value of the item before in the same group; of the target, ``before`` (k,), for the first."""
        previous = np.empty(len(values), dtype=_common_dtype(values, before))
        previous[1:] = values[:-1]
        previous[self.starts] = before[self.present]
        return previous

    def last(self, values: IntArray, before: IntArray) -> IntArray:
        """(k,) the value of each target's last item; ``before`` (k,) where it has none."""
        after = before.astype(_common_dtype(values, before))
        after[self.present] = values[self.ends - 1]
        return compact(after)

    def running_max(self, target: Int64Array, code: Int64Array, codes: int) -> Int64Array:
        """(n,) the greatest code so far in each group; codes are 0..codes-1 and ``targets * codes`` fits int64."""
        base = target * codes
        running: Int64Array = np.maximum.accumulate(base + code) - base
        return running


def fold(aggregation: Aggregation, items: FoldItems, before: FoldState) -> tuple[IntArray, FoldState]:
    """Fold one batch. Returns the target's quantity after each item (n,) and the state after the batch (k,).

    Quantities are exact: int64 if all fit, else an object column. Raises ValueError if a column the fold reads is
    missing or items are not grouped.
    """
    groups = Groups.of(items.target, len(before.quantity))
    after, state = FOLDS[aggregation](groups, items, before)
    filled = state.filled.copy()
    filled[groups.present] = True
    return after, replace(state, filled=filled)


def running_sum(target: Int64Array, value: IntArray, before: IntArray) -> tuple[IntArray, IntArray]:
    """Running totals of grouped items (n,), and those of the targets afterwards (k,); ``before`` (k,). Exact."""
    after, state = _running_sum(
        Groups.of(target, len(before)), value, replace(FoldState.empty(len(before)), quantity=before)
    )
    return after, state.quantity


def first_of(target: Int64Array, member_key: KeyArray) -> BoolArray:
    """(n,) bool: the first item of this batch with its (target, member). ``target`` (n,), ``member_key`` (n,) V16.

    A member is new to a target if this holds and the target's stored set lacks it.
    """
    high, low = _halves(member_key)
    order = np.lexsort((low, high, target))
    sorted_columns = [column[order] for column in (target, high, low)]
    differs = np.logical_or.reduce([column[1:] != column[:-1] for column in sorted_columns])
    first = np.zeros(len(target), dtype=bool)
    first[order] = np.concatenate([[len(target) > 0], differs])[: len(target)]
    return first


def _sum(groups: Groups, items: FoldItems, before: FoldState) -> tuple[IntArray, FoldState]:
    return _running_sum(groups, _needed(items.value, "sum", "value"), before)


def _unique(groups: Groups, items: FoldItems, before: FoldState) -> tuple[IntArray, FoldState]:
    return _running_sum(groups, _needed(items.new_member, "unique", "new_member").astype(np.int64), before)


def _count(groups: Groups, items: FoldItems, before: FoldState) -> tuple[IntArray, FoldState]:
    in_group = np.arange(1, len(items.target) + 1) - groups.spread(groups.starts)
    after = add(in_group, groups.spread(before.quantity[groups.present]))
    return after, replace(before, quantity=groups.last(after, before.quantity))


def _running_sum(groups: Groups, value: IntArray, before: FoldState) -> tuple[IntArray, FoldState]:
    """One running total over all items, less what it had where the group starts; wide if that total could overflow."""
    quantity = before.quantity
    if absolute_total(value) + magnitude(quantity) > INT64_MAX:
        value, quantity = value.astype(object), quantity.astype(object)
    total = np.cumsum(value)
    skipped = total[groups.starts] - value[groups.starts] - quantity[groups.present]
    after = compact(total - groups.spread(skipped))
    return after, replace(before, quantity=groups.last(after, quantity))


def _max(groups: Groups, items: FoldItems, before: FoldState) -> tuple[IntArray, FoldState]:
    value = _needed(items.value, "max", "value")
    value = value.astype(_common_dtype(value, before.quantity))
    seen = before.filled[groups.present]
    starts, quantity = groups.starts[seen], before.quantity[groups.present[seen]]
    value[starts] = np.maximum(value[starts], quantity)
    after = _running_max_of(groups, items.target, value)
    return after, replace(before, quantity=groups.last(after, before.quantity))


def _running_max_of(groups: Groups, target: Int64Array, value: IntArray) -> IntArray:
    if not len(value):
        return value
    least = int(value.min())
    span = int(value.max()) - least + 1
    if value.dtype != object and span * groups.targets <= INT64_MAX:
        return groups.running_max(target, value - least, span) + least
    distinct, rank = np.unique(value, return_inverse=True)
    return compact(distinct[groups.running_max(target, rank, len(distinct))])


def _latest(groups: Groups, items: FoldItems, before: FoldState) -> tuple[IntArray, FoldState]:
    """Rank all items, and what is stored, by (time, key); the greatest rank so far points to the value.

    Two events of one target never share time and key: the key is the event's identity.
    """
    stored = before.filled[groups.present]
    held = groups.present[stored]
    time_us = np.concatenate([before.time_us[held], _needed(items.time_us, "latest", "time_us")])
    key = np.concatenate([before.key[held], _needed(items.key, "latest", "key")])
    value = np.concatenate([before.quantity[held], _needed(items.value, "latest", "value")])
    high, low = _halves(key)
    order = np.lexsort((low, high, time_us))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    code = rank[len(held) :]
    starts = groups.starts[stored]
    code[starts] = np.maximum(code[starts], rank[: len(held)])
    winner = order[groups.running_max(items.target, code, len(order))]
    after = compact(value[winner])
    final = winner[groups.ends - 1]
    time_after, key_after = before.time_us.copy(), before.key.copy()
    time_after[groups.present], key_after[groups.present] = time_us[final], key[final]
    return after, FoldState(groups.last(after, before.quantity), before.filled, time_after, key_after)


# `time_weighted` is none of them: a level over time moves without an event (`rate.levels`).
FOLDS: dict[Aggregation, Callable[[Groups, FoldItems, FoldState], tuple[IntArray, FoldState]]] = {
    Aggregation.SUM: _sum,
    Aggregation.COUNT: _count,
    Aggregation.MAX: _max,
    Aggregation.UNIQUE: _unique,
    Aggregation.LATEST: _latest,
}


def _halves(key: KeyArray) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(n,) V16 keys as two unsigned columns that compare like the bytes."""
    if key.dtype.itemsize != KEY_DTYPE.itemsize:
        raise ValueError(f"a key has 16 bytes, not {key.dtype.itemsize}")
    halves = np.ascontiguousarray(key).view(">u8").reshape(-1, 2).astype(np.uint64)
    return halves[:, 0], halves[:, 1]


def _common_dtype(left: IntArray, right: IntArray) -> np.dtype[np.int64] | np.dtype[np.object_]:
    return np.dtype(object) if object in (left.dtype, right.dtype) else np.dtype(np.int64)


def _needed(column: Column | None, fold_name: str, column_name: str) -> Column:
    if column is None:
        raise ValueError(f"fold {fold_name} needs the column {column_name}")
    return column
