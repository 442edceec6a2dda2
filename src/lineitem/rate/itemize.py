"""From the usage of one price to line items: fold, split what is due from what still waits for its window, rate. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.model import Itemize
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.exact import INT64_MAX, IntArray, compact, magnitude, subtract
from lineitem.rate.folds import FoldItems, FoldState, Groups, fold, running_sum
from lineitem.rate.price import CompiledPrice
from lineitem.rate.targets import NOT_SETTLED, SETTLED, Base, fixed_due_nano, rate_running

NO_EVENT = -1


@dataclass(slots=True)
class TargetState:
    """What the ledger remembers of k targets of one price; every column has shape (k,).

    ``fold`` and ``charge`` cover every accepted event; what is posted only what line items stand for. The charges are those
    of a per-event price, at its charge scale, or quantities placed in time (``promoted``), and 0 under any other price.
    ``base``: whose tiers the targets go on with.
    """

    events: NDArray[np.int64]
    last_event_us: NDArray[np.int64]
    fold: FoldState
    posted_quantity: IntArray
    posted_nano: IntArray
    charge: IntArray
    posted_charge: IntArray
    settled: NDArray[np.int64]  # see ``targets``
    base: Base | None = field(default=None, kw_only=True)

    @classmethod
    def empty(cls, count: int) -> TargetState:
        """Targets nothing has happened to."""
        events, last, quantity, nano, charge, posted_charge = (np.zeros(count, dtype=np.int64) for _ in range(6))
        never = np.full(count, NOT_SETTLED, dtype=np.int64)
        return cls(events, last, FoldState.empty(count), quantity, nano, charge, posted_charge, never)


@dataclass(slots=True)
class Rows:
    """Line items of one price in posting order; every column has shape (r,)."""

    target: NDArray[np.int64]
    event: NDArray[np.int64]  # position in EventColumns; NO_EVENT where the row stands for a window or a fixed due
    time_us: NDArray[np.int64]
    tag_set: NDArray[np.int32]
    version_key: NDArray[np.int32]
    quantity: IntArray
    amount_nano: IntArray
    recurring: NDArray[np.bool_]


@dataclass(slots=True)
class Waiting:
    """Windows that have not ended; every column has shape (w,). ``usage`` (k,) maps usage rows to windows, -1: not waiting."""

    target: NDArray[np.int64]
    start_us: NDArray[np.int64]
    tag_set: NDArray[np.int32]
    version_key: NDArray[np.int32]
    quantity: IntArray
    charge: IntArray | None
    usage: NDArray[np.int64]


def itemize(
    usage: PriceUsage,
    target: NDArray[np.int64],
    before: TargetState,
    price: CompiledPrice,
    now_us: int,
    new_member: NDArray[np.bool_] | None = None,
) -> tuple[Rows, Waiting, TargetState]:
    """Fold and rate the usage of one price.

    ``usage`` must be sorted by (target, event time); ``target``: (n,) 0..k-1; ``new_member``: (n,) for ``unique`` folds,
    whether the row's member is new to its target. Rows of windows that end after ``now_us`` wait. The charges of a
    per-event price are those that count: see ``charged`` where it has an allowance.
    """
    aggregation = usage.row.meter.aggregation
    items = FoldItems(target, usage.value, usage.time_us, usage.key, new_member)
    after, folded = fold(aggregation, items, before.fold)
    groups = Groups.of(target, len(before.events))
    delta = subtract(after, groups.shifted(after, before.fold.quantity))
    window_us = usage.row.price.itemize.window_us
    start = usage.time_us - usage.time_us % window_us if window_us else usage.time_us
    due = start + window_us <= now_us if window_us else np.ones(len(target), dtype=np.bool_)
    if usage.row.price.itemize is Itemize.EACH:
        rows = _Parts(target, usage.event, start, usage.tag_set, usage.version_key, delta, usage.charge)
    else:
        rows, _ = _windows(target, start, usage, delta, np.flatnonzero(due))
    waiting_rows, number = _windows(target, start, usage, delta, np.flatnonzero(~due))
    amounts, state = post(
        price, rows.target, rows.delta, rows.charge, replace(before, posted_nano=_with_due(price, before, target))
    )
    state.events = before.events + np.bincount(target, minlength=len(before.events))
    state.last_event_us = latest_time(target, usage.time_us, before.last_event_us)
    state.fold = folded
    if usage.charge is not None:
        _, state.charge = running_sum(target, usage.charge, before.charge)
    waiting = Waiting(
        waiting_rows.target,
        waiting_rows.time_us,
        waiting_rows.tag_set,
        waiting_rows.version_key,
        waiting_rows.delta,
        waiting_rows.charge,
        number,
    )
    return _with_recurring(price, usage, target, before, rows, amounts), waiting, state


def post(
    price: CompiledPrice, target: NDArray[np.int64], delta: IntArray, charge: IntArray | None, before: TargetState
) -> tuple[IntArray, TargetState]:
    """Rate quantities (and, under a per-event price, charges) in order: ``(amounts (r,), state with them posted)``."""
    running, posted_quantity = running_sum(target, delta, before.posted_quantity)
    posted_charge = before.posted_charge
    if charge is not None:
        running, posted_charge = running_sum(target, charge, posted_charge)
    amounts, posted_nano = rate_running(price, target, running, before.posted_nano, before.base, before.settled)
    after = replace(before, posted_quantity=posted_quantity, posted_nano=posted_nano, posted_charge=posted_charge)
    return amounts, after


@dataclass(slots=True)
class _Parts:
    target: NDArray[np.int64]
    event: NDArray[np.int64]
    time_us: NDArray[np.int64]
    tag_set: NDArray[np.int32]
    version_key: NDArray[np.int32]
    delta: IntArray
    charge: IntArray | None


def _windows(
    target: NDArray[np.int64], start: NDArray[np.int64], usage: PriceUsage, delta: IntArray, rows: NDArray[np.int64]
) -> tuple[_Parts, NDArray[np.int64]]:
    """Group ``rows`` by (target, window, tags, version), in that order; and each usage row's group (-1: not in ``rows``)."""
    number = np.full(len(target), -1, dtype=np.int64)
    keys = (usage.version_key[rows], usage.tag_set[rows], start[rows], target[rows])
    order = np.lexsort(keys)
    rows = rows[order]
    columns = [key[order] for key in keys]
    differs = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    starts = np.flatnonzero(np.concatenate([[len(rows) > 0], differs])[: len(rows)])
    number[rows] = np.cumsum(np.concatenate([[0], differs])[: len(rows)])
    head = rows[starts]
    no_event = np.full(len(head), NO_EVENT, dtype=np.int64)
    summed = _summed(delta[rows], starts)
    charge = None if usage.charge is None else _summed(usage.charge[rows], starts)
    parts = _Parts(target[head], no_event, start[head], usage.tag_set[head], usage.version_key[head], summed, charge)
    return parts, number


def _summed(values: IntArray, starts: NDArray[np.int64]) -> IntArray:
    """Exact sums of the groups that begin at ``starts``."""
    if values.dtype != object and len(values) and magnitude(values) * len(values) > INT64_MAX:
        values = values.astype(object)
    return compact(np.add.reduceat(values, starts)) if len(starts) else values


def _fresh(target: NDArray[np.int64], before: TargetState) -> NDArray[np.int64]:
    """The targets that get their first event here and have not paid what is due without one, nor go on
    where others, with events, have."""
    touched: NDArray[np.int64] = np.unique(target)
    fresh: NDArray[np.int64] = touched[(before.events[touched] == 0) & (before.settled[touched] <= SETTLED)]
    return fresh if before.base is None else fresh[~before.base.filled[fresh]]


def _with_due(price: CompiledPrice, before: TargetState, target: NDArray[np.int64]) -> IntArray:
    """What is posted once new targets have got their fixed due, T(0)."""
    due = fixed_due_nano(price)
    if not due:
        return before.posted_nano
    posted = before.posted_nano.astype(object)
    posted[_fresh(target, before)] += due
    return compact(posted)


def _with_recurring(
    price: CompiledPrice,
    usage: PriceUsage,
    target: NDArray[np.int64],
    before: TargetState,
    rows: _Parts,
    amounts: IntArray,
) -> Rows:
    """All rows, with one ``recurring`` row in front of each new target that owes something at quantity zero."""
    due = fixed_due_nano(price)
    fresh = _fresh(target, before) if due else np.zeros(0, dtype=np.int64)
    head = np.searchsorted(target, fresh)  # the first usage row of each new target
    recurring = np.concatenate([np.ones(len(fresh), dtype=np.bool_), np.zeros(len(rows.target), dtype=np.bool_)])
    every_target = np.concatenate([fresh, rows.target])
    order = np.argsort(every_target, kind="stable")
    columns: dict[str, tuple[Any, Any]] = {
        "event": (np.full(len(fresh), NO_EVENT, dtype=np.int64), rows.event),
        "time_us": (usage.period_start_us[head], rows.time_us),
        "tag_set": (usage.tag_set[head], rows.tag_set),
        "version_key": (usage.version_key[head], rows.version_key),
        "quantity": (np.zeros(len(fresh), dtype=np.int64), rows.delta),
        "amount_nano": (compact(np.array([due] * len(fresh), dtype=object)), amounts),
    }
    return Rows(
        target=every_target[order],
        recurring=recurring[order],
        **{name: np.concatenate(parts)[order] for name, parts in columns.items()},
    )


def latest_time(target: NDArray[np.int64], time_us: NDArray[np.int64], before: NDArray[np.int64]) -> NDArray[np.int64]:
    """(k,) the latest event time of each target, with items at ``target`` (n,)."""
    after = before.copy()
    np.maximum.at(after, target, time_us)
    return after
