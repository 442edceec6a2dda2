"""A speed limit on a clock that only moves when somebody waits."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from lineitem.kit.pace import Pace

SECOND = 1_000_000_000


@dataclass
class Clock:
    """Nanoseconds, and every pause."""

    now: int = 17 * SECOND
    pauses: list[int] = field(default_factory=list)

    def time(self) -> int:
        return self.now

    def pause(self, nanoseconds: int) -> None:
        self.pauses.append(nanoseconds)
        self.now += nanoseconds


@given(st.integers(1, 1000), st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_no_more_than_so_many_a_second(per_second: int, counts: list[int]) -> None:
    """What was begun in any span of time is what the rate allows, the last portion aside."""
    clock = Clock()
    pace = Pace(per_second, clock.time, clock.pause)
    begun = []
    for count in counts:
        pace.take(count)
        begun.append(clock.now)
    for at in range(1, len(counts)):
        allowed = (begun[at] - begun[0]) * per_second
        assert sum(counts[:at]) * SECOND - at * per_second <= allowed
    assert sum(clock.pauses) <= sum(counts[:-1]) * SECOND // per_second


def test_time_that_passed_anyway_counts() -> None:
    """Slow work is not slowed further, and no debt is saved up for a burst."""
    clock = Clock()
    pace = Pace(10, clock.time, clock.pause)
    pace.take(5)
    clock.now += 60 * SECOND
    pace.take(20)
    assert clock.pauses == []
    pace.take(1)
    assert clock.pauses == [2 * SECOND]


def test_without_a_rate_nobody_waits() -> None:
    """None is no limit."""
    clock = Clock()
    pace = Pace(None, clock.time, clock.pause)
    for _ in range(3):
        pace.take(10**9)
    assert clock.pauses == []
