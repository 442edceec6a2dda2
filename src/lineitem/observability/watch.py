"""Watches batches: how long each stage took, what became of the batch, and hands that to metrics, a tracer and a log.

``flow.py`` tells a ``Watch`` once per stage and batch, never per event; the one it has by default does nothing. A worker's
(``BatchWatch``) keeps what it is told until the batch has ended and looks at it only then, outside the transaction: what
it costs is a few passes over a column of int64.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineitem.core.errors import LineitemError, PositionMoved
from lineitem.core.reasons import Reason
from lineitem.observability import metrics
from lineitem.observability.health import Progress
from lineitem.observability.metrics import Cause, Outcome, Stage
from lineitem.observability.recorder import Exemplar, Quantiles, Recorder

LINKS_MAX = 128
"""Traces of events that a batch's trace points to, at most: what OpenTelemetry keeps of a span by default."""
_SKEW_US = 1_000
"""Clocks contradict each other beyond the millisecond that brokers' timestamps are cut to."""
_NONE: NDArray[np.int64] = np.zeros(0, np.int64)


class Lap(NamedTuple):
    """A stage of a batch; one that is tried again has several. Nanoseconds since 1970."""

    stage: Stage
    start_ns: int
    end_ns: int


class Again(NamedTuple):
    """A batch was rolled back and tried again."""

    cause: Cause
    at_ns: int


@dataclass(slots=True)
class Seen:
    """Everything a batch showed. Filled while it runs; times in nanoseconds, clocks in microseconds since 1970.

    ``event_us`` and ``ordinal``: (m,) of the accepted events. ``received_us``: (n,) of all records, where the source tells.
    ``repeats``: duplicates inside the batch. ``outcomes``: records by what became of them. ``problem``: why it failed.
    """

    namespace: str
    stream: str
    start: int
    end: int
    records: int
    bytes: int
    received_us: NDArray[np.int64] | None
    began_ns: int
    ended_ns: int = 0
    laps: list[Lap] = field(default_factory=list)
    again: list[Again] = field(default_factory=list)
    traceparents: Sequence[str] = ()
    event_us: NDArray[np.int64] = field(default_factory=lambda: _NONE)
    ordinal: NDArray[np.int64] | NDArray[np.int32] = field(default_factory=lambda: _NONE)
    repeats: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    outcome: Outcome = Outcome.FAILED
    problem: str = ""
    lane: int = 0
    batch: str | None = None  # as `explain` names it: lane-number
    outcomes: Mapping[str, int] = field(default_factory=dict)
    line_items: int = 0
    line_item_ids: tuple[str, str] | None = None  # the first and the last
    trace_id: str | None = None

    @property
    def took_ns(self) -> int:
        """How long it took from begin to end."""
        return self.ended_ns - self.began_ns

    def stages_ns(self) -> dict[Stage, int]:
        """How long each stage took, tries added up."""
        took: dict[Stage, int] = {}
        for lap in self.laps:
            took[lap.stage] = took.get(lap.stage, 0) + lap.end_ns - lap.start_ns
        return took


class Watch:
    """What ``flow.py`` tells, once per stage and batch. This one listens to nothing."""

    def lap(self, stage: Stage) -> None:
        """A stage has ended; the next one begins here."""

    def decoded(self, traceparents: Sequence[str | None]) -> None:
        """The trace parents of a batch's events."""

    def settled(
        self, event_us: NDArray[np.int64], ordinal: NDArray[np.int32], repeats: int, reasons: Mapping[Reason, int]
    ) -> None:
        """What becomes of the events, should this try be the last: time and record of the accepted ones, repeats inside the
        batch, what is set aside by code."""

    def again(self, cause: Cause) -> None:
        """This try was rolled back, another one follows."""


class Clocks(NamedTuple):
    """Nanoseconds: ``wall`` since 1970, ``steady`` for durations."""

    wall: Callable[[], int] = time.time_ns
    steady: Callable[[], int] = time.monotonic_ns


class BatchWatch(Watch):
    """A worker's. ``tracer`` makes a trace of a batch and names it, or leaves it out; ``log`` writes its line.

    Batches are told one at a time, in one thread (``batch``); everything else may come from another.
    """

    def __init__(
        self,
        recorder: Recorder | None = None,
        progress: Progress | None = None,
        tracer: Callable[[Seen], str | None] | None = None,
        log: Callable[[Seen], None] | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.recorder = recorder or Recorder(metrics.OF_WORKER)
        self.progress = progress or Progress()
        self._tracer, self._log, self._clocks = tracer, log, clocks or Clocks()
        self._seen: Seen | None = None
        self._offset_ns = self._lap_ns = 0
        self._quantiles = {"event": Quantiles(), "receive": Quantiles()}

    @contextmanager
    def batch(
        self, namespace: str, stream: str, start: int, end: int, records: int, bytes_: int,
        received_us: NDArray[np.int64] | None = None,
    ) -> Iterator[Seen]:  # fmt: skip
        """Around one batch of a stream, positions ``start`` to ``end``. What goes wrong inside goes on its way."""
        steady = self._lap_ns = self._clocks.steady()
        self._offset_ns = self._clocks.wall() - steady
        seen = Seen(namespace, stream, start, end, records, bytes_, received_us, self._wall_ns(steady))
        self._seen = seen
        try:
            yield seen
        except BaseException as error:
            seen.outcome = Outcome.MOVED if isinstance(error, PositionMoved) else Outcome.FAILED
            seen.problem = error.what if isinstance(error, LineitemError) else type(error).__name__
            raise
        else:
            seen.outcome = Outcome.COMMITTED
            self.progress.moved()
        finally:
            self._seen = None
            seen.ended_ns = self._wall_ns(self._clocks.steady())
            self._tell(seen)

    def _wall_ns(self, steady_ns: int) -> int:
        return steady_ns + self._offset_ns

    def lap(self, stage: Stage) -> None:
        """As ``Watch``."""
        if self._seen is not None:
            now = self._clocks.steady()
            self._seen.laps.append(Lap(stage, self._wall_ns(self._lap_ns), self._wall_ns(now)))
            self._lap_ns = now

    def decoded(self, traceparents: Sequence[str | None]) -> None:
        """As ``Watch``; looked at only where there is a tracer."""
        if self._seen is not None and self._tracer is not None:
            found: dict[str, None] = {}
            for one in traceparents:
                if one and one not in found:
                    found[one] = None
                    if len(found) == LINKS_MAX:
                        break
            self._seen.traceparents = list(found)

    def settled(
        self, event_us: NDArray[np.int64], ordinal: NDArray[np.int32], repeats: int, reasons: Mapping[Reason, int]
    ) -> None:
        """As ``Watch``."""
        if self._seen is not None:
            self._seen.event_us, self._seen.ordinal, self._seen.repeats = event_us, ordinal, repeats
            self._seen.reasons = Counter(reasons)

    def again(self, cause: Cause) -> None:
        """As ``Watch``. What this try had begun belongs to no stage."""
        if self._seen is not None:
            self._lap_ns = self._clocks.steady()
            self._seen.again.append(Again(cause, self._wall_ns(self._lap_ns)))

    def time_to_ledger_ms(self) -> dict[str, object]:
        """Quantiles over all accepted events by the broker's clock, and below ``event`` by the producers'; None without any."""
        receive, event = (
            {"p50": found.ms(0.5), "p99": found.ms(0.99)}
            for found in (self._quantiles["receive"], self._quantiles["event"])
        )
        return {**receive, "event": event}

    # --- what has been seen, once the batch has ended ---------------------------------------------------------------------

    def _tell(self, seen: Seen) -> None:
        if self._tracer is not None:
            seen.trace_id = self._tracer(seen)
        self._count(seen)
        if self._log is not None:
            self._log(seen)

    def _count(self, seen: Seen) -> None:
        recorder, ended_s = self.recorder, seen.ended_ns / 1e9
        recorder.add(metrics.BATCHES, 1, seen.outcome)
        for again in seen.again:
            recorder.add(metrics.RETRIES, 1, again.cause)
        if seen.outcome is not Outcome.COMMITTED:
            return
        whole = Exemplar(seen.trace_id, 1, ended_s) if seen.trace_id else None
        for name, number in seen.outcomes.items():
            recorder.add(metrics.RECORDS, number, name)
        recorder.add(metrics.LINE_ITEMS, seen.line_items, exemplar=whole)
        recorder.add(metrics.DUPLICATES, seen.repeats, "batch")
        recorder.add(metrics.DUPLICATES, max(0, seen.outcomes.get("duplicate", 0) - seen.repeats), "ledger")
        for reason, number in seen.reasons.items():
            recorder.add(metrics.DEAD_LETTERS, number, reason.code, exemplar=whole)
            if reason in metrics.ENRICHMENT:
                recorder.add(metrics.ENRICHMENT_FAILURES, number, reason.code, exemplar=whole)
        recorder.set(metrics.LAST_COMMIT, ended_s)
        trace: tuple[str | None, float] = (seen.trace_id, ended_s)
        self._observe(metrics.BATCH_RECORDS, [seen.records], trace)
        self._observe(metrics.BATCH_BYTES, [seen.bytes], trace)
        for stage, took_ns in seen.stages_ns().items():
            self._observe(metrics.STAGE_SECONDS, [took_ns / 1e9], trace, stage)
        checked = [lap.end_ns for lap in seen.laps if lap.stage is Stage.CHECK]
        self._observe(metrics.COMMIT_SECONDS, [(seen.ended_ns - (checked or [seen.began_ns])[-1]) / 1e9], trace)
        self._time(seen, trace)

    def _observe(
        self, metric: metrics.Metric, values: NDArray[np.float64] | Sequence[float], trace: tuple[str | None, float],
        *labels: str,
    ) -> None:  # fmt: skip
        self.recorder.observe(metric, values, *labels, trace_id=trace[0], at_s=trace[1])

    def _time(self, seen: Seen, trace: tuple[str | None, float]) -> None:
        """Time to ledger by both clocks, and where the clocks contradict each other."""
        committed_us = seen.ended_ns // 1000
        self._took("event", committed_us - seen.event_us, trace)
        if seen.received_us is None:
            return
        received_us = seen.received_us[seen.ordinal]
        self._took("receive", committed_us - received_us, trace)
        ahead = {"event_receive": seen.event_us - received_us, "receive_commit": received_us - committed_us}
        for between, us in ahead.items():
            self.recorder.add(metrics.SKEW, int(np.count_nonzero(us > _SKEW_US)), between)

    def _took(self, clock: str, us: NDArray[np.int64], trace: tuple[str | None, float]) -> None:
        took_us = np.maximum(us, 0)
        self._quantiles[clock].add(took_us)
        self._observe(metrics.TIME_TO_LEDGER, took_us / 1e6, trace, clock)
