"""What a worker shows while it runs: builds its metrics, its traces and its log from what it was asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event, Thread

import psycopg

from lineitem import __version__
from lineitem.adapters.measures import measure_dead_letters
from lineitem.adapters.streams import StreamOrder
from lineitem.core.clock import Clock
from lineitem.core.errors import EnvironmentProblem
from lineitem.kit.db import Connection
from lineitem.kit.extras import load
from lineitem.kit.listen import parse_listen
from lineitem.observability import metrics
from lineitem.observability.health import Progress
from lineitem.observability.recorder import Recorder
from lineitem.observability.watch import BatchWatch, Seen

SLOW_MS, STUCK_S = 5_000, 60
_EVERY_S = 5
_SHARE = 20
"""Dead letters are counted so seldom that counting takes at most one part in so many of the time."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FROM_THE_LEDGER = (metrics.DEAD_LETTERS_OPEN, metrics.DEAD_LETTERS_OLDEST, metrics.LEDGER_UP)


@dataclass(frozen=True, slots=True)
class Watching:
    """What to show. ``listen``: HOST:PORT for scrapes; ``otlp``: a collector for traces, else what the environment says;
    ``log``: gets every batch; ``slow_ms``: from when on a batch is slow; ``stuck_s``: from when on no progress is not ready."""

    listen: str | None = None
    otlp: str | None = None
    log: Callable[[Seen], None] | None = None
    slow_ms: int = SLOW_MS
    stuck_s: int = STUCK_S


@contextmanager
def watched(
    watching: Watching, namespace: str, order: StreamOrder, connect: Callable[[], Connection], clock: Clock,
    say: Callable[[str], None],
) -> Iterator[BatchWatch]:  # fmt: skip
    """What a worker tells its batches to, for as long as it runs. ``connect``: a connection of its own that it closes.

    Raises UsageError, EnvironmentProblem, InputError for what cannot be shown as asked.
    """
    recorder = Recorder(metrics.OF_WORKER, absent=(metrics.EMITTED, *_FROM_THE_LEDGER))
    recorder.set(metrics.WORKER_INFO, 1, __version__, namespace, order.url, order.group or "")
    progress = Progress(watching.stuck_s)
    with ExitStack() as stack:
        tracer = None
        if _traced(watching, os.environ):
            tracer = stack.enter_context(_tracing(watching, namespace, order, say))
        if watching.listen is not None:
            from lineitem.adapters.prometheus.server import serving

            url = stack.enter_context(serving(parse_listen(watching.listen), recorder, progress))
            stack.enter_context(_looking(recorder, connect, clock))
            say(f"metrics: {url}/metrics")
        yield BatchWatch(recorder, progress, tracer, watching.log)


def _traced(watching: Watching, environment: Mapping[str, str]) -> bool:
    if watching.otlp is not None:
        return True
    off = (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none"
    )
    return not off and any(environment.get(name) for name in _ENDPOINTS)


@contextmanager
def _tracing(
    watching: Watching, namespace: str, order: StreamOrder, say: Callable[[str], None]
) -> Iterator[Callable[[Seen], str | None]]:
    otel = load("lineitem.adapters.otel.tracing", "otel", "traces", otherwise="; or unset OTEL_EXPORTER_OTLP_ENDPOINT")
    about = {"lineitem.namespace": namespace, "lineitem.group": order.group or ""}
    with otel.tracing(watching.otlp, watching.slow_ms, about, say) as tracer:
        yield tracer


@contextmanager
def _looking(recorder: Recorder, connect: Callable[[], Connection], clock: Clock) -> Iterator[None]:
    """Keep the figures that stand in the ledger up to date, in a thread of its own: no scrape waits for a query."""
    ended = Event()
    thread = Thread(target=_look, args=(recorder, connect, clock, ended), name="ledger figures", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _look(recorder: Recorder, connect: Callable[[], Connection], clock: Clock, ended: Event) -> None:
    connection: Connection | None = None
    rest_s: float = 0
    while not ended.wait(rest_s):
        began = time.monotonic()
        try:
            connection = connection or connect()
            measure_dead_letters(recorder, connection, clock.now_us())
        except (EnvironmentProblem, psycopg.Error):
            recorder.set(
                metrics.LEDGER_UP, 0
            )  # what is wrong, the batches say; a new connection is tried the next time
            if connection is not None:
                connection.close()
            connection = None
        rest_s = max(_EVERY_S, _SHARE * (time.monotonic() - began))
    if connection is not None:
        connection.close()
