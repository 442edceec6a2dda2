"""What a worker shows, against the real things: PostgreSQL, a Prometheus that scrapes, a collector that decodes OTLP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from lineitem.adapters.otel import tracing
from lineitem.adapters.streams import StreamOrder, place_of
from lineitem.adapters.watched import Watching, watched
from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import EnvironmentProblem, InputError, UsageError
from lineitem.ingest import intake
from lineitem.ingest.intake import Partition
from lineitem.kit import db
from lineitem.kit.embedded_folder import within
from lineitem.kit.listen import parse_listen
from lineitem.ledger import read
from lineitem.ledger.post import LANES
from lineitem.observability import metrics
from lineitem.observability.indicators import INDICATORS
from lineitem.observability.metrics import Stage
from lineitem.observability.watch import BatchWatch, Seen
from lineitem.worker import Desk, StreamLimits
from tests.acceptance.command import CATALOG, Command, line
from tests.integration.conftest import NOW_US
from tests.integration.otlp import Collector, attributes, collecting
from tests.integration.prometheus import NoPrometheus, Prometheus, binary, check_metrics, get, scraping

NAMESPACE = "default"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
_URL = "kafka://h/t"


@pytest.fixture
def priced(ledger: App) -> App:
    """A ledger whose catalog is in force."""
    ledger.publish(NAMESPACE, parse_catalog(CATALOG, "catalog.yaml"))
    return ledger


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Takes traces."""
    with collecting() as started:
        yield started


class Bench:
    """A desk on one partition, and what its worker shows."""

    def __init__(self, ledger: App, watch: BatchWatch, said: list[str]) -> None:
        self.watch, self.said = watch, said
        self.desk = Desk(ledger.pipeline(NAMESPACE), StreamLimits(age_ms=0), watch=watch)
        key = ledger.pipeline(NAMESPACE).snapshot().namespace_key
        settings = {"source": "kafka:t"}
        self.partition: Partition = intake.open_stream(
            ledger.control, NAMESPACE, key, "kafka:c/t/i/3", LANES, "cloudevents", settings
        )
        self.desk.take(self.partition)
        self._next = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return next(one.removeprefix("metrics: ") for one in self.said if one.startswith("metrics: "))

    def batch(self, *records: bytes) -> None:
        """One batch."""
        for record in records:
            self.desk.add(self.partition.key, self._next, record, NOW_US // 1000)
            self._next += 1
        self.desk.step()
        self.desk.wait_for_all()


@contextmanager
def bench(ledger: App, **watching: Any) -> Iterator[Bench]:
    """Everything a worker builds but the reader."""
    said: list[str] = []
    order = StreamOrder(_URL, "g")

    def connect() -> db.Connection:
        return db.connect(ledger.dsn, role=db.POST)

    with watched(Watching(**watching), NAMESPACE, order, connect, ledger.clock, said.append) as watch:
        made = Bench(ledger, watch, said)
        yield made
        made.desk.close()


def traced(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


def test_a_batch_as_a_trace_and_as_metrics(priced: App, collector: Collector) -> None:
    """One trace: the batch, a span per stage inside it, links to the traces of its events, the line items it wrote. The
    metrics' exemplars lead to it, the log names it."""
    lines: list[Seen] = []
    with bench(priced, listen="127.0.0.1:0", otlp=collector.url, log=lines.append) as made:
        made.batch(line("a", traceparent=traced(7)), line("b", traceparent="not one"), line("c"), line("c"), b"broken")
        made.desk.add(made.partition.key, 4, b"broken", NOW_US // 1000)  # the broker delivers it again
        made.desk.step()
        _, media_type, text = get(made.url, OPENMETRICS)
        assert media_type.startswith("application/openmetrics-text")
    whole, *others = collector.named("batch")
    assert not others
    trace_id = whole.trace_id.hex()
    stages = {span.name: span for span in collector.spans if span.name != "batch"}
    assert set(stages) == {stage.value for stage in Stage}
    assert {(span.trace_id, span.parent_span_id) for span in stages.values()} == {(whole.trace_id, whole.span_id)}
    assert all(
        whole.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano <= whole.end_time_unix_nano
        for span in stages.values()
    )
    assert [(link.trace_id, link.span_id) for link in whole.links] == [((7).to_bytes(16), (7).to_bytes(8))]
    written = sorted(item["id"] for item in read.line_items(priced.control, NAMESPACE))
    about = attributes(whole)
    assert (about["lineitem.line_item.first"], about["lineitem.line_item.last"]) == (written[0], written[-1])
    wanted = {
        "lineitem.batch": lines[0].batch,
        "lineitem.lane": made.partition.lane,
        "lineitem.stream": made.partition.stream,
        "lineitem.position.start": 0,
        "lineitem.position.end": 5,
        "lineitem.records.itemized": 3,
        "lineitem.records.duplicate": 1,
        "lineitem.dead_letters.bad_json": 1,
        "messaging.system": "kafka",
    }
    assert {name: about[name] for name in wanted} == wanted
    assert collector.resource["service.name"] == "lineitem-worker"
    assert lines[0].trace_id == trace_id
    samples = [sample for family in parse_openmetrics(text.decode()) for sample in family.samples]
    traces = {sample.name: sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar}
    assert set(traces.values()) == {trace_id}
    assert {"lineitem_time_to_ledger_seconds_bucket", "lineitem_commit_seconds_bucket"} <= traces.keys()
    held = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert held["lineitem_records_total", "itemized"] == held["lineitem_line_items_total",] == 3
    assert held["lineitem_duplicates_total", "batch"] == held["lineitem_duplicates_total", "delivery"] == 1
    assert held["lineitem_dead_letters_total", "bad_json"] == 1
    assert held["lineitem_time_to_ledger_seconds_count", "receive"] == 3


def test_sampling_keeps_what_matters(priced: App, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of plain batches the share that was asked for; a conflict, a slow one and a failed one always. OpenTelemetry's variables
    are enough."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "billing")
    with bench(priced) as made:
        for number in range(4):
            made.batch(line(f"plain {number}"))
        made.batch(line("plain 0", 6))
        assert made.watch.time_to_ledger_ms()["p50"] is not None
    kept = [attributes(span) for span in collector.named("batch")]
    assert [one["lineitem.position.start"] for one in kept] == [1, 3, 4]
    assert kept[-1]["lineitem.dead_letters.conflict"] == 1
    assert collector.resource["service.name"] == "billing"
    collector.spans.clear()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with bench(priced, slow_ms=1) as made:
        made._next = 5
        made.batch(line("slow"))
        with pytest.raises(ValueError, match="not ours"), made.watch.batch(NAMESPACE, "s", 0, 1, 1, 1):
            raise ValueError("not ours")
    slow, failed = collector.named("batch")
    assert attributes(slow)["lineitem.position.start"] == 5
    assert (failed.status.code, failed.status.message) == (2, "ValueError")


def test_off_means_off(priced: App, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told not to, nothing is traced, whatever else is set."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with bench(priced) as made:
        made.batch(line("a"))
        assert made.watch.recorder.value(metrics.LINE_ITEMS) == 1
    assert collector.spans == []


def test_a_collector_that_is_away_costs_no_batch(priced: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, each thing once; what is billed does not depend on it, and the end does not wait long for it."""
    monkeypatch.setattr(tracing, "_EXPORT_S", 1)
    with collecting() as gone:
        pass
    with bench(priced, otlp=gone.url) as made:
        made.batch(line("a"))
        made.batch(line("b"))
    assert made.desk.summary.batches == 2
    said = [one for one in made.said if one.startswith("traces: ")]
    assert 1 <= len(said) <= 2
    assert any("refused" in one or "Failed to export" in one for one in said)


@pytest.mark.parametrize("address", ["localhost:4318", "ftp://localhost"])
def test_an_address_that_is_none_is_refused(ledger: App, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Given as an option or as a variable: nothing would ever arrive."""
    with pytest.raises(UsageError, match="no URL"), bench(ledger, otlp=address):
        pass
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    with pytest.raises(UsageError, match="no URL"), bench(ledger):
        pass


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", EnvironmentProblem),
        ("OTEL_TRACES_SAMPLER_ARG", "2", InputError),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", InputError),
    ],
)
def test_variables_that_cannot_be_followed_are_refused(
    ledger: App, monkeypatch: pytest.MonkeyPatch, name: str, value: str, error: type[Exception]
) -> None:
    """Rather than another protocol or another share than was asked for."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv(name, value)
    with pytest.raises(error, match=value), bench(ledger, otlp="http://127.0.0.1:9"):
        pass


def test_pages(priced: App) -> None:
    """Alive while it answers; ready once it has looked and while what is to do moves; what is not there is said."""
    with bench(priced, listen="127.0.0.1:0", stuck_s=60) as made:
        base = made.url.removesuffix("/metrics")
        assert get(f"{base}/healthz")[0] == 200
        status, _, body = get(f"{base}/readyz")
        assert (status, json.loads(body)["ready"]) == (503, False)
        made.watch.progress.look(False)
        assert get(f"{base}/readyz")[0] == 200
        assert get(f"{base}/other")[0] == 404
        with (
            pytest.raises(EnvironmentProblem, match="cannot listen"),
            bench(priced, listen=base.removeprefix("http://")),
        ):
            pass


@pytest.mark.parametrize("text", ["9464", "h:", "h:65536", "h:1:2", "[::1", "h:port", "http://h:1"])
def test_no_address_to_listen_on(text: str) -> None:
    """HOST:PORT, and nothing else."""
    with pytest.raises(UsageError, match="no address to listen on"):
        parse_listen(text)


def test_addresses_to_listen_on() -> None:
    """A name, a number, IPv6 in brackets, or all of the machine."""
    found = [parse_listen(text) for text in ("localhost:0", "127.0.0.1:9464", "[::1]:1", ":80")]
    assert found == [("localhost", 0), ("127.0.0.1", 9464), ("::1", 1), ("", 80)]
    assert [place_of("kafka:c/usage/id/3"), place_of("other")] == [("usage", "3"), ("other", "")]


def test_a_ledger_that_is_away_shows(priced: App) -> None:
    """The figures of before stay, and that they are old can be seen."""
    calls = 0

    def connect() -> db.Connection:
        nonlocal calls
        calls += 1
        return db.connect("host=127.0.0.1 port=1")

    order = StreamOrder(_URL, "g")
    with watched(Watching(listen="127.0.0.1:0"), NAMESPACE, order, connect, priced.clock, lambda _: None) as watch:
        assert within(20, lambda: calls > 0 and watch.recorder.snapshot() != [])
        assert within(20, lambda: bool(dict(watch.recorder.snapshot())[metrics.LEDGER_UP]))
        assert watch.recorder.value(metrics.LEDGER_UP) == 0


def shows(server: Prometheus, expression: str) -> bool:
    """Whether there is something to see."""
    return server.query(expression) not in ([], ["NaN"])


@pytest.fixture(scope="module")
def real_prometheus() -> None:
    """Skips where there is none and none can be had."""
    try:
        binary("promtool")
    except NoPrometheus as reason:
        pytest.skip(str(reason))


@pytest.mark.usefixtures("real_prometheus")
def test_a_real_prometheus_scrapes_it(priced: App, collector: Collector, tmp_path: Path) -> None:
    """promtool finds nothing to criticise; every indicator has a value once two batches lie between scrapes."""
    with bench(priced, listen="127.0.0.1:0", otlp=collector.url) as made:
        made.watch.recorder.add(metrics.EMITTED, 3)
        assert check_metrics(get(made.url)[2]) == ""
        with scraping(tmp_path, made.url) as server:
            made.batch(line("a"), line("b"), b"broken")
            assert within(20, lambda: server.query("lineitem_line_items_total") == ["2"])
            made.watch.recorder.add(metrics.EMITTED, 3)
            made.batch(line("c"), line("d"), line("d"), b"broken again")
            silent = [one for one in INDICATORS if not within(20, partial(shows, server, one.expression))]
            assert silent == []
            assert within(20, lambda: float(server.query(INDICATORS[0].expression)[0]) > 0)
            assert within(20, lambda: server.query('lineitem_dead_letters_open{reason="bad_json"}') == ["2"])
            assert within(20, lambda: bool(server.exemplars("lineitem_commit_seconds_bucket")))


@pytest.mark.usefixtures("real_prometheus")
def test_the_command_prints_what_stands_in_the_ledger(priced: App, tmp_path: Path) -> None:
    """As text that promtool accepts, as JSON, or whole into a file; whatever door records came by."""
    with bench(priced) as made:
        made.batch(line("a"), line("a"), line("b"), b"broken", line("c", "x"))
    command = Command(tmp_path / "data", {"LINEITEM_DATABASE_URL": priced.dsn})
    file = tmp_path / "lineitem.prom"
    file.write_text("old")
    document = command.json("metrics", "--write", file)
    found = {(one["name"], *one["labels"].values()): one["value"] for one in document["metrics"]}
    assert found["lineitem_ledger_records_total", "itemized"] == found["lineitem_ledger_line_items_total",] == 2
    assert found["lineitem_ledger_records_total", "duplicate"] == found["lineitem_dead_letters_open", "bad_value"] == 1
    assert found["lineitem_dead_letters_open", "no_price"] == 0
    assert found["lineitem_dead_letters_oldest_age_seconds", "no_price"] == 0
    assert found["lineitem_dead_letters_oldest_age_seconds", "bad_json"] > 0
    assert found["lineitem_position_offset", "t", "3"] == 5
    assert found["lineitem_ledger_up",] == 1
    assert check_metrics(file.read_bytes()) == ""
    assert b'lineitem_dead_letters_open{reason="bad_json"} 1.0\n' in file.read_bytes()
    assert [one.name for one in tmp_path.glob("*.prom*")] == ["lineitem.prom"]
    answer = command.run("metrics", "--write", tmp_path / "no" / "folder.prom")
    assert (answer.code, answer.out) == (1, "")
    assert "folder.prom: cannot be written: No such file" in answer.err
    with pytest.raises(UsageError, match="is no stream"):
        priced.measure(NAMESPACE, "amqp://h/t", None)
    with pytest.raises(InputError, match="no namespace 'other'"):
        priced.measure("other", None, None)
