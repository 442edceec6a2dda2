"""What a target still owes: amount = T(now) - posted, item by item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineitem.rate.exact import IntArray, subtract
from lineitem.rate.folds import Groups
from lineitem.rate.price import CompiledPrice


def rate_running(
    price: CompiledPrice, target: NDArray[np.int64], quantity_after: IntArray, posted_before: IntArray
) -> tuple[IntArray, IntArray]:
    """Amounts of the items of one batch, all under one price, and what each target has posted after them.

    ``target``: (n,) int, non-decreasing, 0..k-1. ``quantity_after``: (n,) the fold's quantity after each item.
    ``posted_before``: (k,) nano-units. Returns ``(amounts, posted_after)``, (n,) and (k,) nano-units: a target's first
    item owes ``T(Q_1) - posted_before``, each later one ``T(Q_i) - T(Q_(i-1))``, so a target's amounts always sum to
    ``T(final) - posted_before``. A target without items keeps what it had.

    T(0) (``fixed_due_nano``) is a due of the target, not of its first event: the caller posts it as an item of kind
    ``recurring`` with quantity 0 when the target is made, and it is part of ``posted_before`` here.
    """
    groups = Groups.of(target, len(posted_before))
    total = price.amount_nano(quantity_after)
    previous = groups.shifted(total, posted_before)
    return subtract(total, previous), groups.last(total, posted_before)


def fixed_due_nano(price: CompiledPrice) -> int:
    """T(0) in nano-units: what is due without any usage (the first tier's flat price)."""
    return int(price.amount_nano(np.zeros(1, dtype=np.int64))[0])
