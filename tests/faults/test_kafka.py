"""Usage from a real Kafka broker is billed exactly once, whoever dies; what cannot be read exactly is refused.

Skipped only where there is no Java and none can be installed.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, event, line
from tests.docs.blocks import runnable_blocks
from tests.docs.test_readme import ROOT, tell
from tests.faults.broker import Broker, NoBroker, install, running, until
from tests.faults.kafka import Ledger, ended, fill
from tests.faults.supervisor import stopped

pytestmark = pytest.mark.slow
SEEDS = [1]
"""One for the selection, and every seed that ever found something."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests here; each has topics of its own."""
    try:
        install()
    except NoBroker as reason:  # what happens to a broker that is there fails its tests
        pytest.skip(str(reason))
    with running(tmp_path_factory.mktemp("broker")) as started:
        yield started


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


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_dies_and_another_goes_on(ledger: Ledger, tmp_path: Path, seed: int) -> None:
    """One reads, a second joins mid-way, the first is killed at a random moment, a third finishes the rest."""
    chance = random.Random(seed)
    expected = fill(ledger, tmp_path, seed, 6_000)
    place = chance.choice(["", "after_segment", "after_position", "before_commit", "after_commit"])
    first = ledger.start(failpoint=place and f"{place}@{chance.randrange(8, 14)}")
    ledger.wait_for(chance.randrange(2, 6), first)
    second = ledger.start("--until-idle")
    ledger.wait_for(chance.randrange(8, 16), first)
    first.kill()
    ended(first, -signal.SIGKILL)
    ended(second, 0)
    ledger.read()
    ledger.equals(expected)


def test_a_zombie_writes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """A worker stands still with a batch in hand until another has read everything; then it wakes."""
    expected = fill(ledger, tmp_path, 7, 1_200)
    zombie = ledger.start("--until-idle", failpoint="stop:after_segment@3")
    assert until(lambda: stopped(zombie.pid))
    ledger.read()
    zombie.send_signal(signal.SIGCONT)
    ended(zombie, 0)
    ledger.equals(expected)


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
