"""Columns are counted as single observations would be; quantiles are within a percent."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.observability.metrics import BATCH_BYTES, LAG, LINE_ITEMS, METRICS, PAUSED, TIME_TO_LEDGER
from lineitem.observability.recorder import Quantiles, Recorder, Series


def series(recorder: Recorder, name: str) -> dict[tuple[str, ...], Series]:
    return next(dict(held) for metric, held in recorder.snapshot() if metric.name == name)


@given(st.lists(st.lists(st.one_of(st.floats(0, 1e7), st.sampled_from(TIME_TO_LEDGER.edges)), max_size=20), max_size=5))
def test_buckets_are_those_of_one_at_a_time(columns: list[list[float]]) -> None:
    """An edge belongs to the bucket below it (`le`), and nothing is lost."""
    recorder = Recorder(METRICS)
    for column in columns:
        recorder.observe(TIME_TO_LEDGER, column, "event")
    every = [value for column in columns for value in column]
    buckets = series(recorder, TIME_TO_LEDGER.name)["event",].buckets
    assert buckets is not None
    for at, edge in enumerate(TIME_TO_LEDGER.edges):
        assert buckets.counts[: at + 1].sum() == sum(value <= edge for value in every)
    assert buckets.counts.sum() == len(every)
    assert buckets.sum == pytest.approx(sum(every))


def test_an_exemplar_stands_in_the_bucket_of_the_largest() -> None:
    """A trace that can be looked at, for the slowest of a batch."""
    recorder = Recorder(METRICS)
    recorder.observe(TIME_TO_LEDGER, [0.2, 40.0, 3.0], "receive", trace_id="ab" * 16, at_s=7)
    buckets = series(recorder, TIME_TO_LEDGER.name)["receive",].buckets
    assert buckets is not None
    assert {TIME_TO_LEDGER.edges[at]: (one.trace_id, one.value, one.at_s) for at, one in buckets.exemplars.items()} == {
        60.0: ("ab" * 16, 40.0, 7)
    }


def test_what_is_known_beforehand_begins_at_zero() -> None:
    """A counter that appears with its first increment hides that increment from `rate`; what grows with a topic waits."""
    recorder = Recorder(METRICS, absent=[PAUSED])
    assert series(recorder, LINE_ITEMS.name)[()].value == 0
    assert set(series(recorder, TIME_TO_LEDGER.name)) == {("event",), ("receive",)}
    assert series(recorder, LAG.name) == series(recorder, PAUSED.name) == {}
    recorder.set(LAG, 5, "usage", "3")
    assert series(recorder, LAG.name)["usage", "3"].value == recorder.value(LAG, "usage", "3") == 5
    recorder.drop(LAG, "usage", "3")
    assert series(recorder, LAG.name) == {}


def test_a_snapshot_does_not_move() -> None:
    """What is counted later is not in it."""
    recorder = Recorder(METRICS)
    before = series(recorder, BATCH_BYTES.name)[()]
    recorder.observe(BATCH_BYTES, [100])
    assert before.buckets is not None
    assert before.buckets.counts.sum() == 0


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_within_a_percent(us: list[int], share: float) -> None:
    """The smallest duration that the share does not pass, in buckets less than a percent wide."""
    quantiles = Quantiles()
    for start in range(0, len(us), 7):
        quantiles.add(np.array(us[start : start + 7]))
    exact = max(1, sorted(us)[math.ceil(share * len(us)) - 1])
    found = quantiles.ms(share)
    assert found is not None
    assert exact / 1000 - 0.001 <= found <= exact / 1000 * 1.01 + 0.001


def test_quantiles_of_nothing() -> None:
    """There are none."""
    assert Quantiles().ms(0.5) is None
