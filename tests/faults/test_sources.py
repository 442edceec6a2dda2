"""One contract for every source: a file, a stream in memory, NATS JetStream, Kafka; and what is NATS's own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from lineitem.adapters import streams
from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Catalog
from lineitem.core.clock import SystemClock
from lineitem.core.errors import EnvironmentProblem, InputError, Refused
from lineitem.ingest.events import BatchLimits
from lineitem.kit.config import Config
from tests.acceptance.command import CATALOG, Command, event, line
from tests.faults import memory, nats
from tests.faults.broker import Broker, until
from tests.faults.contract import Reading, SourceContract, StreamContract, work
from tests.faults.kafka import QUICK

_numbers = count(1)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """One ledger for all; each test has a namespace of its own."""
    with App(Config.read(tmp_path_factory.mktemp("sources"), {}), SystemClock()) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nats.Server]:
    """One NATS server; each test has a stream of its own."""
    with nats.running(tmp_path_factory.mktemp("nats")) as started:
        yield started


@pytest.fixture
def name() -> str:
    """Of a namespace, a topic, a stream."""
    return f"usage-{next(_numbers)}"


class File:
    """A file that grows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, *records: bytes) -> None:
        with self.path.open("ab") as file:
            file.writelines(record + b"\n" for record in records)

    def read(self, app: App, namespace: str, **options: Any) -> dict[str, Any]:
        assert not options
        with app.source(self.path, None, None, "files") as source:
            summary = app.ingest(app.pipeline(namespace), source, BatchLimits(2), lambda at, done: None)
        return summary.document()


class Memory:
    """``memory.Stream`` under a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        memory.STREAMS[name] = memory.Stream()

    def put(self, *records: bytes) -> None:
        memory.STREAMS[self.name].records += records

    def read(self, app: App, namespace: str, **options: Any) -> dict[str, Any]:
        return work(app, namespace, f"memory://here/{self.name}", **options)

    def make_anew(self) -> None:
        memory.STREAMS[self.name] = memory.Stream()

    def lose_first(self, count: int) -> None:
        stream = memory.STREAMS[self.name]
        memory.STREAMS[self.name] = memory.Stream(stream.id, stream.first + count, stream.records[count:])


class Nats:
    """A JetStream stream."""

    def __init__(self, server: nats.Server, name: str) -> None:
        self.server, self.name = server, name
        server.create(name)

    def put(self, *records: bytes) -> None:
        self.server.publish(self.name, list(records))

    def read(self, app: App, namespace: str, **options: Any) -> dict[str, Any]:
        return work(app, namespace, self.server.url(self.name), config=self.server.config, **options)

    def make_anew(self) -> None:
        self.server.do(lambda jetstream: jetstream.delete_stream(self.name))
        self.server.create(self.name)

    def lose_first(self, count: int) -> None:
        self.server.do(lambda jetstream: jetstream.purge_stream(self.name, seq=count + 1))


class Kafka:
    """A topic of one partition."""

    def __init__(self, broker: Broker, name: str, folder: Path) -> None:
        self.broker, self.name, self.config = broker, name, folder / "client.properties"
        self.config.write_text(QUICK)
        broker.create(name)

    def put(self, *records: bytes) -> None:
        self.broker.produce(self.name, [(None, record) for record in records])

    def read(self, app: App, namespace: str, **options: Any) -> dict[str, Any]:
        return work(app, namespace, self.broker.url(self.name), group=self.name, config=self.config, **options)

    def make_anew(self) -> None:
        self.broker.delete(self.name)
        self.broker.create(self.name)

    def lose_first(self, count: int) -> None:
        self.broker.delete_records(self.name, 0, count)


class TestFile(SourceContract):
    """A file that grows is read again from its start; what is known is recognised."""

    @pytest.fixture
    def reading(self, app: App, name: str, tmp_path: Path) -> Reading:
        return Reading(app, name, File(tmp_path / "usage.ndjson"))


class TestMemory(StreamContract):
    """The twin without a broker."""

    @pytest.fixture
    def reading(self, app: App, name: str, monkeypatch: pytest.MonkeyPatch) -> Reading:
        monkeypatch.setitem(streams.STREAMS, "memory", "tests.faults.memory")
        return Reading(app, name, Memory(name))


class TestNats(StreamContract):
    """A real server."""

    @pytest.fixture
    def reading(self, app: App, name: str, server: nats.Server) -> Reading:
        return Reading(app, name, Nats(server, name))


class TestKafka(StreamContract):
    """A real broker."""

    @pytest.fixture
    def reading(self, app: App, name: str, broker: Broker, tmp_path: Path) -> Reading:
        return Reading(app, name, Kafka(broker, name, tmp_path))


# --- NATS's own ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(app: App, name: str, server: nats.Server) -> Reading:
    """A JetStream stream and a namespace for it."""
    return Reading(app, name, Nats(server, name))


def test_binary_mode(stream: Reading, server: nats.Server) -> None:
    """The attributes are headers, percent-encoded where they must be; the body is ``data``."""
    whole = event("binary", subject="acmé")
    headers = {f"ce-{name}": str(value).replace("é", "%C3%A9") for name, value in whole.items() if name != "data"}
    server.publish(stream.namespace, [json.dumps(whole["data"]).encode()], headers)
    assert stream.read() == (1, 0, 0)
    assert stream.billed() == ["binary"]


def test_holes_inside_hold_no_record(stream: Reading, server: nats.Server) -> None:
    """A record that somebody deleted is like one that compaction took."""
    stream.source.put(line("a"), line("b"), line("c"))
    server.do(lambda jetstream: jetstream.delete_msg(stream.namespace, 2))
    assert stream.read()[0] == 2
    assert stream.billed() == ["a", "c"]


def test_streams_that_forget_what_was_read_are_refused(app: App, name: str, server: nats.Server) -> None:
    """A work queue drops what a consumer has had: usage must be there to be read again."""
    server.create(name, retention="workqueue")
    app.publish(name, a_catalog())
    with App(app.config, app.clock) as own:
        with pytest.raises(Refused, match="only until they are read"):
            work(own, name, server.url(name), config=server.config)
        with pytest.raises(Refused, match="there is no stream"):
            work(own, name, server.url("nothing"), config=server.config)


def test_what_cannot_be_reached(app: App, name: str, server: nats.Server, tmp_path: Path) -> None:
    """A wrong password and a wrong setting say so, without the password; so does a server that is not there."""
    app.publish(name, a_catalog())
    wrong = tmp_path / "wrong"
    wrong.write_text("user=billing\npassword=guessed\n")
    with App(app.config, app.clock) as own:
        with pytest.raises(EnvironmentProblem) as refusal:
            work(own, name, server.url("usage"), config=wrong)
        assert "guessed" not in str(refusal.value)
        wrong.write_text("pasword=x\n")
        with pytest.raises(InputError, match="pasword is no setting"):
            work(own, name, server.url("usage"), config=wrong)
        with pytest.raises(EnvironmentProblem):
            work(own, name, "nats://127.0.0.1:1/usage")


def a_catalog() -> Catalog:
    return parse_catalog(CATALOG, "catalog.yaml")


def test_killed_workers_and_a_killed_server(tmp_path: Path, server: nats.Server, name: str) -> None:
    """A worker dies in a commit, another waits while the server is down and comes back; each record counts once."""
    command = Command(tmp_path / "data")
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    command.json("catalog", "publish", tmp_path / "catalog.yaml")
    server.create(name)
    server.publish(name, [line(f"e-{n:03d}") for n in range(200)])
    call = ["worker", "--source", server.url(name), "--config", str(server.config), "--batch-size", "20"]
    dying = command.start(*call, env={"LINEITEM_FAILPOINT": "after_commit@3"})
    dying.communicate(timeout=60)
    assert dying.returncode == -signal.SIGKILL
    going = command.start(*call, "--json")
    assert until(lambda: len(command.line_items()) == 200)
    server.kill()
    server.start()
    server.publish(name, [line(f"e-{n:03d}") for n in range(190, 300)])
    assert until(lambda: len(command.line_items()) == 300)
    going.terminate()
    out, err = going.communicate(timeout=60)
    assert going.returncode == 0, err
    assert json.loads(out)["duplicate"] == 10
    assert command.json("verify", "--deep")["findings"] == []


def test_a_second_worker_stands_by(stream: Reading) -> None:
    """It leaves the stream to the one that is faster, and goes on when that one is gone."""
    stop = Event()
    said: list[str] = []
    order = streams.StreamOrder(
        stream.source.server.url(stream.namespace),  # type: ignore[attr-defined]
        config=stream.source.server.config,  # type: ignore[attr-defined]
    )
    with App(stream.app.config, stream.app.clock) as other:
        running = Thread(target=lambda: other.work(stream.namespace, order, stop, said.append))
        running.start()
        assert until(lambda: bool(said))
        stream.source.put(*(line(f"a-{n}") for n in range(50)))
        stream.read()
        stream.source.put(line("b"))
        assert until(lambda: len(stream.billed()) == 51)
        stop.set()
        running.join(60)
    assert not running.is_alive()
