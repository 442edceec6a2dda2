"""Which usage leads beyond the 38 digits the ledger can hold: a target's largest readings, never their neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lineitem.rate.exact import BoolArray, exceeds_ledger
from lineitem.rate.itemize import Rows, TargetState, Waiting
from lineitem.rate.price import CompiledPrice
from lineitem.rate.targets import total_nano


def overflowing(price: CompiledPrice, rows: Rows, waiting: Waiting, after: TargetState) -> BoolArray:
    """(k,) bool: targets with a number of more than 38 digits, now or when what waits is posted."""
    beyond = exceeds_ledger(after.fold.quantity) | exceeds_ledger(after.posted_quantity)
    beyond |= exceeds_ledger(after.posted_nano)
    if len(waiting.target):
        everything = price.counted(after.fold.quantity, after.charge)
        beyond |= exceeds_ledger(total_nano(price, everything, after.base))
        beyond[waiting.target[exceeds_ledger(waiting.quantity)]] = True
    for numbers in (rows.quantity, rows.amount_nano):
        beyond[rows.target[exceeds_ledger(numbers)]] = True
    return beyond


def leading_beyond(
    target: NDArray[np.int64],
    value: NDArray[np.int64] | NDArray[np.object_],
    beyond: BoolArray,
    overflowing_with: Callable[[BoolArray], BoolArray],
) -> BoolArray:
    """(n,) bool: usage rows to set aside so that no target overflows: the largest ones, as few of those as do.

    ``target`` and ``value``: (n,) of each row. ``beyond``: (k,) the targets that overflow with all their rows.
    ``overflowing_with`` says which (k,) do with only the rows of a mask (n,); it is never asked about a target without
    rows. Searched by halves, so a million rows cost twenty ratings.
    """
    count = np.bincount(target, minlength=len(beyond))
    rank = _rank_by_size(target, value, count)
    too_few = np.zeros(len(beyond), dtype=np.int64)
    enough = np.where(beyond, count, 0)
    while (open_ := enough - too_few > 1).any():
        middle = np.where(open_, (too_few + enough) // 2, np.minimum(enough, np.maximum(count - 1, 0)))
        over = overflowing_with(rank >= middle[target])
        too_few = np.where(open_ & over, middle, too_few)
        enough = np.where(open_ & ~over, middle, enough)
    return rank < enough[target]


def _rank_by_size(
    target: NDArray[np.int64], value: NDArray[np.int64] | NDArray[np.object_], count: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(n,) each row's place among those of its target: the largest absolute value first, of equal ones the later."""
    sizes = [abs(number) for number in value.tolist()]
    places = target.tolist()
    order = np.array(sorted(range(len(sizes)), key=lambda row: (places[row], -sizes[row], -row)), dtype=np.int64)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    return rank
