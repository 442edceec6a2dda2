"""One trace per batch, made when the batch has ended: a span for it, one per stage, linked to the traces of its events.

Nothing happens while a batch runs, and what is worth keeping is known before a span is made: batches that failed, were tried
again, were slow or met a conflict always, of the others a share.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, set_span_in_context
from opentelemetry.util.types import AttributeValue

from lineitem import __version__
from lineitem.core.errors import EnvironmentProblem, InputError, UsageError
from lineitem.core.reasons import Reason
from lineitem.observability.metrics import Outcome
from lineitem.observability.watch import LINKS_MAX, Seen

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_NS_PER_MS = 1_000_000
_EXPORT_S = 5
"""How long one export may take, and so how long a worker that ends may wait for a collector that is away."""
_QUIET_S = 600
_SAID_CHARS_MAX = 300
_PATH = "/v1/traces"


@dataclass(slots=True)
class Keep:
    """Which batches are traced. ``share`` of those that nothing sets apart, evenly; 1 keeps all."""

    share: float
    slow_ms: int
    _due: float = 0.0

    def __call__(self, seen: Seen) -> bool:
        """Whether this one is."""
        apart = seen.outcome is not Outcome.COMMITTED or bool(seen.again) or seen.reasons[Reason.CONFLICT] > 0
        if apart or seen.took_ns >= self.slow_ms * _NS_PER_MS:
            return True
        self._due += self.share
        if self._due < 1:
            return False
        self._due -= 1
        return True


@contextmanager
def tracing(
    endpoint: str | None, slow_ms: int, attributes: Mapping[str, str], say: Callable[[str], None],
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Callable[[Seen], str | None]]:  # fmt: skip
    """A tracer for as long as the context lasts; what is left is sent at its end.

    ``endpoint``: of the collector, else what OpenTelemetry's variables say. ``attributes`` of the resource. ``say``: told when
    the collector does not take what is sent. Raises UsageError for an address that is none, InputError or
    EnvironmentProblem for variables that cannot be followed.
    """
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        raise EnvironmentProblem(
            f"traces cannot be sent as {protocol}",
            do="Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, mostly port 4318.",
        )
    named = (
        endpoint
        or environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    if not (named or "").startswith(("http://", "https://")):
        raise UsageError(
            "the collector's address is no URL", do="Write http://HOST:4318 or https://..., without a path."
        )
    exporter = OTLPSpanExporter(endpoint=endpoint and _with_path(endpoint), timeout=_EXPORT_S)
    resource = Resource.create({"service.version": __version__, **attributes})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):  # nobody has named it
        resource = resource.merge(Resource({"service.name": "lineitem-worker"}))
    keep = Keep(_share(environment), slow_ms)
    with _told(say):
        # What to keep is decided here, with the whole batch in sight; the SDK keeps what it is given.
        provider = TracerProvider(
            resource=resource, sampler=ALWAYS_ON, span_limits=SpanLimits(max_links=LINKS_MAX), shutdown_on_exit=False
        )
        provider.add_span_processor(BatchSpanProcessor(exporter))
        tracer = provider.get_tracer("lineitem", __version__)

        def trace(seen: Seen) -> str | None:
            return _trace(tracer.start_span, seen) if keep(seen) else None

        try:
            yield trace
        finally:
            provider.shutdown()


def _with_path(endpoint: str) -> str:
    return endpoint if endpoint.rstrip("/").endswith(_PATH) else endpoint.rstrip("/") + _PATH


def _share(environment: Mapping[str, str]) -> float:
    """Of OTEL_TRACES_SAMPLER and its argument; a batch has no parent, so with and without ``parentbased_`` are one."""
    name = environment.get("OTEL_TRACES_SAMPLER", "always_on").removeprefix("parentbased_")
    text = environment.get("OTEL_TRACES_SAMPLER_ARG", "1")
    if name in ("always_on", "always_off"):
        return float(name == "always_on")
    try:
        share = float(text)
    except ValueError:
        share = -1
    if name != "traceidratio" or not 0 <= share <= 1:
        raise InputError(
            f"OTEL_TRACES_SAMPLER={name} with OTEL_TRACES_SAMPLER_ARG={text} is no way to sample",
            do="Use always_on, always_off, or traceidratio with a number from 0 to 1.",
        )
    return share


def _trace(start_span: Callable[..., Span], seen: Seen) -> str:
    """Make the spans; the trace's id, 32 hex digits."""
    whole = start_span(
        "batch", kind=SpanKind.CONSUMER, attributes=_attributes(seen), links=_links(seen), start_time=seen.began_ns
    )
    for again in seen.again:
        whole.add_event("tried again", {"lineitem.cause": again.cause.value}, again.at_ns)
    if seen.outcome is Outcome.FAILED:
        whole.set_status(Status(StatusCode.ERROR, seen.problem))
    inside = set_span_in_context(whole)
    for lap in seen.laps:
        start_span(lap.stage.value, context=inside, start_time=lap.start_ns).end(lap.end_ns)
    whole.end(seen.ended_ns)
    return format(whole.get_span_context().trace_id, "032x")


def _attributes(seen: Seen) -> dict[str, AttributeValue]:
    """Places and counts, nothing of what an event holds."""
    found: dict[str, AttributeValue] = {
        "messaging.system": seen.stream.partition(":")[0],
        "messaging.operation.type": "process",
        "messaging.batch.message_count": seen.records,
        "lineitem.namespace": seen.namespace,
        "lineitem.stream": seen.stream,
        "lineitem.position.start": seen.start,
        "lineitem.position.end": seen.end,
        "lineitem.outcome": seen.outcome.value,
        **{f"lineitem.records.{name}": number for name, number in seen.outcomes.items()},
        **{f"lineitem.dead_letters.{reason.code}": number for reason, number in seen.reasons.items()},
    }
    if seen.batch is not None:
        found |= {"lineitem.batch": seen.batch, "lineitem.lane": seen.lane, "lineitem.line_items": seen.line_items}
    if seen.line_item_ids is not None:
        found["lineitem.line_item.first"], found["lineitem.line_item.last"] = seen.line_item_ids
    return found


def _links(seen: Seen) -> list[Link]:
    """To the spans that sent the events. What is no W3C trace parent points nowhere and is left out."""
    found = dict.fromkeys(parts.groups() for one in seen.traceparents if (parts := _TRACEPARENT.fullmatch(one)))
    contexts = [
        SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
        for trace, span, flags in found
    ]
    return [Link(one) for one in contexts if one.is_valid]


@contextmanager
def _told(say: Callable[[str], None]) -> Iterator[None]:
    """What OpenTelemetry logs, to ``say`` instead of past it: each kind once in a while, it tries again every few seconds."""
    log, handler = logging.getLogger("opentelemetry"), _Said(say)
    before = log.propagate
    log.propagate = False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = before


class _Said(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say
        self._quiet_until: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """The place in the code tells the kind; the text names other figures each time."""
        kind, now = f"{record.pathname}:{record.lineno}", time.monotonic()
        if now >= self._quiet_until.get(kind, 0):
            self._quiet_until[kind] = now + _QUIET_S
            self._say(f"traces: {record.getMessage()[:_SAID_CHARS_MAX]}")
