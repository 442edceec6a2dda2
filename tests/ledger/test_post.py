"""Sums per currency: exact at every size."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lineitem.ledger.post import Counts, canonical, sums_by_currency
from lineitem.ledger.rows import LineItems

AMOUNTS = st.lists(st.tuples(st.sampled_from(["EUR", "JPY", "USD"]), st.integers(-(2**63), 2**63 - 1)), max_size=30)
WIDE = st.lists(st.tuples(st.sampled_from(["EUR", "USD"]), st.integers(-(10**38), 10**38)), max_size=12)


def items_of(amounts: list[int]) -> LineItems:
    zeros, count = np.zeros(len(amounts), dtype=np.int32), len(amounts)
    column = np.empty(count, dtype=object)
    column[:] = amounts
    numbers = column if any(not -(2**63) <= amount < 2**63 for amount in amounts) else column.astype(np.int64)
    keys = np.zeros(count, dtype="V16")
    ids = pa.nulls(count, pa.string())
    wide = zeros.astype(np.int64)
    return LineItems(zeros, zeros, zeros, zeros.astype(np.int16), wide, numbers, wide, zeros, zeros, keys, ids)


@given(AMOUNTS | WIDE)
def test_sums_are_exact(rows: list[tuple[str, int]]) -> None:
    """Thousands of amounts at the edge of int64 do not wrap, and those beyond it add up as well."""
    wanted: Counter[str] = Counter()
    for currency, amount in rows:
        wanted[currency] += amount
    found = json.loads(sums_by_currency(items_of([amount for _, amount in rows]), [currency for currency, _ in rows]))
    assert found == {currency: str(amount) for currency, amount in wanted.items()}


def test_nothing_comes_to_nothing() -> None:
    """A batch without line items has no sums."""
    assert sums_by_currency(None, []) == "{}"


def test_canonical_text() -> None:
    """Keys in order, no spaces, characters as they are."""
    assert canonical({"b": 1, "a": {"ü": [1, "2"]}}) == '{"a":{"ü":[1,"2"]},"b":1}'


def test_counts_add_up() -> None:
    """Name by name."""
    assert Counts(5, 1, 1, 1, 1, 1) + Counts(received=2, itemized=2) == Counts(7, 3, 1, 1, 1, 1)
