"""What a recorder holds as Prometheus text, or as OpenMetrics with exemplars where the reader asks for that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar as Shown

from lineitem.observability.metrics import Kind, Metric
from lineitem.observability.recorder import Buckets, Exemplar, Labels, Recorder, Series


class Exposition:
    """``recorder`` as text; ``process``: with the process's own CPU, memory and file descriptors beside it."""

    def __init__(self, recorder: Recorder, *, process: bool) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Recorded(recorder))
        if process:
            ProcessCollector(registry=self._registry)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The text and its media type; ``accept`` as in HTTP."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class _Recorded(Collector):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterator[Family]:
        """Families that have samples."""
        for metric, series in self._recorder.snapshot():
            if series:
                yield _family(metric, series)


def _family(metric: Metric, series: Sequence[tuple[Labels, Series]]) -> Family:
    names = [label.name for label in metric.labels]
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=names)
        for labels, one in series:
            assert one.buckets is not None
            histogram.add_metric(labels, _buckets(metric, one.buckets), one.buckets.sum)
        return histogram
    if metric.kind is Kind.COUNTER:
        counter = CounterMetricFamily(metric.name, metric.meaning, labels=names)
        for labels, one in series:
            counter.add_metric(labels, one.value, exemplar=_shown(one.exemplar))
        return counter
    gauge = GaugeMetricFamily(metric.name, metric.meaning, labels=names)
    for labels, one in series:
        gauge.add_metric(labels, one.value)
    return gauge


def _buckets(metric: Metric, held: Buckets) -> list[tuple[str, float] | tuple[str, float, Shown]]:
    """Cumulated, the upper end of each as its name."""
    ends = [*map(repr, metric.edges), "+Inf"]
    found: list[tuple[str, float] | tuple[str, float, Shown]] = []
    for at, (end, count) in enumerate(zip(ends, accumulate(held.counts.tolist()), strict=True)):
        exemplar = _shown(held.exemplars.get(at))
        found.append((end, count) if exemplar is None else (end, count, exemplar))
    return found


def _shown(exemplar: Exemplar | None) -> Shown | None:
    return None if exemplar is None else Shown({"trace_id": exemplar.trace_id}, exemplar.value, exemplar.at_s)
