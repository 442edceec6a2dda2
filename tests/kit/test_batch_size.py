"""Batch sizes follow commit times: for databases whose time is some milliseconds a batch and some a record."""

from __future__ import annotations

import pytest

from lineitem.kit.batch_size import BatchSize

TARGET_MS = 500


def run(size: BatchSize, commits: int, fixed_ms: int, records_per_ms: int) -> list[int]:
    """The time of each commit of a full batch."""
    times = []
    for _ in range(commits):
        times.append(fixed_ms + size.records // records_per_ms)
        size.observe(size.records, 0, times[-1])
    return times


@pytest.mark.parametrize("fixed_ms", [0, 20, 200, 350])
@pytest.mark.parametrize("records_per_ms", [5, 30, 70, 150])
def test_it_converges_where_time_is_linear(fixed_ms: int, records_per_ms: int) -> None:
    """After twelve commits each takes 70 to 100 % of the target, or is of the largest or smallest size; and it stays."""
    size = BatchSize(100_000, 64 << 20, TARGET_MS)
    run(size, 12, fixed_ms, records_per_ms)
    for took_ms in run(size, 20, fixed_ms, records_per_ms):
        assert took_ms <= TARGET_MS or size.records == 1_000
        assert took_ms >= TARGET_MS * 7 // 10 or size.records == 100_000


def test_it_recovers_after_a_stall() -> None:
    """Smaller while the database takes ten times as long; after six commits at its old speed as large as before."""
    size = BatchSize(100_000, 64 << 20, TARGET_MS)
    run(size, 12, 10, 100)
    before = size.records
    run(size, 12, 10, 10)
    assert size.records <= 5_000
    run(size, 6, 10, 100)
    assert size.records >= before * 9 // 10


def test_a_cost_that_smaller_batches_do_not_save_is_no_reason_for_them() -> None:
    """Three seconds a commit whatever is in it: a thousand records each would be a hundredth of the speed."""
    size = BatchSize(100_000, 64 << 20, TARGET_MS)
    run(size, 10, 5, 100)
    before = size.records
    run(size, 9, 3_000, 100)
    assert size.records >= before // 2
    run(size, 6, 5, 100)
    assert size.records >= before * 9 // 10


def test_bounds() -> None:
    """Never above the largest, never below a thousand records or the largest, whichever is less; bytes in proportion."""
    size = BatchSize(100_000, 64 << 20, TARGET_MS)
    run(size, 30, 0, 1_000)
    assert (size.records, size.bytes) == (100_000, 64 << 20)
    run(size, 60, 0, 1)
    assert size.records == 1_000
    assert size.bytes == (64 << 20) // 100
    tiny = BatchSize(3, 4096, TARGET_MS)
    run(tiny, 5, 10_000, 1)
    assert (tiny.records, tiny.bytes) == (3, 4096)


def test_a_small_batch_says_nothing() -> None:
    """Neither a slow nor a fast one; one that is full by bytes does."""
    size = BatchSize(100_000, 64 << 20, TARGET_MS)
    before = size.records
    size.observe(before // 3, 0, 10_000)
    size.observe(before // 3, 0, 1)
    assert size.records == before
    size.observe(10, size.bytes, 1)
    assert size.records == 2 * before


def test_without_a_target_it_is_the_largest() -> None:
    """Whatever a commit takes."""
    size = BatchSize(100_000, 64 << 20, 0)
    run(size, 5, 10_000, 1)
    assert size.records == 100_000
