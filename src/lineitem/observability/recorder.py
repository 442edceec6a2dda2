"""Holds the values of metrics and takes in whole columns at once; adapters turn what it holds into someone's format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lineitem.observability.metrics import Kind, Metric

Labels = tuple[str, ...]
"""Values of a metric's labels, in the order of its definition."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One observation that can be looked at whole: its trace, its value, when (seconds since 1970)."""

    trace_id: str
    value: float
    at_s: float


@dataclass(slots=True)
class Buckets:
    """A histogram's state: observations per bucket (the last is beyond the last edge), their sum, an exemplar per bucket."""

    counts: NDArray[np.int64]
    sum: float = 0.0
    exemplars: dict[int, Exemplar] = field(default_factory=dict)


@dataclass(slots=True)
class Series:
    """One metric's values with one set of labels. ``buckets`` for a histogram, ``value`` for everything else."""

    value: float = 0
    buckets: Buckets | None = None
    exemplar: Exemplar | None = None


class Recorder:
    """Values of ``metrics``; safe to use from several threads. Series whose labels are all known beforehand begin at 0, the
    others, and those of ``absent`` metrics, with their first value."""

    def __init__(self, metrics: Iterable[Metric], absent: Iterable[Metric] = ()) -> None:
        self._lock = Lock()
        self._series: dict[Metric, dict[Labels, Series]] = {metric: {} for metric in metrics}
        left_out = set(absent)
        for metric in self._series:
            if metric not in left_out and all(label.values for label in metric.labels):
                for labels in product(*(label.values for label in metric.labels)):
                    self._at(metric, labels)

    def add(self, metric: Metric, amount: int, *labels: str, exemplar: Exemplar | None = None) -> None:
        """Count on."""
        assert metric.kind is Kind.COUNTER
        assert amount >= 0
        with self._lock:
            series = self._at(metric, labels)
            series.value += amount
            series.exemplar = exemplar or series.exemplar

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Say how much it is now. A counter may be set where somebody else counts."""
        assert metric.kind is not Kind.HISTOGRAM
        with self._lock:
            self._at(metric, labels).value = value

    def drop(self, metric: Metric, *labels: str) -> None:
        """Forget a series: what it was about is not this process's any more."""
        with self._lock:
            self._series[metric].pop(labels, None)

    def observe(
        self, metric: Metric, values: NDArray[np.float64] | Sequence[float], *labels: str, trace_id: str | None = None,
        at_s: float = 0,
    ) -> None:  # fmt: skip
        """Take in ``values`` (n,) in the metric's unit; with ``trace_id``, the largest as exemplar of its bucket."""
        assert metric.kind is Kind.HISTOGRAM
        column = np.asarray(values, np.float64)
        if not len(column):
            return
        at = np.searchsorted(np.array(metric.edges), column, side="left")  # an edge belongs to the bucket below it
        counts = np.bincount(at, minlength=len(metric.edges) + 1)
        largest = int(np.argmax(column))
        with self._lock:
            buckets = self._at(metric, labels).buckets
            assert buckets is not None
            buckets.counts += counts
            buckets.sum += float(column.sum())
            if trace_id is not None:
                buckets.exemplars[int(at[largest])] = Exemplar(trace_id, float(column[largest]), at_s)

    def snapshot(self) -> list[tuple[Metric, list[tuple[Labels, Series]]]]:
        """Every metric with its series as they are now, copied."""
        with self._lock:
            return [
                (metric, [(labels, _copy(series)) for labels, series in sorted(held.items())])
                for metric, held in self._series.items()
            ]

    def value(self, metric: Metric, *labels: str) -> float:
        """What a counter or gauge stands at; 0 where it has no such series."""
        with self._lock:
            found = self._series[metric].get(labels)
            return 0 if found is None else found.value

    def _at(self, metric: Metric, labels: Labels) -> Series:
        held = self._series[metric]
        if labels not in held:
            assert len(labels) == len(metric.labels)
            assert all(value in one.values for value, one in zip(labels, metric.labels, strict=True) if one.values)
            histogram = metric.kind is Kind.HISTOGRAM
            held[labels] = Series(buckets=Buckets(np.zeros(len(metric.edges) + 1, np.int64)) if histogram else None)
        return held[labels]


def _copy(series: Series) -> Series:
    buckets = series.buckets
    copied = None if buckets is None else Buckets(buckets.counts.copy(), buckets.sum, dict(buckets.exemplars))
    return Series(series.value, copied, series.exemplar)


class Quantiles:
    """Durations in buckets less than one percent wide: quantiles within that, in fixed memory, however many there are.

    A bucket is what float64 numbers have in common in sign, exponent and the first 7 bits of the mantissa: 128 to an octave,
    and no logarithm is taken.
    """

    _SHIFT = np.int64(52 - 7)
    _LONGEST_US = 1 << 50  # 35 years
    _FIRST = np.array([1.0]).view(np.int64)[0] >> _SHIFT

    def __init__(self) -> None:
        self._counts = np.zeros(self._at(np.array([self._LONGEST_US]))[0] + 1, np.int64)

    def _at(self, us: NDArray[np.int64]) -> NDArray[np.int64]:
        bits = np.clip(us, 1, self._LONGEST_US).astype(np.float64).view(np.int64)
        at: NDArray[np.int64] = (bits >> self._SHIFT) - self._FIRST
        return at

    def add(self, us: NDArray[np.int64]) -> None:
        """Take in ``us`` (n,) microseconds; less than 1 counts as 1."""
        self._counts += np.bincount(self._at(us), minlength=len(self._counts))

    def ms(self, share: float) -> float | None:
        """The duration that ``share`` of all do not pass, in milliseconds; None where there is none."""
        total = int(self._counts.sum())
        if not total:
            return None
        at = np.searchsorted(np.cumsum(self._counts), share * total)
        end_us = np.array([at + 1 + self._FIRST << self._SHIFT]).view(np.float64)[0]
        return round(float(end_us) / 1000, 3)
