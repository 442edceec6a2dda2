"""Folds: the quantity after each event equals a loop's; the end state does not know order, batches or repetition."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Aggregation
from lineitem.rate.folds import FOLDS, FoldItems, FoldState, first_of, fold

TARGETS = 4
VALUES = st.one_of(st.integers(-50, 50), st.integers(-(2**63) - 2, 2**63 + 2), st.integers(-(10**37), 10**37))


@dataclass(frozen=True)
class Item:
    """One event as a fold sees it."""

    target: int
    value: int
    time_us: int
    key: bytes
    member: bytes


@st.composite
def histories(draw: st.DrawFn) -> list[Item]:
    """Events of a few targets; times and members repeat, identity keys do not."""
    values = draw(st.sampled_from([st.integers(-50, 50), st.integers(-(2**63), 2**63 - 1), VALUES]))
    rows = st.tuples(st.integers(0, TARGETS - 1), values, st.integers(-2, 2), st.integers(0, 3))
    drawn = draw(st.lists(rows, max_size=16))
    keys = draw(st.lists(st.binary(min_size=16, max_size=16), min_size=len(drawn), max_size=len(drawn), unique=True))
    return [
        Item(target, value, time_us, key, bytes(15) + bytes([member]))
        for (target, value, time_us, member), key in zip(drawn, keys, strict=True)
    ]


class Meter:
    """A meter that reads batches and keeps its members, as the ledger does."""

    def __init__(self, aggregation: Aggregation) -> None:
        self.aggregation = aggregation
        self.state = FoldState.empty(TARGETS)
        self.members: set[tuple[int, bytes]] = set()

    def read(self, batch: list[Item]) -> tuple[list[Item], list[int]]:
        """Returns the items as they were billed, grouped by target, and the quantity after each."""
        items = sorted(batch, key=lambda item: item.target)
        target = np.array([item.target for item in items], dtype=np.int64)
        member_key = keys([item.member for item in items])
        known = np.array([(item.target, item.member) in self.members for item in items], dtype=bool)
        after, self.state = fold(
            self.aggregation,
            FoldItems(
                target,
                value=column([item.value for item in items]),
                time_us=np.array([item.time_us for item in items], dtype=np.int64),
                key=keys([item.key for item in items]),
                new_member=first_of(target, member_key) & ~known,
            ),
            self.state,
        )
        self.members |= {(item.target, item.member) for item in items}
        return items, after.tolist()

    def end(self) -> list[object]:
        """The state as plain values."""
        state = self.state
        return [state.quantity.tolist(), state.filled.tolist(), state.time_us.tolist(), state.key.tobytes()]


def column(values: list[int]) -> np.ndarray:
    fits = all(-(2**63) <= value < 2**63 for value in values)
    return np.array(values, dtype=np.int64 if fits else object)


def keys(values: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(values), dtype="V16")


def by_hand(aggregation: Aggregation, seen: list[Item]) -> int:
    """The quantity of the events of one target."""
    match aggregation:
        case Aggregation.SUM:
            return sum(item.value for item in seen)
        case Aggregation.COUNT:
            return len(seen)
        case Aggregation.MAX:
            return max((item.value for item in seen), default=0)
        case Aggregation.UNIQUE:
            return len({item.member for item in seen})
        case Aggregation.LATEST:
            return max(seen, key=lambda item: (item.time_us, item.key)).value if seen else 0
        case Aggregation.TIME_WEIGHTED:
            raise AssertionError("no fold that runs with its events")


@given(history=histories(), cut=st.integers(0, 16))
def test_every_running_quantity_is_the_loops(history: list[Item], cut: int) -> None:
    """After each event, across two batches, the quantity is that of the events so far; the state is that of all."""
    for aggregation in FOLDS:
        meter = Meter(aggregation)
        seen: list[list[Item]] = [[] for _ in range(TARGETS)]
        for batch in (history[:cut], history[cut:]):
            items, running = meter.read(batch)
            for item, quantity in zip(items, running, strict=True):
                seen[item.target].append(item)
                assert quantity == by_hand(aggregation, seen[item.target]), aggregation
        assert meter.state.quantity.tolist() == [by_hand(aggregation, events) for events in seen], aggregation
        assert meter.state.filled.tolist() == [bool(events) for events in seen], aggregation


@given(history=histories(), data=st.data())
def test_order_and_batches_do_not_change_the_end(history: list[Item], data: st.DataObject) -> None:
    """Any order, cut into any batches, ends in the same state."""
    shuffled = data.draw(st.permutations(history))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(history)), max_size=3)))
    for aggregation in FOLDS:
        whole, pieces = Meter(aggregation), Meter(aggregation)
        whole.read(history)
        for start, end in zip([0, *cuts], [*cuts, len(history)], strict=True):
            pieces.read(shuffled[start:end])
        assert pieces.end() == whole.end(), aggregation


def test_every_aggregation_has_its_fold() -> None:
    """What a catalog can name can be computed; a level is no quantity that runs with its events (``rate.levels``)."""
    assert set(FOLDS) == set(Aggregation) - {Aggregation.TIME_WEIGHTED}


def test_a_maximum_below_zero_is_one() -> None:
    """A target without events has quantity 0; one that only saw -5 has -5."""
    meter = Meter(Aggregation.MAX)
    meter.read([Item(1, -5, 0, bytes(16), bytes(16))])
    assert meter.state.quantity.tolist() == [0, -5, 0, 0]


def test_many_targets_sum_beyond_int64_together() -> None:
    """Each target fits int64 while all together do not: every one is right, and comes back as int64."""
    value = np.full(4, 2**62, dtype=np.int64)
    after, state = fold(Aggregation.SUM, FoldItems(np.arange(4), value), FoldState.empty(4))
    assert after.tolist() == [2**62] * 4
    assert after.dtype == np.int64
    assert state.quantity.dtype == np.int64


def test_a_sum_leaves_int64_without_wrapping() -> None:
    """int64 values whose sum no int64 holds: in one batch, and in a batch that meets a full state."""
    target, value = np.zeros(3, dtype=np.int64), np.full(3, 2**62, dtype=np.int64)
    after, state = fold(Aggregation.SUM, FoldItems(target, value), FoldState.empty(1))
    assert after.tolist() == [2**62, 2**63, 3 * 2**62]
    after, state = fold(Aggregation.SUM, FoldItems(target, -value), state)
    assert after.tolist() == [2**63, 2**62, 0]
    full = replace(state, quantity=np.array([2**63 - 1]))
    after, _ = fold(Aggregation.SUM, FoldItems(target[:1], np.array([1])), full)
    assert after.tolist() == [2**63]
    after, _ = fold(Aggregation.COUNT, FoldItems(target[:1]), full)
    assert after.tolist() == [2**63]


def test_the_widest_maximum_takes_the_other_way() -> None:
    """Values at both ends of int64, whose distance no int64 holds."""
    target, value = np.zeros(3, dtype=np.int64), np.array([-(2**63), 2**63 - 1, 0])
    after, _ = fold(Aggregation.MAX, FoldItems(target, value), FoldState.empty(1))
    assert after.tolist() == [-(2**63), 2**63 - 1, 2**63 - 1]


def test_what_a_fold_reads_must_be_there_and_grouped() -> None:
    """A missing column, ungrouped items or a key of another width is a mistake of the caller, and says so."""
    state = FoldState.empty(2)
    with pytest.raises(ValueError, match="fold sum needs the column value"):
        fold(Aggregation.SUM, FoldItems(np.array([0, 1])), state)
    for target in ([1, 0], [0, 2], [-1, 0], [0, 1, 0]):
        with pytest.raises(ValueError, match="grouped by target"):
            fold(Aggregation.COUNT, FoldItems(np.array(target)), state)
    with pytest.raises(ValueError, match="16 bytes, not 8"):
        first_of(np.array([0]), np.zeros(1, dtype="V8"))
