"""What leads beyond 38 digits is found by halves: never a target that fits, never more than the largest readings."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lineitem.rate.overflow import leading_beyond

LIMIT = 100


@given(st.lists(st.lists(st.integers(0, 90), min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_fewest_of_the_largest_readings_go(readings: list[list[int]]) -> None:
    """With sums bounded by 100: per target, as many of its largest readings as it takes, and none where none need go."""
    target = np.repeat(np.arange(len(readings)), [len(one) for one in readings])
    value = np.array([number for one in readings for number in one], dtype=np.int64)

    def overflowing_with(
        kept: np.ndarray[tuple[int], np.dtype[np.bool_]],
    ) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        assert set(target[kept]) == set(target)
        return np.bincount(target[kept], value[kept]) > LIMIT

    beyond = overflowing_with(np.ones(len(target), dtype=np.bool_))
    lost = leading_beyond(target, value, beyond, overflowing_with)
    for number, one in enumerate(readings):
        ascending = sorted(one)
        fitting = max(count for count in range(len(one) + 1) if sum(ascending[:count]) <= LIMIT)
        assert sorted(value[(target == number) & ~lost].tolist()) == ascending[:fitting]
