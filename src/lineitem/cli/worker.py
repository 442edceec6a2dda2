"""``lineitem worker``: a stream of usage into the ledger, for as long as it is left running."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from lineitem.cli.dlq import retrying
from lineitem.cli.output import Scope, fields, ledger_command, print_json, say


@click.command()
@click.option("--source", required=True, metavar="URL", help="kafka://host[:port][,host...]/topic or nats://.../stream")
@click.option("--group", help="Consumer group (Kafka): its workers share the topic's partitions.")
@click.option(
    "--source-name",
    metavar="NAME",
    help="Fills `source` where an event has none.  [default: kafka:TOPIC or nats:STREAM]",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings of the client, name=value a line: TLS, SASL, timeouts.",
)
@click.option("--until-idle", is_flag=True, help="End when everything is read instead of waiting for more.")
@click.option(
    "--batch-size",
    default=100_000,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Records a batch, at most.",
)
@click.option(
    "--batch-mb", default=64, show_default=True, type=click.IntRange(1, 512), help="Megabytes a batch, at most."
)
@click.option(
    "--batch-ms", default=250, show_default=True, type=click.IntRange(0, 600_000),
    help="Milliseconds a record may wait for others to join its batch.",
)  # fmt: skip
@click.option(
    "--commit-ms", default=500, show_default=True, type=click.IntRange(0, 600_000),
    help="Milliseconds that committing a batch should take: batches grow and shrink to that.  0: always as large as can be.",
)  # fmt: skip
@click.option("--topic-id", metavar="ID", help="A topic or stream of a known name made anew: read it, it has this id.")
@click.option("--skip-missing", is_flag=True, help="Go on without records that the broker no longer has.")
@click.option(
    "--metrics-listen",
    metavar="HOST:PORT",
    help="Answer /metrics, /healthz and /readyz there, e.g. 127.0.0.1:9464.",
)
@click.option(
    "--stuck-after",
    default=60,
    show_default=True,
    type=click.IntRange(1, 86_400),
    help="Seconds with work and without progress after which /readyz says no.",
)
@click.option(
    "--log-format", type=click.Choice(["json", "console"]), help="A line per batch on standard error, so formatted."
)
@click.option(
    "--slow-ms",
    default=5000,
    show_default=True,
    type=click.IntRange(1, 3_600_000),
    help="A batch that takes longer is a warning in the log, and its trace is always kept.",
)
@click.option("--otlp", metavar="URL", help="Send traces to this collector.  [default: OTEL_EXPORTER_OTLP_ENDPOINT]")
@click.option(
    "--schema-registry",
    metavar="URL",
    help="Where schemas come from: http(s)://host:port of a registry with Confluent's REST.  "
    "[default: LINEITEM_SCHEMA_REGISTRY, else the namespace's own]",
)
@click.option(
    "--schema-registry-config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Who calls it and what to trust, name=value a line.  [default: LINEITEM_SCHEMA_REGISTRY_CONFIG]",
)
@retrying
@ledger_command
def worker(
    source: str,
    group: str | None,
    source_name: str | None,
    config: Path | None,
    until_idle: bool,
    batch_size: int,
    batch_mb: int,
    batch_ms: int,
    commit_ms: int,
    topic_id: str | None,
    skip_missing: bool,
    metrics_listen: str | None,
    stuck_after: int,
    log_format: str | None,
    slow_ms: int,
    otlp: str | None,
    retry: bool,
    schema_registry: str | None,
    schema_registry_config: Path | None,
    scope: Scope,
) -> int:
    """Read a Kafka topic or a NATS JetStream stream of CloudEvents into the ledger, exactly once.

    Runs until it is told to stop (SIGTERM or Ctrl-C): the batch in work is finished, the rest left for the next worker.
    Start as many as there is work for, with one --group: they share the partitions. Positions are kept in the ledger, in
    the transaction of each batch; offsets stored in Kafka only show other tools how far it is. Records of aborted
    transactions are not read; a record that cannot be billed is a dead letter.

    Beside reading it tries dead letters again that waited for the catalog, lets go on what `lineitem throttle` no longer makes
    wait, itemizes windows that have ended, and looks after canaries.
    """
    from lineitem.adapters.streams import StreamOrder
    from lineitem.adapters.watched import Watching
    from lineitem.kit.process import tune_for_batches
    from lineitem.observability.logs import Log, LogFormat
    from lineitem.worker import StreamLimits

    tune_for_batches()
    limits = StreamLimits(batch_size, batch_mb << 20, batch_ms, commit_ms)
    order = StreamOrder(source, group, config, source_name, topic_id, skip_missing, until_idle, limits)
    log = Log(LogFormat(log_format), say, time.time_ns, slow_ms) if log_format else None
    watching = Watching(metrics_listen, otlp, log.batch if log else None, slow_ms, stuck_after)
    with _stopped_by_signals() as stop, scope.app(schema_registry, schema_registry_config) as app:
        done = app.work(scope.namespace, order, stop.event, log.message if log else say, watching, retry=retry)
    if scope.as_json:
        print_json(done.document())
    else:
        fields({name.replace("_", " "): f"{value:>12,}" for name, value in done.summary.document().items()})
        if done.summary.counts.dead_lettered:
            say("Some records were set aside: `lineitem dlq list` says why.")
    return 130 if stop.by == signal.SIGINT else 0


class _Stop:
    """Set by the first signal; the second ends the process as signals do."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.by: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.by = number
        self.event.set()
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def _stopped_by_signals() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
