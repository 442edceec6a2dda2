"""Usage from a real Kafka broker is billed exactly once, whoever dies; what cannot be read exactly is refused.

Skipped only where there is no Java and none can be installed.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, event, line
from tests.docs.blocks import runnable_blocks
from tests.docs.test_readme import ROOT, tell
from tests.faults import certificates
from tests.faults.broker import PASSWORD, USER, Broker, until
from tests.faults.kafka import QUICK, Ledger, ended, fill
from tests.faults.postgres import Postgres
from tests.faults.stream import StreamWorld
from tests.integration.otlp import collecting
from tests.integration.prometheus import get

pytestmark = pytest.mark.slow
SEEDS = [1]
"""One for the selection, and every seed that ever found something."""
FAULTS = ("kill_a_worker", "wake_a_zombie", "send_poison", "lose_the_answer_to_commit", "partition_from_the_broker")


@pytest.fixture
def ledger(tmp_path: Path, broker: Broker, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """A ledger of its own for a topic that has the test's name."""
    with EmbeddedServer(tmp_path / "data") as server:
        yield Ledger(tmp_path, server, broker, _name(request))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Ledger]:
    """One ledger for many topics, its catalog in force. In the end it must verify."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "catalog.yaml").write_text(CATALOG)
    with EmbeddedServer(folder / "data") as server:
        made = Ledger(folder, server, broker, "")
        made.command.json("catalog", "publish", folder / "catalog.yaml")
        yield made
        made.verified()


@pytest.fixture
def topic(shared: Ledger, request: pytest.FixtureRequest) -> Ledger:
    """The shared ledger, and the test's name for a topic."""
    shared.topic = _name(request)
    return shared


def _name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).removeprefix("test_").replace("[", "-").rstrip("]")


@pytest.fixture(scope="module", params=SEEDS)
def world(
    tmp_path_factory: pytest.TempPathFactory, broker: Broker, request: pytest.FixtureRequest
) -> Iterator[StreamWorld]:
    """A topic read into a server reached over TCP."""
    server = Postgres(tmp_path_factory.mktemp("server"))
    made = StreamWorld(tmp_path_factory.mktemp("world"), request.param, server, broker)
    made.share = 400
    yield made
    made.close()
    server.stop()


@pytest.mark.parametrize("fault", FAULTS)
def test_workers_their_server_and_the_ways_between_are_struck(world: StreamWorld, fault: str) -> None:
    """Another worker goes on, a zombie writes nothing, poison is set aside: I1 to I10 hold after each."""
    world.strike(getattr(world, fault))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_tls_and_sasl(topic: Ledger, tmp_path: Path, mechanism: str) -> None:
    """With the right settings it is read; a wrong password or another authority is named, and no secret is shown."""
    broker, settings = topic.broker, topic.settings
    broker.create(topic.topic)
    broker.produce(topic.topic, keyed(usage(topic, "one")))
    topic.settings = tmp_path / "secure.properties"
    url = f"kafka://localhost:{broker.secure_port}/{topic.topic}"

    def refused(password: str, authority: Path) -> str:
        secret(password, authority)
        said = topic.command.refused("worker", "--source", url, "--group", "secure", "--config", topic.settings)
        assert password not in said
        assert PASSWORD not in said
        return said

    def secret(password: str, authority: Path) -> None:
        given = {"security.protocol": "SASL_SSL", "sasl.mechanism": mechanism, "sasl.username": USER}
        given |= {"sasl.password": password, "ssl.ca.location": str(authority)}
        topic.settings.write_text(QUICK + "".join(f"{name}={value}\n" for name, value in given.items()))

    assert "does not let this user in" in refused("no-such-password", broker.ca)
    (tmp_path / "other").mkdir()
    assert "no TLS connection" in refused(PASSWORD, certificates.write(tmp_path / "other"))
    secret(PASSWORD, broker.ca)
    call = ("worker", "--source", url, "--group", "secure", "--config", topic.settings, "--until-idle")
    assert topic.command.json(*call)["itemized"] == 1
    topic.settings = settings


def test_stalled_it_pauses_and_told_to_stop_it_finishes_its_batch(ledger: Ledger, tmp_path: Path) -> None:
    """While somebody holds every lane, the worker stops reading and keeps its place; then it reads on, each record once.
    SIGTERM: exit 0, one JSON document, and the next worker goes on where it says."""
    expected = fill(ledger, tmp_path, 9, 3_000)
    worker = ledger.start()
    assert worker.stderr is not None
    with connect(ledger.server.dsn, autocommit=False) as holder:
        holder.execute("select from ledger.lane for update")
        said = b""
        while b"paused until it does" not in said:
            said = worker.stderr.readline()
            assert said, "it ended without a word"
        assert ledger.batches() == 0
        holder.rollback()
    ledger.wait_for(3, worker)
    worker.send_signal(signal.SIGTERM)
    out, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said.decode()
    done = json.loads(out)
    assert done["batches"] == ledger.batches() >= 3
    rest = ledger.read()
    assert done["received"] + rest["received"] == expected.counts["received"]
    ledger.equals(expected)


def test_a_slow_ledger_slows_the_worker_down(ledger: Ledger, tmp_path: Path) -> None:
    """While it stalls, memory stays flat however much waits on the broker; while it is slow, batches shrink; healed, the lag
    returns to zero and every record was billed once."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    ledger.command.json("catalog", "publish", tmp_path / "catalog.yaml")
    ledger.broker.create(ledger.topic, 4)
    large = [(f"key-{n}", line(f"large {n}", note="y" * 300_000)) for n in range(400)]
    worker = ledger.start("--batch-size", "20000", "--batch-mb", "8", "--commit-ms", "1000")
    assert worker.stderr is not None
    assert b"topic" in worker.stderr.readline()
    before_kb = resident_kb(worker.pid)
    with connect(ledger.server.dsn, autocommit=False) as holder:
        holder.execute("select from ledger.lane for update")
        ledger.broker.produce(ledger.topic, large)
        said = b""
        while b"paused until it does" not in said:
            said = worker.stderr.readline()
            assert said, "it ended without a word"
        assert resident_kb(worker.pid) - before_kb < 90_000, "of 120 MB on the broker"
        holder.rollback()
    with connect(ledger.server.dsn) as superuser:
        superuser.execute(
            """create function public.slow() returns trigger language plpgsql as
               $$ begin perform pg_sleep(new.received * 0.001); return new; end $$"""
        )
        superuser.execute(
            "create trigger slow before insert on ledger.batch for each row execute function public.slow()"
        )
        ledger.broker.produce(ledger.topic, keyed([line(f"small {n}") for n in range(12_000)]))
        assert until(lambda: shrank(ledger.batch_sizes()))
        superuser.execute("alter table ledger.batch disable trigger slow")
    assert until(lambda: ledger.accepted() == 12_400)
    worker.send_signal(signal.SIGTERM)
    ended(worker, 0)
    assert ledger.verified()["accepted_events"] == 12_400


def shrank(sizes: list[int]) -> bool:
    """Whether a batch behind the largest one, the last aside, was much smaller."""
    behind = sizes[sizes.index(max(sizes)) + 1 : -1] if sizes else []
    return bool(behind) and min(behind) * 10 <= max(sizes) * 6


def resident_kb(pid: int) -> int:
    """How much memory a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmRSS"))


def test_a_paused_source_and_a_paused_account(ledger: Ledger, tmp_path: Path) -> None:
    """While a worker runs: a partition is left where it is and the others go on; an account waits and its neighbours do not;
    both are read and billed once the switches are cleared, without anybody's doing."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    ledger.command.json("catalog", "publish", tmp_path / "catalog.yaml")
    ledger.broker.create(ledger.topic, 2)
    source = f"kafka:{ledger.topic}"
    ledger.command.json("throttle", "set", "--source", f"{source}/1", "--pause", "--reason", "maintenance")
    ledger.command.json("throttle", "set", "--account", "other", "--pause", "--reason", "a wrong price")
    for partition in (0, 1):
        lines = [line(f"{partition} {n}", subject="other" if n % 4 == 0 else "acme") for n in range(40)]
        ledger.broker.produce(ledger.topic, keyed(lines), partition=partition)
    ended(ledger.start("--until-idle"), 0)
    worker = ledger.start()
    assert ledger.accepted() == 30
    (found,) = [one for one in ledger.command.json("throttle", "list")["switches"] if one["what"] == "account"]
    assert found["waiting"] == 10
    ledger.command.json("throttle", "clear", "--account", "other", "--reason", "mended", "--no-retry")
    assert until(lambda: ledger.accepted() == 40), "a running worker lets them go on"
    ledger.command.json("throttle", "clear", "--source", f"{source}/1", "--reason", "done")
    assert until(lambda: ledger.accepted() == 80)
    worker.send_signal(signal.SIGTERM)
    ended(worker, 0)
    assert ledger.verified()["accepted_events"] == 80


def usage(topic: Ledger, *ids: str) -> list[bytes]:
    """Good events, each with an id of its own in the shared ledger."""
    return [line(f"{topic.topic} {one}") for one in ids]


def keyed(lines: list[bytes]) -> list[tuple[str | None, bytes | None]]:
    """Messages of one account."""
    return [("acme", one) for one in lines]


def test_a_topic_made_anew_is_refused(topic: Ledger) -> None:
    """While a worker reads it, and at the next start; once told the new id, it is read from its beginning."""
    topic.broker.create(topic.topic)
    topic.broker.produce(topic.topic, keyed(usage(topic, "one")))
    before, worker = topic.batches(), topic.start()
    topic.wait_for(before + 1, worker)
    topic.broker.delete(topic.topic)
    topic.broker.create(topic.topic)
    topic.broker.produce(topic.topic, keyed(usage(topic, "two", "three")))
    said = ended(worker, 1)
    assert "there is no topic" in said or "made anew" in said, said
    assert topic.batches() == before + 1
    refusal = topic.refused()
    assert "made anew" in refusal
    assert "not WRONG" in topic.refused("--topic-id", "WRONG")
    assert topic.read("--topic-id", refusal.split()[-1])["itemized"] == 2
    assert topic.read()["received"] == 0


def test_missing_records_are_refused(topic: Ledger) -> None:
    """What retention removed before it was read is named, and passed over only when told so."""
    topic.broker.create(topic.topic)
    topic.broker.produce(topic.topic, keyed(usage(topic, *"abcdefghij")))
    topic.broker.delete_records(topic.topic, 0, 4)
    assert "offsets 0 to 3 are no longer on the broker" in topic.refused()
    done = topic.read("--skip-missing")
    assert (done["received"], done["itemized"], done["positions"]) == (6, 6, {"0": 10})


def test_records_in_the_places_of_lost_ones_are_refused(topic: Ledger) -> None:
    """A broker that lost its newest record and has received two since: the ends alone would not show it."""
    topic.broker.create(topic.topic)
    topic.broker.produce(topic.topic, keyed(usage(topic, "a", "b")))
    size = topic.broker.log(topic.topic).stat().st_size
    topic.broker.produce(topic.topic, keyed(usage(topic, "c")))
    assert topic.read()["received"] == 3
    topic.broker.lose(topic.topic, size)
    topic.broker.produce(topic.topic, keyed(usage(topic, "d", "e")))
    assert "at offset 2 the broker has another record" in topic.refused()
    assert topic.read("--skip-missing")["received"] == 1, "only what lies behind"
    assert topic.read()["received"] == 0


def test_only_what_was_committed_is_billed(topic: Ledger) -> None:
    """Aborted records and transaction markers leave holes that hold no record; those around them are billed once."""
    topic.broker.create(topic.topic)
    topic.broker.transaction(topic.topic, usage(topic, "a", "b"), commit=True)
    topic.broker.transaction(topic.topic, usage(topic, "c", "d"), commit=False)
    topic.broker.transaction(topic.topic, usage(topic, "e"), commit=True)
    assert topic.read()["itemized"] == 3
    topic.broker.transaction(topic.topic, usage(topic, "f"), commit=False)
    topic.broker.produce(topic.topic, keyed(usage(topic, "g")))
    assert topic.read()["itemized"] == 1
    billed = [item["event_id"].split() for item in topic.command.line_items()]
    assert sorted(one for name, one in billed if name == topic.topic) == list("abeg")


def test_compaction_leaves_holes(topic: Ledger) -> None:
    """Offsets that a compacted topic no longer has are jumped over; every record that is there is read."""
    compacted = {"cleanup_policy": "compact", "min_cleanable_dirty_ratio": "0.01", "segment_ms": "100"}
    topic.broker.create(topic.topic, 1, **compacted)
    for number in range(3):
        found = usage(topic, *(f"{number}-{key}" for key in range(5)))
        topic.broker.produce(topic.topic, [(f"key-{key}", one) for key, one in enumerate(found)])

    def is_compacted() -> bool:
        topic.broker.produce(topic.topic, [("last", usage(topic, "last")[0])])  # a new record begins a new segment
        return topic.broker.offsets(topic.topic)[0] >= 5

    assert until(is_compacted)
    done = topic.read()
    assert done["positions"]["0"] > done["received"] >= 6, "there were holes"
    assert topic.read()["received"] == 0


def test_every_shape_of_a_message(topic: Ledger) -> None:
    """Structured and binary mode are one event; a tombstone is set aside; `source` may be missing."""
    topic.broker.create(topic.topic)
    whole = event(f"{topic.topic} one")
    topic.broker.produce(topic.topic, keyed([json.dumps(whole).encode()]))
    data = json.dumps(whole.pop("data")).encode()
    headers = [(f"ce_{name}", str(value).encode()) for name, value in whole.items()]
    topic.broker.produce(topic.topic, keyed([data]), headers=headers)
    topic.broker.produce(topic.topic, [("acme", None), ("acme", line("two", source=...))])
    done = topic.read("--source-name", "/meter")
    assert (done["received"], done["itemized"], done["duplicate"], done["dead_lettered"]) == (4, 2, 1, 1)
    assert "--source-name /meter" in topic.refused()
    assert [one["reason"] for one in topic.command.json("dlq", "list")["dead_letters"]] == ["bad_record"]


def _lag(topic: Ledger) -> dict[str, float]:
    """Partition -> lag, asked without a worker."""
    asked = topic.command.json("metrics", "--source", topic.broker.url(topic.topic), "--config", topic.settings)
    return {
        one["labels"]["partition"]: one["value"] for one in asked["metrics"] if one["name"] == "lineitem_lag_records"
    }


def test_a_worker_shows_how_it_is_doing(topic: Ledger) -> None:
    """Stuck, it is not ready and its lag shows; then it is, and there is none. The log has a line per batch, the trace named
    there has been sent; the lag can be asked for without a worker, too."""
    topic.broker.create(topic.topic, 2)
    topic.broker.produce(topic.topic, keyed(usage(topic, *"abc")), partition=1)
    watching = ("--metrics-listen", "127.0.0.1:0", "--stuck-after", "1", "--log-format", "json")
    with collecting() as collector, connect(topic.server.dsn, autocommit=False) as holder:
        holder.execute("select from ledger.lane for update")
        worker = topic.start(*watching, "--otlp", collector.url)
        assert worker.stderr is not None
        url = json.loads(worker.stderr.readline())["message"].removeprefix("metrics: ")
        ready = url.replace("/metrics", "/readyz")
        lag = f'lineitem_lag_records{{partition="1",topic="{topic.topic}"}}'
        assert until(lambda: "no position has moved" in str(get(ready)))
        assert until(lambda: f"{lag} 3.0" in get(url)[2].decode())
        holder.rollback()
        assert until(lambda: f"{lag} 0.0" in get(url)[2].decode())
        assert until(lambda: get(ready)[0] == 200)
        worker.send_signal(signal.SIGTERM)
        out, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said.decode()
    done = json.loads(out)
    assert 1000 < done["time_to_ledger_ms"]["p50"] <= done["time_to_ledger_ms"]["p99"] < 60_000
    (batch,) = (one for one in map(json.loads, said.splitlines()) if "batch" in one)
    (span,) = collector.named("batch")
    assert (batch["trace_id"], batch["line_items"]) == (span.trace_id.hex(), 3)
    explained = topic.command.json("explain", batch["first_line_item"])
    assert f"{topic.topic} a" in json.dumps(explained)
    assert _lag(topic) == {"0": 0, "1": 0}
    topic.broker.produce(topic.topic, keyed(usage(topic, "d")), partition=0)
    assert _lag(topic) == {"0": 1, "1": 0}
    topic.read()


def test_what_clients_encode(topic: Ledger) -> None:
    """Data in the wire format behind a schema's id, attributes in headers: decoded by the schema; an id that nobody registered
    is set aside, its neighbours go on."""
    folder = topic.settings.parent
    (folder / "llm.completion.json").write_text('{"type": "object", "required": ["tokens"]}')
    id_ = topic.command.json("schema", "register", folder / "llm.completion.json")["id"]
    topic.broker.create(topic.topic)
    for number, known in enumerate((id_, 99)):
        whole = event(f"{topic.topic} {number}", data=...)
        headers = [(f"ce_{name}", str(value).encode()) for name, value in whole.items()]
        value = b"\x00" + known.to_bytes(4, "big") + b'{"tokens": 7}'
        topic.broker.produce(topic.topic, keyed([value]), headers=headers)
    done = topic.read()
    assert (done["received"], done["itemized"], done["dead_lettered"]) == (2, 1, 1)
    item = next(one for one in topic.command.line_items() if one["event_id"].startswith(topic.topic))
    assert item["quantity"] == "7"
    assert "unknown_schema" in {one["reason"] for one in topic.command.json("dlq", "list")["dead_letters"]}


def test_what_was_read_is_read_again(topic: Ledger, tmp_path: Path) -> None:
    """Up to the worker's position, of some partitions and between two places: what is missing is billed, nothing else."""
    topic.broker.create(topic.topic, 2)
    assert "has read nothing" in topic.again_refused()
    lines = usage(topic, *"abcdef")
    (tmp_path / "wrong.ndjson").write_bytes(lines[1] + b"\n" + lines[3] + b"\n")
    topic.command.json("ingest", "--backfill", f"{topic.topic}-wrong", tmp_path / "wrong.ndjson")
    topic.broker.produce(topic.topic, keyed(lines))
    read = topic.read()
    assert (read["itemized"], read["duplicate"]) == (4, 2)
    number = max(read["positions"], key=lambda one: int(read["positions"][one]))
    topic.command.json("backfill", "revert", f"{topic.topic}-wrong", "--reason", "a test says so")
    topic.broker.produce(topic.topic, keyed(usage(topic, "not read yet")))
    tried = topic.again("--dry-run")
    assert (tried["received"], tried["itemized"], tried["duplicate"], tried["changes"][0]["line_items"]) == (6, 2, 4, 2)
    some = topic.again("--partition", number, "--from", "1", "--until", "3", "--two-processes")
    assert (some["received"], some["itemized"], some["duplicate"]) == (2, 1, 1)
    rest = topic.again("--from", "2000-01-01T00:00:00Z")
    assert (rest["received"], rest["itemized"], rest["streams"]) == (6, 1, 1)
    assert "no partition 7" in topic.again_refused("--partition", "7", code=2)
    topic.broker.delete_records(topic.topic, int(number), 2)
    assert "offsets 1 to 1 are no longer on the broker" in topic.again_refused("--partition", number, "--from", "1")
    assert topic.read()["itemized"] == 1, "the worker goes on where it was"


def test_the_page_is_true(tmp_path: Path, broker: Broker) -> None:
    """How to read from Kafka: its blocks do what they say, with this broker as theirs."""
    page = ROOT / "docs" / "how-to" / "read-from-kafka.md"
    blocks = runnable_blocks(page, "broker")
    assert len(blocks) > 2
    with EmbeddedServer(tmp_path / ".lineitem"):
        tell(page, blocks, tmp_path, {"BROKER": f"127.0.0.1:{broker.port}"})
