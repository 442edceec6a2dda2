"""Where usage posts: its own month while that is open, else the earliest open one after it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lineitem.ledger.periods import posting_months

MONTHS = st.integers(24300, 24312)


@given(st.lists(MONTHS, max_size=20), st.sets(MONTHS))
def test_the_earliest_open_month_from_the_service_month_on(service: list[int], closed: set[int]) -> None:
    """Never an earlier month, never a closed one, and none further than need be."""
    found = posting_months(np.array(service, dtype=np.int32), sorted(closed)).tolist()
    wanted = [next(month for month in range(one, 24400) if month not in closed) for one in service]
    assert found == wanted


def test_what_was_asked_is_left_alone() -> None:
    """The service months given are not written to."""
    service = np.array([24300, 24301], dtype=np.int32)
    assert posting_months(service, [24300]).tolist() == [24301, 24301]
    assert service.tolist() == [24300, 24301]
