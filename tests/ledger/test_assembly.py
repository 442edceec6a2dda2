"""Batches are put together from blocks, whatever order their rows come in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.ledger import assembly
from lineitem.ledger.assembly import Assembly
from lineitem.ledger.report import Place

ROW = np.dtype([("lane", ">i2"), ("batch", ">i8"), ("seq", ">i4")])
ROWS = st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 4), st.integers(0, 9)), max_size=60)
BLOCKS = st.integers(1, 60)


def _through(kept: Assembly, rows: list[tuple[int, int, int]], block: int) -> dict[Place, list[tuple[int, int, int]]]:
    """Rows of the batches that were completed, in the order they came."""
    done: dict[Place, list[tuple[int, int, int]]] = {}
    for start in range(0, len(rows), block):
        for place, parts in kept.add(np.array(rows[start : start + block], dtype=ROW)):
            assert place not in done
            done[place] = [row for part in parts for row in part.tolist()]
    return done


@given(ROWS, BLOCKS, st.sampled_from([0, 1024]))
def test_a_batch_is_complete_when_its_last_row_comes(
    rows: list[tuple[int, int, int]], block: int, runs_max: int
) -> None:
    """Each batch comes out once, with all its rows in order, whether a block is cut in runs or sorted first."""
    wanted: dict[Place, list[tuple[int, int, int]]] = {}
    for row in rows:
        wanted.setdefault(row[:2], []).append(row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "_RUNS_MAX", runs_max)
        kept = Assembly({place: len(found) for place, found in wanted.items()})
        assert _through(kept, rows, block) == wanted
    assert kept.strangers == {}
    assert list(kept.rest()) == []


@given(ROWS, BLOCKS, st.integers(1, 3))
def test_rows_that_lack(rows: list[tuple[int, int, int]], block: int, lacking: int) -> None:
    """A batch that wants more than there is stays, with what it has; so does one that has nothing."""
    counts: dict[Place, int] = {(0, 99): 0}
    for row in rows:
        counts[row[:2]] = counts.get(row[:2], 0) + 1
    kept = Assembly({place: count + lacking for place, count in counts.items()})
    assert _through(kept, rows, block) == {}
    assert {place: sum(map(len, parts)) for place, parts in kept.rest()} == counts


@given(ROWS, BLOCKS)
def test_rows_too_many(rows: list[tuple[int, int, int]], block: int) -> None:
    """Rows of no batch, and rows after a batch was complete, are counted as strangers or come out with it: none is lost."""
    kept = Assembly({(0, batch): 2 for batch in range(1, 5)})
    done = _through(kept, rows, block)
    held = sum(len(part) for _, parts in kept.rest() for part in parts)
    assert sum(map(len, done.values())) + held + sum(kept.strangers.values()) == len(rows)
    assert all(len(found) >= 2 for found in done.values())
    assert sum(count for (lane, _), count in kept.strangers.items() if lane != 0) == sum(row[0] != 0 for row in rows)


def test_what_is_kept_does_not_hold_its_block() -> None:
    """A few rows that wait must not keep a whole block of others in memory."""
    kept = Assembly({(1, 1): 3, (1, 2): 100})
    rows = np.array([(1, 1, 0), *((1, 2, n) for n in range(100))], dtype=ROW)
    assert [place for place, _ in kept.add(rows)] == [(1, 2)]
    ((place, parts),) = kept.rest()
    assert place == (1, 1)
    assert [part.base for part in parts] == [None]
